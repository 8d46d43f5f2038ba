/* Attention. Each operation gives its parameters their meaning. */
#include "tests/kernels/ops_case.h"

/* sequences, tokens, heads, key/value heads, head width, deviation of the queries (0: 1), length of prefixes */
SETUP(attention_forward_setup)
{
    run_sequences(run, P(0), P(1), P(2), P(3), P(4)); /* buffers 0 and 1 */
    run_normal(run, REALS, IN, P(1) * P(2) * P(4), P(5) ? (double)P(5) : 1);
    run_normal(run, REALS, IN, P(1) * P(3) * P(4), 1);
    run_normal(run, REALS, IN, P(1) * P(3) * P(4), 1);
    run_buffer(run, REALS, OUT, P(1) * P(2) * P(4));
    run_buffer(run, FLOATS, OUT, P(1) * P(2));
    run_normal(run, REALS, IN, P(6) * 2 * P(3) * P(4), 1);
}
CALL(attention_forward_call)
{
    const struct attention *attention = run_attention(run, k, d, P(6), R(7), NULL);
    k->attention_forward(d, attention, R(2), R(3), R(4), R(5), F(6));
}

/* out and lse of the forward pass are inputs: they come from the reference */
SETUP(attention_backward_setup)
{
    attention_forward_setup(run);
    run_on_reference(run, attention_forward_call);
    run->b[5].role = run->b[6].role = IN;
    run_normal(run, REALS, IN, P(1) * P(2) * P(4), 1);
    run_buffer(run, REALS, OUT, P(1) * P(2) * P(4));
    run_buffer(run, REALS, OUT, P(1) * P(3) * P(4));
    run_buffer(run, REALS, OUT, P(1) * P(3) * P(4));
    run_normal(run, FLOATS, INOUT, P(6) * 2 * P(3) * P(4), 1);
}
CALL(attention_backward_call)
{
    const struct attention *attention = run_attention(run, k, d, P(6), R(7), F(12));
    k->attention_backward(d, attention, R(2), R(3), R(4), R(5), F(6), R(8), R(9), R(10), R(11));
}
WORK(attention_forward_work) /* of causal sequences of equal length */
{
    return 2.0 * (double)(P(1) * P(2) * P(4)) * ((double)P(1) / (double)P(0) + (double)P(6));
}
WORK(attention_backward_work)
{
    return 2.5 * attention_forward_work(run);
}

/* queries, longest, heads, key/value heads, head width, rows of the cache, deviation of the queries (0: 1) */
SETUP(attention_decode_setup)
{
    run_sequences(run, 1, 1, P(2), P(3), P(4));
    run_normal(run, REALS, IN, P(0) * P(2) * P(4), P(6) ? (double)P(6) : 1);
    run_normal(run, REALS, IN, P(5) * P(3) * P(4), 1);
    run_normal(run, REALS, IN, P(5) * P(3) * P(4), 1);
    run_integers(run, P(0), 1, (int32_t)P(1))[0] = (int32_t)P(1);
    int32_t *table = run_integers(run, P(0) * (P(1) + 3), 0, (int32_t)P(5) - 1);
    for (size_t i = 0; P(5) >= P(0) * P(1) && i < P(0) * (P(1) + 3); i++) /* room for each: as after a prompt */
        table[i] = (int32_t)((i / (P(1) + 3) * P(1) + i % (P(1) + 3)) % P(5));
    run_buffer(run, REALS, OUT, P(0) * P(2) * P(4));
}
CALL(attention_decode_call)
{
    struct decode decode = {.queries = P(0),
                            .stride = P(1) + 3,
                            .longest = P(1),
                            .counts = (const uint32_t *)I(5),
                            .table = (const uint32_t *)I(6),
                            .heads = P(2),
                            .kv_heads = P(3),
                            .head_width = P(4),
                            .kv_head_of = (const uint32_t *)I(1)};
    k->attention_decode(d, &decode, R(2), R(3), R(4), R(7));
}
WORK(attention_decode_work) /* bytes of the cache that are read, at half of the longest */
{
    return (double)(run->bytes * P(0) * P(1) * P(3) * P(4));
}

static const struct op ops[] = {
    {OP(attention_forward),
     {1e-11, 3e-05, 1e-09},
     attention_forward_setup,
     attention_forward_call,
     attention_forward_work,
     true},
    {OP(attention_backward),
     {1e-10, 6e-05, 3e-05},
     attention_backward_setup,
     attention_backward_call,
     attention_backward_work,
     true},
    {OP(attention_decode),
     {1e-11, 3e-05, 1e-11},
     attention_decode_setup,
     attention_decode_call,
     attention_decode_work,
     false},
};
const struct op_list ops_of_attention = OP_LIST(ops);
