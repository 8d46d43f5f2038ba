/* In the place of the toolkit's header: what kernels/cuda's kernels use of it, on the CPU. */
#ifndef TUNELAW_TESTS_EMULATION_CUDA_RUNTIME_H
#define TUNELAW_TESTS_EMULATION_CUDA_RUNTIME_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tests/emulation/emulation.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __expf expf /* glibc has these names, and no definitions */
#define __logf logf
#define __sinf sinf
#define __cosf cosf
#ifndef __restrict__
#define __restrict__ __restrict
#endif

using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;

/* ---- the host's side ---- */

#include "tests/emulation/runtime.h"

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...), Arguments... arguments)
{
    const cudaLaunchConfig_t how = *config;
    return emulated_enqueue(how.stream, [=] {
        emulate(how.gridDim, how.blockDim, how.dynamicSmemBytes, reinterpret_cast<const void *>(kernel),
                [=] { kernel(arguments...); });
        return true;
    });
}

/* ---- blocks and warps ---- */

static inline void __syncthreads()
{
    emulated_barrier(false);
}

static inline int __syncthreads_count(int x)
{
    return (int)emulated_barrier(x != 0);
}

static inline int __syncthreads_or(int x)
{
    return emulated_barrier(x != 0) != 0;
}

static inline int __syncthreads_and(int x)
{
    return emulated_barrier(x == 0) == 0;
}

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    char none = 0;
    emulated_exchange(mask, &none, 1);
}

template <typename T> T emulated_shuffle(unsigned mask, T x, unsigned from)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a device shuffles 4 or 8 bytes");
    const unsigned char *slots = emulated_exchange(mask, &x, sizeof x);
    memcpy(&x, slots + (from % 32) * EXCHANGE, sizeof x);
    return x;
}

template <typename T> T __shfl_sync(unsigned mask, T x, int from)
{
    return emulated_shuffle(mask, x, (unsigned)from);
}

template <typename T> T __shfl_xor_sync(unsigned mask, T x, int lanes)
{
    return emulated_shuffle(mask, x, emulated_lane() ^ (unsigned)lanes);
}

template <typename T> T __shfl_down_sync(unsigned mask, T x, unsigned by)
{
    unsigned lane = emulated_lane();
    return emulated_shuffle(mask, x, lane + by < 32 ? lane + by : lane);
}

template <typename T> T __shfl_up_sync(unsigned mask, T x, unsigned by)
{
    unsigned lane = emulated_lane();
    return emulated_shuffle(mask, x, lane >= by ? lane - by : lane);
}

static inline unsigned __ballot_sync(unsigned mask, int x)
{
    unsigned all = 0;
    unsigned char flag = x != 0;
    struct {
        unsigned char flag, ballot;
    } mine = {flag, 1};
    const unsigned char *slots = emulated_exchange(mask, &mine, sizeof mine);
    for (unsigned lane = 0; lane < 32; lane++)
        all |= (unsigned)slots[lane * EXCHANGE] << lane;
    return all;
}

static inline int __any_sync(unsigned mask, int x)
{
    return __ballot_sync(mask, x) != 0;
}

static inline int __all_sync(unsigned mask, int x)
{
    return __ballot_sync(mask, x) == 0xffffffffu;
}

/* ---- numbers ---- */

template <typename To, typename From> To emulated_bits(From x)
{
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    memcpy(&to, &x, sizeof to);
    return to;
}

static inline unsigned __float_as_uint(float x)
{
    return emulated_bits<unsigned>(x);
}

static inline int __float_as_int(float x)
{
    return emulated_bits<int>(x);
}

static inline float __uint_as_float(unsigned x)
{
    return emulated_bits<float>(x);
}

static inline float __int_as_float(int x)
{
    return emulated_bits<float>(x);
}

static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)(((uint64_t)a * b) >> 32);
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

static inline float __fdividef(float x, float y)
{
    return x / y;
}

static inline float __fadd_rn(float x, float y)
{
    return x + y;
}

static inline float __fmul_rn(float x, float y)
{
    return x * y;
}

static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}

template <typename T> T __ldg(const T *x)
{
    return *x;
}

/* ---- vectors ---- */

#define EMULATED_VECTORS(type, name)                                                                                   \
    struct alignas(2 * sizeof(type)) name##2                                                                           \
    {                                                                                                                  \
        type x, y;                                                                                                     \
    };                                                                                                                 \
    struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4                                              \
    {                                                                                                                  \
        type x, y, z, w;                                                                                               \
    };                                                                                                                 \
    static inline name##2 make_##name##2(type x, type y)                                                               \
    {                                                                                                                  \
        return {x, y};                                                                                                 \
    }                                                                                                                  \
    static inline name##4 make_##name##4(type x, type y, type z, type w)                                               \
    {                                                                                                                  \
        return {x, y, z, w};                                                                                           \
    }
EMULATED_VECTORS(float, float)
EMULATED_VECTORS(int, int)
EMULATED_VECTORS(unsigned, uint)
EMULATED_VECTORS(double, double)
#undef EMULATED_VECTORS

#endif
