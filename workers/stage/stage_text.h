/* A struct as one line of JSON and back, by a table of its fields. Private to workers/stage/stage_json.c.
 *
 * 10^5 stages are handed out in seconds, with some hundred values each: no tree is built of them. The reader knows only
 * what the writer writes, key by key in the order of the table; any other text, however valid, is for a JSON parser. */
#ifndef TUNELAW_WORKERS_STAGE_STAGE_TEXT_H
#define TUNELAW_WORKERS_STAGE_STAGE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field_type {
    FIELD_U32,
    FIELD_U64,
    FIELD_REAL,
    FIELD_BOOL,
    FIELD_TEXT,
    FIELD_DIGEST,
    FIELD_NAME,
    FIELD_OBJECT,
    FIELD_LIST
};

struct field {
    const char *key;
    enum field_type type;
    size_t offset;
    size_t size;                /* FIELD_TEXT: of the array */
    uint64_t low, high;         /* FIELD_U32 */
    const char *(*name)(int);   /* FIELD_NAME: of an enumeration */
    int (*find)(const char *);  /* FIELD_NAME */
    const struct field *fields; /* FIELD_OBJECT, of an element of FIELD_LIST; ends with a NULL key */
    size_t count, stride;       /* FIELD_LIST: offset of the uint32_t that counts, bytes of an element; high: of them */
};

/* JSON text of the struct at `base` (malloc, the caller frees), doubles to the last bit. NULL: out of memory, a number
 * that is not finite, a text that is not UTF-8. */
char *stage_text_write(const struct field *fields, const void *base);

/* Text that stage_text_write could have written; the struct is zeros before. false: it is not such text, or a value is
 * not allowed; then *base has no meaning. */
bool stage_text_read(const struct field *fields, const char *text, size_t size, void *base);

#endif
