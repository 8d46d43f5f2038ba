/* Matrix products of the cpu backend: oneDNN's where the build has it, which was the faster one on nearly all products
 * of a training step (docs/engine.md), else OpenBLAS's. */
#include <cblas.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/vector.h"

static void product_openblas(const struct product *p, size_t m, size_t n, size_t k, const float *a, size_t lda,
                             const float *b, size_t ldb, float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, p->trans_a ? CblasTrans : CblasNoTrans, p->trans_b ? CblasTrans : CblasNoTrans,
                (blasint)m, (blasint)n, (blasint)k, p->alpha, a, (blasint)lda, b, (blasint)ldb, p->beta, c,
                (blasint)ldc);
}

/* No inner dimension: C = beta C. */
static void scale_rows(size_t m, size_t n, float beta, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
}

/* Gradients with few columns (dy^T u of a LoRA of rank 8) waste most of a vector: C's transpose is the faster product,
 * 2.2 times. Products whose rows are tokens are left alone: their bytes must not depend on how many rows there are
 * (kernels_row_join). */
enum { NARROW = 12, TALL = 64 };

static bool narrow(const struct device *device, const struct product *p, size_t m, size_t n)
{
    return n <= NARROW && m >= TALL && p->trans_a && device->precision == PRECISION_FP32;
}

CLONES static void add_transposed(size_t m, size_t n, float beta, const float *from, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            c[i * ldc + j] = from[j * m + i] + (beta == 0 ? 0 : beta * c[i * ldc + j]);
}

static int product_narrow(struct device *device, const struct product *p, size_t m, size_t n, size_t k, const float *a,
                          size_t lda, const float *b, size_t ldb, float *c, size_t ldc)
{
    const struct product swapped = {!p->trans_b, !p->trans_a, p->alpha, 0};
    float *transposed = cpu_scratch(device, m * n);
    if (!transposed) return 0; /* told by synchronise */
    if (onednn_fp32(&swapped, n, m, k, b, ldb, a, lda, transposed, m)) return -1;
    add_transposed(m, n, p->beta, transposed, c, ldc);
    return 0;
}

void cpu_product(struct device *device, const struct product *p, size_t m, size_t n, size_t k, const float *a,
                 size_t lda, const float *b, size_t ldb, float *c, size_t ldc)
{
    int failed = 0;
    if (!onednn_built())
        product_openblas(p, m, n, k, a, lda, b, ldb, c, ldc);
    else if (narrow(device, p, m, n))
        failed = product_narrow(device, p, m, n, k, a, lda, b, ldb, c, ldc);
    else
        failed = onednn_fp32(p, m, n, k, a, lda, b, ldb, c, ldc);
    if (failed) device->failed = true;
}

void cpu_matmul(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    const struct product product = {trans_a, trans_b, alpha, beta};
    if (m == 0 || n == 0) return;
    if (k == 0)
        scale_rows(m, n, beta, c, ldc);
    else if (device->precision != PRECISION_FP32)
        cpu_product_rounded(device, &product, m, n, k, a, lda, b, ldb, c, ldc);
    else
        cpu_product(device, &product, m, n, k, a, lda, b, ldb, c, ldc);
}

void cpu_linear(struct device *device, size_t rows, size_t n, size_t k, const float *x, const float *w,
                const float *bias, enum linear_gelu gelu, float *before, float *y)
{
    float *out = gelu == GELU_NONE ? y : before;
    cpu_matmul(device, false, true, rows, n, k, 1, x, k, w, k, 0, out, n);
    if (bias) cpu_bias_forward(device, rows, n, bias, out);
    if (gelu != GELU_NONE) cpu_gelu_forward(device, rows * n, gelu == GELU_TANH, before, y);
}

void cpu_matmul_group(struct device *device, size_t count, const struct matmul_arguments *products)
{
    for (const struct matmul_arguments *p = products; p < products + count; p++)
        cpu_matmul(device, p->trans_a, p->trans_b, p->m, p->n, p->k, p->alpha, p->a, p->lda, p->b, p->ldb, p->beta,
                   p->c_floats ? p->c_floats : p->c, p->ldc);
}
