/* Cross-entropy of the cpu backend, over a vocabulary that may be spread over several devices. */
#include <float.h>
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

CLONES void cpu_cross_entropy_partial(struct device *device, size_t rows, size_t vocabulary, size_t first,
                                      const float *logits, const int32_t *targets, float *partial)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *row = logits + r * vocabulary;
        float maximum = -FLT_MAX, sum = 0, logits_sum = 0;
#pragma omp simd reduction(max : maximum)
        for (size_t i = 0; i < vocabulary; i++)
            maximum = row[i] > maximum ? row[i] : maximum;
#pragma omp simd reduction(+ : sum, logits_sum)
        for (size_t i = 0; i < vocabulary; i++) {
            sum += vector_exp(row[i] - maximum);
            logits_sum += row[i];
        }
        size_t target = (size_t)targets[r];
        partial[r] = maximum;
        partial[rows + r] = sum;
        partial[2 * rows + r] =
            targets[r] >= 0 && target >= first && target < first + vocabulary ? row[target - first] : 0;
        partial[3 * rows + r] = logits_sum;
    }
}

/* A row of all devices together. */
struct whole_row {
    double maximum, log_sum; /* of the logits; log of the sum of exp(logit - maximum) */
    double target, sum;      /* the target's logit; sum of all logits */
};

static struct whole_row row_finish(size_t rows, size_t r, size_t devices, const float *partials)
{
    double exponentials = 0;
    struct whole_row row = {.maximum = partials[r]};
    for (size_t d = 1; d < devices; d++)
        row.maximum = fmax(row.maximum, partials[d * 4 * rows + r]);
    for (size_t d = 0; d < devices; d++) {
        const float *partial = partials + d * 4 * rows;
        exponentials += partial[rows + r] * exp(partial[r] - row.maximum);
        row.target += partial[2 * rows + r];
        row.sum += partial[3 * rows + r];
    }
    row.log_sum = log(exponentials);
    return row;
}

/* The maximum is taken off first: that is exact where it matters, however large the logits are. */
CLONES static void row_gradient(size_t n, float maximum, float log_sum, float uniform, float scale, float *row)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        row[i] = (vector_exp(row[i] - maximum - log_sum) - uniform) * scale;
}

void cpu_cross_entropy_finish(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t devices,
                              const float *partials, const int32_t *targets, size_t total, float smoothing, float scale,
                              float *logits, float *loss)
{
    (void)device;
    double uniform = (double)smoothing / (double)total, rest = 1 - (double)smoothing;
    for (size_t r = 0; r < rows; r++) {
        struct whole_row whole = row_finish(rows, r, devices, partials);
        loss[r] = (float)(whole.maximum - rest * whole.target - uniform * whole.sum + whole.log_sum);
        if (scale == 0) continue;
        float *row = logits + r * vocabulary;
        row_gradient(vocabulary, (float)whole.maximum, (float)whole.log_sum, (float)uniform, scale, row);
        size_t id = (size_t)targets[r];
        if (targets[r] >= 0 && id >= first && id < first + vocabulary) row[id - first] -= (float)(rest * scale);
    }
}
