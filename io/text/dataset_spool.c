/* Parts of a dataset under construction, on disk. */
#include "io/text/dataset_spool.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

int spool_open(struct spool *spool, const struct part_format *format, size_t vocabulary, const char *path,
               struct error *err)
{
    char name[PATH_MAX];
    if ((size_t)snprintf(name, sizeof name, "%s.XXXXXX", path) >= sizeof name)
        return error_set(err, "%s: path too long", path);
    spool->format = format;
    spool->path = path;
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
        return error_set_errno(err, "%s: cannot write %s", spool->path, spool->format->path);
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

int spool_write(struct spool *spool, int fd, uint64_t offset, struct error *err)
{
    enum { BLOCK = 1 << 20 };
    uint64_t left = spool->count * spool->width;
    unsigned char *block = malloc(BLOCK);
    if (!block) return error_set(err, "out of memory");
    int result = fflush(spool->file);
    rewind(spool->file);
    while (left > 0 && result == 0) {
        size_t size = left < BLOCK ? (size_t)left : BLOCK;
        result = fread(block, 1, size, spool->file) == size ? file_write_at(fd, block, size, offset) : -1;
        offset += size;
        left -= size;
    }
    free(block);
    return result == 0 ? 0 : error_set_errno(err, "%s: cannot write %s", spool->path, spool->format->path);
}
