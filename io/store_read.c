/* Opens a store, refusing what is not one, and reads its rows with checksums. Readers never lock and never see half a
 * row as committed. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/store_internal.h"

static int text_read(hid_t file, const char *path, const char *name, uint64_t file_size, char **text, struct error *err)
{
    int result = -1;
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    hid_t type = H5Dget_type(dataset);
    size_t size = type >= 0 ? H5Tget_size(type) : 0;
    if (dataset < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 || size == 0 ||
        size > STORE_CONFIG_LIMIT || size > file_size) {
        error_set(err, "%s: dataset %s is not the text that this program writes", path, name);
        goto done;
    }
    hsize_t dims[1];
    hid_t checked = frozen_dataset_open(file, path, name, type, 0, dims, file_size, NULL, err);
    if (checked < 0) goto done;
    H5Dclose(checked);
    *text = calloc(1, size + 1);
    if (!*text || H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *text) < 0) {
        error_set(err, "%s: cannot read dataset %s", path, name);
        goto done;
    }
    result = 0;
done:
    H5Tclose(type);
    H5Dclose(dataset);
    return result;
}

/* What files of earlier builds of this version do not have reads as empty. */
static int later_text_read(hid_t file, const char *path, const char *name, char **text, struct error *err)
{
    if (H5Aexists(file, name) > 0) return frozen_get_text(file, path, name, text, err);
    return (*text = strdup("")) ? 0 : error_set(err, "out of memory");
}

static int provenance_read(hid_t file, const char *path, uint64_t file_size, char **text, struct error *err)
{
    if (H5Lexists(file, "provenance", H5P_DEFAULT) > 0)
        return text_read(file, path, "provenance", file_size, text, err);
    return (*text = strdup("")) ? 0 : error_set(err, "out of memory");
}

static int layout_read(struct store *store, hid_t file, uint64_t file_size, struct error *err)
{
    uint64_t version;
    for (int i = 0; i < STORE_DATASETS; i++) {
        size_t rows;
        if (frozen_layout_check(file, store->path, &store_layouts[i], file_size, &rows, &store->offsets[i], err) != 0)
            return -1;
        if (i == 0) store->count = rows;
        if (rows == 0 || rows != store->count)
            return error_set(err, "%s: dataset %s has %zu rows where %zu are expected", store->path,
                             store_layouts[i].name, rows, store->count);
    }
    if (frozen_get_u64(file, store->path, "version", &version, err) != 0 ||
        frozen_get_u64(file, store->path, "epoch", &store->epoch, err) != 0 ||
        frozen_get_text(file, store->path, "config_path", &store->config_path, err) != 0 ||
        frozen_get_text(file, store->path, "name", &store->name, err) != 0 ||
        frozen_get_text(file, store->path, "dataset_digest", &store->dataset_digest, err) != 0 ||
        later_text_read(file, store->path, "program_version", &store->program_version, err) != 0 ||
        later_text_read(file, store->path, "shard", &store->shard, err) != 0 ||
        later_text_read(file, store->path, "made_by", &store->made_by, err) != 0 ||
        text_read(file, store->path, "config", file_size, &store->config, err) != 0 ||
        provenance_read(file, store->path, file_size, &store->provenance, err) != 0)
        return -1;
    if (version != STORE_VERSION)
        return error_set(err, "%s: store of version %llu; this program reads version %d", store->path,
                         (unsigned long long)version, STORE_VERSION);
    return 0;
}

static int points_read(struct store *store, struct error *err)
{
    /* the dataset lies inside the file, so that its size is no more than what is on disk */
    size_t size = store->count * sizeof *store->points;
    store->points = malloc(size);
    if (!store->points) return error_set(err, "%s: out of memory for %zu points", store->path, store->count);
    if (file_read_at(store->fd, store->points, size, store->offsets[STORE_POINTS]) != 0)
        return error_set_errno(err, "%s: cannot read dataset points", store->path);
    return 0;
}

/* What the seal leaves out must be exactly the rows that change, or a reader would trust bytes that nobody checked. */
static int ranges_agree(const struct store *store, const struct seal_range *found, size_t count, struct error *err)
{
    struct seal_range expected[SEAL_RANGES];
    if (store_unsealed(store->offsets, store->count, expected) != count ||
        memcmp(found, expected, count * sizeof *found) != 0)
        return error_set(err, "%s: damaged: its seal does not match its datasets", store->path);
    return 0;
}

static int store_load(struct store *store, struct error *err)
{
    struct seal_range ranges[STORE_DATASETS - 1];
    struct stat status;
    if (fstat(store->fd, &status) != 0) return error_set_errno(err, "%s", store->path);
    if (seal_check(store->fd, store->path, STORE_KIND, STORE_VERSION, STORE_SEALED_LIMIT, ranges, STORE_DATASETS - 1,
                   err) != 0)
        return -1;
    hid_t file = frozen_open_fd(store->fd, store->path, err);
    if (file < 0) return -1;
    int result = layout_read(store, file, (uint64_t)status.st_size, err);
    H5Fclose(file);
    if (result == 0) result = ranges_agree(store, ranges, STORE_DATASETS - 1, err);
    return result == 0 ? points_read(store, err) : -1;
}

char *store_resolve(const char *path)
{
    struct stat status;
    char *full = NULL;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return asprintf(&full, "%s/%s", path, STORE_FILE) < 0 ? NULL : full;
    return strdup(path);
}

static int store_sync(int fd)
{
    return fdatasync(fd);
}

struct store *store_open_file(const char *path, bool writable, struct error *err)
{
    struct store *store = calloc(1, sizeof *store);
    if (!store) {
        error_set(err, "out of memory");
        return NULL;
    }
    store->fd = -1;
    store->writable = writable;
    store->calls = (struct store_calls){file_write_at, store_sync};
    store->path = store_resolve(path);
    store->index = calloc(1, sizeof(struct store_index *));
    if (!store->path || !store->index) {
        error_set(err, "out of memory");
        goto failed;
    }
    /* O_NONBLOCK: a fifo in the store's place must not block */
    store->fd = open(store->path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
    if (store->fd >= 0) return store;
    error_set_errno(err, "%s", store->path);
failed:
    store_close(store);
    return NULL;
}

/* HDF5 cannot open a file without a name: where a new generation has just taken it, that one is opened. */
struct store *store_open(const char *path, bool writable, struct error *err)
{
    enum { TRIES = 5 };
    bool replaced = true;
    for (int i = 0; i < TRIES && replaced; i++) {
        struct store *store = store_open_file(path, writable, err);
        if (!store || store_load(store, err) == 0) return store;
        replaced = store_is_replaced(store);
        store_close(store);
    }
    return NULL;
}

void store_close(struct store *store)
{
    if (!store) return;
    int saved = errno;
    if (store->index) store_index_destroy(*store->index);
    free(store->index);
    if (store->fd >= 0) close(store->fd);
    free(store->points);
    free(store->config);
    free(store->config_path);
    free(store->name);
    free(store->dataset_digest);
    free(store->shard);
    free(store->made_by);
    free(store->provenance);
    free(store->program_version);
    free(store->path);
    free(store);
    errno = saved;
}

bool store_is_replaced(const struct store *store)
{
    struct stat mine, named;
    if (fstat(store->fd, &mine) != 0) return false;
    if (stat(store->path, &named) != 0) return errno == ENOENT;
    return mine.st_dev != named.st_dev || mine.st_ino != named.st_ino;
}

size_t store_count(const struct store *store)
{
    return store->count;
}

uint64_t store_epoch(const struct store *store)
{
    return store->epoch;
}

const char *store_config(const struct store *store)
{
    return store->config;
}

const char *store_config_path(const struct store *store)
{
    return store->config_path;
}

const char *store_name(const struct store *store)
{
    return store->name;
}

const char *store_dataset_digest(const struct store *store)
{
    return store->dataset_digest;
}

const char *store_shard(const struct store *store)
{
    return store->shard;
}

const char *store_made_by(const struct store *store)
{
    return store->made_by;
}

const char *store_provenance(const struct store *store)
{
    return store->provenance;
}

const char *store_program_version(const struct store *store)
{
    return store->program_version;
}

const struct store_point *store_point(const struct store *store, size_t index)
{
    return index < store->count ? &store->points[index] : NULL;
}
