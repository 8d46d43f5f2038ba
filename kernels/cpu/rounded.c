/* Matrix products of rounded factors in the cpu backend (precision bf16): blocks of A and B are rounded into the
 * device's scratch and multiplied there. Blocks are as large as ROUNDED elements together allow, each element is
 * rounded once wherever one factor, or both cut along k, have room.
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

CLONES static void round_halves(size_t n, const float *from, uint16_t *to)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        to[i] = bf16_of(from[i]);
}

CLONES static void round_floats(size_t n, const float *from, float *to)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        to[i] = bf16_value(bf16_of(from[i]));
}

#if defined(__x86_64__)
/* By the machine's instruction, which takes denormals for zero. */
__attribute__((target("avx512f,avx512vl,avx512bw,avx512bf16"))) static void round_natively(size_t n, const float *from,
                                                                                           uint16_t *to)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i + 16), _mm512_loadu_ps(from + i));
        memcpy(to + i, &both, sizeof both);
    }
    for (; i < n; i += 16) {
        __mmask16 here = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xffffu);
        __m256bh half = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(here, from + i));
        __m256i bits;
        memcpy(&bits, &half, sizeof bits);
        _mm256_mask_storeu_epi16(to + i, here, bits);
    }
}
#else
static void round_natively(size_t n, const float *from, uint16_t *to)
{
    round_halves(n, from, to);
}
#endif

/* to[rows][columns] = from, whose rows are `stride` apart */
static void round_block(const struct device *device, size_t rows, size_t columns, size_t stride, const float *from,
                        void *to)
{
    bool dense = stride == columns;
    size_t lines = dense ? rows * columns : rows, width = dense ? 1 : columns; /* a dense block is cut anywhere */
    FOR_PARTS(device, lines, width, dense ? 32 : 1, begin, end)
    {
        size_t runs = dense ? 1 : end - begin, length = dense ? end - begin : columns;
        for (size_t i = 0; i < runs; i++) {
            const float *source = from + (dense ? begin : (begin + i) * stride);
            size_t place = dense ? begin : (begin + i) * columns;
            if (!device->fast_bf16)
                round_floats(length, source, (float *)to + place);
            else if (device->native_rounding)
                round_natively(length, source, (uint16_t *)to + place);
            else
                round_halves(length, source, (uint16_t *)to + place);
        }
    }
}

/* Sizes of the blocks. */
struct blocks {
    size_t m, n, k;
};

static struct blocks cut(size_t m, size_t n, size_t k)
{
    struct blocks blocks = {m, n, k};
    if ((m + n) * k <= ROUNDED) return blocks;
    if (n * k <= ROUNDED / 2)
        blocks.m = (ROUNDED - n * k) / k;
    else if (m * k <= ROUNDED / 2)
        blocks.n = (ROUNDED - m * k) / k;
    else
        blocks.k = ROUNDED / (m + n) > 64 ? ROUNDED / (m + n) / 64 * 64 : 64;
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
    const struct blocks most = cut(m, n, k);
    size_t size = device->fast_bf16 ? sizeof(uint16_t) : sizeof(float);
    size_t a_floats = (most.m * most.k * size + 63) / 64 * 16, b_floats = (most.n * most.k * size + 63) / 64 * 16;
    float *rounded_a = cpu_scratch(device, a_floats + b_floats), *rounded_b = rounded_a + a_floats;
    if (!rounded_a) return;
    for (size_t l = 0; l < k; l += most.k) {
        struct product part = *product;
        size_t depth = least(most.k, k - l);
        if (l) part.beta = 1;
        for (size_t j = 0; j < n; j += most.n) {
            size_t columns = least(most.n, n - j);
            round_block(device, part.trans_b ? columns : depth, part.trans_b ? depth : columns, ldb,
                        b + (part.trans_b ? j * ldb + l : l * ldb + j), rounded_b);
            for (size_t i = 0; i < m; i += most.m) {
                size_t rows = least(most.m, m - i);
                if (j == 0 || most.m < m) /* else it is there from the block before */
                    round_block(device, part.trans_a ? depth : rows, part.trans_a ? rows : depth, lda,
                                a + (part.trans_a ? l * lda + i : i * lda + l), rounded_a);
                multiply(device, &part, rows, columns, depth, rounded_a, rounded_b, c + i * ldc + j, ldc);
            }
        }
    }
}
