/* Reference steps of the optimisers: gradients to weights, in double. */
#include <math.h>

#include "kernels/host.h"
#include "kernels/reference/reference.h"

static void adamw(const struct update *t, float rate, float beta1, float beta2, float epsilon, float gradient_scale)
{
    double correction1 = 1 - pow((double)beta1, (double)t->step);
    double correction2 = 1 - pow((double)beta2, (double)t->step);
    for (size_t i = 0; i < t->n; i++) {
        double g = (double)t->gradient[i] * gradient_scale;
        double m = (double)beta1 * t->moment1[i] + (1 - (double)beta1) * g;
        double v = (double)beta2 * t->moment2[i] + (1 - (double)beta2) * g * g;
        double step = m / correction1 / (sqrt(v / correction2) + epsilon) + (double)t->weight_decay * t->value[i];
        t->moment1[i] = (float)m;
        t->moment2[i] = (float)v;
        t->value[i] = (float)(t->value[i] - rate * step);
    }
}

void reference_adamw(struct device *device, size_t count, const struct update *tensors, float rate, float beta1,
                     float beta2, float epsilon, float gradient_scale)
{
    for (size_t i = 0; i < count; i++) {
        adamw(&tensors[i], rate, beta1, beta2, epsilon, gradient_scale);
        host_round(device, tensors[i].n, tensors[i].value, tensors[i].rounded);
    }
}

static void sgd(const struct update *t, float rate, float beta, float gradient_scale)
{
    for (size_t i = 0; i < t->n; i++) {
        double g = (double)t->gradient[i] * gradient_scale + (double)t->weight_decay * t->value[i];
        if (t->moment1) {
            g += (double)beta * t->moment1[i];
            t->moment1[i] = (float)g;
        }
        t->value[i] = (float)(t->value[i] - rate * g);
    }
}

void reference_sgd(struct device *device, size_t count, const struct update *tensors, float rate, float beta,
                   float gradient_scale)
{
    for (size_t i = 0; i < count; i++) {
        sgd(&tensors[i], rate, beta, gradient_scale);
        host_round(device, tensors[i].n, tensors[i].value, tensors[i].rounded);
    }
}

void reference_square_sums(struct device *device, size_t rows, size_t columns, float scale, const float *x,
                           float *row_sums, float *column_sums)
{
    (void)device;
    for (size_t r = 0; row_sums && r < rows; r++) {
        double sum = 0;
        for (size_t c = 0; c < columns; c++)
            sum += pow((double)scale * x[r * columns + c], 2);
        row_sums[r] = (float)sum;
    }
    for (size_t c = 0; column_sums && c < columns; c++) {
        double sum = 0;
        for (size_t r = 0; r < rows; r++)
            sum += pow((double)scale * x[r * columns + c], 2);
        column_sums[c] = (float)sum;
    }
}

void reference_moving_average(struct device *device, size_t n, float rest, float factor, float offset, const float *x,
                              float *average)
{
    (void)device;
    for (size_t i = 0; i < n; i++)
        average[i] = (float)(average[i] + (double)rest * ((double)factor * x[i] + offset - average[i]));
}

static double adafactor_update(double gradient, const float *row, double row_mean, double column)
{
    return gradient / sqrt((row ? *row / row_mean : 1) * column);
}

static double step_of(const struct factored *t, size_t r, size_t c, float gradient_scale)
{
    return adafactor_update((double)gradient_scale * t->gradient[r * t->columns + c], t->row ? t->row + r : NULL,
                            t->row_mean, t->column[c]);
}

void reference_adafactor_squares(struct device *device, size_t count, const struct factored *tensors,
                                 float gradient_scale, double *out)
{
    (void)device;
    for (size_t i = 0; i < count; i++) {
        const struct factored *t = &tensors[i];
        out[i] = 0;
        for (size_t r = 0; r < t->rows; r++)
            for (size_t c = 0; c < t->columns; c++)
                out[i] += pow(step_of(t, r, c, gradient_scale), 2);
    }
}

void reference_adafactor(struct device *device, size_t count, const struct factored *tensors, float gradient_scale)
{
    for (size_t i = 0; i < count; i++) {
        const struct factored *t = &tensors[i];
        for (size_t r = 0; r < t->rows; r++)
            for (size_t c = 0; c < t->columns; c++) {
                float *value = &t->value[r * t->columns + c];
                *value = (float)((1 - (double)t->decay) * *value - t->rate * step_of(t, r, c, gradient_scale));
            }
        host_round(device, t->rows * t->columns, t->value, t->rounded);
    }
}
