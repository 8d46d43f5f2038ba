/* What the fuzz targets share: an input as a file, and mutators; that of frozen files changes numbers as someone would
 * who forges one and puts right checksums around what it changed, so that inputs reach the code behind them. */
#ifndef TUNELAW_TESTS_FUZZ_FUZZ_H
#define TUNELAW_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/number.h"
#include "tests/io/forge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* io/number.cc is C++. */
size_t number_of_double(double value, char *out)
{
    return (size_t)snprintf(out, NUMBER_TEXT, "%.17g", value);
}

/* No reader may ask for more memory than a file of its size has use for. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "max_allocation_size_mb=64:detect_leaks=1";
}

static char fuzz_path[64]; /* of the input's file */

static inline void fuzz_remove(void)
{
    unlink(fuzz_path);
}

/* The input as the file at fuzz_path; its descriptor. */
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

/* Eight bytes of the block's numbers become one that a forger would try. */
static inline void fuzz_number(uint8_t *data, size_t size, unsigned *state)
{
    const struct frozen_block *block = NULL;
    size_t used = offsetof(struct frozen_block, parts) + 14 * sizeof block->parts[0];
    size_t at = (size_t)rand_r(state) % (used / 8) * 8, other = (size_t)rand_r(state) % (used / 8) * 8;
    uint64_t value, from;
    memcpy(&value, data + at, sizeof value);
    memcpy(&from, data + other, sizeof from);
    const uint64_t tries[] = {0,          1,        value + 1,    value - 1,         value * 2,
                              from,       from + 1, value + from, value + 4096,      (uint64_t)1 << 60,
                              UINT64_MAX, size,     size - value, UINT64_MAX - from, UINT64_MAX / (from | 1)};
    value = tries[(size_t)rand_r(state) % (sizeof tries / sizeof *tries)];
    memcpy(data + at, &value, sizeof value);
}

/* Half of the changes in a small window, so that lengths and offsets around it stay what they are. */
static inline size_t fuzz_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    enum { WINDOW = 64, METADATA = 4096 };
    unsigned state = seed;
    if (size < WINDOW || rand_r(&state) % 4 == 0) return LLVMFuzzerMutate(data, size, max_size);
    size_t span = rand_r(&state) % 2 && size > METADATA ? METADATA : size;
    size_t at = (size_t)rand_r(&state) % (span - WINDOW + 1);
    LLVMFuzzerMutate(data + at, WINDOW, WINDOW);
    return size;
}

/* A frozen file: numbers or anything else, and then, but in one of eight inputs, all checksums as they must be. */
static inline size_t fuzz_forge(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    unsigned state = seed;
    if (size >= FROZEN_BLOCK && rand_r(&state) % 3 == 0)
        fuzz_number(data, size, &state);
    else
        size = fuzz_mutate(data, size, max_size, seed);
    if (rand_r(&state) % 8) forge(data, size);
    return size;
}

#endif
