/* Cross-entropy of the cpu backend, over a vocabulary that may be spread over several devices. */
#include <float.h>
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parts.h"
#include "kernels/cpu/vector.h"

/* Sums over a vocabulary: a lane adds DEPTH terms in fp32, then goes on in double. In fp32 alone the sum of
 * exponentials comes out low, and never high: of the many terms below half a unit in the last place of the most likely
 * token's 1 nothing is left. */
enum { LANES = 16, DEPTH = 8 };

struct sums {
    double exponentials[LANES], logits[LANES];
};

/* row[depth][LANES], of which n lanes */
INLINE void add_block(size_t n, size_t depth, const float *row, float maximum, struct sums *sums)
{
#pragma omp simd
    for (size_t lane = 0; lane < n; lane++) {
        float exponentials = 0, logits = 0;
        for (size_t i = 0; i < depth; i++) {
            exponentials += vector_exp(row[i * LANES + lane] - maximum);
            logits += row[i * LANES + lane];
        }
        sums->exponentials[lane] += exponentials;
        sums->logits[lane] += logits;
    }
}

INLINE void row_sums(size_t n, const float *row, float maximum, double *exponentials, double *logits)
{
    struct sums sums = {{0}, {0}};
    size_t i = 0;
    for (; i + LANES * DEPTH <= n; i += LANES * DEPTH)
        add_block(LANES, DEPTH, row + i, maximum, &sums);
    for (; i < n; i += LANES)
        add_block(n - i < LANES ? n - i : LANES, 1, row + i, maximum, &sums);
    for (size_t lane = 0; lane < LANES; lane++) {
        *exponentials += sums.exponentials[lane];
        *logits += sums.logits[lane];
    }
}

/* Of the rows begin .. end-1. */
CLONES static void rows_partial(size_t begin, size_t end, size_t rows, size_t vocabulary, size_t first,
                                const float *logits, const int32_t *targets, float *partial)
{
    for (size_t r = begin; r < end; r++) {
        const float *row = logits + r * vocabulary;
        float maximum = -FLT_MAX;
        double sum = 0, logits_sum = 0;
#pragma omp simd reduction(max : maximum)
        for (size_t i = 0; i < vocabulary; i++)
            maximum = row[i] > maximum ? row[i] : maximum;
        row_sums(vocabulary, row, maximum, &sum, &logits_sum);
        size_t target = (size_t)targets[r];
        partial[r] = maximum;
        partial[rows + r] = (float)sum;
        partial[2 * rows + r] =
            targets[r] >= 0 && target >= first && target < first + vocabulary ? row[target - first] : 0;
        partial[3 * rows + r] = (float)logits_sum;
    }
}

void cpu_cross_entropy_partial(struct device *device, size_t rows, size_t vocabulary, size_t first, const float *logits,
                               const int32_t *targets, float *partial)
{
    FOR_PARTS(device, rows, vocabulary, 1, begin, end)
    rows_partial(begin, end, rows, vocabulary, first, logits, targets, partial);
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
    double uniform = (double)smoothing / (double)total, rest = 1 - (double)smoothing;
    FOR_PARTS(device, rows, vocabulary, 1, begin, end)
    for (size_t r = begin; r < end; r++) {
        struct whole_row whole = row_finish(rows, r, devices, partials);
        loss[r] = (float)(whole.maximum - rest * whole.target - uniform * whole.sum + whole.log_sum);
        if (scale == 0) continue;
        float *row = logits + r * vocabulary;
        row_gradient(vocabulary, (float)whole.maximum, (float)whole.log_sum, (float)uniform, scale, row);
        size_t id = (size_t)targets[r];
        if (targets[r] >= 0 && id >= first && id < first + vocabulary) row[id - first] -= (float)(rest * scale);
    }
}
