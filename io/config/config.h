/* A checked reader of libconfig files: typed values with ranges, and errors that name file, line and what is allowed.
 *
 * A caller opens groups with the keys that it knows, then reads each key. The first error is kept, later reads return
 * harmless values, and config_file_finish hands the error over: the code that reads a file is a plain list of keys.
 * Text is hostile: size, nesting and number of settings are bounded before libconfig sees it, and includes are refused,
 * so that a file is one text and names nothing else. Numbers: integers are 64 bits and may be written as 84e9; a
 * leading zero (octal in libconfig) is refused. (Functions of libconfig itself begin with config_, too: those here are
 * config_file_*, config_open_*, config_take_*, config_fail_*.) */
#ifndef TUNELAW_IO_CONFIG_CONFIG_H
#define TUNELAW_IO_CONFIG_CONFIG_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

#define CONFIG_TEXT_LIMIT (1u << 20) /* bytes of a file */
#define CONFIG_ELEMENT_LIMIT 4096u   /* elements of an array or list */
#define CONFIG_POSITIVE DBL_MIN      /* a lower bound of doubles that reads "above 0" */

/* The bytes of a file of at most CONFIG_TEXT_LIMIT, zero-terminated; *text is malloc'ed. Directories and devices are
 * refused. */
int config_text_read(const char *path, char **text, size_t *size, struct error *err);

struct config_file;
/* Parse text[size]; `path` is only used in messages. NULL with *err. */
struct config_file *config_file_parse(const char *path, const char *text, size_t size, struct error *err);
void config_file_close(struct config_file *file);
bool config_file_failed(const struct config_file *file);
/* 0, or -1 with the first error. */
int config_file_finish(const struct config_file *file, struct error *err);
/* Every parameter as it was taken, one a line: "pretrain.batch = 16", those left at their default end in "  # default".
 * Owned by the file; valid until the next read. */
const char *config_file_parameters(struct config_file *file);

/* A group of settings. present is false where it is not in the file (or after an error): reads then give defaults. */
struct config_setting_t;
struct config_group {
    struct config_file *file;
    struct config_setting_t *setting;
    const char *const *keys; /* ends with NULL; owned by the caller, outlives the group */
    bool present;
    char path[160]; /* "methods[1]", "" for the root */
};

/* `keys`: all that are allowed; any other key is an error that lists them and guesses which was meant. Of the root
 * NULL: any, for a reader that wants one group. */
struct config_group config_open_root(struct config_file *file, const char *const *keys);
struct config_group config_open_group(const struct config_group *parent, const char *key, const char *const *keys,
                                      bool required);
/* Elements of a list of groups; 0 where it is absent and not required. An empty required list is an error. */
size_t config_open_list(const struct config_group *parent, const char *key, bool required);
struct config_group config_open_element(const struct config_group *parent, const char *key, size_t index,
                                        const char *const *keys);
bool config_has(const struct config_group *group, const char *key);
/* The line of the file on which the group begins; 0: not known. */
unsigned config_line(const struct config_group *group);
/* The key is there and its value is a string, a list ( ... ): for values that may be written in two ways. */
bool config_is_string(const struct config_group *group, const char *key);
bool config_is_list(const struct config_group *group, const char *key);

/* Scalars. min..max is closed. The _or forms return `fallback` where the key is absent. Strings belong to the file. */
uint64_t config_take_uint(const struct config_group *group, const char *key, uint64_t min, uint64_t max);
uint64_t config_take_uint_or(const struct config_group *group, const char *key, uint64_t min, uint64_t max,
                             uint64_t fallback);
double config_take_double(const struct config_group *group, const char *key, double min, double max);
double config_take_double_or(const struct config_group *group, const char *key, double min, double max,
                             double fallback);
bool config_take_bool_or(const struct config_group *group, const char *key, bool fallback);
/* At least 1, at most `longest` bytes. */
const char *config_take_string(const struct config_group *group, const char *key, size_t longest);
/* A name: 1..longest of letters, digits, '_', '-', '.', '+', beginning with a letter or digit. */
const char *config_take_name(const struct config_group *group, const char *key, size_t longest);
/* Index into names[count]; fallback -1: required. */
int config_take_choice(const struct config_group *group, const char *key, const char *const *names, size_t count,
                       int fallback);

/* Arrays: [a, b], (a, b), or a single value. At least one element, no value twice. Malloc'ed, caller frees; NULL with
 * *count = 0 where the key is absent and not required, or after an error. Strings in the array belong to the file. */
uint64_t *config_take_uints(const struct config_group *group, const char *key, uint64_t min, uint64_t max,
                            bool required, size_t *count);
double *config_take_doubles(const struct config_group *group, const char *key, double min, double max, bool required,
                            size_t *count);
const char **config_take_strings(const struct config_group *group, const char *key, size_t longest, bool required,
                                 size_t *count);

/* Keep an error of the caller's, placed at the group (key NULL), a key, or an element of a key; an absent key is placed
 * at its group. */
void config_fail(const struct config_group *group, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void config_fail_element(const struct config_group *group, const char *key, size_t index, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* What such an error would say, into *out: for what is no error yet. */
void config_describe(const struct config_group *group, const char *key, struct error *out, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Of names[count] the one that `word` was probably meant to be, or NULL. */
const char *config_guess(const char *word, const char *const *names, size_t count);

#endif
