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
        float maximum = -FLT_MAX, sum = 0;
#pragma omp simd reduction(max : maximum)
        for (size_t i = 0; i < vocabulary; i++)
            maximum = row[i] > maximum ? row[i] : maximum;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < vocabulary; i++)
            sum += vector_exp(row[i] - maximum);
        size_t target = (size_t)targets[r];
        partial[r] = maximum;
        partial[rows + r] = sum;
        partial[2 * rows + r] =
            targets[r] >= 0 && target >= first && target < first + vocabulary ? row[target - first] : 0;
    }
}

/* A row's maximum, the log of its sum of exp(logit - maximum), and the target's logit, of all devices together */
static void row_finish(size_t rows, size_t r, size_t devices, const float *partials, double *maximum, double *log_sum,
                       double *target)
{
    double sum = 0;
    *maximum = partials[r];
    *target = 0;
    for (size_t d = 1; d < devices; d++)
        *maximum = fmax(*maximum, partials[d * 3 * rows + r]);
    for (size_t d = 0; d < devices; d++) {
        const float *partial = partials + d * 3 * rows;
        sum += partial[rows + r] * exp(partial[r] - *maximum);
        *target += partial[2 * rows + r];
    }
    *log_sum = log(sum);
}

/* The maximum is taken off first: that is exact where it matters, however large the logits are. */
CLONES static void row_gradient(size_t n, float maximum, float log_sum, float scale, float *row)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        row[i] = vector_exp(row[i] - maximum - log_sum) * scale;
}

void cpu_cross_entropy_finish(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t devices,
                              const float *partials, const int32_t *targets, float scale, float *logits, float *loss)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        double maximum, log_sum, target;
        row_finish(rows, r, devices, partials, &maximum, &log_sum, &target);
        loss[r] = (float)(maximum - target + log_sum);
        if (scale == 0) continue;
        float *row = logits + r * vocabulary;
        row_gradient(vocabulary, (float)maximum, (float)log_sum, scale, row);
        size_t id = (size_t)targets[r];
        if (targets[r] >= 0 && id >= first && id < first + vocabulary) row[id - first] -= scale;
    }
}
