/* Reference operations of a row or an element: RMSNorm, the gated MLP, the embedding table, rows with a loss. */
#include <math.h>
#include <string.h>

#include "kernels/reference/reference.h"

void reference_rms_norm_forward(struct device *device, size_t rows, size_t width, float epsilon, const float *residual,
                                float *x, const float *gain, float *y, float *rstd)
{
    if (residual) reference_add(device, rows * width, residual, x);
    for (size_t r = 0; r < rows; r++) {
        double squares = 0;
        for (size_t i = 0; i < width; i++)
            squares += (double)x[r * width + i] * x[r * width + i];
        double factor = 1 / sqrt(squares / (double)width + epsilon);
        for (size_t i = 0; i < width; i++)
            y[r * width + i] = (float)(x[r * width + i] * factor * gain[i]);
        rstd[r] = (float)factor;
    }
}

void reference_rms_norm_backward(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                                 const float *rstd, const float *dy, float *dx, float *dgain)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width, *dyr = dy + r * width;
        double factor = rstd[r], dot = 0; /* of x and the gradient of the normalised x */
        for (size_t i = 0; i < width; i++)
            dot += (double)dyr[i] * gain[i] * xr[i];
        double mean = dot * factor * factor / (double)width;
        for (size_t i = 0; i < width; i++) {
            dx[r * width + i] += (float)(factor * ((double)dyr[i] * gain[i] - xr[i] * mean));
            if (dgain) dgain[i] += (float)(dyr[i] * xr[i] * factor);
        }
    }
}

void reference_swiglu_forward(struct device *device, size_t n, const float *gate, const float *up, float *out)
{
    (void)device;
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(gate[i] / (1 + exp(-(double)gate[i])) * up[i]);
}

void reference_swiglu_backward(struct device *device, size_t n, const float *gate, const float *up, const float *dout,
                               float *dgate, float *dup)
{
    (void)device;
    for (size_t i = 0; i < n; i++) {
        double g = gate[i], u = up[i], d = dout[i];
        double sigmoid = 1 / (1 + exp(-g));
        dgate[i] = (float)(d * u * sigmoid * (1 + g * (1 - sigmoid)));
        dup[i] = (float)(d * g * sigmoid);
    }
}

/* The row that an id stands for, in the table or the prompt; NULL where another device has it or it is not wanted. */
static float *row_of(int32_t id, size_t width, size_t first, size_t count, float *table, float *prompt)
{
    if (id < 0) return prompt ? prompt + (size_t)(-(int64_t)id - 1) * width : NULL;
    if (!table || (size_t)id < first || (size_t)id >= first + count) return NULL;
    return table + ((size_t)id - first) * width;
}

void reference_embedding_forward(struct device *device, size_t tokens, size_t width, const int32_t *ids, size_t first,
                                 size_t count, const float *table, const float *prompt, float *out)
{
    (void)device;
    for (size_t t = 0; t < tokens; t++) {
        const float *row = row_of(ids[t], width, first, count, (float *)table, (float *)prompt);
        for (size_t i = 0; i < width; i++)
            out[t * width + i] = row ? row[i] : 0;
    }
}

void reference_embedding_backward(struct device *device, size_t tokens, size_t width, const int32_t *ids,
                                  const uint32_t *order, size_t first, size_t count, const float *dout, float *dtable,
                                  float *dprompt)
{
    (void)device, (void)order;
    for (size_t t = 0; t < tokens; t++) {
        float *row = row_of(ids[t], width, first, count, dtable, dprompt);
        if (!row) continue;
        for (size_t i = 0; i < width; i++)
            row[i] += dout[t * width + i];
    }
}

void reference_gather_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const float *x,
                           float *out)
{
    (void)device;
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * width, x + rows[i] * width, width * sizeof *out);
}

void reference_scatter_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const float *dout,
                            float *dx)
{
    (void)device;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < width; j++)
            dx[rows[i] * width + j] += dout[i * width + j];
    }
}
