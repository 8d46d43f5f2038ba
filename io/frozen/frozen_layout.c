/* Tables of members: one table packs the rows, names the units, and tells by its digest whether a file's rows are
 * these. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/digest.h"
#include "io/frozen/frozen.h"

static void pack_field(const struct frozen_field *field, const unsigned char *from, unsigned char *to)
{
    if (field->kind == FIELD_TEXT) {
        memcpy(to, from, strnlen((const char *)from, field->size));
    } else if (field->kind == FIELD_F64) {
        double value;
        memcpy(&value, from, sizeof value);
        if (isnan(value)) value = (double)NAN;
        memcpy(to, &value, sizeof value);
    } else if (field->kind == FIELD_ROWS) {
        for (size_t at = 0; at + field->rows->size <= field->size; at += field->rows->size)
            frozen_layout_pack(field->rows, from + at, to + at);
    } else {
        memcpy(to, from, field->size);
    }
}

void frozen_layout_pack(const struct frozen_layout *layout, const void *row, unsigned char *slot)
{
    memset(slot, 0, layout->size);
    for (size_t i = 0; i < layout->field_count; i++) {
        const struct frozen_field *field = &layout->fields[i];
        if (field->offset < layout->payload)
            pack_field(field, (const unsigned char *)row + field->offset, slot + field->offset);
    }
}

static void units_print(FILE *out, const struct frozen_layout *layout, const char *prefix)
{
    for (size_t i = 0; i < layout->field_count; i++) {
        const struct frozen_field *field = &layout->fields[i];
        fprintf(out, "%s%s: %s\n", prefix, field->name, field->units);
        if (field->kind == FIELD_ROWS) {
            char inner[64];
            snprintf(inner, sizeof inner, "%s%s.", prefix, field->name);
            units_print(out, field->rows, inner);
        }
    }
}

char *frozen_layout_units(const struct frozen_layout *layout)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    units_print(out, layout, "");
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* "OFFSET NAME TYPE" a line; an array's members stand below it, each behind the name. */
static void members_print(FILE *out, const struct frozen_layout *layout, const char *prefix)
{
    for (size_t i = 0; i < layout->field_count; i++) {
        const struct frozen_field *field = &layout->fields[i];
        fprintf(out, "%zu %s%s ", field->offset, prefix, field->name);
        if (field->kind == FIELD_TEXT)
            fprintf(out, "char[%zu]\n", field->size);
        else if (field->kind != FIELD_ROWS)
            fprintf(out, "%s\n", field->kind == FIELD_U32 ? "uint32" : field->kind == FIELD_U64 ? "uint64" : "float64");
        else {
            char inner[64];
            snprintf(inner, sizeof inner, "%s%s.", prefix, field->name);
            fprintf(out, "%zu of %zu\n", field->size / field->rows->size, field->rows->size);
            members_print(out, field->rows, inner);
        }
    }
}

uint64_t frozen_layout_digest(const struct frozen_layout *layout)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return 0;
    fprintf(out, "%zu\n", layout->size);
    members_print(out, layout, "");
    uint64_t digest = fclose(out) == 0 ? checksum_of(text, size) : 0;
    free(text);
    return digest;
}
