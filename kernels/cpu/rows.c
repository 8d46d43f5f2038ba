/* Operations of the cpu backend on rows: RMSNorm, rotary positions, the embedding table, rows with a loss. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parts.h"
#include "kernels/cpu/vector.h"
#include "kernels/host.h"

CLONES static void rms_norm_forward(size_t rows, size_t width, float epsilon, const float *residual, float *x,
                                    const float *gain, float *y, float *rstd)
{
    for (size_t r = 0; r < rows; r++) {
        float *xr = x + r * width;
        if (residual) row_add(width, residual + r * width, xr);
        float *yr = y + r * width, squares = 0;
#pragma omp simd reduction(+ : squares)
        for (size_t i = 0; i < width; i++)
            squares += xr[i] * xr[i];
        float factor = 1.0f / sqrtf(squares / (float)width + epsilon);
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            yr[i] = xr[i] * factor * gain[i];
        rstd[r] = factor;
    }
}

void cpu_rms_norm_forward(struct device *device, size_t rows, size_t width, float epsilon, const float *residual,
                          float *x, const float *gain, float *y, float *rstd)
{
    FOR_PARTS(device, rows, width, 1, begin, end)
    rms_norm_forward(end - begin, width, epsilon, residual ? residual + begin * width : NULL, x + begin * width, gain,
                     y + begin * width, rstd + begin);
}

CLONES static void rms_norm_backward(size_t rows, size_t width, const float *x, const float *gain, const float *rstd,
                                     const float *dy, float *dx, float *dgain)
{
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width, *dyr = dy + r * width;
        float *dxr = dx + r * width, factor = rstd[r], dot = 0;
#pragma omp simd reduction(+ : dot)
        for (size_t i = 0; i < width; i++)
            dot += dyr[i] * gain[i] * xr[i];
        float along = dot * factor * factor * factor / (float)width;
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            dxr[i] += factor * dyr[i] * gain[i] - xr[i] * along;
        if (!dgain) continue;
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            dgain[i] += factor * dyr[i] * xr[i];
    }
}

/* Gradients of the columns 0 .. n-1 of the gain. */
CLONES static void rms_norm_gains(size_t rows, size_t width, size_t n, const float *x, const float *rstd,
                                  const float *dy, float *dgain)
{
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * width, *dyr = dy + r * width;
        float factor = rstd[r];
#pragma omp simd
        for (size_t i = 0; i < n; i++)
            dgain[i] += factor * dyr[i] * xr[i];
    }
}

static void rms_norm_columns(struct device *device, size_t rows, size_t width, const float *x, const float *rstd,
                             const float *dy, float *dgain)
{
    FOR_PARTS(device, width, rows, 16, begin, end)
    rms_norm_gains(rows, width, end - begin, x + begin, rstd, dy + begin, dgain + begin);
}

void cpu_rms_norm_backward(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                           const float *rstd, const float *dy, float *dx, float *dgain)
{
    bool alone = part_count(device, rows, width) == 1; /* then one pass over the rows does both */
    FOR_PARTS(device, rows, width, 1, begin, end)
    rms_norm_backward(end - begin, width, x + begin * width, gain, rstd + begin, dy + begin * width, dx + begin * width,
                      alone ? dgain : NULL);
    if (!alone && dgain) rms_norm_columns(device, rows, width, x, rstd, dy, dgain);
}

/* The cosines, then the sines, of one position. */
static void rotary_angles(int64_t position, const struct rotary *rotary, float *angles)
{
    size_t half = rotary->turned / 2;
    for (size_t i = 0; i < half; i++) {
        double angle = (double)position * rotary_frequency(rotary, i);
        angles[i] = (float)cos(angle);
        angles[half + i] = (float)sin(angle);
    }
}

static bool same_rotary(const struct rotary *a, const struct rotary *b)
{
    const struct rotary_scaling *s = &a->scaling, *t = &b->scaling;
    return a->turned == b->turned && a->theta == b->theta && s->factor == t->factor && s->low == t->low &&
           s->high == t->high && s->original == t->original;
}

/* Angles of positions 0 .. count-1, kept from call to call; false where there is no memory. */
static bool rotary_table(struct device *device, size_t count, const struct rotary *rotary)
{
    struct rotary_table *table = &device->rotary;
    size_t turned = rotary->turned;
    if (!same_rotary(&table->rotary, rotary)) table->count = 0;
    if (count <= table->count) return true;
    float *angles = realloc(table->angles, count * turned * sizeof *angles);
    if (!angles) {
        device->out_of_memory = true;
        return false;
    }
    table->angles = angles;
    for (size_t i = table->count; i < count; i++) {
        rotary_angles((int64_t)i, rotary, angles + i * turned);
    }
    table->rotary = *rotary;
    table->count = count;
    return true;
}

CLONES static void rotate(size_t heads, size_t head_width, size_t half, const float *angles, bool inverse, float *x)
{
    float sign = inverse ? -1.0f : 1.0f;
    for (size_t h = 0; h < heads; h++) {
        float *first = x + h * head_width, *second = first + half;
#pragma omp simd
        for (size_t i = 0; i < half; i++) {
            float a = first[i], b = second[i], c = angles[i], s = sign * angles[half + i];
            first[i] = a * c - b * s;
            second[i] = b * c + a * s;
        }
    }
}

void cpu_rotary(struct device *device, size_t tokens, size_t heads, size_t head_width, const struct rotary *rotary,
                const int32_t *positions, bool inverse, float *x)
{
    enum { LONGEST = 1 << 16 }; /* positions beyond are computed at each use */
    size_t turned = rotary->turned;
    int32_t last = 0;
    for (size_t t = 0; t < tokens; t++)
        last = positions[t] > last && positions[t] < LONGEST ? positions[t] : last;
    float *own = cpu_scratch(device, turned * (size_t)device->threads);
    if (!own || !rotary_table(device, (size_t)last + 1, rotary)) return;
    FOR_PARTS(device, tokens, heads * turned, 1, begin, end)
    for (size_t t = begin; t < end; t++) {
        bool known = positions[t] >= 0 && positions[t] <= last;
        float *angles = own + part_ * turned;
        if (!known) rotary_angles(positions[t], rotary, angles);
        const float *row = known ? device->rotary.angles + (size_t)positions[t] * turned : angles;
        rotate(heads, head_width, turned / 2, row, inverse, x + t * heads * head_width);
    }
}

/* The row that an id stands for, in the table or the prompt; NULL where another device has it or it is not wanted. */
static const float *row_of(int32_t id, size_t width, size_t first, size_t count, const float *table,
                           const float *prompt)
{
    if (id < 0) return prompt ? prompt + (size_t)(-(int64_t)id - 1) * width : NULL;
    if (!table || (size_t)id < first || (size_t)id >= first + count) return NULL;
    return table + ((size_t)id - first) * width;
}

void cpu_embedding_forward(struct device *device, size_t tokens, size_t width, const int32_t *ids, size_t first,
                           size_t count, const float *table, const float *prompt, float *out)
{
    FOR_PARTS(device, tokens, width, 1, begin, end)
    for (size_t t = begin; t < end; t++) {
        const float *row = row_of(ids[t], width, first, count, table, prompt);
        if (row) {
            memcpy(out + t * width, row, width * sizeof *out);
        } else {
            memset(out + t * width, 0, width * sizeof *out);
        }
    }
}

void cpu_embedding_backward(struct device *device, size_t tokens, size_t width, const int32_t *ids,
                            const uint32_t *order, size_t first, size_t count, const float *dout, float *dtable,
                            float *dprompt)
{
    (void)order;
    FOR_PARTS(device, width, tokens, 16, begin, end) /* by columns: a row may occur again */
    for (size_t t = 0; t < tokens; t++) {
        float *row = (float *)row_of(ids[t], width, first, count, dtable, dprompt);
        if (row) row_add(end - begin, dout + t * width + begin, row + begin);
    }
}

void cpu_gather_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const float *x,
                     float *out)
{
    FOR_PARTS(device, count, width, 1, begin, end)
    for (size_t i = begin; i < end; i++)
        memcpy(out + i * width, x + rows[i] * width, width * sizeof *out);
}

void cpu_scatter_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const float *dout,
                      float *dx)
{
    FOR_PARTS(device, count, width, 1, begin, end)
    for (size_t i = begin; i < end; i++)
        row_add(width, dout + i * width, dx + rows[i] * width);
}
