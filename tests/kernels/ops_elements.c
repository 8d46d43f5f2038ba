/* Operations on elements and columns. Each operation gives its parameters their meaning. */
#include <string.h>

#include "tests/kernels/ops_case.h"

SETUP(zero_setup)
{
    run_buffer(run, REALS, OUT, P(0));
}
CALL(zero_call)
{
    k->zero(d, P(0) * run->bytes, R(0));
}
SETUP(copy_setup)
{
    run_normal(run, REALS, IN, P(0), 1);
    run_buffer(run, REALS, OUT, P(0));
}
CALL(copy_call)
{
    k->copy(d, P(0) * run->bytes, R(0), R(1));
}
SETUP(add_setup)
{
    run_normal(run, REALS, IN, P(0), 1);
    run_normal(run, REALS, INOUT, P(0), 1);
}
CALL(add_call)
{
    k->add(d, P(0), R(0), R(1));
}
SETUP(scale_setup)
{
    run_normal(run, REALS, INOUT, P(0), 1);
}
CALL(scale_call)
{
    k->scale(d, P(0), 0.37f, R(0));
}

/* rows, width */
SETUP(bias_setup)
{
    run_normal(run, FLOATS, IN, P(1), 1);
    run_normal(run, REALS, INOUT, P(0) * P(1), 1);
}
CALL(bias_forward_call)
{
    k->bias_forward(d, P(0), P(1), F(0), R(1));
}
/* rows, width, 1: whole numbers, whose sums are exact in any order, however many there are */
SETUP(bias_backward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, INOUT, P(1), 1);
    for (int i = 0; P(2) && i < run->count; i++)
        for (size_t j = 0; j < run->b[i].n; j++)
            run->b[i].initial[j] = roundf(run->b[i].initial[j]);
}
CALL(bias_backward_call)
{
    k->bias_backward(d, P(0), P(1), R(0), F(1));
}

/* rows, width; 1: in place, or += in the backward pass */
SETUP(scale_columns_setup)
{
    run_normal(run, REALS, P(2) ? INOUT : IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_buffer(run, REALS, OUT, P(2) ? 0 : P(0) * P(1));
}
CALL(scale_columns_call)
{
    k->scale_columns(d, P(0), P(1), R(0), F(1), P(2) ? R(0) : R(2));
}
SETUP(scale_columns_backward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    if (P(2))
        run_normal(run, REALS, INOUT, P(0) * P(1), 1);
    else
        run_buffer(run, REALS, OUT, P(0) * P(1));
    run_normal(run, FLOATS, INOUT, P(1), 1);
}
CALL(scale_columns_backward_call)
{
    k->scale_columns_backward(d, P(0), P(1), R(0), F(1), R(2), P(2), R(3), F(4));
}

/* rows, width, first column, columns in all, percent, 1: add, 2: in place. The key is there twice: one of the two lies
 * at a multiple of 8 bytes wherever the words begin. */
enum { KEY_AGAIN = sizeof(struct dropout_key) / sizeof(int32_t) + 1 };
SETUP(dropout_setup)
{
    run_normal(run, REALS, P(5) & 2 ? INOUT : IN, P(0) * P(1), 1);
    const struct dropout_key key = {0x123456789abcdef, 0xfedcba9876543210, UINT64_C(3) << 33};
    int32_t *words = run_integers(run, KEY_AGAIN + sizeof key / sizeof(int32_t), 0, 0);
    memcpy(words, &key, sizeof key);
    memcpy(words + KEY_AGAIN, &key, sizeof key);
    if (!(P(5) & 2)) run_normal(run, REALS, P(5) & 1 ? INOUT : OUT, P(0) * P(1), 1);
}
CALL(dropout_call)
{
    const int32_t *words = run->b[1].x;
    struct dropout how = {.key = (const void *)((uintptr_t)words % 8 ? words + KEY_AGAIN : words),
                          .first_column = P(2),
                          .total = P(3),
                          .rate = (double)P(4) / 100};
    k->dropout(d, &how, P(0), P(1), R(0), P(5) & 1, P(5) & 2 ? R(0) : R(2));
}

/* n, deviation, approximate; backward: 1: in place */
SETUP(gelu_forward_setup)
{
    run_normal(run, REALS, IN, P(0), (double)P(1));
    run_buffer(run, REALS, OUT, P(0));
}
CALL(gelu_forward_call)
{
    k->gelu_forward(d, P(0), P(2), R(0), R(1));
}
SETUP(gelu_backward_setup)
{
    run_normal(run, REALS, P(3) ? INOUT : IN, P(0), (double)P(1));
    run_normal(run, REALS, IN, P(0), 1);
    run_buffer(run, REALS, OUT, P(3) ? 0 : P(0));
}
CALL(gelu_backward_call)
{
    k->gelu_backward(d, P(0), P(2), R(0), R(1), P(3) ? R(0) : R(2));
}

/* n, deviation, 1: in place */
SETUP(swiglu_forward_setup)
{
    run_normal(run, REALS, IN, P(0), (double)P(1));
    run_normal(run, REALS, IN, P(0), 1);
    run_buffer(run, REALS, OUT, P(0));
}
CALL(swiglu_forward_call)
{
    k->swiglu_forward(d, P(0), R(0), R(1), R(2));
}
SETUP(swiglu_backward_setup)
{
    run_normal(run, REALS, P(2) ? INOUT : IN, P(0), (double)P(1));
    run_normal(run, REALS, P(2) ? INOUT : IN, P(0), 1);
    run_normal(run, REALS, IN, P(0), 1);
    if (P(2)) return;
    run_buffer(run, REALS, OUT, P(0));
    run_buffer(run, REALS, OUT, P(0));
}
CALL(swiglu_backward_call)
{
    k->swiglu_backward(d, P(0), R(0), R(1), R(2), P(2) ? R(0) : R(3), P(2) ? R(1) : R(4));
}

static const struct op ops[] = {
    {OP(zero), EXACT, zero_setup, zero_call, NULL, false},
    {OP(copy), EXACT, copy_setup, copy_call, NULL, false},
    {OP(add), EXACT, add_setup, add_call, NULL, false},
    {OP(scale), EXACT, scale_setup, scale_call, NULL, false},
    {OP(bias_forward), ROUNDED(1e-13), bias_setup, bias_forward_call, NULL, false},
    {OP(bias_backward), ROUNDED(1e-12), bias_backward_setup, bias_backward_call, NULL, false},
    {OP(scale_columns), EXACT, scale_columns_setup, scale_columns_call, NULL, false},
    {OP(scale_columns_backward), ROUNDED(1e-12), scale_columns_backward_setup, scale_columns_backward_call, NULL,
     false},
    {OP(gelu_forward), ROUNDED(1e-12), gelu_forward_setup, gelu_forward_call, NULL, false},
    {OP(dropout), ROUNDED(1e-14), dropout_setup, dropout_call, NULL, false},
    {OP(gelu_backward), ROUNDED(1e-12), gelu_backward_setup, gelu_backward_call, NULL, false},
    {OP(swiglu_forward), ROUNDED(1e-12), swiglu_forward_setup, swiglu_forward_call, NULL, false},
    {OP(swiglu_backward), ROUNDED(1e-12), swiglu_backward_setup, swiglu_backward_call, NULL, false},
};
const struct op_list ops_of_elements = OP_LIST(ops);
