/* The columns of a point: every scalar of its parts under one name, for CSV, JSON and the terminal.
 * docs/store-format.md describes them; a name here is the field's name in the store, but for `status` and `row`. */
#ifndef TUNELAW_ORCHESTRATOR_COMMANDS_COLUMN_H
#define TUNELAW_ORCHESTRATOR_COMMANDS_COLUMN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "orchestrator/run/view.h"

enum column_part { COLUMN_POINT, COLUMN_STATE, COLUMN_RESULT, COLUMN_EXECUTION };
enum column_kind {
    COLUMN_TEXT,
    COLUMN_U32,
    COLUMN_U64,
    COLUMN_SIZE,
    COLUMN_DOUBLE,
    COLUMN_STATUS,
    COLUMN_BYTES, /* uint64 */
    COLUMN_TIME   /* double, seconds since 1970 */
};
struct column {
    const char *name;
    enum column_part part;
    enum column_kind kind;
    size_t offset; /* in struct view_row */
    size_t size;   /* of a text field */
};

extern const struct column columns[];
extern const size_t column_count;

/* Whether the row has a value here: results and execution only of committed points. */
bool column_known(const struct column *column, const struct view_row *row);

/* What the value is to a person: "12 MiB", "2026-05-01 12:00:00 UTC"; "" where that says no more than its text. */
void column_comment(const struct column *column, const struct view_row *row, char *out, size_t size);

/* The value as text, doubles so that they survive exactly; "" where there is none. Returns its length. */
size_t column_text(const struct column *column, const struct view_row *row, char *out, size_t size);

/* The value as JSON, null where there is none or it is not finite. New reference; NULL only without memory. */
json_t *column_json(const struct column *column, const struct view_row *row);

/* The JSON of the value in out[COLUMN_JSON_SIZE], as column_json has it; its length. */
#define COLUMN_JSON_SIZE (8 * STORE_MESSAGE)
size_t column_json_text(const struct column *column, const struct view_row *row, char *out);

/* One object with all columns. */
json_t *column_json_row(const struct view_row *row);

#endif
