/* The checksums over all of a frozen file that never changes: each sealed dataset has one, and one is over the bytes
 * that are in no dataset, HDF5's metadata. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "io/digest.h"
#include "io/file.h"
#include "io/frozen/frozen.h"

struct sum {
    int fd;
    const char *path;
    XXH3_state_t *state;
    char *block;
};
enum { SUM_BLOCK = 1 << 18 };

static void sum_end(struct sum *sum)
{
    free(sum->block);
    XXH3_freeState(sum->state);
}

static int sum_begin(struct sum *sum, int fd, const char *path, struct error *err)
{
    *sum = (struct sum){fd, path, XXH3_createState(), malloc(SUM_BLOCK)};
    if (sum->state && sum->block) return 0;
    sum_end(sum);
    return error_set(err, "out of memory while reading %s", path);
}

static int sum_add(struct sum *sum, uint64_t first, uint64_t end, struct error *err)
{
    while (first < end) {
        size_t size = end - first < SUM_BLOCK ? (size_t)(end - first) : SUM_BLOCK;
        if (file_read_at(sum->fd, sum->block, size, first) != 0)
            return error_set_errno(err, "%s: cannot read", sum->path);
        XXH3_64bits_update(sum->state, sum->block, size);
        first += size;
    }
    return 0;
}

static int part_sum(struct sum *sum, const struct frozen_entry *entry, uint64_t *out, struct error *err)
{
    XXH3_64bits_reset(sum->state);
    if (sum_add(sum, entry->offset, entry->offset + entry->rows * entry->row_size, err) != 0) return -1;
    *out = XXH3_64bits_digest(sum->state);
    return 0;
}

/* The datasets with rows in the order in which they lie in the file; how many. */
static size_t entries_sorted(const struct frozen_block *block, const struct frozen_entry *sorted[FROZEN_PARTS])
{
    size_t count = 0;
    for (size_t i = 0; i < block->part_count; i++) {
        if (block->parts[i].rows == 0) continue;
        size_t at = count++;
        for (; at > 0 && sorted[at - 1]->offset > block->parts[i].offset; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = &block->parts[i];
    }
    return count;
}

static int between_sum(struct sum *sum, const struct frozen_block *block, uint64_t *out, struct error *err)
{
    const struct frozen_entry *sorted[FROZEN_PARTS];
    size_t count = entries_sorted(block, sorted);
    uint64_t at = FROZEN_BLOCK;
    XXH3_64bits_reset(sum->state);
    for (size_t i = 0; i < count; i++) {
        if (sum_add(sum, at, sorted[i]->offset, err) != 0) return -1;
        at = sorted[i]->offset + sorted[i]->rows * sorted[i]->row_size;
    }
    if (sum_add(sum, at, block->file_size, err) != 0) return -1;
    *out = XXH3_64bits_digest(sum->state);
    return 0;
}

int frozen_seal(int fd, const char *path, struct frozen_block *block, struct error *err)
{
    struct stat status;
    struct sum sum;
    const char *name, *wrong;
    if (fstat(fd, &status) != 0) return error_set_errno(err, "%s", path);
    block->file_size = (uint64_t)status.st_size;
    if ((wrong = frozen_misplaced(block, &name)))
        return error_set(err, "%s: HDF5 has laid it out in another way than was asked for: %s %s", path, wrong, name);
    if (sum_begin(&sum, fd, path, err) != 0) return -1;
    int result = between_sum(&sum, block, &block->between, err);
    for (size_t i = 0; i < block->part_count && result == 0; i++)
        if (block->parts[i].sealed) result = part_sum(&sum, &block->parts[i], &block->parts[i].checksum, err);
    sum_end(&sum);
    if (result != 0) return -1;
    block->checksum = checksum_of(block, offsetof(struct frozen_block, checksum));
    if (file_write_at(fd, block, sizeof *block, 0) != 0) return error_set_errno(err, "%s: cannot write", path);
    return 0;
}

/* Bytes that frozen_verify reads. */
static uint64_t sealed_bytes(const struct frozen_block *block)
{
    uint64_t bytes = block->file_size;
    for (size_t i = 0; i < block->part_count; i++)
        if (!block->parts[i].sealed) bytes -= block->parts[i].rows * block->parts[i].row_size;
    return bytes;
}

int frozen_verify(int fd, const char *path, const struct frozen_format *format, const struct frozen_block *block,
                  struct error *err)
{
    struct sum sum;
    uint64_t found;
    if (sealed_bytes(block) > format->sealed_limit)
        return error_set(err, "%s: damaged: more bytes under its seal than a %s has", path, format->kind);
    if (sum_begin(&sum, fd, path, err) != 0) return -1;
    int result = between_sum(&sum, block, &found, err);
    if (result == 0 && found != block->between)
        result = error_set(err, "%s: damaged: the checksum of its HDF5 metadata is wrong", path);
    for (size_t i = 0; i < block->part_count && result == 0; i++) {
        const struct frozen_entry *entry = &block->parts[i];
        if (!entry->sealed) continue;
        result = part_sum(&sum, entry, &found, err);
        if (result == 0 && found != entry->checksum)
            result = error_set(err, "%s: damaged: the checksum of dataset %s is wrong", path, entry->name);
    }
    sum_end(&sum);
    return result;
}
