/* Dividing one block of device memory. The same walk counts (base NULL) and assigns, so that predicted bytes are
 * allocated bytes. */
#ifndef TUNELAW_WORKERS_MODEL_ARENA_H
#define TUNELAW_WORKERS_MODEL_ARENA_H

#include <stddef.h>

#include "io/error.h"
#include "kernels/kernels.h"

struct arena {
    char *base;     /* NULL: count only */
    size_t used;    /* bytes, always a multiple of 64 */
    size_t element; /* bytes of a `real` */
};

/* The next `bytes`, 64-byte aligned; NULL while counting. */
static inline void *arena_take(struct arena *arena, size_t bytes)
{
    void *at = arena->base ? arena->base + arena->used : NULL;
    arena->used += (bytes + 63) / 64 * 64;
    return at;
}

static inline float *arena_floats(struct arena *arena, size_t rows, size_t columns)
{
    return arena_take(arena, rows * columns * sizeof(float));
}

static inline real *arena_reals(struct arena *arena, size_t rows, size_t columns)
{
    return arena_take(arena, rows * columns * arena->element);
}

/* Device memory for what was counted, and begin to assign it. Nothing is allocated for 0 bytes. 0 or -1. */
static inline int arena_allocate(struct arena *arena, const struct kernels *kernels, struct device *device,
                                 struct error *err)
{
    if (arena->used == 0) return 0;
    arena->base = kernels->allocate(device, arena->used, err);
    arena->used = 0;
    return arena->base ? 0 : -1;
}

#endif
