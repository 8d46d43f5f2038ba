/* Rows of tables and of heads. Each operation gives its parameters their meaning. */
#include "tests/kernels/ops_case.h"

/* tokens, heads, head width */
SETUP(split_heads_setup)
{
    run_normal(run, REALS, IN, 3 * P(0) * P(1) * P(2), 1);
    for (int i = 0; i < 3; i++)
        run_buffer(run, REALS, OUT, P(0) * P(1) * P(2));
}
CALL(split_heads_call)
{
    k->split_heads(d, P(0), P(1), P(2), R(0), R(1), R(2), R(3));
}
SETUP(merge_heads_setup)
{
    for (int i = 0; i < 3; i++)
        run_normal(run, REALS, IN, P(0) * P(1) * P(2), 1);
    run_buffer(run, REALS, OUT, 3 * P(0) * P(1) * P(2));
}
CALL(merge_heads_call)
{
    k->merge_heads(d, P(0), P(1), P(2), R(0), R(1), R(2), R(3));
}

/* tokens, heads, head width, inverse, last position (0: 3000), elements that are turned (0: all); stretched: 1 linear,
 * 2 as Llama 3 */
SETUP(rotary_setup)
{
    run_integers(run, P(0), 0, P(4) ? (int32_t)P(4) : 3000);
    run_normal(run, REALS, INOUT, P(0) * P(1) * P(2), 1);
}
CALL(rotary_call)
{
    static const struct rotary_scaling scalings[] = {{0, 0, 0, 0}, {2.5, 0, 0, 0}, {8, 1, 4, 500}};
    const struct rotary rotary = {P(5) ? P(5) : P(2), 10000.0f, scalings[P(6)]};
    k->rotary(d, P(0), P(1), P(2), &rotary, I(0), P(3), R(1));
}

/* tokens, width, vocabulary, first, count, what is there or wanted (1: prompt, 2: table) */
SETUP(embedding_forward_setup)
{
    run_integers(run, P(0), P(5) & 1 ? -4 : 0, (int32_t)P(2) - 1);
    run_normal(run, REALS, IN, P(4) * P(1), 1);
    run_normal(run, REALS, IN, 4 * P(1), 1);
    run_buffer(run, REALS, OUT, P(0) * P(1));
}
CALL(embedding_forward_call)
{
    k->embedding_forward(d, P(0), P(1), I(0), P(3), P(4), R(1), P(5) & 1 ? R(2) : NULL, R(3));
}
SETUP(embedding_backward_setup)
{
    run_integers(run, P(0), -4, (int32_t)P(2) - 1);
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, INOUT, P(4) * P(1), 1);
    run_normal(run, FLOATS, INOUT, 4 * P(1), 1);
    run_order(run, 0);
}
CALL(embedding_backward_call)
{
    k->embedding_backward(d, P(0), P(1), I(0), (const uint32_t *)I(4), P(3), P(4), R(1), P(5) & 2 ? F(2) : NULL,
                          P(5) & 1 ? F(3) : NULL);
}
WORK(embedding_forward_work) /* the tokens' rows alone */
{
    return 2.0 * (double)(run->bytes * P(0) * P(1));
}
WORK(embedding_backward_work)
{
    return (double)((run->bytes + 8) * P(0) * P(1));
}

/* rows wanted, width, rows there */
SETUP(gather_rows_setup)
{
    int32_t *rows = run_integers(run, P(0), 0, 0);
    for (size_t i = 0; i < P(0); i++)
        rows[i] = (int32_t)(i * P(2) / P(0));
    run_normal(run, REALS, IN, P(2) * P(1), 1);
    run_buffer(run, REALS, OUT, P(0) * P(1));
}
CALL(gather_rows_call)
{
    k->gather_rows(d, P(0), P(1), (const uint32_t *)I(0), R(1), R(2));
}
SETUP(scatter_rows_setup)
{
    int32_t *rows = run_integers(run, P(0), 0, 0);
    for (size_t i = 0; i < P(0); i++)
        rows[i] = (int32_t)(i * P(2) / P(0));
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, REALS, INOUT, P(2) * P(1), 1);
}
CALL(scatter_rows_call)
{
    k->scatter_rows(d, P(0), P(1), (const uint32_t *)I(0), R(1), R(2));
}
WORK(gather_rows_work)
{
    return 2.0 * (double)(run->bytes * P(0) * P(1));
}
WORK(scatter_rows_work)
{
    return 3.0 * (double)(run->bytes * P(0) * P(1));
}

static const struct op ops[] = {
    {OP(split_heads), EXACT, split_heads_setup, split_heads_call, NULL, false},
    {OP(merge_heads), EXACT, merge_heads_setup, merge_heads_call, NULL, false},
    {OP(rotary), ROUNDED(1e-12), rotary_setup, rotary_call, NULL, false},
    {OP(embedding_forward), EXACT, embedding_forward_setup, embedding_forward_call, embedding_forward_work, false},
    {OP(embedding_backward), EXACT, embedding_backward_setup, embedding_backward_call, embedding_backward_work, false},
    {OP(gather_rows), EXACT, gather_rows_setup, gather_rows_call, gather_rows_work, false},
    {OP(scatter_rows), EXACT, scatter_rows_setup, scatter_rows_call, scatter_rows_work, false},
};
const struct op_list ops_of_rows = OP_LIST(ops);
