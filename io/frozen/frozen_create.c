/* Creates our HDF5 files: the one place that calls the HDF5 library. It lays the datasets out and writes what people
 * read (types, descriptions, units, attributes); rows never go through it. */
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/frozen/frozen.h"

/* Before the first call of HDF5: it prints nothing of its own from now on, and does nothing when the program ends. */
static void hdf5_begin(void)
{
    static bool begun;
    if (begun) return;
    /* at exit the library would touch files again whose closing failed (a full disk), and crash */
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    begun = true;
}

/* HDF5 keeps errno only as text: "..., errno = 28, error message = ..." */
static herr_t find_errno(unsigned depth, const H5E_error2_t *entry, void *found)
{
    (void)depth;
    const char *at = entry->desc ? strstr(entry->desc, "errno = ") : NULL;
    int number = 0;
    if (at && sscanf(at, "errno = %d", &number) == 1 && number > 0) *(int *)found = number;
    return 0;
}

/* As error_set, right behind an HDF5 call that failed: what the system said to HDF5 (a full disk) is appended. */
__attribute__((format(printf, 2, 3))) static int fail(struct error *err, const char *format, ...)
{
    int number = 0;
    char line[512];
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, find_errno, &number);
    va_list rest;
    va_start(rest, format);
    vsnprintf(line, sizeof line, format, rest);
    va_end(rest);
    if (number > 0) return error_set(err, "%s: %s", line, strerror(number));
    return error_set(err, "%s", line);
}

/* Fixed text, null-padded; HDF5 has none of size 0. */
static hid_t text_type(size_t size)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && (H5Tset_size(type, size > 0 ? size : 1) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

static hid_t layout_type(const struct frozen_layout *layout);

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
    hid_t row = layout_type(field->rows);
    hid_t type = H5Tarray_create2(row, 1, &count);
    H5Tclose(row);
    return type;
}

static hid_t layout_type(const struct frozen_layout *layout)
{
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

static hid_t element_type(const struct frozen_part *part)
{
    switch (part->spec->type) {
    case FROZEN_RECORD:
        return layout_type(part->spec->layout);
    case FROZEN_TEXT:
        return text_type((size_t)part->row_size);
    case FROZEN_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case FROZEN_U16:
        return H5Tcopy(H5T_STD_U16LE);
    case FROZEN_U32:
        return H5Tcopy(H5T_STD_U32LE);
    case FROZEN_U64:
        return H5Tcopy(H5T_STD_U64LE);
    default:
        return H5Tcopy(H5T_IEEE_F32LE);
    }
}

static int attribute_put(hid_t object, const char *name, hid_t type, const void *value, struct error *err)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool written = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    H5Aclose(attribute);
    H5Sclose(space);
    return written ? 0 : fail(err, "HDF5 cannot write attribute %s", name);
}

static int attribute_put_text(hid_t object, const char *name, const char *text, struct error *err)
{
    hid_t type = text_type(strlen(text));
    int result = attribute_put(object, name, type, text, err);
    H5Tclose(type);
    return result;
}

static int attributes_put(hid_t file, const struct frozen_format *format, const struct frozen_attribute *attributes,
                          size_t count, struct error *err)
{
    uint64_t version = format->version;
    if (attribute_put_text(file, "format", format->kind, err) != 0 ||
        attribute_put(file, "version", H5T_STD_U64LE, &version, err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        const struct frozen_attribute *attribute = &attributes[i];
        int result = attribute->text ? attribute_put_text(file, attribute->name, attribute->text, err)
                                     : attribute_put(file, attribute->name, H5T_STD_U64LE, &attribute->number, err);
        if (result != 0) return -1;
    }
    return 0;
}

/* The same attributes in the block. */
static int attributes_list(struct frozen_block *block, const struct frozen_attribute *attributes, size_t count,
                           struct error *err)
{
    size_t at = 0, room = sizeof block->attributes;
    for (size_t i = 0; i < count; i++) {
        char number[24];
        snprintf(number, sizeof number, "%" PRIu64, attributes[i].number);
        const char *pair[2] = {attributes[i].name, attributes[i].text ? attributes[i].text : number};
        for (int j = 0; j < 2; j++) {
            size_t size = strlen(pair[j]) + 1;
            if (size > room - at)
                return error_set(err, "attribute %s does not fit; there is room for %zu bytes of attributes in all",
                                 attributes[i].name, room);
            memcpy(block->attributes + at, pair[j], size);
            at += size;
        }
    }
    block->attribute_size = at;
    return 0;
}

static hid_t file_create(const char *path, struct error *err)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE), file = -1;
    errno = 0;
    if (access >= 0 && creation >= 0 && H5Pset_file_locking(access, 0, 1) >= 0 &&
        H5Pset_alignment(access, FROZEN_PAGE, FROZEN_PAGE) >= 0 && H5Pset_userblock(creation, FROZEN_BLOCK) >= 0 &&
        H5Pset_obj_track_times(creation, 0) >= 0)
        file = H5Fcreate(path, H5F_ACC_EXCL, creation, access);
    if (file < 0) {
        int number = errno;
        (number ? error_set_errno : error_set)(err, "cannot create");
        if (number != EEXIST) unlink(path); /* a full disk took its name, and no more */
    }
    H5Pclose(creation);
    H5Pclose(access);
    return file;
}

static hid_t dataset_create(hid_t file, const struct frozen_part *part, hid_t type)
{
    hsize_t rows = part->rows;
    hid_t space = part->spec->type == FROZEN_TEXT ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &rows, NULL);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE), link = H5Pcreate(H5P_LINK_CREATE), dataset = -1;
    if (space >= 0 && creation >= 0 && link >= 0 && H5Pset_create_intermediate_group(link, 1) >= 0 &&
        H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 && H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0 && H5Pset_obj_track_times(creation, 0) >= 0)
        dataset = H5Dcreate2(file, part->spec->name, type, space, link, creation, H5P_DEFAULT);
    H5Pclose(link);
    H5Pclose(creation);
    H5Sclose(space);
    return dataset;
}

static int part_create(hid_t file, struct frozen_part *part, struct error *err)
{
    const struct frozen_spec *spec = part->spec;
    char *units = spec->layout ? frozen_layout_units(spec->layout) : NULL;
    if (spec->layout && !units) return error_set(err, "out of memory");
    hid_t type = element_type(part);
    hid_t dataset = type >= 0 ? dataset_create(file, part, type) : -1;
    haddr_t at = HADDR_UNDEF;
    int result = 0;
    if (dataset < 0)
        result = fail(err, "HDF5 cannot create dataset %s", spec->name);
    else if (attribute_put_text(dataset, "description", spec->description, err) != 0 ||
             attribute_put_text(dataset, "units", units ? units : spec->units, err) != 0)
        result = -1;
    else if ((at = H5Dget_offset(dataset)) == HADDR_UNDEF && part->rows > 0)
        result = error_set(err, "HDF5 has not allocated dataset %s", spec->name);
    part->offset = part->rows > 0 ? at : 0;
    H5Dclose(dataset);
    H5Tclose(type);
    free(units);
    return result;
}

static int entry_fill(struct frozen_entry *entry, const struct frozen_part *part, struct error *err)
{
    const struct frozen_spec *spec = part->spec;
    memcpy(entry->name, spec->name, strlen(spec->name));
    memcpy(entry->type, frozen_type_names[spec->type], strlen(frozen_type_names[spec->type]));
    if (spec->type == FROZEN_RECORD && (entry->record = frozen_layout_digest(spec->layout)) == 0)
        return error_set(err, "out of memory");
    entry->row_size = part->row_size;
    entry->rows = part->rows;
    entry->offset = part->offset;
    entry->sealed = spec->sealed;
    return 0;
}

/* Everything that HDF5 does, and what the block says of it. */
static int laid_out(hid_t file, const struct frozen_format *format, const struct frozen_attribute *attributes,
                    size_t attribute_count, struct frozen_part *parts, size_t count, struct frozen_block *block,
                    struct error *err)
{
    memset(block, 0, sizeof *block);
    memcpy(block->kind, format->kind, strlen(format->kind));
    block->version = format->version;
    block->part_count = (uint32_t)count;
    if (attributes_list(block, attributes, attribute_count, err) != 0 ||
        attributes_put(file, format, attributes, attribute_count, err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].spec->type != FROZEN_TEXT) parts[i].row_size = frozen_element_size(parts[i].spec);
        if (part_create(file, &parts[i], err) != 0 || entry_fill(&block->parts[i], &parts[i], err) != 0) return -1;
    }
    return 0;
}

int frozen_create(const char *path, const struct frozen_format *format, const struct frozen_attribute *attributes,
                  size_t attribute_count, struct frozen_part *parts, size_t count, struct frozen_block *block, int *fd,
                  struct error *err)
{
    hdf5_begin();
    hid_t file = file_create(path, err);
    if (file < 0) return error_prefix(err, "%s", path);
    int result = laid_out(file, format, attributes, attribute_count, parts, count, block, err);
    if (H5Fclose(file) < 0 && result == 0) result = fail(err, "HDF5 cannot close it");
    if (result == 0 && (*fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)) < 0)
        result = error_set_errno(err, "cannot open");
    if (result == 0) return 0;
    unlink(path);
    return error_prefix(err, "%s", path);
}
