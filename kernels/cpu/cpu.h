/* Parts of the cpu backend. Contracts of the operations: kernels/kernels.h. Private to kernels/. */
#ifndef TUNELAW_KERNELS_CPU_H
#define TUNELAW_KERNELS_CPU_H

#include "kernels/kernels.h"

extern const struct kernels kernels_cpu;

struct device {
    int index, threads;
    bool out_of_memory; /* sticky, reported by synchronise */
    size_t scratch_floats;
    float *scratch;
};

/* At least n floats, 64-byte aligned, valid until the next call; NULL where there is no memory (then synchronise says
 * so). */
float *cpu_scratch(struct device *device, size_t n);

void cpu_matmul(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);

#endif
