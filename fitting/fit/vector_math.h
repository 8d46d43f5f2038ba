/* exp and log of eight doubles at a time. Internal to fitting/.
 *
 * Only additions, multiplications, one division and integer operations, and no contraction (the files that include this
 * are compiled with -ffp-contract=off): every width of vectors, and a machine without any, gives the same bits. Each is
 * within 1 unit in the last place of the true value (tests/fitting/test_columns.c). */
#ifndef TUNELAW_FITTING_FIT_VECTOR_MATH_H
#define TUNELAW_FITTING_FIT_VECTOR_MATH_H

#include <stdint.h>

#define LANES 8
typedef double vector __attribute__((vector_size(LANES * sizeof(double))));
typedef int64_t vector_mask __attribute__((vector_size(LANES * sizeof(int64_t))));
typedef uint64_t vector_bits __attribute__((vector_size(LANES * sizeof(uint64_t))));

#define VECTOR_INLINE static inline __attribute__((always_inline))

VECTOR_INLINE vector vector_choose(vector_mask mask, vector yes, vector no)
{
    return (vector)((mask & (vector_mask)yes) | (~mask & (vector_mask)no));
}

VECTOR_INLINE vector vector_max(vector a, vector b)
{
    return vector_choose(a > b, a, b);
}

VECTOR_INLINE vector vector_min(vector a, vector b)
{
    return vector_choose(a > b, b, a); /* a NaN in `a` stays */
}

VECTOR_INLINE vector vector_abs(vector a)
{
    return (vector)((vector_bits)a & 0x7fffffffffffffffu);
}

/* exp(x); 0 below -708, held at exp(709) above, NaN for NaN. */
VECTOR_INLINE vector vector_exp(vector x)
{
    const vector_mask tiny = x < -708.0;
    x = vector_choose(tiny, (vector){0}, vector_choose(x > 709.0, (vector){0} + 709.0, x));
    const vector shifted = x * 0x1.71547652b82fep0 + 0x1.8p52; /* the nearest integer is in its low bits */
    const vector n = shifted - 0x1.8p52;
    const vector r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33; /* ln 2 in two parts, |r| <= 0.347 */
    const vector r2 = r * r, r4 = r2 * r2; /* Taylor, what is left out is below 2^-57; in pairs, which wait less */
    const vector low = (0.5 + r * (1.0 / 6)) + r2 * (1.0 / 24 + r * (1.0 / 120));
    const vector middle = (1.0 / 720 + r * (1.0 / 5040)) + r2 * (1.0 / 40320 + r * (1.0 / 362880));
    const vector high = (1.0 / 3628800 + r * (1.0 / 39916800)) + r2 * (1.0 / 479001600 + r * (1.0 / 6227020800));
    const vector p = (((high * r4 + middle) * r4 + low) * r2 + r) + 1.0;
    const vector power = (vector)(((vector_bits)shifted + 1023) << 52);
    return vector_choose(tiny, (vector){0}, p * power);
}

/* log(x) of a normal positive number, by log(1 + f) = 2 atanh(f / (2 + f)); NaN for NaN. */
VECTOR_INLINE vector vector_log(vector x)
{
    const uint64_t root_half = 0x3fe6a09e667f3bcd, magic = 0x4330000000000000; /* sqrt(1/2); 2^52 */
    const vector_bits moved = (vector_bits)x + (0x3ff0000000000000 - root_half);
    const vector k = ((vector)((moved >> 52) | magic) - 0x1p52) - 1023.0;
    const vector f = (vector)((moved & 0xfffffffffffff) + root_half) - 1.0;
    const vector s = f / (f + 2.0), z = s * s, half = f * f * 0.5;
    const vector z2 = z * z; /* FreeBSD's minimax for |s| <= 0.1716 */
    const vector odd =
        (0x1.5555555555593p-1 + z2 * (0x1.2492494229359p-2 + z2 * (0x1.7466496cb03dep-3 + z2 * 0x1.2f112df3e5244p-3))) *
        z;
    const vector even = (0x1.999999997fa04p-2 + z2 * (0x1.c71c51d8e78afp-3 + z2 * 0x1.39a09d078c69fp-3)) * z2;
    const vector p = odd + even;
    const vector value = k * 0x1.62e42feep-1 - ((half - (s * (half + p) + k * 0x1.a39ef35793c76p-33)) - f);
    return vector_choose((vector_mask)(x == x), value, x);
}

#endif
