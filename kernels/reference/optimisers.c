/* Reference steps of the optimisers: gradients to weights, in double. */
#include <math.h>

#include "kernels/reference/reference.h"

void reference_adamw(struct device *device, size_t n, float *value, const float *gradient, float *moment1,
                     float *moment2, float rate, float beta1, float beta2, float epsilon, float weight_decay,
                     uint64_t step, float gradient_scale)
{
    (void)device;
    double correction1 = 1 - pow((double)beta1, (double)step);
    double correction2 = 1 - pow((double)beta2, (double)step);
    for (size_t i = 0; i < n; i++) {
        double g = (double)gradient[i] * gradient_scale;
        double m = (double)beta1 * moment1[i] + (1 - (double)beta1) * g;
        double v = (double)beta2 * moment2[i] + (1 - (double)beta2) * g * g;
        double update = m / correction1 / (sqrt(v / correction2) + epsilon) + (double)weight_decay * value[i];
        moment1[i] = (float)m;
        moment2[i] = (float)v;
        value[i] = (float)(value[i] - rate * update);
    }
}

void reference_sgd(struct device *device, size_t n, float *value, const float *gradient, float *momentum, float rate,
                   float beta, float weight_decay, float gradient_scale)
{
    (void)device;
    for (size_t i = 0; i < n; i++) {
        double g = (double)gradient[i] * gradient_scale + (double)weight_decay * value[i];
        if (momentum) {
            g += (double)beta * momentum[i];
            momentum[i] = (float)g;
        }
        value[i] = (float)(value[i] - rate * g);
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

double reference_adafactor_squares(struct device *device, size_t rows, size_t columns, const float *gradient,
                                   const float *row, const float *column, float row_mean, float gradient_scale)
{
    (void)device;
    double sum = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            sum += pow(adafactor_update((double)gradient_scale * gradient[r * columns + c], row ? row + r : NULL,
                                        row_mean, column[c]),
                       2);
    return sum;
}

void reference_adafactor(struct device *device, size_t rows, size_t columns, float *value, const float *gradient,
                         const float *row, const float *column, float row_mean, float gradient_scale, float rate,
                         float decay)
{
    (void)device;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            size_t at = r * columns + c;
            double update =
                adafactor_update((double)gradient_scale * gradient[at], row ? row + r : NULL, row_mean, column[c]);
            value[at] = (float)((1 - (double)decay) * value[at] - rate * update);
        }
}
