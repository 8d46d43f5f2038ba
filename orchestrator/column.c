/* The one table of a point's columns, and their values as text and JSON. */
#include "orchestrator/column.h"

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMN(NAME, PART, KIND, FIELD)                                                                                \
    {                                                                                                                  \
        NAME, COLUMN_##PART, COLUMN_##KIND, offsetof(struct view_row, FIELD), sizeof(((struct view_row *)0)->FIELD)    \
    }
#define POINT(KIND, FIELD) COLUMN(#FIELD, POINT, KIND, point.FIELD)
#define STATE(KIND, FIELD) COLUMN(#FIELD, STATE, KIND, state.FIELD)
#define RESULT(KIND, FIELD) COLUMN(#FIELD, RESULT, KIND, result.FIELD)
#define EXECUTION(KIND, FIELD) COLUMN(#FIELD, EXECUTION, KIND, execution.FIELD)

const struct column columns[] = {
    COLUMN("row", POINT, SIZE, index),
    POINT(TEXT, identity),
    POINT(TEXT, base),
    POINT(TEXT, trunk),
    POINT(TEXT, task),
    POINT(TEXT, model),
    POINT(TEXT, method),
    POINT(U64, parameters),
    POINT(U64, non_embedding_parameters),
    POINT(U64, trainable_parameters),
    POINT(U64, pretrain_tokens),
    POINT(U64, finetune_examples),
    POINT(U64, pet_size),
    POINT(U64, seed),
    POINT(DOUBLE, learning_rate),
    POINT(U32, held_out),
    POINT(U32, removed),
    COLUMN("status", STATE, STATUS, state.status),
    STATE(U32, attempts),
    STATE(DOUBLE, updated),
    STATE(DOUBLE, progress),
    STATE(TEXT, message),
    RESULT(U32, evaluations),
    RESULT(U64, steps),
    RESULT(U64, best_step),
    RESULT(U64, tokens),
    RESULT(U64, target_tokens),
    RESULT(DOUBLE, flops),
    RESULT(DOUBLE, train_loss),
    RESULT(DOUBLE, valid_loss),
    RESULT(DOUBLE, test_loss),
    RESULT(DOUBLE, test_perplexity),
    RESULT(DOUBLE, pretrain_loss),
    RESULT(DOUBLE, gradient_norm),
    RESULT(U64, test_tokens),
    RESULT(U64, valid_tokens),
    RESULT(TEXT, best_digest),
    EXECUTION(TEXT, host),
    EXECUTION(TEXT, device),
    EXECUTION(TEXT, execution_class),
    EXECUTION(TEXT, version),
    EXECUTION(DOUBLE, started),
    EXECUTION(DOUBLE, finished),
    EXECUTION(DOUBLE, seconds),
    EXECUTION(DOUBLE, tokens_per_second),
    EXECUTION(U64, peak_bytes),
    EXECUTION(U64, predicted_bytes),
    EXECUTION(U32, rank),
    EXECUTION(U32, attempt),
    EXECUTION(U64, epoch),
};
const size_t column_count = sizeof columns / sizeof *columns;

bool column_known(const struct column *column, const struct view_row *row)
{
    return row->committed || column->part == COLUMN_POINT || column->part == COLUMN_STATE;
}

static uint64_t integer(const struct column *column, const void *value)
{
    switch (column->kind) {
    case COLUMN_U32:
        return *(const uint32_t *)value;
    case COLUMN_SIZE:
        return *(const size_t *)value;
    default:
        return *(const uint64_t *)value;
    }
}

/* the shortest decimal number that reads back as this one */
static void double_text(double number, char *out, size_t size)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, number);
        if (strtod(out, NULL) == number) return;
    }
}

void column_text(const struct column *column, const struct view_row *row, char *out, size_t size)
{
    const void *value = (const char *)row + column->offset;
    *out = 0;
    if (!column_known(column, row)) return;
    switch (column->kind) {
    case COLUMN_TEXT:
        store_text(out, size, value, column->size);
        break;
    case COLUMN_STATUS:
        snprintf(out, size, "%s", view_status(row));
        break;
    case COLUMN_DOUBLE:
        double_text(*(const double *)value, out, size);
        break;
    default:
        snprintf(out, size, "%" PRIu64, integer(column, value));
    }
}

json_t *column_json(const struct column *column, const struct view_row *row)
{
    const void *value = (const char *)row + column->offset;
    if (!column_known(column, row)) return json_null();
    if (column->kind == COLUMN_DOUBLE) {
        double number = *(const double *)value;
        return isfinite(number) ? json_real(number) : json_null();
    }
    if (column->kind == COLUMN_TEXT || column->kind == COLUMN_STATUS) {
        char text[STORE_MESSAGE + 1];
        column_text(column, row, text, sizeof text);
        json_t *string = json_string(text);
        return string ? string : json_null(); /* bytes that are not UTF-8 */
    }
    uint64_t number = integer(column, value);
    return number > INT64_MAX ? json_real((double)number) : json_integer((json_int_t)number);
}

json_t *column_json_row(const struct view_row *row)
{
    json_t *object = json_object();
    for (size_t i = 0; object && i < column_count; i++)
        if (json_object_set_new(object, columns[i].name, column_json(&columns[i], row))) {
            json_decref(object);
            return NULL;
        }
    return object;
}
