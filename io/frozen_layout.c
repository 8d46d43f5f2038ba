/* Tables of members turned into HDF5 compounds: one table makes the type, checks the type, and packs the rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/frozen.h"
#include "io/h5.h"

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

static hid_t text_type(size_t size)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && (H5Tset_size(type, size) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

static hid_t field_type(const struct frozen_field *field)
{
    switch (field->kind) {
    case FIELD_TEXT:
        return text_type(field->size);
    case FIELD_U32:
        return H5Tcopy(H5T_STD_U32LE);
    case FIELD_U64:
        return H5Tcopy(H5T_STD_U64LE);
    case FIELD_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case FIELD_ROWS:
        break;
    }
    hsize_t count = field->size / field->rows->size;
    hid_t row = frozen_layout_type(field->rows);
    hid_t type = H5Tarray_create2(row, 1, &count);
    H5Tclose(row);
    return type;
}

hid_t frozen_layout_type(const struct frozen_layout *layout)
{
    h5_begin();
    hid_t type = H5Tcreate(H5T_COMPOUND, layout->size);
    for (size_t i = 0; type >= 0 && i < layout->field_count; i++) {
        hid_t member = field_type(&layout->fields[i]);
        if (member < 0 || H5Tinsert(type, layout->fields[i].name, layout->fields[i].offset, member) < 0) {
            H5Tclose(type);
            type = -1;
        }
        H5Tclose(member);
    }
    return type;
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

int frozen_layout_create(hid_t file, const struct frozen_layout *layout, size_t rows, uint64_t *offset,
                         struct error *err)
{
    hsize_t dims[1] = {rows};
    char *units = frozen_layout_units(layout);
    hid_t type = frozen_layout_type(layout);
    hid_t dataset = -1;
    haddr_t at = HADDR_UNDEF;
    if (!units || type < 0)
        error_set(err, "out of memory");
    else
        dataset = frozen_dataset_create(file, layout->name, type, 1, dims, layout->description, units, err);
    if (dataset >= 0) {
        at = H5Dget_offset(dataset);
        H5Dclose(dataset);
    }
    H5Tclose(type);
    free(units);
    if (dataset < 0) return -1;
    if (rows > 0 && at == HADDR_UNDEF) return error_set(err, "HDF5 has not allocated dataset %s", layout->name);
    *offset = rows > 0 ? at : 0;
    return 0;
}

int frozen_layout_check(hid_t file, const char *path, const struct frozen_layout *layout, uint64_t file_size,
                        size_t *rows, uint64_t *offset, struct error *err)
{
    hsize_t dims[1];
    hid_t type = frozen_layout_type(layout);
    if (type < 0) return error_set(err, "out of memory");
    hid_t dataset = frozen_dataset_open(file, path, layout->name, type, 1, dims, file_size, offset, err);
    H5Tclose(type);
    if (dataset < 0) return -1;
    H5Dclose(dataset);
    *rows = (size_t)dims[0];
    return 0;
}
