/* Reference norms beside RMSNorm: LayerNorm, and RMSNorm of rows that lie on several devices. */
#include <math.h>

#include "kernels/reference/reference.h"

void reference_layer_norm_forward(struct device *device, size_t rows, size_t width, float epsilon,
                                  const float *residual, float *x, const float *gain, const float *bias, float *y,
                                  float *mean, float *rstd)
{
    if (residual) reference_add(device, rows * width, residual, x);
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width;
        double sum = 0, squares = 0;
        for (size_t i = 0; i < width; i++)
            sum += xr[i];
        double center = sum / (double)width;
        for (size_t i = 0; i < width; i++)
            squares += (xr[i] - center) * (xr[i] - center);
        double factor = 1 / sqrt(squares / (double)width + epsilon);
        for (size_t i = 0; i < width; i++)
            y[r * width + i] = (float)((xr[i] - center) * factor * gain[i] + bias[i]);
        mean[r] = (float)center;
        rstd[r] = (float)factor;
    }
}

void reference_layer_norm_backward(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                                   const float *mean, const float *rstd, const float *dy, float *dx, float *dgain,
                                   float *dbias)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width, *dyr = dy + r * width;
        double factor = rstd[r], center = mean[r], sum = 0, dot = 0; /* of the gradient of the normalised x */
        for (size_t i = 0; i < width; i++) {
            double d = (double)dyr[i] * gain[i];
            sum += d;
            dot += d * (xr[i] - center) * factor;
        }
        for (size_t i = 0; i < width; i++) {
            double d = (double)dyr[i] * gain[i], normed = (xr[i] - center) * factor;
            dx[r * width + i] += (float)(factor * (d - sum / (double)width - normed * dot / (double)width));
            if (dgain) dgain[i] += (float)(dyr[i] * normed);
            if (dbias) dbias[i] += dyr[i];
        }
    }
}

void reference_row_squares(struct device *device, size_t rows, size_t width, size_t shared, const float *x,
                           float *squares)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t i = shared; i < width; i++)
            sum += (double)x[r * width + i] * x[r * width + i];
        squares[r] = (float)sum;
    }
}

void reference_row_norm_forward(struct device *device, size_t rows, size_t width, size_t total, float epsilon,
                                const float *x, const float *gain, const float *squares, float *y, float *rstd)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        double factor = 1 / sqrt((double)squares[r] / (double)total + epsilon);
        for (size_t i = 0; i < width; i++)
            y[r * width + i] = (float)(x[r * width + i] * factor * gain[i]);
        rstd[r] = (float)factor;
    }
}

void reference_row_norm_dots(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                             const float *dy, float *dots)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t i = 0; i < width; i++)
            sum += (double)dy[r * width + i] * gain[i] * x[r * width + i];
        dots[r] = (float)sum;
    }
}

void reference_row_norm_backward(struct device *device, size_t rows, size_t width, size_t shared, size_t total,
                                 const float *x, const float *gain, const float *rstd, const float *dots,
                                 const float *dy, float *dx, float *dgain)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        double factor = rstd[r], along = dots[r] * factor * factor * factor / (double)total;
        for (size_t i = 0; i < width; i++) {
            double d = dy[r * width + i], value = x[r * width + i];
            if (dgain) dgain[i] += (float)(d * value * factor);
            dx[r * width + i] = (float)(factor * d * gain[i] - (i >= shared ? value * along : 0));
        }
    }
}
