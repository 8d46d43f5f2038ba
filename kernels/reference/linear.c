/* Reference operations on plain arrays: matmul, the linear ones, reductions. */
#include <math.h>
#include <string.h>

#include "kernels/reference/reference.h"

static double factor(enum precision precision, float x)
{
    return precision == PRECISION_BF16 ? bf16_value(bf16_of(x)) : x;
}

void reference_matmul(enum precision precision, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                      const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t l = 0; l < k; l++) {
                double x = factor(precision, trans_a ? a[l * lda + i] : a[i * lda + l]);
                double y = factor(precision, trans_b ? b[j * ldb + l] : b[l * ldb + j]);
                sum += x * y;
            }
            double old = beta != 0 ? (double)beta * c[i * ldc + j] : 0;
            c[i * ldc + j] = (float)(alpha * sum + old);
        }
    }
}

void reference_fill(struct device *device, size_t n, float value, float *x)
{
    (void)device;
    for (size_t i = 0; i < n; i++)
        x[i] = value;
}

void reference_copy(struct device *device, size_t n, const float *x, float *y)
{
    (void)device;
    if (n) memmove(y, x, n * sizeof *y);
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

double reference_sum(struct device *device, size_t n, const float *x)
{
    (void)device;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

double reference_sum_squares(struct device *device, size_t n, const float *x)
{
    (void)device;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}
