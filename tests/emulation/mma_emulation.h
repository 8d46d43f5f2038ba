/* What kernels/cuda/mma.cuh does with inline PTX, on the CPU: products of a warp's fragments, loads of fragments,
 * copies to shared memory that come later. Lane l of a warp is row l / 4, pair l % 4 of a fragment; the layouts are
 * PTX's (mma.m16n8k16, ldmatrix). */
#ifndef TUNELAW_TESTS_EMULATION_MMA_H
#define TUNELAW_TESTS_EMULATION_MMA_H

#include "cuda_bf16.h"

/* Half `high` of a register of two bfloat16. */
static inline float emulated_half(uint32_t pair, size_t high)
{
    return bf16_value((uint16_t)(pair >> (16 * high)));
}

/* d[16][8] += a[16][16] b[16][8], of bf16, sums in fp32. d: rows l/4 and l/4 + 8, columns 2(l%4) and the next. a: four
 * registers, of rows l/4, l/4 + 8, l/4, l/4 + 8 and columns 2(l%4), the last two 8 further. b: two registers, of column
 * l/4 and rows 2(l%4), the second 8 further. */
static inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    struct {
        uint32_t a[4], b[2];
    } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, other;
    const unsigned char *slots = emulated_exchange(0xffffffffu, &mine, sizeof mine);
    float rows[2][16], columns[2][16];
    size_t lane = emulated_lane();
    for (size_t pair = 0; pair < 4; pair++) {
        memcpy(&other, slots + (lane / 4 * 4 + pair) * EXCHANGE, sizeof other);
        for (size_t i = 0; i < 8; i++)
            rows[i / 2 % 2][2 * pair + i % 2 + i / 4 * 8] = emulated_half(other.a[i / 2], i % 2);
        for (size_t j = 0; j < 2; j++) {
            memcpy(&other, slots + ((2 * (lane % 4) + j) * 4 + pair) * EXCHANGE, sizeof other);
            for (size_t i = 0; i < 4; i++)
                columns[j][2 * pair + i % 2 + i / 2 * 8] = emulated_half(other.b[i / 2], i % 2);
        }
    }
    for (size_t i = 0; i < 4; i++) {
        float sum = 0;
        for (size_t k = 0; k < 16; k++)
            sum += rows[i / 2][k] * columns[i % 2][k];
        d[i] += sum;
    }
}

/* Matrices of 8 x 8 bf16 from shared memory: lane 8i + j gives where row j of matrix i begins (16 bytes, aligned); r[i]
 * becomes row l/4, columns 2(l%4) and the next, of matrix i; transposed: of its transpose. */
template <size_t count> void emulated_ldmatrix(uint32_t *r, const void *row, bool transposed)
{
    const unsigned char *slots = emulated_exchange(0xffffffffu, &row, sizeof row);
    size_t lane = emulated_lane();
    for (size_t i = 0; i < count; i++) {
        uint16_t halves[2];
        for (size_t j = 0; j < 2; j++) {
            size_t line = transposed ? 2 * (lane % 4) + j : lane / 4,
                   column = transposed ? lane / 4 : 2 * (lane % 4) + j;
            const unsigned char *from;
            memcpy(&from, slots + (8 * i + line) * EXCHANGE, sizeof from);
            if ((uintptr_t)from % 16) emulation_fail("ldmatrix of a row that is not aligned");
            if (from < shared_memory || from >= shared_memory + 227 * 1024)
                emulation_fail("ldmatrix of what is not shared memory");
            memcpy(&halves[j], from + 2 * column, 2);
        }
        r[i] = halves[0] | (uint32_t)halves[1] << 16;
    }
}

static inline void ldmatrix_x4(uint32_t r[4], const void *row)
{
    emulated_ldmatrix<4>(r, row, false);
}

static inline void ldmatrix_x4_transposed(uint32_t r[4], const void *row)
{
    emulated_ldmatrix<4>(r, row, true);
}

static inline void ldmatrix_x2(uint32_t r[2], const void *row)
{
    emulated_ldmatrix<2>(r, row, false);
}

static inline void ldmatrix_x2_transposed(uint32_t r[2], const void *row)
{
    emulated_ldmatrix<2>(r, row, true);
}

/* Copies are made when the thread waits for them, and their place holds NaN until then.
 *
 * 16 bytes of global memory, or zeros where not `there`, to shared memory, both aligned. */
static inline void copy_async_16(void *to, const void *from, bool there = true)
{
    emulated_copies &mine = emulated_copies_here();
    if ((uintptr_t)to % 16 || (there && (uintptr_t)from % 16))
        emulation_fail("a copy of 16 bytes that are not aligned");
    mine.waiting.push_back({to, there ? from : nullptr, mine.groups});
    memset(to, 0xff, 16);
}

static inline void copy_async_commit()
{
    emulated_copies_here().groups++;
}

/* Until at most `left` of the thread's groups are on their way. Its own copies alone: others see them after a barrier.
 */
template <int left> void copy_async_wait()
{
    emulated_copies &mine = emulated_copies_here();
    size_t done = 0;
    for (; done < mine.waiting.size() && mine.waiting[done].group + left < mine.groups; done++) {
        const emulated_copy &copy = mine.waiting[done];
        if (copy.from)
            memcpy(copy.to, copy.from, 16);
        else
            memset(copy.to, 0, 16);
    }
    mine.waiting.erase(mine.waiting.begin(), mine.waiting.begin() + (ptrdiff_t)done);
}

#endif
