/* Operations of the cpu backend on plain arrays: the linear ones, reductions, the gated MLP. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

CLONES void cpu_fill(struct device *device, size_t n, float value, float *x)
{
    (void)device;
    for (size_t i = 0; i < n; i++)
        x[i] = value;
}

void cpu_copy(struct device *device, size_t n, const float *x, float *y)
{
    (void)device;
    if (n) memmove(y, x, n * sizeof *y);
}

CLONES void cpu_add(struct device *device, size_t n, const float *x, float *y)
{
    (void)device;
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

CLONES void cpu_scale(struct device *device, size_t n, float factor, float *x)
{
    (void)device;
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

CLONES double cpu_sum(struct device *device, size_t n, const float *x)
{
    (void)device;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

CLONES double cpu_sum_squares(struct device *device, size_t n, const float *x)
{
    (void)device;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

CLONES void cpu_swiglu_forward(struct device *device, size_t n, const float *gate, const float *up, float *out)
{
    (void)device;
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        out[i] = gate[i] * up[i] / (1.0f + vector_exp(-gate[i]));
}

/* dgate may be gate and dup may be up: an element is read before it is written */
CLONES void cpu_swiglu_backward(struct device *device, size_t n, const float *gate, const float *up, const float *dout,
                                float *dgate, float *dup)
{
    (void)device;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dout[i];
        float e = vector_exp(-g), sigmoid = 1.0f / (1.0f + e);
        dgate[i] = d * u * sigmoid * (1.0f + g * (e * sigmoid));
        dup[i] = d * g * sigmoid;
    }
}
