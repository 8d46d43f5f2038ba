/* Between the project's files and the HDF5 library: opening, creating, attributes. */
#include "io/h5.h"

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

void h5_begin(void)
{
    static bool begun;
    if (begun) return;
    /* at exit the library would touch files again whose closing failed (a full disk), and crash */
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    begun = true;
}

hid_t h5_create(const char *path, struct error *err)
{
    h5_begin();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
    H5Pset_alignment(access, 4096, 4096);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(creation, 0);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    H5Pclose(creation);
    H5Pclose(access);
    if (file < 0) error_set_errno(err, "%s: cannot create", path);
    return file;
}

int h5_group(hid_t file, const char *path)
{
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(creation, 0);
    hid_t group = H5Gcreate2(file, path, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Pclose(creation);
    return group >= 0 && H5Gclose(group) >= 0 ? 0 : -1;
}

hid_t h5_open(const char *path, struct error *err)
{
    h5_begin();
    struct stat status;
    if (stat(path, &status) != 0) return error_set_errno(err, "%s", path);
    if (!S_ISREG(status.st_mode)) return error_set(err, "%s: not a regular file", path);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, 0, 1);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    if (file < 0) error_set(err, "%s: not an HDF5 file, or a damaged one", path);
    return file;
}

int h5_descriptor(hid_t file)
{
    void *handle = NULL;
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) < 0 || !handle) return -1;
    return *(int *)handle;
}

static int write_scalar(hid_t object, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int result = attribute >= 0 && H5Awrite(attribute, type, value) >= 0 ? 0 : -1;
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return result;
}

int h5_write_u64(hid_t object, const char *name, uint64_t value)
{
    return write_scalar(object, name, H5T_STD_U64LE, &value);
}

int h5_write_text(hid_t object, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(text) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    int result = write_scalar(object, name, type, text);
    H5Tclose(type);
    return result;
}

static int read_scalar(hid_t attribute, hid_t type, void *value)
{
    hid_t space = H5Aget_space(attribute);
    int result = H5Sget_simple_extent_npoints(space) == 1 && H5Aread(attribute, type, value) >= 0 ? 0 : -1;
    H5Sclose(space);
    return result;
}

int h5_read_u64(hid_t object, const char *name, uint64_t *value)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return -1;
    hid_t type = H5Aget_type(attribute);
    int result = H5Tget_class(type) == H5T_INTEGER ? read_scalar(attribute, H5T_NATIVE_UINT64, value) : -1;
    H5Tclose(type);
    H5Aclose(attribute);
    return result;
}

int h5_read_text(hid_t object, const char *name, char *text, size_t capacity)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return -1;
    hid_t type = H5Aget_type(attribute);
    size_t size = H5Tget_size(type);
    int result = -1;
    if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && size > 0 && size <= capacity) {
        memset(text, 0, capacity);
        result = read_scalar(attribute, type, text);
        if (result == 0 && memchr(text, 0, capacity) == NULL) result = -1;
    }
    H5Tclose(type);
    H5Aclose(attribute);
    return result;
}
