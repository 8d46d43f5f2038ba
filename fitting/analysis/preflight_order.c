/* In which order the points of a grid tell most of a law: D-optimal, one at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/preflight.h"
#include "fitting/analysis/preflight_parts.h"

struct candidate {
    double rate; /* growth of log det of the information, per second: at most so much, it falls as others are taken */
    size_t point;
};

/* The covariance of what is known so far; at first each parameter is known to a standard error of 1 (a factor of e). */
struct knowledge {
    size_t n;
    double covariance[LAW_PARAMETERS][LAW_PARAMETERS];
};

static double apply(const struct knowledge *k, const double *gradient, double out[LAW_PARAMETERS])
{
    double sum = 0;
    for (size_t a = 0; a < k->n; a++) {
        out[a] = 0;
        for (size_t b = 0; b < k->n; b++)
            out[a] += k->covariance[a][b] * gradient[b];
        sum += gradient[a] * out[a];
    }
    return sum;
}

/* Sherman and Morrison: one more observation. */
static void learn(struct knowledge *k, const double *gradient)
{
    double moved[LAW_PARAMETERS], sum = apply(k, gradient, moved);
    for (size_t a = 0; a < k->n; a++)
        for (size_t b = 0; b < k->n; b++)
            k->covariance[a][b] -= moved[a] * moved[b] / (1 + sum);
}

static bool worse(const struct candidate *a, const struct candidate *b)
{
    if (a->rate < b->rate || a->rate > b->rate) return a->rate < b->rate;
    return a->point > b->point;
}

static void sift(struct candidate *heap, size_t count, size_t at)
{
    for (;;) {
        size_t best = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < count && worse(&heap[best], &heap[child])) best = child;
        if (best == at) return;
        struct candidate t = heap[at];
        heap[at] = heap[best];
        heap[best] = t;
        at = best;
    }
}

/* What a grid's points share: the law in the middle of the axes, gradients over the noise. */
struct table {
    const struct law *law;
    double centre[LAW_AXES], theta[LAW_PARAMETERS], noise;
    const struct preflight_point *points;
};

static double rate_of(const struct table *table, const struct knowledge *k, size_t point, double *gradient)
{
    double moved[LAW_PARAMETERS];
    preflight_slope(table->law, table->theta, table->centre, &table->points[point], gradient);
    for (size_t i = 0; i < k->n; i++)
        gradient[i] /= table->noise;
    return log1p(apply(k, gradient, moved)) / table->points[point].seconds;
}

int preflight_order(const struct law *law, const double *theta, double noise, const struct preflight_point *points,
                    size_t count, size_t *order)
{
    struct table table = {.law = law, .noise = noise, .points = points};
    struct knowledge k = {.n = law->parameter_count};
    double gradient[LAW_PARAMETERS];
    struct candidate *heap = calloc(count + 1, sizeof *heap);
    if (!heap) return -1;
    if (law_can_shift(law)) preflight_middle(points, count, table.centre);
    memcpy(table.theta, theta, k.n * sizeof *theta);
    law_shift(law, table.theta, table.centre);
    for (size_t i = 0; i < k.n; i++)
        k.covariance[i][i] = 1;
    for (size_t i = 0; i < count; i++)
        heap[i] = (struct candidate){rate_of(&table, &k, i, gradient), i};
    for (size_t i = count / 2; i-- > 0;)
        sift(heap, count, i);
    for (size_t taken = 0, left = count; left > 0;) {
        heap[0].rate = rate_of(&table, &k, heap[0].point, gradient);
        size_t point = heap[0].point;
        sift(heap, left, 0);
        if (heap[0].point != point) continue; /* it had looked better than it is */
        learn(&k, gradient);
        order[taken++] = point;
        heap[0] = heap[--left];
        sift(heap, left, 0);
    }
    free(heap);
    return 0;
}
