/* What the fuzz targets share: an input as a file, and a mutator that puts a right seal around what it
 * changed, so that inputs reach the code behind the seal. */
#ifndef TUNELAW_TESTS_FUZZ_FUZZ_H
#define TUNELAW_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/digest.h"
#include "io/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* HDF5 asks malloc for what a file tells it to, where NULL is an error as others; 1.10 loses memory where it refuses
 * damaged metadata. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:max_allocation_size_mb=1024:detect_leaks=0";
}

static char fuzz_path[64]; /* of the input's file */

static inline void fuzz_remove(void)
{
    unlink(fuzz_path);
}

/* The input as a file (HDF5 opens nothing that has no name); its descriptor. */
static inline int fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (fd < 0) {
        strcpy(fuzz_path, access("/dev/shm", W_OK) == 0 ? "/dev/shm/tunelaw-fuzz-XXXXXX" : "/tmp/tunelaw-fuzz-XXXXXX");
        fd = mkstemp(fuzz_path);
        atexit(fuzz_remove);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    return fd;
}

/* Where seeds are to be written ($FUZZ_SEEDS), or NULL. */
static inline const char *fuzz_seed_folder(void)
{
    return getenv("FUZZ_SEEDS");
}

/* Offsets in the seal, as docs/store-format.md has them. */
enum { SEAL_SIZE_AT = 40, SEAL_RANGES_AT = 48, SEAL_SEALED_AT = 176, SEAL_CHECKSUM_AT = 184 };

/* Forged files: with $FUZZ_NO_FORGING inputs are damaged only, as disks and networks do it. */
static inline void fuzz_reseal(uint8_t *data, size_t size, const char *kind, uint32_t version, uint32_t count)
{
    struct seal_range ranges[SEAL_RANGES];
    uint64_t file_size = size, checksum;
    if (size < SEAL_SIZE || getenv("FUZZ_NO_FORGING")) return;
    memcpy(ranges, data + SEAL_RANGES_AT, sizeof ranges);
    int fd = fuzz_file(data, size);
    if (seal_write(fd, "", kind, version, ranges, count, NULL) == 0) {
        if (pread(fd, data, SEAL_SIZE, 0) != SEAL_SIZE) abort();
        return;
    }
    memcpy(data + SEAL_SIZE_AT, &file_size, sizeof file_size);
    checksum = checksum_of(data, SEAL_CHECKSUM_AT);
    memcpy(data + SEAL_CHECKSUM_AT, &checksum, sizeof checksum);
}

/* Half of the changes in a small window, so that lengths and offsets around it stay what they are. */
static inline size_t fuzz_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    enum { WINDOW = 64, METADATA = 12288 };
    unsigned state = seed;
    if (size < WINDOW || rand_r(&state) % 4 == 0) return LLVMFuzzerMutate(data, size, max_size);
    size_t span = rand_r(&state) % 2 && size > METADATA ? METADATA : size;
    size_t at = (size_t)rand_r(&state) % (span - WINDOW + 1);
    LLVMFuzzerMutate(data + at, WINDOW, WINDOW);
    return size;
}

#endif
