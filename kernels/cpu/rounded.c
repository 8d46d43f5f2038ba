/* Matrix products of rounded factors in the cpu backend (precisions bf16 and bf16x3): blocks of A and B are rounded
 * into the device's scratch and multiplied there. Blocks are as large as ROUNDED elements together allow, each element
 * is rounded once wherever one factor, or both cut along k, have room.
 *
 * bf16x3 is a product of three times the depth: beside each other along k lie [high | high | low] of A and
 * [high | low | high] of B, so that the sums stay in the multiplying kernel's registers.
 *
 * Where the machine multiplies bf16 numbers they are packed in 16 bits each; elsewhere they stay fp32 numbers, which
 * happen to be bf16 ones: the same products, with the same rounding, at fp32's speed. */
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/parts.h"
#include "kernels/cpu/vector.h"

enum { ROUNDED = 1 << 21 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* low: what the bfloat16 leaves of each number, rounded. */
CLONES static void round_halves(size_t n, bool low, const float *from, uint16_t *to)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        to[i] = bf16_of(low ? bf16_rest(from[i]) : from[i]);
}

CLONES static void round_floats(size_t n, bool low, const float *from, float *to)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        to[i] = bf16_value(bf16_of(low ? bf16_rest(from[i]) : from[i]));
}

#if defined(__x86_64__)
#define NATIVE __attribute__((target("avx512f,avx512vl,avx512bw,avx512bf16")))

NATIVE static inline __m512 native_rest(__m512 x)
{
    __m256bh half = _mm512_cvtneps_pbh(x);
    __m256i bits;
    memcpy(&bits, &half, sizeof bits);
    return x - _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/* By the machine's instruction, which takes denormals for zero. */
NATIVE static void round_natively(size_t n, bool low, const float *from, uint16_t *to)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m512 first = _mm512_loadu_ps(from + i), second = _mm512_loadu_ps(from + i + 16);
        if (low) {
            first = native_rest(first);
            second = native_rest(second);
        }
        __m512bh both = _mm512_cvtne2ps_pbh(second, first);
        memcpy(to + i, &both, sizeof both);
    }
    for (; i < n; i += 16) {
        __mmask16 here = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xffffu);
        __m512 x = _mm512_maskz_loadu_ps(here, from + i);
        __m256bh half = _mm512_cvtneps_pbh(low ? native_rest(x) : x);
        __m256i bits;
        memcpy(&bits, &half, sizeof bits);
        _mm256_mask_storeu_epi16(to + i, here, bits);
    }
}
#else
static void round_natively(size_t n, bool low, const float *from, uint16_t *to)
{
    round_halves(n, low, from, to);
}
#endif

enum { PIECES = 3 };

/* What lies along k beside each other: high parts, but for piece `low` (PIECES: none of them). */
struct split {
    size_t pieces, low;
};

static void round_run(const struct device *device, size_t n, bool low, const float *from, void *to, size_t place)
{
    if (!device->fast_bf16)
        round_floats(n, low, from, (float *)to + place);
    else if (device->native_rounding)
        round_natively(n, low, from, (uint16_t *)to + place);
    else
        round_halves(n, low, from, (uint16_t *)to + place);
}

/* to[rows][columns] = from, whose rows are `stride` apart; of several pieces to[pieces][rows][columns] where the rows
 * are along k, to[rows][pieces][columns] where the columns are. */
static void round_block(const struct device *device, struct split split, bool rows_along_k, size_t rows, size_t columns,
                        size_t stride, const float *from, void *to)
{
    bool dense = stride == columns && (split.pieces == 1 || rows_along_k);
    size_t lines = dense ? rows * columns : rows, width = dense ? 1 : columns; /* a dense block is cut anywhere */
    size_t line = rows_along_k ? columns : split.pieces * columns, step = rows_along_k ? rows * columns : columns;
    FOR_PARTS(device, lines, width, dense ? 32 : 1, begin, end)
    {
        size_t runs = dense ? 1 : end - begin, length = dense ? end - begin : columns;
        for (size_t i = 0; i < runs; i++) {
            const float *source = from + (dense ? begin : (begin + i) * stride);
            size_t place = dense ? begin : (begin + i) * line;
            for (size_t piece = 0; piece < split.pieces; piece++)
                round_run(device, length, piece == split.low, source, to, place + piece * step);
        }
    }
}

/* Sizes of the blocks. */
struct blocks {
    size_t m, n, k;
};

static struct blocks cut(size_t m, size_t n, size_t k, size_t most)
{
    struct blocks blocks = {m, n, k};
    if ((m + n) * k <= most) return blocks;
    if (n * k <= most / 2)
        blocks.m = (most - n * k) / k;
    else if (m * k <= most / 2)
        blocks.n = (most - m * k) / k;
    else
        blocks.k = most / (m + n) > 64 ? most / (m + n) / 64 * 64 : 64;
    return blocks;
}

static void multiply(struct device *device, const struct product *p, size_t m, size_t n, size_t k, const void *a,
                     const void *b, float *c, size_t ldc)
{
    size_t lda = p->trans_a ? m : k, ldb = p->trans_b ? k : n;
    if (!device->fast_bf16)
        cpu_product(device, p, m, n, k, a, lda, b, ldb, c, ldc);
    else if (onednn_bf16(device->onednn, p, m, n, k, a, lda, b, ldb, c, ldc))
        device->failed = true;
}

void cpu_product_rounded(struct device *device, const struct product *product, size_t m, size_t n, size_t k,
                         const float *a, size_t lda, const float *b, size_t ldb, float *c, size_t ldc)
{
    const size_t pieces = device->precision == PRECISION_BF16X3 ? PIECES : 1;
    const struct split split_a = {pieces, pieces > 1 ? 2 : PIECES}, split_b = {pieces, pieces > 1 ? 1 : PIECES};
    const struct blocks most = cut(m, n, k, ROUNDED / pieces);
    size_t size = pieces * (device->fast_bf16 ? sizeof(uint16_t) : sizeof(float));
    size_t a_floats = (most.m * most.k * size + 63) / 64 * 16, b_floats = (most.n * most.k * size + 63) / 64 * 16;
    float *rounded_a = cpu_scratch(device, a_floats + b_floats), *rounded_b = rounded_a + a_floats;
    if (!rounded_a) return;
    for (size_t l = 0; l < k; l += most.k) {
        struct product part = *product;
        size_t depth = least(most.k, k - l);
        if (l) part.beta = 1;
        for (size_t j = 0; j < n; j += most.n) {
            size_t columns = least(most.n, n - j);
            round_block(device, split_b, !part.trans_b, part.trans_b ? columns : depth, part.trans_b ? depth : columns,
                        ldb, b + (part.trans_b ? j * ldb + l : l * ldb + j), rounded_b);
            for (size_t i = 0; i < m; i += most.m) {
                size_t rows = least(most.m, m - i);
                if (j == 0 || most.m < m) /* else it is there from the block before */
                    round_block(device, split_a, part.trans_a, part.trans_a ? depth : rows, part.trans_a ? rows : depth,
                                lda, a + (part.trans_a ? l * lda + i : i * lda + l), rounded_a);
                multiply(device, &part, rows, columns, pieces * depth, rounded_a, rounded_b, c + i * ldc + j, ldc);
            }
        }
    }
}
