/* Reference operations on plain arrays: matmul, the linear ones, reductions. */
#include "kernels/reference/reference.h"

static double multiply(enum precision precision, float x, float y)
{
    if (precision == PRECISION_FP32) return (double)x * y;
    double a = bf16_value(bf16_of(x)), b = bf16_value(bf16_of(y));
    if (precision == PRECISION_BF16) return a * b;
    return a * b + a * bf16_value(bf16_of(bf16_rest(y))) + bf16_value(bf16_of(bf16_rest(x))) * b;
}

void reference_matmul(enum precision precision, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                      const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t l = 0; l < k; l++)
                sum += multiply(precision, trans_a ? a[l * lda + i] : a[i * lda + l],
                                trans_b ? b[j * ldb + l] : b[l * ldb + j]);
            double old = beta != 0 ? (double)beta * c[i * ldc + j] : 0;
            c[i * ldc + j] = (float)(alpha * sum + old);
        }
    }
}

void reference_linear(struct device *device, size_t rows, size_t n, size_t k, const float *x, const float *w,
                      const float *bias, enum linear_gelu gelu, float *before, float *y)
{
    float *out = gelu == GELU_NONE ? y : before;
    kernels_reference.matmul(device, false, true, rows, n, k, 1, x, k, w, k, 0, out, n);
    if (bias) reference_bias_forward(device, rows, n, bias, out);
    if (gelu != GELU_NONE) reference_gelu_forward(device, rows * n, gelu == GELU_TANH, before, y);
}

void reference_matmul_group(struct device *device, size_t count, const struct matmul_arguments *products)
{
    for (const struct matmul_arguments *p = products; p < products + count; p++)
        kernels_reference.matmul(device, p->trans_a, p->trans_b, p->m, p->n, p->k, p->alpha, p->a, p->lda, p->b, p->ldb,
                                 p->beta, p->c_floats ? p->c_floats : p->c, p->ldc);
}

void reference_add(struct device *device, size_t n, const float *x, float *y)
{
    (void)device;
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

void reference_scale(struct device *device, size_t n, float factor, float *x)
{
    (void)device;
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

void reference_sums(struct device *device, size_t count, const struct span *spans, bool squares, double *out)
{
    (void)device;
    for (size_t i = 0; i < count; i++) {
        out[i] = 0;
        for (size_t j = 0; j < spans[i].n; j++)
            out[i] += squares ? (double)spans[i].x[j] * spans[i].x[j] : (double)spans[i].x[j];
    }
}
