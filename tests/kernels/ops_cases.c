/* The operations, how each is called, and the shapes it is tested and measured at. To add a case, add a line. */
#include <math.h>
#include <string.h>

#include "tests/kernels/ops.h"

#define B(i) run->b[i].x
#define P(i) run->p[i]
#define I(i) ((const int32_t *)run->b[i].x)
#define CALL(name) static void name(const struct kernels *k, struct device *d, struct run *run)
#define SETUP(name) static void name(struct run *run)
#define WORK(name) static double name(const size_t p[PARAMETERS])

/* m, n, k, transposes (1: a, 2: b, 4: beta), padding of the rows */
SETUP(matmul_setup)
{
    size_t m = P(0), n = P(1), k = P(2), pad = P(4);
    run_normal(run, IN, (P(3) & 1 ? k * (m + pad) : m * (k + pad)), 1);
    run_normal(run, IN, (P(3) & 2 ? n * (k + pad) : k * (n + pad)), 1);
    run_normal(run, P(3) & 4 ? INOUT : OUT, m * n, 1);
}
CALL(matmul_call)
{
    bool ta = P(3) & 1, tb = P(3) & 2;
    k->matmul(d, ta, tb, P(0), P(1), P(2), 0.7f, B(0), (ta ? P(0) : P(2)) + P(4), B(1), (tb ? P(2) : P(1)) + P(4),
              P(3) & 4 ? 0.3f : 0, B(2), P(1));
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
    return 2.0 * (double)(p[0] * p[1] * p[2]);
}
CALL(matmul_floats_call)
{
    bool ta = P(3) & 1, tb = P(3) & 2;
    k->matmul_floats(d, ta, tb, P(0), P(1), P(2), 0.7f, B(0), (ta ? P(0) : P(2)) + P(4), B(1),
                     (tb ? P(2) : P(1)) + P(4), P(3) & 4 ? 0.3f : 0, B(2), P(1));
}

/* m, n, k of the first product, transposes; how many: each has a row more than the one before, every third has C as
 * floats */
enum { GROUP = 7 };
SETUP(matmul_group_setup)
{
    size_t all = GROUP * (P(0) + GROUP);
    run_normal(run, IN, all * P(2), 1);
    run_normal(run, IN, GROUP * P(1) * P(2), 1);
    run_normal(run, INOUT, all * P(1), 1);
    run_normal(run, INOUT, all * P(1), 1);
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
                                                .a = B(0) + i * most * P(2),
                                                .b = B(1) + i * P(1) * P(2)};
        if (i % 3)
            products[i].c = B(2) + i * most * P(1);
        else
            products[i].c_floats = B(3) + i * most * P(1);
    }
    k->matmul_group(d, GROUP, products);
}
WORK(matmul_group_work)
{
    return GROUP * matmul_work(p);
}

/* rows, n, k, with a bias, enum linear_gelu */
SETUP(linear_setup)
{
    run_normal(run, IN, P(0) * P(2), 1);
    run_normal(run, IN, P(1) * P(2), 1 / sqrt((double)P(2)));
    run_normal(run, IN, P(1), 1);
    run_buffer(run, OUT, P(4) ? P(0) * P(1) : 0);
    run_buffer(run, OUT, P(0) * P(1));
}
CALL(linear_call)
{
    k->linear(d, P(0), P(1), P(2), B(0), B(1), P(3) ? B(2) : NULL, (enum linear_gelu)P(4), P(4) ? B(3) : NULL, B(4));
}

SETUP(zero_setup)
{
    run_buffer(run, OUT, P(0));
}
CALL(zero_call)
{
    k->zero(d, P(0) * sizeof(float), B(0));
}
SETUP(copy_setup)
{
    run_normal(run, IN, P(0), 1);
    run_buffer(run, OUT, P(0));
}
CALL(copy_call)
{
    k->copy(d, P(0) * sizeof(float), B(0), B(1));
}
SETUP(add_setup)
{
    run_normal(run, IN, P(0), 1);
    run_normal(run, INOUT, P(0), 1);
}
CALL(add_call)
{
    k->add(d, P(0), B(0), B(1));
}
SETUP(scale_setup)
{
    run_normal(run, INOUT, P(0), 1);
}
CALL(scale_call)
{
    k->scale(d, P(0), 0.37f, B(0));
}
/* n of the last span; the others are smaller. The result is a sum in which each span has a weight of its own. */
enum { SPANS = 5 };
SETUP(sums_setup)
{
    run_normal(run, IN, P(0), 1);
}
static void sums_of(const struct kernels *k, struct device *d, struct run *run, bool squares)
{
    struct span spans[SPANS];
    double sums[SPANS];
    for (size_t i = 0; i < SPANS; i++)
        spans[i] = (struct span){P(0) * i / (SPANS - 1), B(0)};
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
WORK(words)
{
    return 4.0 * (double)p[0];
}
WORK(words2)
{
    return 8.0 * (double)p[0];
}
WORK(words3)
{
    return 12.0 * (double)p[0];
}

/* n, step */
SETUP(adamw_setup)
{
    run_normal(run, INOUT, P(0), 1);
    run_normal(run, IN, P(0), 1);
    run_normal(run, INOUT, P(0), 0.1);
    run_positive(run, INOUT, P(0), 0.1);
    run_buffer(run, OUT, P(0));
}
CALL(adamw_call)
{
    struct update tensors[2];
    for (int i = 0; i < 2; i++) { /* halves of the arrays, the second one a step ahead */
        size_t first = i ? P(0) / 2 : 0, n = i ? P(0) - first : P(0) / 2;
        tensors[i] = (struct update){.n = n,
                                     .value = B(0) + first,
                                     .gradient = B(1) + first,
                                     .moment1 = B(2) + first,
                                     .moment2 = B(3) + first,
                                     .rounded = B(4) + first,
                                     .weight_decay = i ? 0.1f : 0,
                                     .step = P(1) + (size_t)i};
    }
    k->adamw(d, 2, tensors, 0.01f, 0.9f, 0.95f, 1e-8f, 0.5f);
}
WORK(adamw_work)
{
    return 28.0 * (double)p[0];
}

/* n, with momentum */
SETUP(sgd_setup)
{
    run_normal(run, INOUT, P(0), 1);
    run_normal(run, IN, P(0), 1);
    run_normal(run, INOUT, P(0), 0.1);
    run_buffer(run, OUT, P(0));
}
CALL(sgd_call)
{
    struct update tensor = {.n = P(0),
                            .value = B(0),
                            .gradient = B(1),
                            .moment1 = P(1) ? B(2) : NULL,
                            .rounded = B(3),
                            .weight_decay = 0.1f};
    k->sgd(d, 1, &tensor, 0.01f, P(1) ? 0.9f : 0, 0.5f);
}
WORK(sgd_work)
{
    return (p[1] ? 20.0 : 12.0) * (double)p[0];
}

/* rows, columns, row sums wanted, column sums wanted */
SETUP(square_sums_setup)
{
    run_normal(run, IN, P(0) * P(1), 1);
    if (P(2)) run_buffer(run, OUT, P(0));
    if (P(3)) run_buffer(run, OUT, P(1));
}
CALL(square_sums_call)
{
    k->square_sums(d, P(0), P(1), 0.3f, B(0), P(2) ? B(1) : NULL, P(3) ? B(P(2) ? 2 : 1) : NULL);
}

/* n */
SETUP(moving_average_setup)
{
    run_positive(run, IN, P(0), 3);
    run_positive(run, INOUT, P(0), 1);
}
CALL(moving_average_call)
{
    k->moving_average(d, P(0), 0.2f, 0.1f, 1e-3f, B(0), B(1));
}

/* rows, columns, with factors of rows */
SETUP(adafactor_setup)
{
    run_normal(run, INOUT, P(0) * P(1), 1);
    run_normal(run, IN, P(0) * P(1), 1);
    struct buffer *column = run_buffer(run, IN, P(1)), *row = run_buffer(run, IN, P(0));
    for (size_t i = 0; i < P(1); i++)
        column->initial[i] = 0.1f + (float)(i % 7);
    for (size_t i = 0; i < P(0); i++)
        row->initial[i] = 0.2f + (float)(i % 5);
    run_buffer(run, OUT, P(0) * P(1));
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
                                       .value = B(0) + first * P(1),
                                       .gradient = B(1) + first * P(1),
                                       .row = P(2) ? B(3) + first : NULL,
                                       .column = B(2),
                                       .rounded = B(4) + first * P(1),
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
WORK(adafactor_work)
{
    return 12.0 * (double)(p[0] * p[1]);
}

/* rows, width, 1: with a residual; backward: 1 where dgain is wanted */
SETUP(rms_norm_forward_setup)
{
    run_normal(run, P(2) ? INOUT : IN, P(0) * P(1), 2);
    run_normal(run, IN, P(1), 1);
    run_buffer(run, OUT, P(0) * P(1));
    run_buffer(run, OUT, P(0));
    run_normal(run, IN, P(2) ? P(0) * P(1) : 0, 1);
}
CALL(rms_norm_forward_call)
{
    k->rms_norm_forward(d, P(0), P(1), 1e-5f, P(2) ? B(4) : NULL, B(0), B(1), B(2), B(3));
}
SETUP(rms_norm_backward_setup)
{
    run_normal(run, IN, P(0) * P(1), 2);
    run_normal(run, IN, P(1), 1);
    run_positive(run, IN, P(0), 1);
    run_normal(run, IN, P(0) * P(1), 1);
    run_normal(run, INOUT, P(0) * P(1), 1);
    run_normal(run, INOUT, P(1), 1);
}
CALL(rms_norm_backward_call)
{
    k->rms_norm_backward(d, P(0), P(1), B(0), B(1), B(2), B(3), B(4), P(2) ? B(5) : NULL);
}
WORK(rows1)
{
    return 4.0 * (double)(p[0] * p[1]);
}
WORK(rows3)
{
    return 12.0 * (double)(p[0] * p[1]);
}
WORK(rows2)
{
    return 8.0 * (double)(p[0] * p[1]);
}
WORK(rows4)
{
    return 16.0 * (double)(p[0] * p[1]);
}

/* rows, width, 1: with a residual; backward: 1 where dgain and dbias are wanted, 2 where dbias alone is */
SETUP(layer_norm_forward_setup)
{
    run_normal(run, P(2) ? INOUT : IN, P(0) * P(1), 2);
    run_normal(run, IN, P(1), 1);
    run_normal(run, IN, P(1), 1);
    run_buffer(run, OUT, P(0) * P(1));
    run_buffer(run, OUT, P(0));
    run_buffer(run, OUT, P(0));
    run_normal(run, IN, P(2) ? P(0) * P(1) : 0, 1);
}
CALL(layer_norm_forward_call)
{
    k->layer_norm_forward(d, P(0), P(1), 1e-5f, P(2) ? B(6) : NULL, B(0), B(1), B(2), B(3), B(4), B(5));
}
SETUP(layer_norm_backward_setup)
{
    run_normal(run, IN, P(0) * P(1), 2);
    run_normal(run, IN, P(1), 1);
    run_normal(run, IN, P(0), 0.3);
    run_positive(run, IN, P(0), 1);
    run_normal(run, IN, P(0) * P(1), 1);
    run_normal(run, INOUT, P(0) * P(1), 1);
    run_normal(run, INOUT, P(1), 1);
    run_normal(run, INOUT, P(1), 1);
}
CALL(layer_norm_backward_call)
{
    k->layer_norm_backward(d, P(0), P(1), B(0), B(1), B(2), B(3), B(4), B(5), P(2) == 1 ? B(6) : NULL,
                           P(2) ? B(7) : NULL);
}

/* rows, width, columns shared with the device before, columns of the whole row; row_norm_backward: 1 where dgain is
 * wanted, 1 where dx is dy */
SETUP(row_squares_setup)
{
    run_normal(run, IN, P(0) * P(1), 1);
    run_buffer(run, OUT, P(0));
}
CALL(row_squares_call)
{
    k->row_squares(d, P(0), P(1), P(2), B(0), B(1));
}
SETUP(row_norm_forward_setup)
{
    run_normal(run, IN, P(0) * P(1), 1);
    run_normal(run, IN, P(1), 1);
    run_positive(run, IN, P(0), (double)P(3));
    run_buffer(run, OUT, P(0) * P(1));
    run_buffer(run, OUT, P(0));
}
CALL(row_norm_forward_call)
{
    k->row_norm_forward(d, P(0), P(1), P(3), 1e-5f, B(0), B(1), B(2), B(3), B(4));
}
SETUP(row_norm_dots_setup)
{
    run_normal(run, IN, P(0) * P(1), 1);
    run_normal(run, IN, P(1), 1);
    run_normal(run, IN, P(0) * P(1), 1);
    run_buffer(run, OUT, P(0));
}
CALL(row_norm_dots_call)
{
    k->row_norm_dots(d, P(0), P(1), B(0), B(1), B(2), B(3));
}
SETUP(row_norm_backward_setup)
{
    run_normal(run, IN, P(0) * P(1), 1);
    run_normal(run, IN, P(1), 1);
    run_positive(run, IN, P(0), 1);
    run_normal(run, IN, P(0), 3);
    run_normal(run, P(5) ? INOUT : IN, P(0) * P(1), 1);
    run_buffer(run, OUT, P(5) ? 0 : P(0) * P(1));
    run_normal(run, INOUT, P(1), 1);
}
CALL(row_norm_backward_call)
{
    k->row_norm_backward(d, P(0), P(1), P(2), P(3), B(0), B(1), B(2), B(3), B(4), P(5) ? B(4) : B(5),
                         P(4) ? B(6) : NULL);
}

/* rows, width */
SETUP(bias_setup)
{
    run_normal(run, IN, P(1), 1);
    run_normal(run, INOUT, P(0) * P(1), 1);
}
CALL(bias_forward_call)
{
    k->bias_forward(d, P(0), P(1), B(0), B(1));
}
SETUP(bias_backward_setup)
{
    run_normal(run, IN, P(0) * P(1), 1);
    run_normal(run, INOUT, P(1), 1);
}
CALL(bias_backward_call)
{
    k->bias_backward(d, P(0), P(1), B(0), B(1));
}

/* rows, width; 1: in place, or += in the backward pass */
SETUP(scale_columns_setup)
{
    run_normal(run, P(2) ? INOUT : IN, P(0) * P(1), 1);
    run_normal(run, IN, P(1), 1);
    run_buffer(run, OUT, P(2) ? 0 : P(0) * P(1));
}
CALL(scale_columns_call)
{
    k->scale_columns(d, P(0), P(1), B(0), B(1), P(2) ? B(0) : B(2));
}
SETUP(scale_columns_backward_setup)
{
    run_normal(run, IN, P(0) * P(1), 1);
    run_normal(run, IN, P(1), 1);
    run_normal(run, IN, P(0) * P(1), 1);
    if (P(2))
        run_normal(run, INOUT, P(0) * P(1), 1);
    else
        run_buffer(run, OUT, P(0) * P(1));
    run_normal(run, INOUT, P(1), 1);
}
CALL(scale_columns_backward_call)
{
    k->scale_columns_backward(d, P(0), P(1), B(0), B(1), B(2), P(2), B(3), B(4));
}

/* tokens, heads, head width */
SETUP(split_heads_setup)
{
    run_normal(run, IN, 3 * P(0) * P(1) * P(2), 1);
    for (int i = 0; i < 3; i++)
        run_buffer(run, OUT, P(0) * P(1) * P(2));
}
CALL(split_heads_call)
{
    k->split_heads(d, P(0), P(1), P(2), B(0), B(1), B(2), B(3));
}
SETUP(merge_heads_setup)
{
    for (int i = 0; i < 3; i++)
        run_normal(run, IN, P(0) * P(1) * P(2), 1);
    run_buffer(run, OUT, 3 * P(0) * P(1) * P(2));
}
CALL(merge_heads_call)
{
    k->merge_heads(d, P(0), P(1), P(2), B(0), B(1), B(2), B(3));
}
WORK(heads_work)
{
    return 24.0 * (double)(p[0] * p[1] * p[2]);
}

/* n, deviation, approximate; backward: 1: in place */
/* rows, width, first column, columns in all, percent, 1: add, 2: in place */
SETUP(dropout_setup)
{
    run_normal(run, P(5) & 2 ? INOUT : IN, P(0) * P(1), 1);
    if (!(P(5) & 2)) run_normal(run, P(5) & 1 ? INOUT : OUT, P(0) * P(1), 1);
}
CALL(dropout_call)
{
    struct dropout how = {.seed = 0x123456789abcdef,
                          .stream = 0xfedcba9876543210,
                          .first_row = UINT64_C(3) << 33,
                          .first_column = P(2),
                          .total = P(3),
                          .rate = (double)P(4) / 100};
    k->dropout(d, &how, P(0), P(1), B(0), P(5) & 1, P(5) & 2 ? B(0) : B(1));
}
WORK(dropout_work)
{
    return 8.0 * (double)(p[0] * p[1]);
}
SETUP(gelu_forward_setup)
{
    run_normal(run, IN, P(0), (double)P(1));
    run_buffer(run, OUT, P(0));
}
CALL(gelu_forward_call)
{
    k->gelu_forward(d, P(0), P(2), B(0), B(1));
}
SETUP(gelu_backward_setup)
{
    run_normal(run, P(3) ? INOUT : IN, P(0), (double)P(1));
    run_normal(run, IN, P(0), 1);
    run_buffer(run, OUT, P(3) ? 0 : P(0));
}
CALL(gelu_backward_call)
{
    k->gelu_backward(d, P(0), P(2), B(0), B(1), P(3) ? B(0) : B(2));
}

/* tokens, heads, head width, inverse, last position (0: 3000), elements that are turned (0: all); stretched: 1 linear,
 * 2 as Llama 3 */
SETUP(rotary_setup)
{
    run_integers(run, P(0), 0, P(4) ? (int32_t)P(4) : 3000);
    run_normal(run, INOUT, P(0) * P(1) * P(2), 1);
}
CALL(rotary_call)
{
    static const struct rotary_scaling scalings[] = {{0, 0, 0, 0}, {2.5, 0, 0, 0}, {8, 1, 4, 500}};
    const struct rotary rotary = {P(5) ? P(5) : P(2), 10000.0f, scalings[P(6)]};
    k->rotary(d, P(0), P(1), P(2), &rotary, I(0), P(3), B(1));
}
WORK(rotary_work)
{
    return 8.0 * (double)(p[0] * p[1] * p[2]);
}

/* sequences, tokens, heads, key/value heads, head width, deviation of the queries (0: 1), length of prefixes */
SETUP(attention_forward_setup)
{
    run_sequences(run, P(0), P(1), P(2), P(3), P(4));
    run_normal(run, IN, P(1) * P(2) * P(4), P(5) ? (double)P(5) : 1);
    run_normal(run, IN, P(1) * P(3) * P(4), 1);
    run_normal(run, IN, P(1) * P(3) * P(4), 1);
    run_buffer(run, OUT, P(1) * P(2) * P(4));
    run_buffer(run, OUT, P(1) * P(2));
    run_normal(run, IN, P(6) * 2 * P(3) * P(4), 1);
}
CALL(attention_forward_call)
{
    k->attention_forward(d, run_prefixes(run, P(6), B(5), NULL), B(0), B(1), B(2), B(3), B(4));
}
/* out and lse of the forward pass are inputs: they come from the reference */
SETUP(attention_backward_setup)
{
    attention_forward_setup(run);
    const struct kernels *reference = kernels_find("reference", NULL);
    const struct attention *attention = run_prefixes(run, P(6), run->b[5].initial, NULL);
    reference->attention_forward(NULL, attention, run->b[0].initial, run->b[1].initial, run->b[2].initial,
                                 run->b[3].initial, run->b[4].initial);
    run->b[3].role = run->b[4].role = IN;
    run_normal(run, IN, P(1) * P(2) * P(4), 1);
    run_buffer(run, OUT, P(1) * P(2) * P(4));
    run_buffer(run, OUT, P(1) * P(3) * P(4));
    run_buffer(run, OUT, P(1) * P(3) * P(4));
    run_normal(run, INOUT, P(6) * 2 * P(3) * P(4), 1);
}
CALL(attention_backward_call)
{
    k->attention_backward(d, run_prefixes(run, P(6), B(5), B(10)), B(0), B(1), B(2), B(3), B(4), B(6), B(7), B(8),
                          B(9));
}
WORK(attention_forward_work) /* of causal sequences of equal length */
{
    return 2.0 * (double)(p[1] * p[2] * p[4]) * ((double)p[1] / (double)p[0] + (double)p[6]);
}
WORK(attention_backward_work)
{
    return 2.5 * attention_forward_work(p);
}

/* n, deviation, 1: in place */
SETUP(swiglu_forward_setup)
{
    run_normal(run, IN, P(0), (double)P(1));
    run_normal(run, IN, P(0), 1);
    run_buffer(run, OUT, P(0));
}
CALL(swiglu_forward_call)
{
    k->swiglu_forward(d, P(0), B(0), B(1), B(2));
}
SETUP(swiglu_backward_setup)
{
    run_normal(run, P(2) ? INOUT : IN, P(0), (double)P(1));
    run_normal(run, P(2) ? INOUT : IN, P(0), 1);
    run_normal(run, IN, P(0), 1);
    if (P(2)) return;
    run_buffer(run, OUT, P(0));
    run_buffer(run, OUT, P(0));
}
CALL(swiglu_backward_call)
{
    k->swiglu_backward(d, P(0), B(0), B(1), B(2), P(2) ? B(0) : B(3), P(2) ? B(1) : B(4));
}
WORK(swiglu_backward_work)
{
    return 20.0 * (double)p[0];
}

/* tokens, width, vocabulary, first, count, what is there or wanted (1: prompt, 2: table) */
SETUP(embedding_forward_setup)
{
    run_integers(run, P(0), P(5) & 1 ? -4 : 0, (int32_t)P(2) - 1);
    run_normal(run, IN, P(4) * P(1), 1);
    run_normal(run, IN, 4 * P(1), 1);
    run_buffer(run, OUT, P(0) * P(1));
}
CALL(embedding_forward_call)
{
    k->embedding_forward(d, P(0), P(1), I(0), P(3), P(4), B(1), P(5) & 1 ? B(2) : NULL, B(3));
}
SETUP(embedding_backward_setup)
{
    run_integers(run, P(0), -4, (int32_t)P(2) - 1);
    run_normal(run, IN, P(0) * P(1), 1);
    run_normal(run, INOUT, P(4) * P(1), 1);
    run_normal(run, INOUT, 4 * P(1), 1);
    run_order(run, 0);
}
CALL(embedding_backward_call)
{
    k->embedding_backward(d, P(0), P(1), I(0), (const uint32_t *)I(4), P(3), P(4), B(1), P(5) & 2 ? B(2) : NULL,
                          P(5) & 1 ? B(3) : NULL);
}

/* rows wanted, width, rows there */
SETUP(gather_rows_setup)
{
    int32_t *rows = run_integers(run, P(0), 0, 0);
    for (size_t i = 0; i < P(0); i++)
        rows[i] = (int32_t)(i * P(2) / P(0));
    run_normal(run, IN, P(2) * P(1), 1);
    run_buffer(run, OUT, P(0) * P(1));
}
CALL(gather_rows_call)
{
    k->gather_rows(d, P(0), P(1), (const uint32_t *)I(0), B(1), B(2));
}
SETUP(scatter_rows_setup)
{
    int32_t *rows = run_integers(run, P(0), 0, 0);
    for (size_t i = 0; i < P(0); i++)
        rows[i] = (int32_t)(i * P(2) / P(0));
    run_normal(run, IN, P(0) * P(1), 1);
    run_normal(run, INOUT, P(2) * P(1), 1);
}
CALL(scatter_rows_call)
{
    k->scatter_rows(d, P(0), P(1), (const uint32_t *)I(0), B(1), B(2));
}

/* rows, vocabulary on this device, first, devices, deviation; finish: gradient wanted, smoothing in percent */
SETUP(cross_entropy_partial_setup)
{
    run_normal(run, IN, P(0) * P(1), (double)P(4));
    run_integers(run, P(0), 0, (int32_t)(P(1) * P(3)) - 1);
    run_buffer(run, OUT, 4 * P(0));
}
CALL(cross_entropy_partial_call)
{
    k->cross_entropy_partial(d, P(0), P(1), P(2), B(0), I(1), B(2));
}
SETUP(cross_entropy_finish_setup)
{
    size_t rows = P(0);
    run_normal(run, INOUT, rows * P(1), (double)P(4));
    int32_t *targets = run_integers(run, rows, 0, (int32_t)(P(1) * P(3)) - 1);
    struct buffer *partials = run_buffer(run, IN, P(3) * 4 * rows);
    run_buffer(run, OUT, rows);
    const struct kernels *reference = kernels_find("reference", NULL);
    for (size_t device = 0; device < P(3); device++) { /* every device has the logits of the first */
        reference->cross_entropy_partial(NULL, rows, P(1), device * P(1), run->b[0].initial, targets,
                                         partials->initial + device * 4 * rows);
    }
}
CALL(cross_entropy_finish_call)
{
    k->cross_entropy_finish(d, P(0), P(1), P(2), P(3), B(2), I(1), P(3) * P(1), 0.01f * (float)P(6), P(5) ? 0.01f : 0,
                            B(0), B(3));
}

/* queries, longest, heads, key/value heads, head width, rows of the cache, deviation of the queries (0: 1) */
SETUP(attention_decode_setup)
{
    run_sequences(run, 1, 1, P(2), P(3), P(4));
    run_normal(run, IN, P(0) * P(2) * P(4), P(6) ? (double)P(6) : 1);
    run_normal(run, IN, P(5) * P(3) * P(4), 1);
    run_normal(run, IN, P(5) * P(3) * P(4), 1);
    run_integers(run, P(0), 1, (int32_t)P(1))[0] = (int32_t)P(1);
    int32_t *table = run_integers(run, P(0) * (P(1) + 3), 0, (int32_t)P(5) - 1);
    for (size_t i = 0; P(5) >= P(0) * P(1) && i < P(0) * (P(1) + 3); i++) /* room for each: as after a prompt */
        table[i] = (int32_t)((i / (P(1) + 3) * P(1) + i % (P(1) + 3)) % P(5));
    run_buffer(run, OUT, P(0) * P(2) * P(4));
}
CALL(attention_decode_call)
{
    struct decode decode = {.queries = P(0),
                            .stride = P(1) + 3,
                            .longest = P(1),
                            .counts = (const uint32_t *)B(3),
                            .table = (const uint32_t *)B(4),
                            .heads = P(2),
                            .kv_heads = P(3),
                            .head_width = P(4),
                            .kv_head_of = run->kv_head_of};
    k->attention_decode(d, &decode, B(0), B(1), B(2), B(5));
}
WORK(attention_decode_work) /* bytes of the cache that are read, at half of the longest */
{
    return 4.0 * (double)(p[0] * p[1] * p[3] * p[4]);
}

/* rows, vocabulary, first, k, sums wanted, distinct values (0: normal) */
SETUP(top_k_setup)
{
    run_normal(run, IN, P(0) * P(1), 3);
    for (size_t i = 0; P(5) && i < P(0) * P(1); i++) /* many are equal */
        run->b[0].initial[i] = (float)run_below(run, P(5));
    for (int i = 0; i < 2; i++) /* values are copies: the same bytes */
        run_buffer(run, OUT, P(0) * P(3))->integers = true;
    if (P(4)) run_buffer(run, OUT, P(0));
}
CALL(top_k_call)
{
    k->top_k(d, P(0), P(1), P(2), P(3), B(0), B(1), (int32_t *)B(2), P(4) ? B(3) : NULL);
}
/* rows, vocabulary, the peak: a row's logits are normal, but for one so far up that in fp32 the others' exponentials
 * would vanish beside its own, one by one */
SETUP(cross_entropy_loss_setup)
{
    size_t rows = P(0), vocabulary = P(1);
    struct buffer *logits = run_buffer(run, IN, rows * vocabulary);
    for (size_t i = 0; i < rows * vocabulary; i++)
        logits->initial[i] = (float)run_draw(run);
    for (size_t r = 0; r < rows; r++)
        logits->initial[r * vocabulary + run_below(run, vocabulary)] = (float)P(2);
    run_integers(run, rows, 0, (int32_t)vocabulary - 1);
    run_buffer(run, OUT, 4 * rows);
    run_buffer(run, OUT, rows);
}
CALL(cross_entropy_loss_call)
{
    k->cross_entropy_partial(d, P(0), P(1), 0, B(0), I(1), B(2));
    k->cross_entropy_finish(d, P(0), P(1), 0, 1, B(2), I(1), P(1), 0, 0, B(0), B(3));
}

const struct op ops[] = {
    {"matmul", 1e-12, matmul_setup, matmul_call, matmul_work, true},
    {"matmul_bf16", 1e-10, matmul_setup, matmul_bf16_call, matmul_work, true},
    {"matmul_floats", 1e-12, matmul_setup, matmul_floats_call, matmul_work, true},
    {"matmul_group", 1e-12, matmul_group_setup, matmul_group_call, matmul_group_work, true},
    {"linear", 1e-12, linear_setup, linear_call, matmul_work, true},
    {"zero", 0, zero_setup, zero_call, words, false},
    {"copy", 0, copy_setup, copy_call, words2, false},
    {"add", 0, add_setup, add_call, words3, false},
    {"scale", 0, scale_setup, scale_call, words2, false},
    {"sums", 0, sums_setup, sums_call, words, false},
    {"sums_squares", 0, sums_setup, sums_squares_call, words, false},
    {"adamw", 1e-12, adamw_setup, adamw_call, adamw_work, false},
    {"sgd", 1e-12, sgd_setup, sgd_call, sgd_work, false},
    {"square_sums", 1e-12, square_sums_setup, square_sums_call, rows2, false},
    {"moving_average", 1e-12, moving_average_setup, moving_average_call, words3, false},
    {"adafactor_squares", 1e-12, adafactor_squares_setup, adafactor_squares_call, rows2, false},
    {"adafactor", 1e-12, adafactor_setup, adafactor_call, adafactor_work, false},
    {"rms_norm_forward", 1e-13, rms_norm_forward_setup, rms_norm_forward_call, rows2, false},
    {"rms_norm_backward", 1e-12, rms_norm_backward_setup, rms_norm_backward_call, rows4, false},
    {"layer_norm_forward", 1e-12, layer_norm_forward_setup, layer_norm_forward_call, rows2, false},
    {"layer_norm_backward", 1e-12, layer_norm_backward_setup, layer_norm_backward_call, rows4, false},
    {"row_squares", 1e-13, row_squares_setup, row_squares_call, rows1, false},
    {"row_norm_forward", 1e-13, row_norm_forward_setup, row_norm_forward_call, rows2, false},
    {"row_norm_dots", 1e-11, row_norm_dots_setup, row_norm_dots_call, rows2, false},
    {"row_norm_backward", 1e-12, row_norm_backward_setup, row_norm_backward_call, rows3, false},
    {"bias_forward", 1e-13, bias_setup, bias_forward_call, rows2, false},
    {"bias_backward", 1e-12, bias_backward_setup, bias_backward_call, rows1, false},
    {"scale_columns", 0, scale_columns_setup, scale_columns_call, rows2, false},
    {"scale_columns_backward", 1e-12, scale_columns_backward_setup, scale_columns_backward_call, rows3, false},
    {"split_heads", 0, split_heads_setup, split_heads_call, heads_work, false},
    {"merge_heads", 0, merge_heads_setup, merge_heads_call, heads_work, false},
    {"gelu_forward", 1e-12, gelu_forward_setup, gelu_forward_call, words2, false},
    {"dropout", 1e-14, dropout_setup, dropout_call, dropout_work, false},
    {"gelu_backward", 1e-12, gelu_backward_setup, gelu_backward_call, words3, false},
    {"rotary", 1e-12, rotary_setup, rotary_call, rotary_work, false},
    {"attention_forward", 1e-11, attention_forward_setup, attention_forward_call, attention_forward_work, true},
    {"attention_backward", 1e-10, attention_backward_setup, attention_backward_call, attention_backward_work, true},
    {"attention_decode", 1e-11, attention_decode_setup, attention_decode_call, attention_decode_work, false},
    {"swiglu_forward", 1e-12, swiglu_forward_setup, swiglu_forward_call, words3, false},
    {"swiglu_backward", 1e-12, swiglu_backward_setup, swiglu_backward_call, swiglu_backward_work, false},
    {"embedding_forward", 0, embedding_forward_setup, embedding_forward_call, rows2, false},
    {"embedding_backward", 0, embedding_backward_setup, embedding_backward_call, rows2, false},
    {"gather_rows", 0, gather_rows_setup, gather_rows_call, rows2, false},
    {"scatter_rows", 0, scatter_rows_setup, scatter_rows_call, rows2, false},
    {"cross_entropy_partial", 1e-12, cross_entropy_partial_setup, cross_entropy_partial_call, rows2, false},
    {"cross_entropy_finish", 1e-11, cross_entropy_finish_setup, cross_entropy_finish_call, rows2, false},
    {"top_k", 1e-12, top_k_setup, top_k_call, rows1, false},
    {"cross_entropy_loss", 1e-14, cross_entropy_loss_setup, cross_entropy_loss_call, rows1, false},
};
const size_t op_count = sizeof ops / sizeof ops[0];

const struct op *op_find(const char *name)
{
    for (size_t i = 0; i < op_count; i++) {
        if (strcmp(ops[i].name, name) == 0) return &ops[i];
    }
    return NULL;
}
