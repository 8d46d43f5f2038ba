/* Sums and steps of optimisers. Each operation gives its parameters their meaning. */
#include "tests/kernels/ops_case.h"

/* n of the last span; the others are smaller. The result is a sum in which each span has a weight of its own. */
enum { SPANS = 5 };
SETUP(sums_setup)
{
    run_normal(run, FLOATS, IN, P(0), 1);
}
static void sums_of(const struct kernels *k, struct device *d, struct run *run, bool squares)
{
    struct span spans[SPANS];
    double sums[SPANS];
    for (size_t i = 0; i < SPANS; i++)
        spans[i] = (struct span){P(0) * i / (SPANS - 1), F(0)};
    k->sums(d, SPANS, spans, squares, sums);
    k->collect(d, 0, NULL);
    run->result = 0;
    for (int i = 0; i < SPANS; i++)
        run->result += sums[i] * (i + 1);
}
CALL(sums_call)
{
    sums_of(k, d, run, false);
}
CALL(sums_squares_call)
{
    sums_of(k, d, run, true);
}
WORK(sums_work) /* of all spans */
{
    return 2.5 * 4 * (double)P(0);
}

/* n, step */
SETUP(adamw_setup)
{
    run_normal(run, FLOATS, INOUT, P(0), 1);
    run_normal(run, FLOATS, IN, P(0), 1);
    run_normal(run, FLOATS, INOUT, P(0), 0.1);
    run_positive(run, FLOATS, INOUT, P(0), 0.1);
    run_buffer(run, REALS, OUT, P(0));
}
CALL(adamw_call)
{
    struct update tensors[2];
    for (int i = 0; i < 2; i++) { /* halves of the arrays, the second one a step ahead */
        size_t first = i ? P(0) / 2 : 0, n = i ? P(0) - first : P(0) / 2;
        tensors[i] = (struct update){.n = n,
                                     .value = F(0) + first,
                                     .gradient = F(1) + first,
                                     .moment1 = F(2) + first,
                                     .moment2 = F(3) + first,
                                     .rounded = AT(4, first),
                                     .weight_decay = i ? 0.1f : 0,
                                     .step = P(1) + (size_t)i};
    }
    k->adamw(d, 2, tensors, 0.01f, 0.9f, 0.95f, 1e-8f, 0.5f);
}

/* n, with momentum */
SETUP(sgd_setup)
{
    run_normal(run, FLOATS, INOUT, P(0), 1);
    run_normal(run, FLOATS, IN, P(0), 1);
    run_normal(run, FLOATS, INOUT, P(0), 0.1);
    run_buffer(run, REALS, OUT, P(0));
}
CALL(sgd_call)
{
    struct update tensor = {.n = P(0),
                            .value = F(0),
                            .gradient = F(1),
                            .moment1 = P(1) ? F(2) : NULL,
                            .rounded = R(3),
                            .weight_decay = 0.1f};
    k->sgd(d, 1, &tensor, 0.01f, P(1) ? 0.9f : 0, 0.5f);
}

/* rows, columns, row sums wanted, column sums wanted */
SETUP(square_sums_setup)
{
    run_normal(run, FLOATS, IN, P(0) * P(1), 1);
    if (P(2)) run_buffer(run, FLOATS, OUT, P(0));
    if (P(3)) run_buffer(run, FLOATS, OUT, P(1));
}
CALL(square_sums_call)
{
    k->square_sums(d, P(0), P(1), 0.3f, F(0), P(2) ? F(1) : NULL, P(3) ? F(P(2) ? 2 : 1) : NULL);
}

/* n */
SETUP(moving_average_setup)
{
    run_positive(run, FLOATS, IN, P(0), 3);
    run_positive(run, FLOATS, INOUT, P(0), 1);
}
CALL(moving_average_call)
{
    k->moving_average(d, P(0), 0.2f, 0.1f, 1e-3f, F(0), F(1));
}

/* rows, columns, with factors of rows */
SETUP(adafactor_setup)
{
    run_normal(run, FLOATS, INOUT, P(0) * P(1), 1);
    run_normal(run, FLOATS, IN, P(0) * P(1), 1);
    struct buffer *column = run_buffer(run, FLOATS, IN, P(1)), *row = run_buffer(run, FLOATS, IN, P(0));
    for (size_t i = 0; i < P(1); i++)
        column->initial[i] = 0.1f + (float)(i % 7);
    for (size_t i = 0; i < P(0); i++)
        row->initial[i] = 0.2f + (float)(i % 5);
    run_buffer(run, REALS, OUT, P(0) * P(1));
}
SETUP(adafactor_squares_setup)
{
    adafactor_setup(run);
    run->b[0].role = IN;
    run->b[4].n = 0;
}

/* The rows as two tensors. */
static void factored_halves(struct run *run, struct factored tensors[2])
{
    for (int i = 0; i < 2; i++) {
        size_t first = i ? P(0) / 2 : 0, rows = i ? P(0) - first : P(0) / 2;
        tensors[i] = (struct factored){.rows = rows,
                                       .columns = P(1),
                                       .value = F(0) + first * P(1),
                                       .gradient = F(1) + first * P(1),
                                       .row = P(2) ? F(3) + first : NULL,
                                       .column = F(2),
                                       .rounded = AT(4, first * P(1)),
                                       .row_mean = 1.3f + (float)i,
                                       .rate = 0.01f,
                                       .decay = i ? 0.001f : 0};
    }
}
CALL(adafactor_call)
{
    struct factored tensors[2];
    factored_halves(run, tensors);
    k->adafactor(d, 2, tensors, 0.5f);
}
CALL(adafactor_squares_call)
{
    struct factored tensors[2];
    double squares[2];
    factored_halves(run, tensors);
    k->adafactor_squares(d, 2, tensors, 0.5f, squares);
    k->collect(d, 0, NULL);
    run->result = squares[0] + 2 * squares[1];
}

static const struct op ops[] = {
    {OP(sums), EXACT, sums_setup, sums_call, sums_work, false},
    {"sums_squares", OF(sums), EXACT, sums_setup, sums_squares_call, sums_work, false},
    {OP(adamw), ROUNDED(1e-12), adamw_setup, adamw_call, NULL, false},
    {OP(sgd), ROUNDED(1e-12), sgd_setup, sgd_call, NULL, false},
    {OP(square_sums), ROUNDED(1e-12), square_sums_setup, square_sums_call, NULL, false},
    {OP(moving_average), ROUNDED(1e-12), moving_average_setup, moving_average_call, NULL, false},
    {OP(adafactor_squares), ROUNDED(1e-12), adafactor_squares_setup, adafactor_squares_call, NULL, false},
    {OP(adafactor), ROUNDED(1e-12), adafactor_setup, adafactor_call, NULL, false},
};
const struct op_list ops_of_optimisers = OP_LIST(ops);
