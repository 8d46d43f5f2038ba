/* Opens a store, refusing what is not one, and reads its rows with checksums. Readers never lock and never see half a
 * row as committed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/store/store_internal.h"

/* The text of a dataset, zero-terminated. */
static int text_read(const struct store *store, const struct frozen_part *part, char **text, struct error *err)
{
    if (part->row_size > STORE_CONFIG_LIMIT)
        return error_set(err, "%s: dataset %s is %llu bytes long; a store holds up to %zu", store->path,
                         part->spec->name, (unsigned long long)part->row_size, STORE_CONFIG_LIMIT);
    *text = calloc(1, (size_t)part->row_size + 1);
    if (!*text) return error_set(err, "%s: out of memory", store->path);
    if (file_read_at(store->fd, *text, (size_t)part->row_size, part->offset) != 0)
        return error_set_errno(err, "%s: cannot read dataset %s", store->path, part->spec->name);
    return 0;
}

static int attribute_read(const struct store *store, const struct frozen_block *block, const char *name, char **text,
                          struct error *err)
{
    const char *found;
    if (frozen_get_text(block, store->path, name, &found, err) != 0) return -1;
    return (*text = strdup(found)) ? 0 : error_set(err, "%s: out of memory", store->path);
}

int store_attributes_read(struct store *store, const struct frozen_block *block, struct error *err)
{
    if (frozen_get_u64(block, store->path, "epoch", &store->epoch, err) != 0 ||
        attribute_read(store, block, "config_path", &store->config_path, err) != 0 ||
        attribute_read(store, block, "name", &store->name, err) != 0 ||
        attribute_read(store, block, "dataset_digest", &store->dataset_digest, err) != 0 ||
        attribute_read(store, block, "program_version", &store->program_version, err) != 0 ||
        attribute_read(store, block, "shard", &store->shard, err) != 0 ||
        attribute_read(store, block, "made_by", &store->made_by, err) != 0)
        return -1;
    return 0;
}

/* How many rows each dataset has follows from how many /points has. */
static int rows_agree(const struct store *store, const struct frozen_part parts[STORE_DATASETS], struct error *err)
{
    if (store->count == 0) return error_set(err, "%s: damaged: a store without points", store->path);
    for (int i = STORE_POINTS; i < STORE_DATASETS; i++) {
        uint64_t expected = store->count;
        if (i == STORE_POINTS_COPY) expected *= sizeof(struct store_point_copy); /* both are in the file */
        if (i == STORE_DIRECTORY) expected = sizeof(struct frozen_block);
        if (parts[i].rows != expected)
            return error_set(err, "%s: damaged: dataset %s has %llu rows where %llu are expected", store->path,
                             store_specs[i].name, (unsigned long long)parts[i].rows, (unsigned long long)expected);
    }
    return 0;
}

/* The copy of the block is under no checksum but its own. */
static int directory_agrees(const struct store *store, const struct frozen_block *block, struct error *err)
{
    struct frozen_block copy;
    if (file_read_at(store->fd, &copy, sizeof copy, store->offsets[STORE_DIRECTORY]) != 0)
        return error_set_errno(err, "%s: cannot read dataset directory", store->path);
    if (memcmp(&copy, block, sizeof copy) == 0) return 0;
    return error_set(err, "%s: damaged: dataset directory is not the copy of its first bytes", store->path);
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

static int store_load(struct store *store, struct error *err)
{
    struct frozen_block block;
    struct frozen_part parts[STORE_DATASETS];
    if (frozen_open(store->fd, store->path, &store_format, &block, err) != 0) return -1;
    for (int i = 0; i < STORE_DATASETS; i++) {
        parts[i].spec = &store_specs[i];
        if (frozen_locate(&block, store->path, &parts[i], err) != 0) return -1;
        store->offsets[i] = parts[i].offset;
    }
    store->count = (size_t)parts[STORE_POINTS].rows;
    if (rows_agree(store, parts, err) != 0 || frozen_verify(store->fd, store->path, &store_format, &block, err) != 0 ||
        directory_agrees(store, &block, err) != 0 || store_attributes_read(store, &block, err) != 0 ||
        text_read(store, &parts[STORE_CONFIG], &store->config, err) != 0 ||
        text_read(store, &parts[STORE_PROVENANCE], &store->provenance, err) != 0)
        return -1;
    return points_read(store, err);
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

/* Over NFS a file that a new generation has replaced goes away under its readers: then that one is opened. */
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
    free(store->marked);
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

int store_check_replaced(const struct store *store, struct error *err)
{
    if (!store_is_replaced(store)) return 0;
    return error_set(err, "%s: another run has taken this directory over; this one ends", store->path);
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
