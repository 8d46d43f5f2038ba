/* bfloat16 in the place of the toolkit's header: stored as 16 bits, computed with as floats. */
#ifndef TUNELAW_TESTS_EMULATION_CUDA_BF16_H
#define TUNELAW_TESTS_EMULATION_CUDA_BF16_H

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/precision.h"

struct __nv_bfloat16 {
    uint16_t bits;
};

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

/* To the nearest, ties to even; a NaN becomes the one that devices write. */
static inline __nv_bfloat16 __float2bfloat16(float x)
{
    return {x == x ? bf16_of(x) : (uint16_t)0x7fff};
}

static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return __float2bfloat16(x);
}

static inline float __bfloat162float(__nv_bfloat16 x)
{
    return bf16_value(x.bits);
}

static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__float2bfloat16(x), __float2bfloat16(y)};
}

static inline __nv_bfloat162 __float22bfloat162_rn(float2 x)
{
    return __floats2bfloat162_rn(x.x, x.y);
}

static inline float2 __bfloat1622float2(__nv_bfloat162 x)
{
    return {__bfloat162float(x.x), __bfloat162float(x.y)};
}

static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return {x, y};
}

static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}

static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return {bits};
}

#endif
