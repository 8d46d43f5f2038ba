/* Steps of the optimisers of the cpu backend: gradients to weights. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parts.h"
#include "kernels/cpu/vector.h"
#include "kernels/host.h"

struct adamw {
    float rate, beta1, beta2, rest1, rest2, correction1, correction2, epsilon, weight_decay, gradient_scale;
};

CLONES static void adamw(struct adamw a, size_t n, float *value, const float *gradient, float *moment1, float *moment2)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i] * a.gradient_scale;
        float m = a.beta1 * moment1[i] + a.rest1 * g;
        float v = a.beta2 * moment2[i] + a.rest2 * g * g;
        moment1[i] = m;
        moment2[i] = v;
        float update = m * a.correction1 / (sqrtf(v * a.correction2) + a.epsilon);
        value[i] -= a.rate * (update + a.weight_decay * value[i]);
    }
}

void cpu_adamw(struct device *device, size_t count, const struct update *tensors, float rate, float beta1, float beta2,
               float epsilon, float gradient_scale)
{
    for (const struct update *t = tensors; t < tensors + count; t++) {
        struct adamw a = {.rate = rate,
                          .beta1 = beta1,
                          .beta2 = beta2,
                          .rest1 = (float)(1 - (double)beta1),
                          .rest2 = (float)(1 - (double)beta2),
                          .correction1 = (float)(1 / (1 - pow((double)beta1, (double)t->step))),
                          .correction2 = (float)(1 / (1 - pow((double)beta2, (double)t->step))),
                          .epsilon = epsilon,
                          .weight_decay = t->weight_decay,
                          .gradient_scale = gradient_scale};
        FOR_PARTS(device, t->n, 4, 16, begin, end)
        adamw(a, end - begin, t->value + begin, t->gradient + begin, t->moment1 + begin, t->moment2 + begin);
        host_round(device, t->n, t->value, t->rounded);
    }
}

CLONES static void sgd_plain(size_t n, float *value, const float *gradient, float rate, float weight_decay,
                             float gradient_scale)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        value[i] -= rate * (gradient[i] * gradient_scale + weight_decay * value[i]);
}

CLONES static void sgd_momentum(size_t n, float *value, const float *gradient, float *momentum, float rate, float beta,
                                float weight_decay, float gradient_scale)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float m = beta * momentum[i] + gradient[i] * gradient_scale + weight_decay * value[i];
        momentum[i] = m;
        value[i] -= rate * m;
    }
}

static void sgd(struct device *device, const struct update *t, float rate, float beta, float gradient_scale)
{
    FOR_PARTS(device, t->n, 2, 16, begin, end)
    {
        if (t->moment1)
            sgd_momentum(end - begin, t->value + begin, t->gradient + begin, t->moment1 + begin, rate, beta,
                         t->weight_decay, gradient_scale);
        else
            sgd_plain(end - begin, t->value + begin, t->gradient + begin, rate, t->weight_decay, gradient_scale);
    }
}

void cpu_sgd(struct device *device, size_t count, const struct update *tensors, float rate, float beta,
             float gradient_scale)
{
    for (size_t i = 0; i < count; i++) {
        sgd(device, &tensors[i], rate, beta, gradient_scale);
        host_round(device, tensors[i].n, tensors[i].value, tensors[i].rounded);
    }
}

CLONES static float row_square_sum(size_t n, float scale, const float *x)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += (scale * x[i]) * (scale * x[i]);
    return sum;
}

CLONES static void add_squares(size_t n, float scale, const float *x, float *sums)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        sums[i] += (scale * x[i]) * (scale * x[i]);
}

void cpu_square_sums(struct device *device, size_t rows, size_t columns, float scale, const float *x, float *row_sums,
                     float *column_sums)
{
    if (row_sums) {
        FOR_PARTS(device, rows, columns, 1, begin, end)
        for (size_t r = begin; r < end; r++)
            row_sums[r] = row_square_sum(columns, scale, x + r * columns);
    }
    if (!column_sums) return;
    FOR_PARTS(device, columns, rows, 16, begin, end)
    {
        memset(column_sums + begin, 0, (end - begin) * sizeof *column_sums);
        for (size_t r = 0; r < rows; r++)
            add_squares(end - begin, scale, x + r * columns + begin, column_sums + begin);
    }
}

CLONES static void move_average(size_t n, float rest, float factor, float offset, const float *x, float *average)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        average[i] += rest * (factor * x[i] + offset - average[i]);
}

void cpu_moving_average(struct device *device, size_t n, float rest, float factor, float offset, const float *x,
                        float *average)
{
    FOR_PARTS(device, n, 1, 16, begin, end)
    move_average(end - begin, rest, factor, offset, x + begin, average + begin);
}

/* What a row's gradients are multiplied by. */
static float row_factor(const float *row, size_t r, float row_mean, float gradient_scale)
{
    return row ? gradient_scale / sqrtf(row[r] / row_mean) : gradient_scale;
}

CLONES static double row_squares(size_t n, float factor, const float *gradient, const float *column)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        float update = factor * gradient[i] / sqrtf(column[i]);
        sum += (double)update * update;
    }
    return sum;
}

static double update_squares(struct device *device, const struct factored *t, float gradient_scale)
{
    double sum = 0, *sums = (double *)(void *)cpu_scratch(device, 2 * t->rows);
    if (!sums) return NAN;
    FOR_PARTS(device, t->rows, t->columns, 1, begin, end)
    for (size_t r = begin; r < end; r++)
        sums[r] = row_squares(t->columns, row_factor(t->row, r, t->row_mean, gradient_scale),
                              t->gradient + r * t->columns, t->column);
    for (size_t r = 0; r < t->rows; r++)
        sum += sums[r];
    return sum;
}

void cpu_adafactor_squares(struct device *device, size_t count, const struct factored *tensors, float gradient_scale,
                           double *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = update_squares(device, &tensors[i], gradient_scale);
}

CLONES static void row_step(size_t n, float factor, float rate, float decay, const float *gradient, const float *column,
                            float *value)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        value[i] -= decay * value[i] + rate * (factor * gradient[i] / sqrtf(column[i]));
}

static void factored_step(struct device *device, const struct factored *t, float gradient_scale)
{
    FOR_PARTS(device, t->rows, t->columns, 1, begin, end)
    for (size_t r = begin; r < end; r++)
        row_step(t->columns, row_factor(t->row, r, t->row_mean, gradient_scale), t->rate, t->decay,
                 t->gradient + r * t->columns, t->column, t->value + r * t->columns);
}

void cpu_adafactor(struct device *device, size_t count, const struct factored *tensors, float gradient_scale)
{
    for (size_t i = 0; i < count; i++) {
        const struct factored *t = &tensors[i];
        factored_step(device, t, gradient_scale);
        host_round(device, t->rows * t->columns, t->value, t->rounded);
    }
}
