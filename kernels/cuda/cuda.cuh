/* What the CUDA backend's files share: the device, launches, numbers in either storage type, reductions in a block.
 *
 * At full size: a thousand launches a step of up to 10^5 rows of width 16,384, on devices of compute capability 8.0 and
 * later; no launch waits for the host, none uses atomics, so that the same buffers give the same bytes.
 *
 * The files that hold kernels are CUDA C++ that a C++17 compiler reads, too, with the headers of tests/emulation in
 * place of CUDA's: no <<<>>> (launch() below), no static __shared__ arrays (shared_memory below), no inline PTX outside
 * mma.cuh, warp functions only with all 32 lanes. device.cu, graphs.cu and gang.cu use the runtime, which the emulation
 * has, too; matmul.cu, which uses cuBLASLt, it replaces. */
#ifndef TUNELAW_KERNELS_CUDA_CUDA_CUH
#define TUNELAW_KERNELS_CUDA_CUDA_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

extern "C" {
#include "kernels/kernels.h"
}

using bf16 = __nv_bfloat16;

/* ---- the host's side ---- */

/* Opaque to the files of kernels but for these; device.cu has the rest. */
enum precision device_precision(const struct device *device);
cudaStream_t device_stream(const struct device *device);
/* Keeps the first error; every later operation is then skipped by the driver, and synchronise reports it. */
void device_note(struct device *device, cudaError_t code);
/* Device memory of at least so many bytes, 256-byte aligned, until the next call; NULL after an error, which is kept:
 * nothing is to be launched then. It grows in the first steps and then stays. */
void *device_scratch(struct device *device, size_t bytes);
/* Host memory behind device memory of the same use: `bytes` of it are on their way to the returned device address when
 * the call returns, ordered with the stream, valid until the next but one call. NULL after an error. */
const void *device_constants(struct device *device, const void *from, size_t bytes);
/* from[count], of the device, are on their way to `out` of the host, which has them once they are collected
 * (kernels.h); nothing after an error. answers.cu. */
void device_answer(struct device *device, const double *from, size_t count, double *out);
unsigned device_multiprocessors(const struct device *device);
size_t device_shared_bytes(const struct device *device); /* the most that a block can have */

/* kernel<<<grid, block, shared>>>(args...) on the device's stream. */
template <typename... Parameters, typename... Arguments>
void launch(struct device *device, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
            Arguments... arguments)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    if (shared > 48 * 1024) {
        cudaError_t code = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                                cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (code != cudaSuccess) {
            device_note(device, code);
            return;
        }
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = device_stream(device);
    cudaError_t code = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    if (code != cudaSuccess) device_note(device, code);
}

/* body(T()) with T = float or bf16, the device's storage type. */
template <typename Body> void with_storage(const struct device *device, Body body)
{
    if (device_precision(device) == PRECISION_BF16)
        body(bf16());
    else
        body(float());
}

template <typename T> T *as(real *x)
{
    return reinterpret_cast<T *>(x);
}

template <typename T> const T *as(const real *x)
{
    return reinterpret_cast<const T *>(x);
}

inline unsigned blocks_for(size_t n, size_t each)
{
    return (unsigned)((n + each - 1) / each);
}

/* A block each, as many as a grid can have: kernels stride on. */
inline unsigned blocks_of(size_t n)
{
    return (unsigned)(n < 0x7fffffff ? n : 0x7fffffff);
}

/* Blocks for kernels that stride on: one for `each` of n, up to some on every multiprocessor. */
inline unsigned blocks_to_stride(const struct device *device, size_t n, size_t each, size_t multiple)
{
    size_t wanted = (n + each - 1) / each, most = multiple * (size_t)device_multiprocessors(device);
    return (unsigned)(wanted < most ? wanted : most);
}

/* An array may be read as vectors of 16 bytes. */
inline bool whole_vectors(const void *x)
{
    return reinterpret_cast<uintptr_t>(x) % 16 == 0;
}

/* ---- the device's side ---- */

/* The dynamic shared memory of a block, all there is. */
extern __shared__ __align__(128) unsigned char shared_memory[];

__device__ inline float number(float x)
{
    return x;
}

__device__ inline float number(bf16 x)
{
    return __bfloat162float(x);
}

template <typename T> __device__ inline T rounded(float x);
template <> __device__ inline float rounded<float>(float x)
{
    return x;
}
template <> __device__ inline bf16 rounded<bf16>(float x)
{
    return __float2bfloat16(x);
}

/* 16 bytes of elements, read and written at once. */
template <typename T> struct alignas(16) vector {
    static constexpr int size = 16 / sizeof(T);
    T x[size];
};

constexpr unsigned ALL_LANES = 0xffffffffu;

__device__ inline float warp_sum(float x)
{
    for (int offset = 16; offset > 0; offset /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}

__device__ inline double warp_sum(double x)
{
    for (int offset = 16; offset > 0; offset /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}

__device__ inline float warp_max(float x)
{
    for (int offset = 16; offset > 0; offset /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, offset));
    return x;
}

/* What `fold` makes of a warp's values, made of a block's, in a fixed order, to all threads; none: a value that adds
 * nothing. room[32] in shared memory, free before and after. blockDim.x is a multiple of 32, the block has one
 * dimension; every thread calls it. */
template <typename Value, typename Fold> __device__ inline Value block_fold(Value x, Value none, Value *room, Fold fold)
{
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = fold(x);
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = fold(lane < warps ? room[lane] : none);
    __syncthreads();
    return x;
}

template <typename Number> __device__ inline Number block_sum(Number x, Number *room)
{
    return block_fold(x, Number(0), room, [](Number y) { return warp_sum(y); });
}

__device__ inline float block_max(float x, float *room)
{
    return block_fold(x, -INFINITY, room, [](float y) { return warp_max(y); });
}

/* ---- the operations: cuda_NAME is the table's NAME ---- */

#define CUDA_OPERATIONS(X)                                                                                             \
    X(device_create) /* device.cu */                                                                                   \
    X(device_destroy)                                                                                                  \
    X(allocate)                                                                                                        \
    X(release)                                                                                                         \
    X(peak_bytes)                                                                                                      \
    X(peak_reset)                                                                                                      \
    X(to_device)                                                                                                       \
    X(to_host)                                                                                                         \
    X(synchronise)                                                                                                     \
    X(collect) /* answers.cu */                                                                                        \
    X(set_precision)                                                                                                   \
    X(precision)                                                                                                       \
    X(element_bytes)                                                                                                   \
    X(upload)                                                                                                          \
    X(download)                                                                                                        \
    X(zero)                                                                                                            \
    X(copy)                                                                                                            \
    X(graph_begin) /* graphs.cu */                                                                                     \
    X(graph_end)                                                                                                       \
    X(graph_launch)                                                                                                    \
    X(graph_destroy)                                                                                                   \
    X(sum_ranks) /* gang.cu */                                                                                         \
    X(sum_ranks_floats)                                                                                                \
    X(sum_ranks_begin)                                                                                                 \
    X(sum_ranks_end)                                                                                                   \
    X(gather_ranks)                                                                                                    \
    X(matmul) /* matmul.cu */                                                                                          \
    X(matmul_floats)                                                                                                   \
    X(linear)                                                                                                          \
    X(matmul_group)                                                                                                    \
    X(add) /* elements.cu */                                                                                           \
    X(scale)                                                                                                           \
    X(swiglu_forward)                                                                                                  \
    X(swiglu_backward)                                                                                                 \
    X(gelu_forward)                                                                                                    \
    X(gelu_backward)                                                                                                   \
    X(dropout)      /* dropout.cu */                                                                                   \
    X(bias_forward) /* columns.cu */                                                                                   \
    X(bias_backward)                                                                                                   \
    X(scale_columns)                                                                                                   \
    X(scale_columns_backward)                                                                                          \
    X(rms_norm_forward) /* norms.cu */                                                                                 \
    X(rms_norm_backward)                                                                                               \
    X(layer_norm_forward)                                                                                              \
    X(layer_norm_backward)                                                                                             \
    X(row_squares) /* row_norms.cu */                                                                                  \
    X(row_norm_forward)                                                                                                \
    X(row_norm_dots)                                                                                                   \
    X(row_norm_backward)                                                                                               \
    X(rotary) /* rows.cu */                                                                                            \
    X(split_heads)                                                                                                     \
    X(merge_heads)                                                                                                     \
    X(embedding_forward)                                                                                               \
    X(embedding_backward)                                                                                              \
    X(gather_rows)                                                                                                     \
    X(scatter_rows)                                                                                                    \
    X(attention_forward)     /* attention.cu */                                                                        \
    X(attention_backward)    /* attention_backward.cu */                                                               \
    X(attention_decode)      /* decode.cu */                                                                           \
    X(cross_entropy_partial) /* cross_entropy.cu */                                                                    \
    X(cross_entropy_finish)                                                                                            \
    X(top_k) /* top_k.cu */                                                                                            \
    X(sums)  /* reductions.cu */                                                                                       \
    X(square_sums)                                                                                                     \
    X(adafactor_squares)                                                                                               \
    X(adamw) /* optimisers.cu */                                                                                       \
    X(sgd)                                                                                                             \
    X(moving_average)                                                                                                  \
    X(adafactor)

#define CUDA_DECLARE(name) extern std::remove_pointer_t<decltype(kernels::name)> cuda_##name;
CUDA_OPERATIONS(CUDA_DECLARE)
#undef CUDA_DECLARE

extern "C" const struct kernels kernels_cuda; /* table.cu */

#endif
