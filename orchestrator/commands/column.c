/* The one table of a point's columns, and their values as text and JSON. */
#include "orchestrator/commands/column.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "io/number.h"
#include "io/quantity.h"

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
    COLUMN("learning_rate", POINT, DOUBLE, learning_rate),
    POINT(U32, held_out),
    POINT(U32, removed),
    COLUMN("status", STATE, STATUS, state.status),
    STATE(U32, attempts),
    STATE(TIME, updated),
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
    RESULT(DOUBLE, bleu),
    RESULT(DOUBLE, chrf),
    RESULT(DOUBLE, rouge1),
    RESULT(DOUBLE, rouge2),
    RESULT(DOUBLE, rougeL),
    RESULT(DOUBLE, length_penalty),
    RESULT(U64, generated),
    RESULT(U32, beams),
    RESULT(U32, max_new_tokens),
    RESULT(TEXT, generations),
    EXECUTION(TEXT, host),
    EXECUTION(TEXT, device),
    EXECUTION(TEXT, execution_class),
    EXECUTION(TEXT, version),
    EXECUTION(TIME, started),
    EXECUTION(TIME, finished),
    EXECUTION(DOUBLE, seconds),
    EXECUTION(DOUBLE, tokens_per_second),
    EXECUTION(BYTES, peak_bytes),
    EXECUTION(BYTES, predicted_bytes),
    EXECUTION(U32, rank),
    EXECUTION(U32, attempt),
    EXECUTION(U64, epoch),
};
const size_t column_count = sizeof columns / sizeof *columns;

bool column_known(const struct column *column, const struct view_row *row)
{
    return row->committed || column->part == COLUMN_POINT || column->part == COLUMN_STATE;
}

static bool is_real(const struct column *column)
{
    return column->kind == COLUMN_DOUBLE || column->kind == COLUMN_TIME;
}

void column_comment(const struct column *column, const struct view_row *row, char *out, size_t size)
{
    const void *value = (const char *)row + column->offset;
    char bytes[QUANTITY_TEXT];
    struct tm utc;
    *out = 0;
    if (!column_known(column, row)) return;
    if (column->kind == COLUMN_BYTES && *(const uint64_t *)value >= 1024)
        snprintf(out, size, "%s", quantity_bytes((double)*(const uint64_t *)value, bytes));
    if (column->kind != COLUMN_TIME || !(*(const double *)value > 0.0)) return;
    time_t seconds = (time_t)fmin(*(const double *)value, 1e11); /* a store may say anything */
    if (gmtime_r(&seconds, &utc)) strftime(out, size, "%Y-%m-%d %H:%M:%S UTC", &utc);
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

size_t column_text(const struct column *column, const struct view_row *row, char *out, size_t size)
{
    const void *value = (const char *)row + column->offset;
    char number[NUMBER_TEXT];
    const char *text = number;
    size_t length;
    *out = 0;
    if (!column_known(column, row)) return 0;
    switch (column->kind) {
    case COLUMN_TEXT:
        text = value;
        length = strnlen(text, column->size);
        break;
    case COLUMN_STATUS:
        text = view_status(row);
        length = strlen(text);
        break;
    case COLUMN_DOUBLE:
    case COLUMN_TIME:
        length = number_of_double(*(const double *)value, number);
        break;
    default:
        length = number_of_uint(integer(column, value), number);
    }
    if (length >= size) length = size - 1;
    memcpy(out, text, length);
    out[length] = 0;
    return length;
}

json_t *column_json(const struct column *column, const struct view_row *row)
{
    const void *value = (const char *)row + column->offset;
    if (!column_known(column, row)) return json_null();
    if (is_real(column)) {
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

/* Text that is JSON as it stands, between quotes. */
static bool is_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < ' ' || (unsigned char)text[i] > '~' || text[i] == '"' || text[i] == '\\')
            return false;
    return true;
}

/* A number is JSON as it is printed, text that is plain as well: the library is for the rest. */
size_t column_json_text(const struct column *column, const struct view_row *row, char *out)
{
    bool is_text = column->kind == COLUMN_TEXT || column->kind == COLUMN_STATUS;
    size_t length = column_text(column, row, out + 1, COLUMN_JSON_SIZE - 2);
    if (column_known(column, row) && is_text && is_plain(out + 1, length)) {
        out[0] = out[length + 1] = '"';
        return length + 2;
    }
    if (length > 0 && !is_text && strspn(out + 1, "0123456789+-.e") == length) {
        bool whole = is_real(column) && !strpbrk(out + 1, ".e");
        memmove(out, out + 1, length);
        if (whole) memcpy(out + length, ".0", 2); /* a real stays one, whatever its value */
        return whole ? length + 2 : length;
    }
    json_t *value = column_json(column, row);
    length = value ? json_dumpb(value, out, COLUMN_JSON_SIZE, JSON_ENCODE_ANY) : 0;
    json_decref(value);
    if (length == 0 || length > COLUMN_JSON_SIZE) {
        memcpy(out, "null", 4);
        length = 4;
    }
    return length;
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
