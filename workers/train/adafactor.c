/* Adafactor's step over a shard: sums of squares, their moving averages, the size of every tensor's update, the update.
 * Between these, three sums over ranks for all tensors together. */
#include <math.h>

#include "workers/model/gang_failed.h"
#include "workers/train/optimiser.h"

#define DECAY_POWER 0.8
#define EPSILON 1e-30f      /* added to squares */
#define SMALLEST_SCALE 1e-3 /* of a tensor, where its rate is scaled */
#define CLIP_THRESHOLD 1.0  /* root mean square of an update */

/* A tensor as the kernels see it: one without factors is one row. */
struct view {
    size_t rows, columns;           /* held */
    size_t owned_first, owned_rows; /* of the rows, for sums over ranks */
    size_t owned_columns;
    const float *row; /* NULL: one row */
};

static struct view view_of(const struct parameter *p)
{
    size_t before = p->owned_first - p->row_first;
    struct view v = {.row = NULL};
    if (p->owned_count == 0) before = 0;
    if (p->form1 == MOMENT_ROWS) {
        v.rows = p->row_count;
        v.columns = v.owned_columns = p->column_count;
        v.owned_first = before;
        v.owned_rows = p->owned_count;
        v.row = p->moment1;
    } else { /* owned_first counts columns */
        v.rows = v.owned_rows = 1;
        v.columns = p->row_count * p->column_count;
        v.owned_first = before * p->column_count;
        v.owned_columns = p->owned_count * p->column_count;
    }
    return v;
}

static int sum_failed(struct error *err)
{
    return error_set(err, GANG_FAILED);
}

/* Squares of this rank's gradients: of rows over the columns it holds, of columns over the rows that are its own. */
static void sum_squares(const struct parameters *parameters, const struct parameter *p, float scale)
{
    const struct kernels *k = parameters->kernels;
    struct view v = view_of(p);
    size_t first = p->rows_cut && v.row ? v.owned_first : 0, count = p->rows_cut && v.row ? v.owned_rows : v.rows;
    if (v.row) k->square_sums(parameters->device, v.rows, v.columns, scale, p->gradient, p->sums1, NULL);
    k->square_sums(parameters->device, count, v.columns, scale, p->gradient + first * v.columns, NULL, p->sums2);
}

static void average(const struct parameters *parameters, const struct parameter *p, float rest)
{
    const struct kernels *k = parameters->kernels;
    struct view v = view_of(p);
    float rows = v.row ? (float)(1.0 / (double)p->rows) : 1, columns = (float)(1.0 / (double)p->columns);
    if (v.row) k->moving_average(parameters->device, v.rows, rest, columns, EPSILON, p->sums1, p->moment1);
    k->moving_average(parameters->device, v.columns, rest, rows, EPSILON, p->sums2, p->moment2);
}

static const float *owned(const struct view *v, const float *x)
{
    return x + v->owned_first * (v->row ? v->columns : 1);
}

/* Is the tensor trained, and some of it here? */
static bool steps(const struct parameter *p)
{
    return p->gradient && p->row_count * p->column_count > 0;
}

/* Of whole tensors, summed over ranks later: rows' averages, and squares of values. A tensor that is not here, or is
 * another rank's to count, is an empty span. */
static void measure(struct parameters *parameters, double *rows, double *values)
{
    const struct kernels *k = parameters->kernels;
    bool first = parameters->collective.rank == 0;
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        struct view v = view_of(p);
        struct span *span = &parameters->spans[i];
        *span = (struct span){0, NULL};
        if (!steps(p) || !v.row) continue;
        if (p->rows_cut)
            *span = (struct span){v.owned_rows, v.row + v.owned_first};
        else if (first)
            *span = (struct span){v.rows, v.row};
    }
    k->sums(parameters->device, parameters->count, parameters->spans, false, rows);
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        struct view v = view_of(p);
        parameters->spans[i] = (struct span){0, NULL};
        if (steps(p)) parameters->spans[i] = (struct span){v.owned_rows * v.owned_columns, owned(&v, p->value)};
    }
    k->sums(parameters->device, parameters->count, parameters->spans, true, values);
}

/* Of this rank's own rows. */
static void update_squares(struct parameters *parameters, const double *row_means, float scale, double *updates)
{
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        struct view v = view_of(p);
        parameters->factored[i] = (struct factored){0};
        if (!steps(p)) continue;
        parameters->factored[i] = (struct factored){.rows = v.owned_rows,
                                                    .columns = v.owned_columns,
                                                    .gradient = owned(&v, p->gradient),
                                                    .row = v.row ? v.row + v.owned_first : NULL,
                                                    .column = v.row ? p->moment2 : owned(&v, p->moment2),
                                                    .row_mean = (float)row_means[i]};
    }
    parameters->kernels->adafactor_squares(parameters->device, parameters->count, parameters->factored, scale, updates);
}

static double root_mean_square(double squares, const struct parameter *p)
{
    return sqrt(squares / ((double)p->rows * (double)p->columns));
}

static int averages(struct parameters *parameters, uint64_t step, float scale, struct error *err)
{
    for (size_t i = 0; i < parameters->count; i++)
        if (steps(&parameters->list[i])) sum_squares(parameters, &parameters->list[i], scale);
    if (parameters->kernels->sum_ranks_floats(parameters->device, &parameters->collective, parameters->partial_sums,
                                              parameters->sums))
        return gang_failed(parameters->kernels, parameters->device, err);
    for (size_t i = 0; i < parameters->count; i++)
        if (steps(&parameters->list[i]))
            average(parameters, &parameters->list[i],
                    (float)pow((double)(step - parameters->list[i].thaw), -DECAY_POWER));
    return 0;
}

/* The list of updates, of what is here; sizes: roots of the updates' mean squares. */
static size_t updates_of(struct parameters *parameters, const struct recipe *recipe, double rate, const double *rows,
                         const double *values, const double *updates)
{
    size_t count = 0;
    for (size_t i = 0; i < parameters->count; i++) {
        struct parameter *p = &parameters->list[i];
        if (!steps(p)) continue;
        struct view v = view_of(p);
        double own = recipe->parameter_scale ? rate * fmax(SMALLEST_SCALE, root_mean_square(values[i], p)) : rate;
        double size = root_mean_square(updates[i], p);
        parameters->factored[count++] = (struct factored){.rows = v.rows,
                                                          .columns = v.columns,
                                                          .value = p->value,
                                                          .gradient = p->gradient,
                                                          .row = v.row,
                                                          .column = p->moment2,
                                                          .rounded = parameter_rounding(p),
                                                          .row_mean = (float)rows[i],
                                                          .rate = (float)(own / fmax(1, size / CLIP_THRESHOLD)),
                                                          .decay = p->decay ? (float)(recipe->weight_decay * own) : 0};
    }
    return count;
}

int adafactor_step(struct parameters *parameters, const struct recipe *recipe, uint64_t step, double rate,
                   double gradient_scale, struct error *err)
{
    size_t count = parameters->count;
    float scale = (float)gradient_scale;
    double *rows = parameters->squares, *values = rows + count, *updates = values + count;
    if (averages(parameters, step, scale, err)) return -1;
    measure(parameters, rows, values);
    if (parameters->kernels->collect(parameters->device, 0, err)) return -1;
    if (collective_sum_doubles(&parameters->collective, 2 * count, rows)) return sum_failed(err);
    for (size_t i = 0; i < count; i++)
        rows[i] /= (double)parameters->list[i].rows;
    update_squares(parameters, rows, scale, updates);
    if (parameters->kernels->collect(parameters->device, 0, err)) return -1;
    if (collective_sum_doubles(&parameters->collective, count, updates)) return sum_failed(err);
    size_t here = updates_of(parameters, recipe, rate, rows, values, updates);
    parameters->kernels->adafactor(parameters->device, here, parameters->factored, scale);
    return 0;
}
