/* Values of a JSON object that came from outside: typed, with a default, the first wrong one told in one line. Private
 * to workers/. */
#ifndef TUNELAW_WORKERS_FILES_JSON_READER_H
#define TUNELAW_WORKERS_FILES_JSON_READER_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/error.h"

/* The object in DIR/NAME, of at most 1 MiB (json_decref); path: DIR/NAME. NULL with *err. */
json_t *json_file_read(const char *dir, const char *name, char path[PATH_MAX], struct error *err);

/* failed: *err holds why, of the first value that was wrong; what is taken then has no meaning. */
struct json_reader {
    const json_t *object;
    struct error *err;
    bool failed;
};

const json_t *json_value_of(const struct json_reader *reader, const char *key); /* NULL also for null */
/* "KEY" WHY */
void json_fail(struct json_reader *reader, const char *key, const char *why);
/* format has one %s, for `what` */
void json_refuse(struct json_reader *reader, const char *format, const char *what);

/* 1 .. UINT32_MAX; `fallback` 0: required. */
uint32_t json_take_count(struct json_reader *reader, const char *key, uint32_t fallback);
double json_take_number(struct json_reader *reader, const char *key, double fallback);
bool json_take_bool(struct json_reader *reader, const char *key, bool fallback);
const char *json_take_string(struct json_reader *reader, const char *key, const char *fallback);

#endif
