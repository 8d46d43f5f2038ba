/* Reference cross-entropy over a vocabulary that may be spread over several devices. */
#include <math.h>

#include "kernels/reference/reference.h"

/* Is the target of this row among the ids first .. first+vocabulary-1? */
static bool has_target(int32_t target, size_t first, size_t vocabulary)
{
    return target >= 0 && (size_t)target >= first && (size_t)target < first + vocabulary;
}

void reference_cross_entropy_partial(struct device *device, size_t rows, size_t vocabulary, size_t first,
                                     const float *logits, const int32_t *targets, float *partial)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *row = logits + r * vocabulary;
        float maximum = row[0];
        double sum = 0, logits_sum = 0;
        for (size_t i = 1; i < vocabulary; i++)
            maximum = fmaxf(maximum, row[i]);
        for (size_t i = 0; i < vocabulary; i++) {
            sum += exp((double)row[i] - maximum);
            logits_sum += row[i];
        }
        partial[r] = maximum;
        partial[rows + r] = (float)sum;
        partial[2 * rows + r] = has_target(targets[r], first, vocabulary) ? row[(size_t)targets[r] - first] : 0;
        partial[3 * rows + r] = (float)logits_sum;
    }
}

void reference_cross_entropy_finish(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t devices,
                                    const float *partials, const int32_t *targets, size_t total, float smoothing,
                                    float scale, float *logits, float *loss)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        double maximum = partials[r], sum = 0, target = 0, logits_sum = 0;
        for (size_t d = 1; d < devices; d++)
            maximum = fmax(maximum, partials[d * 4 * rows + r]);
        for (size_t d = 0; d < devices; d++) {
            const float *partial = partials + d * 4 * rows;
            sum += partial[rows + r] * exp(partial[r] - maximum);
            target += partial[2 * rows + r];
            logits_sum += partial[3 * rows + r];
        }
        double lse = maximum + log(sum);
        double uniform = (double)smoothing / (double)total, rest = 1 - (double)smoothing;
        loss[r] = (float)(lse - rest * target - uniform * logits_sum);
        if (scale == 0) continue;
        float *row = logits + r * vocabulary;
        for (size_t i = 0; i < vocabulary; i++) {
            double onehot = targets[r] >= 0 && (size_t)targets[r] == first + i ? 1 : 0;
            row[i] = (float)((exp(row[i] - lse) - rest * onehot - uniform) * scale);
        }
    }
}
