/* Parts of a dataset under construction, on disk. */
#include "io/dataset_spool.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int spool_open(struct spool *spool, const struct part_format *format, size_t vocabulary, const char *path,
               struct error *err)
{
    char name[PATH_MAX];
    if ((size_t)snprintf(name, sizeof name, "%s.XXXXXX", path) >= sizeof name)
        return error_set(err, "%s: path too long", path);
    spool->format = format;
    spool->width = dataset_width(format->kind, vocabulary);
    spool->digest = digest_stream_create();
    if (!spool->digest) return error_set(err, "%s: out of memory", path);
    int fd = mkstemp(name);
    if (fd < 0) return error_set_errno(err, "%s: cannot create a file beside it", path);
    unlink(name);
    spool->file = fdopen(fd, "w+");
    if (spool->file) return 0;
    close(fd);
    return error_set(err, "%s: out of memory", path);
}

void spool_close(struct spool *spool)
{
    if (spool->file) fclose(spool->file);
    digest_stream_destroy(spool->digest);
    memset(spool, 0, sizeof *spool);
}

int spool_add(struct spool *spool, const void *elements, size_t count, struct error *err)
{
    if (count == 0) return 0;
    if (fwrite(elements, spool->width, count, spool->file) != count)
        return error_set_errno(err, "cannot write %s", spool->format->path);
    digest_stream_add(spool->digest, elements, count * spool->width);
    spool->count += count;
    return 0;
}

int spool_add_tokens(struct spool *spool, int32_t *ids, size_t count, struct error *err)
{
    if (spool->width == sizeof(uint16_t)) {
        unsigned char *narrow = (unsigned char *)ids;
        for (size_t i = 0; i < count; i++) {
            uint16_t id = (uint16_t)ids[i];
            memcpy(narrow + 2 * i, &id, sizeof id);
        }
    }
    return spool_add(spool, ids, count, err);
}

static int copy_blocks(struct spool *spool, hid_t dataset, hid_t space, hid_t type)
{
    enum { BLOCK = 1 << 18 };
    int result = 0;
    unsigned char *block = malloc(BLOCK * spool->width);
    if (!block || fflush(spool->file) != 0) result = -1;
    rewind(spool->file);
    for (uint64_t first = 0; result == 0 && first < spool->count; first += BLOCK) {
        hsize_t start = first, count = spool->count - first < BLOCK ? spool->count - first : BLOCK;
        hid_t memory = H5Screate_simple(1, &count, NULL);
        if (fread(block, spool->width, (size_t)count, spool->file) != count ||
            H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &count, NULL) < 0 ||
            H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, block) < 0)
            result = -1;
        H5Sclose(memory);
    }
    free(block);
    return result;
}

int spool_write(struct spool *spool, hid_t file, struct error *err)
{
    hsize_t count = spool->count;
    hid_t type = dataset_type(spool->width);
    hid_t space = H5Screate_simple(1, &count, NULL), layout = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(layout, H5D_CONTIGUOUS);
    H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(layout, 0);
    hid_t dataset = H5Dcreate2(file, spool->format->path, type, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    int result = dataset >= 0 && h5_write_text(dataset, "description", spool->format->description) == 0 &&
                         h5_write_text(dataset, "units", dataset_units(spool->format->kind)) == 0
                     ? copy_blocks(spool, dataset, space, type)
                     : -1;
    if (dataset >= 0 && H5Dclose(dataset) < 0) result = -1;
    H5Pclose(layout);
    H5Sclose(space);
    return result == 0 ? 0 : error_set_errno(err, "cannot write %s", spool->format->path);
}
