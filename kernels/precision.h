/* What matrix products compute in. Everything else (weights, gradients, moments, sums, norms, softmax) is fp32 always.
 */
#ifndef TUNELAW_KERNELS_PRECISION_H
#define TUNELAW_KERNELS_PRECISION_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* bf16: both factors are rounded to bfloat16 (8 bits of mantissa, to the nearest, ties to even), products are summed
 * in fp32.
 * bf16x3: each factor is the sum of two bfloat16 numbers, x = high + low, and three of the four products are summed in
 * fp32, high high + high low + low high: an error of about 2^-18 a product, and numbers above 3.38e38 are lost. Of
 * backends of the host alone: for processors that multiply bf16 numbers more than three times as fast as fp32 ones
 * (AMX). */
enum precision { PRECISION_FP32, PRECISION_BF16, PRECISION_BF16X3, PRECISIONS };

const char *precision_name(enum precision precision); /* "fp32", "bf16", "bf16x3" */
int precision_find(const char *name);                 /* enum precision, or -1 */

/* x as a bfloat16; a NaN stays one. Inlines into vector loops. */
static inline uint16_t bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

static inline float bf16_value(uint16_t half)
{
    float x;
    uint32_t bits = (uint32_t)half << 16;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What a bfloat16 leaves of x. */
static inline float bf16_rest(float x)
{
    return x - bf16_value(bf16_of(x));
}

#endif
