/* Writes and checks the seal in front of our HDF5 files, before HDF5 is let near them. */
#include "io/seal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "io/digest.h"
#include "io/file.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rows and tensors are written as they lie in memory: little-endian machines only"
#endif

struct seal {
    char kind[32];
    uint32_t version;
    uint32_t range_count;
    uint64_t file_size;
    struct seal_range ranges[SEAL_RANGES];
    uint64_t sealed;   /* XXH3-64 of the bytes from SEAL_SIZE to the end that are in no range */
    uint64_t checksum; /* XXH3-64 of the seal before this member */
};
_Static_assert(sizeof(struct seal) <= SEAL_SIZE, "the seal fits its block");

static int seal_add(XXH3_state_t *state, int fd, const char *path, uint64_t first, uint64_t end, char *block,
                    size_t block_size, struct error *err)
{
    while (first < end) {
        size_t size = end - first < block_size ? (size_t)(end - first) : block_size;
        if (file_read_at(fd, block, size, first) != 0) return error_set_errno(err, "%s: cannot read", path);
        XXH3_64bits_update(state, block, size);
        first += size;
    }
    return 0;
}

/* The checksum over everything that is outside the ranges. */
static int seal_compute(int fd, const char *path, const struct seal *seal, uint64_t *out, struct error *err)
{
    enum { BLOCK = 1 << 18 };
    int result = -1;
    char *block = malloc(BLOCK);
    XXH3_state_t *state = XXH3_createState();
    if (!block || !state) {
        error_set(err, "out of memory while reading %s", path);
        goto done;
    }
    XXH3_64bits_reset(state);
    uint64_t at = SEAL_SIZE;
    for (size_t i = 0; i < seal->range_count; i++) {
        if (seal_add(state, fd, path, at, seal->ranges[i].offset, block, BLOCK, err) != 0) goto done;
        at = seal->ranges[i].offset + seal->ranges[i].size;
    }
    if (seal_add(state, fd, path, at, seal->file_size, block, BLOCK, err) != 0) goto done;
    *out = XXH3_64bits_digest(state);
    result = 0;
done:
    free(block);
    XXH3_freeState(state);
    return result;
}

/* Sorted, apart, inside the file; on success *sealed is the number of bytes outside. */
static int seal_ranges_valid(const struct seal *seal, uint64_t *sealed)
{
    uint64_t at = SEAL_SIZE, outside = 0;
    if (seal->file_size < SEAL_SIZE) return -1;
    for (size_t i = 0; i < seal->range_count; i++) {
        const struct seal_range *range = &seal->ranges[i];
        if (range->offset < at || range->offset > seal->file_size || range->size > seal->file_size - range->offset)
            return -1;
        outside += range->offset - at;
        at = range->offset + range->size;
    }
    *sealed = outside + (seal->file_size - at);
    return 0;
}

int seal_write(int fd, const char *path, const char *kind, uint32_t version, const struct seal_range *ranges,
               size_t count, struct error *err)
{
    char block[SEAL_SIZE] = {0};
    struct seal seal = {.version = version, .range_count = (uint32_t)count};
    struct stat status;
    uint64_t sealed;
    if (count > SEAL_RANGES || strlen(kind) >= sizeof seal.kind) return error_set(err, "%s: bad seal", path);
    memcpy(seal.kind, kind, strlen(kind));
    if (count > 0) memcpy(seal.ranges, ranges, count * sizeof *ranges);
    if (fstat(fd, &status) != 0) return error_set_errno(err, "%s", path);
    seal.file_size = (uint64_t)status.st_size;
    if (seal_ranges_valid(&seal, &sealed) != 0) return error_set(err, "%s: bad ranges of a seal", path);
    if (seal_compute(fd, path, &seal, &seal.sealed, err) != 0) return -1;
    seal.checksum = checksum_of(&seal, offsetof(struct seal, checksum));
    memcpy(block, &seal, sizeof seal);
    if (file_write_at(fd, block, sizeof block, 0) != 0) return error_set_errno(err, "%s: cannot write", path);
    return 0;
}

static int seal_foreign(int fd, const char *path, const char *kind, struct error *err)
{
    static const char signature[] = "\211HDF\r\n\032\n";
    char first[8];
    if (file_read_at(fd, first, sizeof first, 0) == 0 && memcmp(first, signature, sizeof first) == 0)
        return error_set(err, "%s: an HDF5 file, but not a %s", path, kind);
    return error_set(err, "%s: not a %s", path, kind);
}

int seal_check(int fd, const char *path, const char *kind, uint32_t version, uint64_t sealed_limit,
               struct seal_range *ranges, size_t count, struct error *err)
{
    struct seal seal;
    struct stat status;
    char expected[sizeof seal.kind] = {0};
    uint64_t sealed, checksum;
    memcpy(expected, kind, strlen(kind));
    if (fstat(fd, &status) != 0) return error_set_errno(err, "%s", path);
    if (!S_ISREG(status.st_mode)) return error_set(err, "%s: not a regular file", path);
    if (status.st_size < SEAL_SIZE) return seal_foreign(fd, path, kind, err);
    if (file_read_at(fd, &seal, sizeof seal, 0) != 0) return error_set_errno(err, "%s: cannot read", path);
    if (memcmp(seal.kind, expected, sizeof expected) != 0) return seal_foreign(fd, path, kind, err);
    if (seal.checksum != checksum_of(&seal, offsetof(struct seal, checksum)))
        return error_set(err, "%s: damaged: the checksum of its first bytes is wrong", path);
    if (seal.version != version)
        return error_set(err, "%s: %s of version %u; this program reads version %u", path, kind, seal.version, version);
    if (seal.file_size != (uint64_t)status.st_size)
        return error_set(err, "%s: damaged: %llu bytes long, written with %llu", path,
                         (unsigned long long)status.st_size, (unsigned long long)seal.file_size);
    if (seal.range_count != count || seal_ranges_valid(&seal, &sealed) != 0 || sealed > sealed_limit)
        return error_set(err, "%s: damaged: its first bytes do not describe a %s", path, kind);
    if (seal_compute(fd, path, &seal, &checksum, err) != 0) return -1;
    if (checksum != seal.sealed) return error_set(err, "%s: damaged: the checksum of its layout is wrong", path);
    memcpy(ranges, seal.ranges, count * sizeof *ranges);
    return 0;
}
