/* The operations, how each is called, and the shapes it is tested and measured at. To add a case, add a line. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "tests/kernels/ops.h"

/* buffers of a run: reals, floats, integers; the place of an element among reals */
#define R(i) ((real *)run->b[i].x)
#define F(i) ((float *)run->b[i].x)
#define I(i) ((const int32_t *)run->b[i].x)
#define AT(i, index) real_at(R(i), run->bytes, index)
#define P(i) run->p[i]
#define CALL(name) static void name(const struct kernels *k, struct device *d, struct run *run)
#define SETUP(name) static void name(struct run *run)
#define WORK(name) static double name(const struct run *run)

/* m, n, k, transposes (1: a, 2: b, 4: beta), padding of the rows */
SETUP(matmul_setup)
{
    size_t m = P(0), n = P(1), k = P(2), pad = P(4);
    run_normal(run, REALS, IN, (P(3) & 1 ? k * (m + pad) : m * (k + pad)), 1);
    run_normal(run, REALS, IN, (P(3) & 2 ? n * (k + pad) : k * (n + pad)), 1);
    run_normal(run, REALS, P(3) & 4 ? INOUT : OUT, m * n, 1);
}
CALL(matmul_call)
{
    bool ta = P(3) & 1, tb = P(3) & 2;
    k->matmul(d, ta, tb, P(0), P(1), P(2), 0.7f, R(0), (ta ? P(0) : P(2)) + P(4), R(1), (tb ? P(2) : P(1)) + P(4),
              P(3) & 4 ? 0.3f : 0, R(2), P(1));
}
/* Of factors rounded to bf16: the same numbers on every backend, however it multiplies them. */
CALL(matmul_bf16_call)
{
    k->set_precision(d, PRECISION_BF16);
    matmul_call(k, d, run);
    k->set_precision(d, PRECISION_FP32);
}
WORK(matmul_work)
{
    return 2.0 * (double)(P(0) * P(1) * P(2));
}
SETUP(matmul_floats_setup)
{
    matmul_setup(run);
    run->b[2].kind = FLOATS;
}
CALL(matmul_floats_call)
{
    bool ta = P(3) & 1, tb = P(3) & 2;
    k->matmul_floats(d, ta, tb, P(0), P(1), P(2), 0.7f, R(0), (ta ? P(0) : P(2)) + P(4), R(1),
                     (tb ? P(2) : P(1)) + P(4), P(3) & 4 ? 0.3f : 0, F(2), P(1));
}

/* m, n, k of the first product, transposes; how many: each has a row more than the one before, every third has C as
 * floats */
enum { GROUP = 7 };
SETUP(matmul_group_setup)
{
    size_t all = GROUP * (P(0) + GROUP);
    run_normal(run, REALS, IN, all * P(2), 1);
    run_normal(run, REALS, IN, GROUP * P(1) * P(2), 1);
    run_normal(run, REALS, INOUT, all * P(1), 1);
    run_normal(run, FLOATS, INOUT, all * P(1), 1);
}
CALL(matmul_group_call)
{
    struct matmul_arguments products[GROUP];
    bool ta = P(3) & 1, tb = P(3) & 2;
    size_t most = P(0) + GROUP;
    for (size_t i = 0; i < GROUP; i++) {
        size_t m = P(0) + i;
        products[i] = (struct matmul_arguments){.trans_a = ta,
                                                .trans_b = tb,
                                                .m = m,
                                                .n = P(1),
                                                .k = P(2),
                                                .lda = ta ? m : P(2),
                                                .ldb = tb ? P(2) : P(1),
                                                .ldc = P(1),
                                                .alpha = 0.5f + (float)i,
                                                .beta = (float)(i % 2),
                                                .a = AT(0, i * most * P(2)),
                                                .b = AT(1, i * P(1) * P(2))};
        if (i % 3)
            products[i].c = AT(2, i * most * P(1));
        else
            products[i].c_floats = F(3) + i * most * P(1);
    }
    k->matmul_group(d, GROUP, products);
}
WORK(matmul_group_work)
{
    return GROUP * matmul_work(run);
}

/* rows, n, k, with a bias, enum linear_gelu */
SETUP(linear_setup)
{
    run_normal(run, REALS, IN, P(0) * P(2), 1);
    run_normal(run, REALS, IN, P(1) * P(2), 1 / sqrt((double)P(2)));
    run_normal(run, FLOATS, IN, P(1), 1);
    run_buffer(run, REALS, OUT, P(4) ? P(0) * P(1) : 0);
    run_buffer(run, REALS, OUT, P(0) * P(1));
}
CALL(linear_call)
{
    k->linear(d, P(0), P(1), P(2), R(0), R(1), P(3) ? F(2) : NULL, (enum linear_gelu)P(4), P(4) ? R(3) : NULL, R(4));
}

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
    run->result = squares[0] + 2 * squares[1];
}

/* rows, width, 1: with a residual; backward: 1 where dgain is wanted */
SETUP(rms_norm_forward_setup)
{
    run_normal(run, REALS, P(2) ? INOUT : IN, P(0) * P(1), 2);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_buffer(run, REALS, OUT, P(0) * P(1));
    run_buffer(run, FLOATS, OUT, P(0));
    run_normal(run, REALS, IN, P(2) ? P(0) * P(1) : 0, 1);
}
CALL(rms_norm_forward_call)
{
    k->rms_norm_forward(d, P(0), P(1), 1e-5f, P(2) ? R(4) : NULL, R(0), F(1), R(2), F(3));
}
SETUP(rms_norm_backward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 2);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_positive(run, FLOATS, IN, P(0), 1);
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, REALS, INOUT, P(0) * P(1), 1);
    run_normal(run, FLOATS, INOUT, P(1), 1);
}
CALL(rms_norm_backward_call)
{
    k->rms_norm_backward(d, P(0), P(1), R(0), F(1), F(2), R(3), R(4), P(2) ? F(5) : NULL);
}

/* rows, width, 1: with a residual; backward: 1 where dgain and dbias are wanted, 2 where dbias alone is */
SETUP(layer_norm_forward_setup)
{
    run_normal(run, REALS, P(2) ? INOUT : IN, P(0) * P(1), 2);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_buffer(run, REALS, OUT, P(0) * P(1));
    run_buffer(run, FLOATS, OUT, P(0));
    run_buffer(run, FLOATS, OUT, P(0));
    run_normal(run, REALS, IN, P(2) ? P(0) * P(1) : 0, 1);
}
CALL(layer_norm_forward_call)
{
    k->layer_norm_forward(d, P(0), P(1), 1e-5f, P(2) ? R(6) : NULL, R(0), F(1), F(2), R(3), F(4), F(5));
}
SETUP(layer_norm_backward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 2);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_normal(run, FLOATS, IN, P(0), 0.3);
    run_positive(run, FLOATS, IN, P(0), 1);
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, REALS, INOUT, P(0) * P(1), 1);
    run_normal(run, FLOATS, INOUT, P(1), 1);
    run_normal(run, FLOATS, INOUT, P(1), 1);
}
CALL(layer_norm_backward_call)
{
    k->layer_norm_backward(d, P(0), P(1), R(0), F(1), F(2), F(3), R(4), R(5), P(2) == 1 ? F(6) : NULL,
                           P(2) ? F(7) : NULL);
}

/* rows, width, columns shared with the device before, columns of the whole row; row_norm_backward: 1 where dgain is
 * wanted, 1 where dx is dy */
SETUP(row_squares_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_buffer(run, FLOATS, OUT, P(0));
}
CALL(row_squares_call)
{
    k->row_squares(d, P(0), P(1), P(2), R(0), F(1));
}
SETUP(row_norm_forward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_positive(run, FLOATS, IN, P(0), (double)P(3));
    run_buffer(run, REALS, OUT, P(0) * P(1));
    run_buffer(run, FLOATS, OUT, P(0));
}
CALL(row_norm_forward_call)
{
    k->row_norm_forward(d, P(0), P(1), P(3), 1e-5f, R(0), F(1), F(2), R(3), F(4));
}
SETUP(row_norm_dots_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_buffer(run, FLOATS, OUT, P(0));
}
CALL(row_norm_dots_call)
{
    k->row_norm_dots(d, P(0), P(1), R(0), F(1), R(2), F(3));
}
SETUP(row_norm_backward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_positive(run, FLOATS, IN, P(0), 1);
    run_normal(run, FLOATS, IN, P(0), 3);
    run_normal(run, REALS, P(5) ? INOUT : IN, P(0) * P(1), 1);
    run_buffer(run, REALS, OUT, P(5) ? 0 : P(0) * P(1));
    run_normal(run, FLOATS, INOUT, P(1), 1);
}
CALL(row_norm_backward_call)
{
    k->row_norm_backward(d, P(0), P(1), P(2), P(3), R(0), F(1), F(2), F(3), R(4), P(5) ? R(4) : R(5),
                         P(4) ? F(6) : NULL);
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
SETUP(bias_backward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, INOUT, P(1), 1);
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

/* n, deviation, approximate; backward: 1: in place */
/* rows, width, first column, columns in all, percent, 1: add, 2: in place */
SETUP(dropout_setup)
{
    run_normal(run, REALS, P(5) & 2 ? INOUT : IN, P(0) * P(1), 1);
    if (!(P(5) & 2)) run_normal(run, REALS, P(5) & 1 ? INOUT : OUT, P(0) * P(1), 1);
}
CALL(dropout_call)
{
    struct dropout how = {.seed = 0x123456789abcdef,
                          .stream = 0xfedcba9876543210,
                          .first_row = UINT64_C(3) << 33,
                          .first_column = P(2),
                          .total = P(3),
                          .rate = (double)P(4) / 100};
    k->dropout(d, &how, P(0), P(1), R(0), P(5) & 1, P(5) & 2 ? R(0) : R(1));
}
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

/* rows, vocabulary on this device, first, devices, deviation; finish: gradient wanted, smoothing in percent */
/* Those around the ends of this device's rows first. */
static void draw_targets(struct run *run)
{
    int64_t first = (int64_t)P(2), all = (int64_t)(P(1) * P(3));
    int64_t ends[] = {first - 1, first, first + (int64_t)P(1) - 1, first + (int64_t)P(1)};
    int32_t *targets = run_integers(run, P(0), 0, (int32_t)all - 1);
    for (size_t i = 0; i < 4 && i < P(0); i++)
        if (ends[i] >= 0 && ends[i] < all) targets[i] = (int32_t)ends[i];
}
SETUP(cross_entropy_partial_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), (double)P(4));
    draw_targets(run);
    run_buffer(run, FLOATS, OUT, 4 * P(0));
}
CALL(cross_entropy_partial_call)
{
    k->cross_entropy_partial(d, P(0), P(1), P(2), R(0), I(1), F(2));
}
CALL(cross_entropy_partials_call)
{
    for (size_t device = 0; device < P(3); device++) /* every device has the logits of the first */
        k->cross_entropy_partial(d, P(0), P(1), device * P(1), R(0), I(1), F(2) + device * 4 * P(0));
}
SETUP(cross_entropy_finish_setup)
{
    size_t rows = P(0);
    run_normal(run, REALS, INOUT, rows * P(1), (double)P(4));
    draw_targets(run);
    run_buffer(run, FLOATS, IN, P(3) * 4 * rows);
    run_buffer(run, FLOATS, OUT, rows);
    run_on_reference(run, cross_entropy_partials_call);
}
CALL(cross_entropy_finish_call)
{
    k->cross_entropy_finish(d, P(0), P(1), P(2), P(3), F(2), I(1), P(3) * P(1), 0.01f * (float)P(6), P(5) ? 0.01f : 0,
                            R(0), F(3));
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

/* rows, vocabulary, first, k, sums wanted, distinct values (0: normal) */
SETUP(top_k_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 3);
    for (size_t i = 0; P(5) && i < P(0) * P(1); i++) /* many are equal */
        run->b[0].initial[i] = (float)run_below(run, P(5));
    for (int i = 0; i < 2; i++) /* values are copies: the same bytes */
        run_buffer(run, WORDS, OUT, P(0) * P(3));
    if (P(4)) run_buffer(run, FLOATS, OUT, P(0));
}
CALL(top_k_call)
{
    k->top_k(d, P(0), P(1), P(2), P(3), R(0), F(1), (int32_t *)F(2), P(4) ? F(3) : NULL);
}
/* rows, vocabulary, the peak: a row's logits are normal, but for one so far up that in fp32 the others' exponentials
 * would vanish beside its own, one by one */
SETUP(cross_entropy_loss_setup)
{
    size_t rows = P(0), vocabulary = P(1);
    struct buffer *logits = run_buffer(run, REALS, IN, rows * vocabulary);
    for (size_t i = 0; i < rows * vocabulary; i++)
        logits->initial[i] = (float)run_draw(run);
    for (size_t r = 0; r < rows; r++)
        logits->initial[r * vocabulary + run_below(run, vocabulary)] = (float)P(2);
    run_integers(run, rows, 0, (int32_t)vocabulary - 1);
    run_buffer(run, FLOATS, OUT, 4 * rows);
    run_buffer(run, FLOATS, OUT, rows);
}
CALL(cross_entropy_loss_call)
{
    k->cross_entropy_partial(d, P(0), P(1), 0, R(0), I(1), F(2));
    k->cross_entropy_finish(d, P(0), P(1), 0, 1, F(2), I(1), P(1), 0, 0, R(0), F(3));
}

/* Bounds under bf16 of reals that are computed in fp32 and rounded once: a few on the other side of a rounding. Larger
 * where a number between (x + residual, what GELU reads, the probabilities of attention) may be rounded or not. */
#define ROUNDED 2e-6
#define EXACT 0
#define OF(name) offsetof(struct kernels, name)

const struct op ops[] = {
    {"matmul", OF(matmul), {1e-12, ROUNDED, 1e-12}, matmul_setup, matmul_call, matmul_work, true},
    {"matmul_bf16", OF(matmul), {1e-10, ROUNDED, 1e-10}, matmul_setup, matmul_bf16_call, matmul_work, true},
    {"matmul_floats",
     OF(matmul_floats),
     {1e-12, ROUNDED, 1e-12},
     matmul_floats_setup,
     matmul_floats_call,
     matmul_work,
     true},
    {"matmul_group",
     OF(matmul_group),
     {1e-12, ROUNDED, 1e-12},
     matmul_group_setup,
     matmul_group_call,
     matmul_group_work,
     true},
    {"linear", OF(linear), {1e-12, 2e-05, 1e-12}, linear_setup, linear_call, matmul_work, true},
    {"zero", OF(zero), {0, EXACT, 0}, zero_setup, zero_call, NULL, false},
    {"copy", OF(copy), {0, EXACT, 0}, copy_setup, copy_call, NULL, false},
    {"add", OF(add), {0, EXACT, 0}, add_setup, add_call, NULL, false},
    {"scale", OF(scale), {0, EXACT, 0}, scale_setup, scale_call, NULL, false},
    {"sums", OF(sums), {0, EXACT, 0}, sums_setup, sums_call, sums_work, false},
    {"sums_squares", OF(sums), {0, EXACT, 0}, sums_setup, sums_squares_call, sums_work, false},
    {"adamw", OF(adamw), {1e-12, ROUNDED, 1e-12}, adamw_setup, adamw_call, NULL, false},
    {"sgd", OF(sgd), {1e-12, ROUNDED, 1e-12}, sgd_setup, sgd_call, NULL, false},
    {"square_sums", OF(square_sums), {1e-12, ROUNDED, 1e-12}, square_sums_setup, square_sums_call, NULL, false},
    {"moving_average",
     OF(moving_average),
     {1e-12, ROUNDED, 1e-12},
     moving_average_setup,
     moving_average_call,
     NULL,
     false},
    {"adafactor_squares",
     OF(adafactor_squares),
     {1e-12, ROUNDED, 1e-12},
     adafactor_squares_setup,
     adafactor_squares_call,
     NULL,
     false},
    {"adafactor", OF(adafactor), {1e-12, ROUNDED, 1e-12}, adafactor_setup, adafactor_call, NULL, false},
    {"rms_norm_forward",
     OF(rms_norm_forward),
     {1e-13, 2e-05, 2e-05},
     rms_norm_forward_setup,
     rms_norm_forward_call,
     NULL,
     false},
    {"rms_norm_backward",
     OF(rms_norm_backward),
     {1e-12, ROUNDED, 1e-12},
     rms_norm_backward_setup,
     rms_norm_backward_call,
     NULL,
     false},
    {"layer_norm_forward",
     OF(layer_norm_forward),
     {1e-12, 2e-05, 2e-05},
     layer_norm_forward_setup,
     layer_norm_forward_call,
     NULL,
     false},
    {"layer_norm_backward",
     OF(layer_norm_backward),
     {1e-12, ROUNDED, 1e-12},
     layer_norm_backward_setup,
     layer_norm_backward_call,
     NULL,
     false},
    {"row_squares", OF(row_squares), {1e-13, ROUNDED, 1e-13}, row_squares_setup, row_squares_call, NULL, false},
    {"row_norm_forward",
     OF(row_norm_forward),
     {1e-13, ROUNDED, 1e-13},
     row_norm_forward_setup,
     row_norm_forward_call,
     NULL,
     false},
    {"row_norm_dots", OF(row_norm_dots), {1e-11, ROUNDED, 1e-11}, row_norm_dots_setup, row_norm_dots_call, NULL, false},
    {"row_norm_backward",
     OF(row_norm_backward),
     {1e-12, ROUNDED, 1e-12},
     row_norm_backward_setup,
     row_norm_backward_call,
     NULL,
     false},
    {"bias_forward", OF(bias_forward), {1e-13, ROUNDED, 1e-13}, bias_setup, bias_forward_call, NULL, false},
    {"bias_backward", OF(bias_backward), {1e-12, ROUNDED, 1e-12}, bias_backward_setup, bias_backward_call, NULL, false},
    {"scale_columns", OF(scale_columns), {0, EXACT, 0}, scale_columns_setup, scale_columns_call, NULL, false},
    {"scale_columns_backward",
     OF(scale_columns_backward),
     {1e-12, ROUNDED, 1e-12},
     scale_columns_backward_setup,
     scale_columns_backward_call,
     NULL,
     false},
    {"split_heads", OF(split_heads), {0, EXACT, 0}, split_heads_setup, split_heads_call, NULL, false},
    {"merge_heads", OF(merge_heads), {0, EXACT, 0}, merge_heads_setup, merge_heads_call, NULL, false},
    {"gelu_forward", OF(gelu_forward), {1e-12, ROUNDED, 1e-12}, gelu_forward_setup, gelu_forward_call, NULL, false},
    {"dropout", OF(dropout), {1e-14, ROUNDED, 1e-14}, dropout_setup, dropout_call, NULL, false},
    {"gelu_backward", OF(gelu_backward), {1e-12, ROUNDED, 1e-12}, gelu_backward_setup, gelu_backward_call, NULL, false},
    {"rotary", OF(rotary), {1e-12, ROUNDED, 1e-12}, rotary_setup, rotary_call, NULL, false},
    {"attention_forward",
     OF(attention_forward),
     {1e-11, 3e-05, 1e-09},
     attention_forward_setup,
     attention_forward_call,
     attention_forward_work,
     true},
    {"attention_backward",
     OF(attention_backward),
     {1e-10, 6e-05, 3e-05},
     attention_backward_setup,
     attention_backward_call,
     attention_backward_work,
     true},
    {"attention_decode",
     OF(attention_decode),
     {1e-11, 3e-05, 1e-11},
     attention_decode_setup,
     attention_decode_call,
     attention_decode_work,
     false},
    {"swiglu_forward",
     OF(swiglu_forward),
     {1e-12, ROUNDED, 1e-12},
     swiglu_forward_setup,
     swiglu_forward_call,
     NULL,
     false},
    {"swiglu_backward",
     OF(swiglu_backward),
     {1e-12, ROUNDED, 1e-12},
     swiglu_backward_setup,
     swiglu_backward_call,
     NULL,
     false},
    {"embedding_forward",
     OF(embedding_forward),
     {0, EXACT, 0},
     embedding_forward_setup,
     embedding_forward_call,
     embedding_forward_work,
     false},
    {"embedding_backward",
     OF(embedding_backward),
     {0, EXACT, 0},
     embedding_backward_setup,
     embedding_backward_call,
     embedding_backward_work,
     false},
    {"gather_rows", OF(gather_rows), {0, EXACT, 0}, gather_rows_setup, gather_rows_call, gather_rows_work, false},
    {"scatter_rows", OF(scatter_rows), {0, EXACT, 0}, scatter_rows_setup, scatter_rows_call, scatter_rows_work, false},
    {"cross_entropy_partial",
     OF(cross_entropy_partial),
     {1e-12, ROUNDED, 1e-12},
     cross_entropy_partial_setup,
     cross_entropy_partial_call,
     NULL,
     false},
    {"cross_entropy_finish",
     OF(cross_entropy_finish),
     {1e-11, ROUNDED, 1e-11},
     cross_entropy_finish_setup,
     cross_entropy_finish_call,
     NULL,
     false},
    {"top_k", OF(top_k), {1e-12, ROUNDED, 1e-12}, top_k_setup, top_k_call, NULL, false},
    {"cross_entropy_loss",
     OF(cross_entropy_finish),
     {1e-14, ROUNDED, 1e-14},
     cross_entropy_loss_setup,
     cross_entropy_loss_call,
     NULL,
     false},
};
const size_t op_count = sizeof ops / sizeof ops[0];

const struct op *op_find(const char *name)
{
    for (size_t i = 0; i < op_count; i++) {
        if (strcmp(ops[i].name, name) == 0) return &ops[i];
    }
    return NULL;
}

bool op_there(const struct op *op, const struct kernels *k)
{
    void (*function)(void);
    memcpy(&function, (const char *)k + op->function, sizeof function);
    return function != NULL;
}
