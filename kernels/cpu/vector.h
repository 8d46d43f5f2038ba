/* What the vectorised files of the cpu backend share: versions of a function for each generation of x86, exp, and a
 * sum of two rows.
 *
 * These files are compiled with -O3 and `omp simd` reductions instead of -ffast-math: a NaN stays a NaN, so that a
 * training that diverges is seen. Sums have a fixed order for a given machine, at any address. */
#ifndef TUNELAW_KERNELS_CPU_VECTOR_H
#define TUNELAW_KERNELS_CPU_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Sanitizers instrument the resolver of the versions, which runs before they are ready. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

/* exp(x) to 2 units in the last place for -87 <= x <= 88, held there outside; NaN for NaN. Inlines into vector loops.
 */
INLINE float vector_exp(float x)
{
    x = -87.0f > x ? -87.0f : x;
    x = 88.0f < x ? 88.0f : x;
    int32_t exponent = (int32_t)(x * 1.44269504f + 127.5f); /* biased, of the nearest power of two */
    float n = (float)(int32_t)((uint32_t)exponent - 127u);  /* unsigned: a NaN may give any exponent */
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = (int32_t)((uint32_t)exponent << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

INLINE void row_add(size_t n, const float *x, float *y)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

#endif
