/* Creation and strict opening of our HDF5 files and their attributes. Rows and tensors are not moved through HDF5 after
 * this. */
#include "io/frozen.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/h5.h"

#define ALIGNMENT 4096

/* HDF5 keeps errno only as text: "..., errno = 28, error message = ..." */
static herr_t find_errno(unsigned depth, const H5E_error2_t *entry, void *found)
{
    (void)depth;
    const char *at = entry->desc ? strstr(entry->desc, "errno = ") : NULL;
    int number = 0;
    if (at && sscanf(at, "errno = %d", &number) == 1 && number > 0) *(int *)found = number;
    return 0;
}

int frozen_fail(struct error *err, const char *format, ...)
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

static hid_t access_properties(void)
{
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    if (list < 0) return list;
    if (H5Pset_file_locking(list, 0, 1) < 0 || H5Pset_alignment(list, ALIGNMENT, ALIGNMENT) < 0 ||
        H5Pset_sieve_buf_size(list, 0) < 0) {
        H5Pclose(list);
        return -1;
    }
    return list;
}

hid_t frozen_create(const char *path, size_t user_block, struct error *err)
{
    h5_begin();
    hid_t access = access_properties();
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    hid_t file = -1;
    errno = 0;
    if (access >= 0 && creation >= 0 && H5Pset_userblock(creation, user_block) >= 0 &&
        H5Pset_obj_track_times(creation, 0) >= 0)
        file = H5Fcreate(path, H5F_ACC_EXCL, creation, access);
    if (file < 0) (errno ? error_set_errno : error_set)(err, "%s: cannot create", path);
    H5Pclose(creation);
    H5Pclose(access);
    return file;
}

hid_t frozen_open_fd(int fd, const char *path, struct error *err)
{
    h5_begin();
    /* the file that was checked, even if another one has been renamed over its name since */
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    hid_t access = access_properties();
    hid_t file = H5Fopen(name, H5F_ACC_RDONLY, access);
    if (file < 0) error_set(err, "%s: HDF5 cannot open it", path);
    H5Pclose(access);
    return file;
}

hid_t frozen_dataset_create(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims,
                            const char *description, const char *units, struct error *err)
{
    hid_t space = rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, dims, NULL);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t dataset = -1;
    if (space >= 0 && creation >= 0 && H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0 && H5Pset_obj_track_times(creation, 0) >= 0)
        dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (dataset < 0) {
        frozen_fail(err, "HDF5 cannot create dataset %s", name);
    } else if (frozen_put_text(dataset, "description", description, err) != 0 ||
               frozen_put_text(dataset, "units", units, err) != 0) {
        H5Dclose(dataset);
        dataset = -1;
    }
    H5Pclose(creation);
    H5Sclose(space);
    return dataset;
}

/* Contiguous, in this file, inside its bytes. */
static int dataset_placed(hid_t dataset, hid_t type, size_t values, uint64_t file_size, uint64_t *offset)
{
    hid_t creation = H5Dget_create_plist(dataset);
    bool plain = creation >= 0 && H5Pget_layout(creation) == H5D_CONTIGUOUS && H5Pget_external_count(creation) == 0;
    H5Pclose(creation);
    if (!plain) return -1;
    *offset = 0;
    if (values == 0) return 0;
    haddr_t at = H5Dget_offset(dataset);
    size_t size = H5Tget_size(type);
    if (at == HADDR_UNDEF || at > file_size || size == 0 || values > (file_size - at) / size) return -1;
    *offset = at;
    return 0;
}

static int dataset_dims(hid_t dataset, int rank, hsize_t *dims, size_t *values)
{
    hsize_t unused[H5S_MAX_RANK];
    hid_t space = H5Dget_space(dataset);
    bool same = space >= 0 && H5Sget_simple_extent_ndims(space) == rank &&
                H5Sget_simple_extent_type(space) == (rank == 0 ? H5S_SCALAR : H5S_SIMPLE) &&
                H5Sget_simple_extent_dims(space, rank > 0 ? dims : unused, NULL) == rank;
    H5Sclose(space);
    if (!same) return -1;
    *values = 1;
    for (int i = 0; i < rank; i++)
        if (dims[i] > SIZE_MAX || __builtin_mul_overflow(*values, (size_t)dims[i], values)) return -1;
    return 0;
}

hid_t frozen_dataset_open(hid_t file, const char *path, const char *name, hid_t type, int rank, hsize_t *dims,
                          uint64_t file_size, uint64_t *offset, struct error *err)
{
    size_t values;
    uint64_t at;
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0) {
        error_set(err, "%s: has no dataset %s", path, name);
        return -1;
    }
    hid_t found = H5Dget_type(dataset);
    bool same = found >= 0 && H5Tequal(found, type) > 0;
    H5Tclose(found);
    if (!same)
        error_set(err, "%s: dataset %s has other members or types than this program writes", path, name);
    else if (dataset_dims(dataset, rank, dims, &values) != 0)
        error_set(err, "%s: dataset %s has another shape than this program writes", path, name);
    else if (dataset_placed(dataset, type, values, file_size, &at) != 0)
        error_set(err, "%s: dataset %s is not contiguous inside the file", path, name);
    else {
        if (offset) *offset = at;
        return dataset;
    }
    H5Dclose(dataset);
    return -1;
}
