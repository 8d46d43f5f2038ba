/* Gradients between backward and the optimiser's step: zero, sum over ranks where they are partial, global norm. */
#include <math.h>

#include "workers/model/gang_failed.h"
#include "workers/model/model.h"

void parameters_zero_gradients(struct parameters *parameters)
{
    if (parameters->zeroed_count)
        parameters->kernels->zero(parameters->device, parameters->zeroed_count * sizeof(float), parameters->gradients);
    for (size_t i = 0; i < parameters->count; i++)
        parameters->list[i].stale = parameters->list[i].product;
}

float parameter_gradient_beta(struct parameter *p)
{
    bool stale = p->stale;
    p->stale = false;
    return stale ? 0 : 1;
}

/* Products that did not come: of a step without a target. */
static void settle(struct parameters *parameters)
{
    for (size_t i = 0; i < parameters->count; i++) {
        struct parameter *p = &parameters->list[i];
        if (p->gradient && parameter_gradient_beta(p) == 0)
            parameters->kernels->zero(parameters->device, p->row_count * p->column_count * sizeof(float), p->gradient);
    }
}

static int sum_over_ranks(struct parameters *parameters, size_t n, float *x, struct error *err)
{
    if (parameters->kernels->sum_ranks_floats(parameters->device, &parameters->collective, n, x))
        return gang_failed(parameters->kernels, parameters->device, err);
    return 0;
}

/* A tensor of which ranks hold overlapping rows: each adds its rows to a global one. */
static int sum_shared(struct parameters *parameters, struct parameter *p, struct error *err)
{
    const struct kernels *k = parameters->kernels;
    size_t all = p->rows * p->columns, count = p->row_count * p->columns;
    float *mine = parameters->shared + p->row_first * p->columns;
    k->zero(parameters->device, all * sizeof(float), parameters->shared);
    k->copy(parameters->device, count * sizeof(float), p->gradient, mine);
    if (sum_over_ranks(parameters, all, parameters->shared, err)) return -1;
    k->copy(parameters->device, count * sizeof(float), mine, p->gradient);
    return 0;
}

int parameters_reduce_gradients(struct parameters *parameters, struct error *err)
{
    settle(parameters);
    if (parameters->collective.size == 1) return 0;
    if (parameters->partial_count && sum_over_ranks(parameters, parameters->partial_count, parameters->gradients, err))
        return -1;
    for (size_t i = 0; i < parameters->count; i++) {
        struct parameter *p = &parameters->list[i];
        if (p->gradient && p->partial_gradient && !p->whole && sum_shared(parameters, p, err)) return -1;
    }
    return 0;
}

void parameters_gradient_norm_begin(struct parameters *parameters)
{
    size_t count = 0;
    settle(parameters);
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        if (!p->gradient || !p->owned_count) continue;
        parameters->spans[count++] = (struct span){p->owned_count * p->column_count,
                                                   p->gradient + (p->owned_first - p->row_first) * p->column_count};
    }
    parameters->kernels->sums(parameters->device, count, parameters->spans, true, parameters->squares);
    parameters->squares_count = count;
}

int parameters_gradient_norm_end(struct parameters *parameters, double *norm, struct error *err)
{
    double squares = 0;
    if (parameters->kernels->collect(parameters->device, 0, err)) return -1;
    for (size_t i = 0; i < parameters->squares_count; i++)
        squares += parameters->squares[i];
    if (collective_sum_double(&parameters->collective, &squares)) return error_set(err, GANG_FAILED);
    *norm = sqrt(squares);
    return 0;
}

int parameters_gradient_norm(struct parameters *parameters, double *norm, struct error *err)
{
    parameters_gradient_norm_begin(parameters);
    return parameters_gradient_norm_end(parameters, norm, err);
}
