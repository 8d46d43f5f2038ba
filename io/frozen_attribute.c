/* Attributes of our HDF5 files: fixed text and uint64, read strictly. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "io/frozen.h"

#define TEXT_LIMIT 60000 /* an attribute in an object header has room for 64 KiB in all */

static int attribute_put(hid_t object, const char *name, hid_t type, const void *value, struct error *err)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool written = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    H5Aclose(attribute);
    H5Sclose(space);
    return written ? 0 : error_set(err, "HDF5 cannot write attribute %s", name);
}

int frozen_put_text(hid_t object, const char *name, const char *text, struct error *err)
{
    size_t size = strlen(text);
    if (size > TEXT_LIMIT) return error_set(err, "the text of attribute %s is longer than %d bytes", name, TEXT_LIMIT);
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size > 0 ? size : 1);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    int result = attribute_put(object, name, type, text, err);
    H5Tclose(type);
    return result;
}

int frozen_put_u64(hid_t object, const char *name, uint64_t value, struct error *err)
{
    return attribute_put(object, name, H5T_STD_U64LE, &value, err);
}

/* An attribute that is one value; -1 where it is something else. */
static hid_t attribute_open(hid_t object, const char *path, const char *name, struct error *err)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) {
        error_set(err, "%s: has no attribute %s", path, name);
        return -1;
    }
    hid_t space = H5Aget_space(attribute);
    bool scalar = space >= 0 && H5Sget_simple_extent_type(space) == H5S_SCALAR;
    H5Sclose(space);
    if (scalar) return attribute;
    error_set(err, "%s: attribute %s is not one value", path, name);
    H5Aclose(attribute);
    return -1;
}

int frozen_get_text(hid_t object, const char *path, const char *name, char **text, struct error *err)
{
    hid_t attribute = attribute_open(object, path, name, err);
    if (attribute < 0) return -1;
    char *bytes = NULL;
    hid_t type = H5Aget_type(attribute);
    size_t size = type >= 0 ? H5Tget_size(type) : 0;
    bool plain = type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && size <= TEXT_LIMIT;
    if (plain) bytes = calloc(1, size + 1);
    bool whole = bytes && H5Aread(attribute, type, bytes) >= 0;
    H5Tclose(type);
    H5Aclose(attribute);
    if (!whole) {
        free(bytes);
        return error_set(err, "%s: attribute %s is not fixed text", path, name);
    }
    *text = bytes;
    return 0;
}

int frozen_get_u64(hid_t object, const char *path, const char *name, uint64_t *value, struct error *err)
{
    hid_t attribute = attribute_open(object, path, name, err);
    if (attribute < 0) return -1;
    hid_t type = H5Aget_type(attribute);
    bool read = type >= 0 && H5Tequal(type, H5T_STD_U64LE) > 0 && H5Aread(attribute, H5T_NATIVE_UINT64, value) >= 0;
    H5Tclose(type);
    H5Aclose(attribute);
    return read ? 0 : error_set(err, "%s: attribute %s is not a uint64", path, name);
}
