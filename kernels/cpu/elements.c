/* Operations of the cpu backend on plain arrays: the linear ones, reductions, the gated MLP, the optimiser step. */
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

CLONES void cpu_adamw(struct device *device, size_t n, float *value, const float *gradient, float *moment1,
                      float *moment2, float rate, float beta1, float beta2, float epsilon, float weight_decay,
                      uint64_t step, float gradient_scale)
{
    (void)device;
    float correction1 = (float)(1 / (1 - pow((double)beta1, (double)step)));
    float correction2 = (float)(1 / (1 - pow((double)beta2, (double)step)));
    float rest1 = (float)(1 - (double)beta1), rest2 = (float)(1 - (double)beta2);
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i] * gradient_scale;
        float m = beta1 * moment1[i] + rest1 * g;
        float v = beta2 * moment2[i] + rest2 * g * g;
        moment1[i] = m;
        moment2[i] = v;
        float update = m * correction1 / (sqrtf(v * correction2) + epsilon);
        value[i] -= rate * (update + weight_decay * value[i]);
    }
}
