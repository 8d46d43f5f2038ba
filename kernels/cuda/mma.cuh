/* Tensor cores, by warp: products of fragments, and fragments from shared memory. Layouts are PTX's (mma.m16n8k16 and
 * ldmatrix of compute capability 8.0). Asynchronous copies, by thread. The emulation has the same functions. */
#ifndef TUNELAW_KERNELS_CUDA_MMA_CUH
#define TUNELAW_KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/cuda.cuh"

#ifdef __CUDACC__

/* d[16][8] += a[16][16] b[16][8], bf16 with sums in fp32. */
__device__ inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Matrices of 8 x 8: lane 8i + j says where row j of matrix i begins (16 bytes, aligned). */
__device__ inline void ldmatrix_x4(uint32_t r[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

__device__ inline void ldmatrix_x4_transposed(uint32_t r[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* 16 bytes of global memory, or zeros where not `there`, to shared memory, both aligned: on their way. */
__device__ inline void copy_async_16(void *to, const void *from, bool there = true)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(address), "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
                 : "memory");
}

/* A thread's copies since the last one are a group. */
__device__ inline void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" : : : "memory");
}

/* Until at most `left` of the thread's groups are on their way. Its own copies alone: others see them after a barrier.
 */
template <int left> __device__ inline void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" : : "n"(left) : "memory");
}

#else
#include <mma_emulation.h>
#endif

/* Two numbers as a register of bfloat16, the first one low. */
__device__ inline uint32_t pack(float low, float high)
{
    bf16 pair[2] = {rounded<bf16>(low), rounded<bf16>(high)};
    uint32_t bits;
    memcpy(&bits, pair, sizeof bits);
    return bits;
}

#endif
