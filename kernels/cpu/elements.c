/* Operations of the cpu backend on plain arrays: the linear ones, reductions, the gated MLP. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parts.h"
#include "kernels/cpu/vector.h"

CLONES static void add(size_t n, const float *x, float *y)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

void cpu_add(struct device *device, size_t n, const float *x, float *y)
{
    FOR_PARTS(device, n, 1, 16, begin, end)
    add(end - begin, x + begin, y + begin);
}

CLONES static void scale(size_t n, float factor, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

void cpu_scale(struct device *device, size_t n, float factor, float *x)
{
    FOR_PARTS(device, n, 1, 16, begin, end)
    scale(end - begin, factor, x + begin);
}

CLONES static double sum(size_t n, const float *x)
{
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (size_t i = 0; i < n; i++)
        total += x[i];
    return total;
}

CLONES static double sum_squares(size_t n, const float *x)
{
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (size_t i = 0; i < n; i++)
        total += (double)x[i] * x[i];
    return total;
}

/* Sums of blocks, in the order of the blocks: the same for every number of threads. */
static double sum_of_blocks(struct device *device, size_t n, const float *x, double (*of_block)(size_t, const float *))
{
    enum { BLOCK = 1 << 15 };
    size_t blocks = (n + BLOCK - 1) / BLOCK;
    if (blocks <= 1) return of_block(n, x);
    double total = 0, *sums = (double *)(void *)cpu_scratch(device, 2 * blocks);
    if (!sums) return NAN;
    FOR_PARTS(device, blocks, BLOCK, 1, begin, end)
    for (size_t i = begin; i < end; i++)
        sums[i] = of_block(i + 1 < blocks ? (size_t)BLOCK : n - i * BLOCK, x + i * BLOCK);
    for (size_t i = 0; i < blocks; i++)
        total += sums[i];
    return total;
}

void cpu_sums(struct device *device, size_t count, const struct span *spans, bool squares, double *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = sum_of_blocks(device, spans[i].n, spans[i].x, squares ? sum_squares : sum);
}

CLONES static void swiglu_forward(size_t n, const float *gate, const float *up, float *out)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        out[i] = gate[i] * up[i] / (1.0f + vector_exp(-gate[i]));
}

void cpu_swiglu_forward(struct device *device, size_t n, const float *gate, const float *up, float *out)
{
    FOR_PARTS(device, n, 1, 16, begin, end)
    swiglu_forward(end - begin, gate + begin, up + begin, out + begin);
}

/* dgate may be gate and dup may be up: an element is read before it is written */
CLONES static void swiglu_backward(size_t n, const float *gate, const float *up, const float *dout, float *dgate,
                                   float *dup)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dout[i];
        float e = vector_exp(-g), sigmoid = 1.0f / (1.0f + e);
        dgate[i] = d * u * sigmoid * (1.0f + g * (e * sigmoid));
        dup[i] = d * g * sigmoid;
    }
}

void cpu_swiglu_backward(struct device *device, size_t n, const float *gate, const float *up, const float *dout,
                         float *dgate, float *dup)
{
    FOR_PARTS(device, n, 1, 16, begin, end)
    swiglu_backward(end - begin, gate + begin, up + begin, dout + begin, dgate + begin, dup + begin);
}
