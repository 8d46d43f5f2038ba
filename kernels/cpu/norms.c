/* Norms of the cpu backend beside RMSNorm: LayerNorm, and RMSNorm of rows that lie on several devices. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parts.h"
#include "kernels/cpu/vector.h"

CLONES static void layer_norm_forward(size_t rows, size_t width, float epsilon, const float *residual, float *x,
                                      const float *gain, const float *bias, float *y, float *mean, float *rstd)
{
    for (size_t r = 0; r < rows; r++) {
        float *xr = x + r * width;
        if (residual) row_add(width, residual + r * width, xr);
        float *yr = y + r * width, sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < width; i++)
            sum += xr[i];
        float center = sum / (float)width;
#pragma omp simd reduction(+ : squares)
        for (size_t i = 0; i < width; i++)
            squares += (xr[i] - center) * (xr[i] - center);
        float factor = 1.0f / sqrtf(squares / (float)width + epsilon);
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            yr[i] = (xr[i] - center) * factor * gain[i] + bias[i];
        mean[r] = center;
        rstd[r] = factor;
    }
}

void cpu_layer_norm_forward(struct device *device, size_t rows, size_t width, float epsilon, const float *residual,
                            float *x, const float *gain, const float *bias, float *y, float *mean, float *rstd)
{
    FOR_PARTS(device, rows, width, 1, begin, end)
    layer_norm_forward(end - begin, width, epsilon, residual ? residual + begin * width : NULL, x + begin * width, gain,
                       bias, y + begin * width, mean + begin, rstd + begin);
}

CLONES static void layer_norm_backward(size_t rows, size_t width, const float *x, const float *gain, const float *mean,
                                       const float *rstd, const float *dy, float *dx, float *dgain, float *dbias)
{
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width, *dyr = dy + r * width;
        float *dxr = dx + r * width, factor = rstd[r], center = mean[r], sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
        for (size_t i = 0; i < width; i++) {
            sum += dyr[i] * gain[i];
            dot += dyr[i] * gain[i] * (xr[i] - center);
        }
        float shift = sum * factor / (float)width, along = dot * factor * factor * factor / (float)width;
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            dxr[i] += factor * dyr[i] * gain[i] - shift - (xr[i] - center) * along;
        if (dgain) {
#pragma omp simd
            for (size_t i = 0; i < width; i++)
                dgain[i] += factor * dyr[i] * (xr[i] - center);
        }
        if (dbias) {
#pragma omp simd
            for (size_t i = 0; i < width; i++)
                dbias[i] += dyr[i];
        }
    }
}

/* Gradients of the columns 0 .. n-1 of gain and bias. */
CLONES static void layer_norm_gains(size_t rows, size_t width, size_t n, const float *x, const float *mean,
                                    const float *rstd, const float *dy, float *dgain, float *dbias)
{
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width, *dyr = dy + r * width;
        float factor = rstd[r], center = mean[r];
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            dgain[i] += factor * dyr[i] * (xr[i] - center);
            dbias[i] += dyr[i];
        }
    }
}

static void layer_norm_columns(struct device *device, size_t rows, size_t width, const float *x, const float *mean,
                               const float *rstd, const float *dy, float *dgain, float *dbias)
{
    FOR_PARTS(device, width, rows, 16, begin, end)
    layer_norm_gains(rows, width, end - begin, x + begin, mean, rstd, dy + begin, dgain + begin, dbias + begin);
}

void cpu_layer_norm_backward(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                             const float *mean, const float *rstd, const float *dy, float *dx, float *dgain,
                             float *dbias)
{
    bool alone = part_count(device, rows, width) == 1; /* then one pass over the rows does both */
    FOR_PARTS(device, rows, width, 1, begin, end)
    layer_norm_backward(end - begin, width, x + begin * width, gain, mean + begin, rstd + begin, dy + begin * width,
                        dx + begin * width, alone ? dgain : NULL, alone ? dbias : NULL);
    if (!alone && dgain && dbias) layer_norm_columns(device, rows, width, x, mean, rstd, dy, dgain, dbias);
    if (!alone && !dgain && dbias) cpu_bias_backward(device, rows, width, dy, dbias);
}

CLONES void cpu_row_squares(struct device *device, size_t rows, size_t width, size_t shared, const float *x,
                            float *squares)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = shared; i < width; i++)
            sum += xr[i] * xr[i];
        squares[r] = sum;
    }
}

CLONES void cpu_row_norm_forward(struct device *device, size_t rows, size_t width, size_t total, float epsilon,
                                 const float *x, const float *gain, const float *squares, float *y, float *rstd)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        float factor = 1.0f / sqrtf(squares[r] / (float)total + epsilon);
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            y[r * width + i] = x[r * width + i] * factor * gain[i];
        rstd[r] = factor;
    }
}

CLONES void cpu_row_norm_dots(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                              const float *dy, float *dots)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width, *dyr = dy + r * width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < width; i++)
            sum += dyr[i] * gain[i] * xr[i];
        dots[r] = sum;
    }
}

CLONES void cpu_row_norm_backward(struct device *device, size_t rows, size_t width, size_t shared, size_t total,
                                  const float *x, const float *gain, const float *rstd, const float *dots,
                                  const float *dy, float *dx, float *dgain)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width, *dyr = dy + r * width;
        float *dxr = dx + r * width, factor = rstd[r], along = dots[r] * factor * factor * factor / (float)total;
        if (dgain) {
#pragma omp simd
            for (size_t i = 0; i < width; i++)
                dgain[i] += factor * dyr[i] * xr[i];
        }
#pragma omp simd
        for (size_t i = 0; i < shared; i++)
            dxr[i] = factor * dyr[i] * gain[i];
#pragma omp simd
        for (size_t i = shared; i < width; i++)
            dxr[i] = factor * dyr[i] * gain[i] - xr[i] * along;
    }
}
