/* Operations of the cpu backend: biases, GELU, and heads that come from one matrix. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parts.h"
#include "kernels/cpu/vector.h"
#include "kernels/reference/reference.h"

CLONES static void bias_forward(size_t rows, size_t width, const float *bias, float *x)
{
    for (size_t r = 0; r < rows; r++) {
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            x[r * width + i] += bias[i];
    }
}

void cpu_bias_forward(struct device *device, size_t rows, size_t width, const float *bias, float *x)
{
    FOR_PARTS(device, rows, width, 1, begin, end)
    bias_forward(end - begin, width, bias, x + begin * width);
}

/* Of the columns 0 .. n-1 of rows that are `width` apart. */
CLONES static void bias_backward(size_t rows, size_t width, size_t n, const float *dy, float *dbias)
{
    for (size_t r = 0; r < rows; r++) {
#pragma omp simd
        for (size_t i = 0; i < n; i++)
            dbias[i] += dy[r * width + i];
    }
}

void cpu_bias_backward(struct device *device, size_t rows, size_t width, const float *dy, float *dbias)
{
    FOR_PARTS(device, width, rows, 16, begin, end)
    bias_backward(rows, width, end - begin, dy + begin, dbias + begin);
}

CLONES void cpu_scale_columns(struct device *device, size_t rows, size_t width, const float *x, const float *factors,
                              float *y)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            y[r * width + i] = x[r * width + i] * factors[i];
    }
}

CLONES void cpu_scale_columns_backward(struct device *device, size_t rows, size_t width, const float *x,
                                       const float *factors, const float *dy, bool add, float *dx, float *dfactors)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width, *dyr = dy + r * width;
        float *dxr = dx + r * width;
#pragma omp simd
        for (size_t i = 0; i < width; i++) {
            float d = dyr[i];
            dfactors[i] += d * xr[i];
            dxr[i] = add ? dxr[i] + d * factors[i] : d * factors[i];
        }
    }
}

void cpu_split_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const float *qkv, float *q,
                     float *k, float *v)
{
    reference_split_heads(device, tokens, heads, head_width, qkv, q, k, v);
}

void cpu_merge_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const float *q,
                     const float *k, const float *v, float *qkv)
{
    reference_merge_heads(device, tokens, heads, head_width, q, k, v, qkv);
}

/* Share of the normal distribution below x, to 1.2e-7 of itself also in the lower tail (erfc by the Chebyshev fit of
 * Numerical Recipes, section 6.2). */
INLINE float normal_share(float x)
{
    float z = fabsf(x) * 0.70710678f, t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.17087277f;
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    float tail = 0.5f * t * vector_exp(p - z * z);
    return x > 0 ? 1.0f - tail : tail;
}

/* Share of the tanh approximation: (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)). */
INLINE float tanh_share(float x)
{
    return 1.0f / (1.0f + vector_exp(-1.59576912f * (x + 0.044715f * x * x * x)));
}

CLONES static void forward_exact(size_t n, const float *x, float *out)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * normal_share(x[i]);
}

CLONES static void forward_tanh(size_t n, const float *x, float *out)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * tanh_share(x[i]);
}

CLONES static void backward_exact(size_t n, const float *x, const float *dout, float *dx)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float value = x[i], density = 0.39894228f * vector_exp(-0.5f * value * value);
        dx[i] = dout[i] * (normal_share(value) + value * density);
    }
}

CLONES static void backward_tanh(size_t n, const float *x, const float *dout, float *dx)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float value = x[i], share = tanh_share(value);
        float slope = 1.59576912f * (1.0f + 0.134145f * value * value);
        dx[i] = dout[i] * (share + value * share * (1.0f - share) * slope);
    }
}

void cpu_gelu_forward(struct device *device, size_t n, bool approximate, const float *x, float *out)
{
    FOR_PARTS(device, n, 1, 16, begin, end)
    {
        if (approximate)
            forward_tanh(end - begin, x + begin, out + begin);
        else
            forward_exact(end - begin, x + begin, out + begin);
    }
}

void cpu_gelu_backward(struct device *device, size_t n, bool approximate, const float *x, const float *dout, float *dx)
{
    FOR_PARTS(device, n, 1, 16, begin, end)
    {
        if (approximate)
            backward_tanh(end - begin, x + begin, dout + begin, dx + begin);
        else
            backward_exact(end - begin, x + begin, dout + begin, dx + begin);
    }
}
