/* How the operations with a gradient are called forwards and backwards. */
#include "tests/kernels/ops_gradient.h"

#define FUNCTION(name) static void name(struct gradient *g)
#define P(i) g->run.p[i]
#define I(i) ((const int32_t *)g->run.b[i].x)
/* inputs, their gradients, what the forward pass gives and its weights, as reals and as floats */
#define X(i) ((real *)g->x[i])
#define XF(i) ((float *)g->x[i])
#define DX(i) ((real *)g->dx[i])
#define DXF(i) ((float *)g->dx[i])
#define Y ((real *)g->out)
#define YF ((float *)g->out)
#define WEIGHTS ((const real *)g->weights)
#define SAVED ((float *)g->saved)
#define AT(x, index) real_at(x, sizeof(float), index)

FUNCTION(rms_norm_setup)
{
    g->inputs = 2;
    g->n[0] = g->out_n = P(0) * P(1);
    g->n[1] = P(1);
    g->saved_n = P(0);
}
FUNCTION(rms_norm_forward)
{
    g->k->rms_norm_forward(g->d, P(0), P(1), 1e-2f, NULL, X(0), XF(1), Y, SAVED);
}
FUNCTION(rms_norm_backward)
{
    g->k->rms_norm_backward(g->d, P(0), P(1), X(0), XF(1), SAVED, WEIGHTS, DX(0), DXF(1));
}

FUNCTION(layer_norm_setup)
{
    g->inputs = 3;
    g->n[0] = g->out_n = P(0) * P(1);
    g->n[1] = g->n[2] = P(1);
    g->saved_n = 2 * P(0);
}
FUNCTION(layer_norm_forward)
{
    g->k->layer_norm_forward(g->d, P(0), P(1), 1e-2f, NULL, X(0), XF(1), XF(2), Y, SAVED, SAVED + P(0));
}
FUNCTION(layer_norm_backward)
{
    g->k->layer_norm_backward(g->d, P(0), P(1), X(0), XF(1), SAVED, SAVED + P(0), WEIGHTS, DX(0), DXF(1), DXF(2));
}

/* rows, columns on each of two devices, shared columns: the row's last ones on the first device are the first ones on
 * the second, where they have the same values and gains. out: of both, as two halves; the loss counts the shared ones
 * twice, once a device. */
FUNCTION(row_norm_setup)
{
    g->inputs = 2; /* the row without repetition, its gain */
    g->n[1] = P(1) + P(2) - P(3);
    g->n[0] = P(0) * g->n[1];
    g->out_n = P(0) * (P(1) + P(2));
    g->saved_n = 4 * P(0) + 2 * g->out_n;
}
/* Where one device's columns begin in the row, and its values in arrays of both devices. */
static size_t row_first(const struct gradient *g, int device)
{
    return device ? P(1) - P(3) : 0;
}
static size_t row_place(const struct gradient *g, int device)
{
    return device ? P(0) * P(1) : 0;
}
FUNCTION(row_norm_forward)
{
    float *squares = SAVED, *rstd = SAVED + 2 * P(0);
    real *parts = (real *)(SAVED + 4 * P(0));
    for (int device = 0; device < 2; device++) {
        size_t width = P(1 + device);
        real *x = AT(parts, row_place(g, device));
        for (size_t r = 0; r < P(0); r++)
            g->k->copy(g->d, width * 4, AT(X(0), r * g->n[1] + row_first(g, device)), AT(x, r * width));
        g->k->row_squares(g->d, P(0), width, device ? P(3) : 0, x, squares + device * P(0));
    }
    g->k->add(g->d, P(0), (real *)(squares + P(0)), (real *)squares);
    for (int device = 0; device < 2; device++)
        g->k->row_norm_forward(g->d, P(0), P(1 + device), g->n[1], 1e-2f, AT(parts, row_place(g, device)),
                               XF(1) + row_first(g, device), squares, AT(Y, row_place(g, device)), rstd);
}
FUNCTION(row_norm_backward)
{
    float *dots = SAVED, *rstd = SAVED + 2 * P(0);
    real *parts = (real *)(SAVED + 4 * P(0)), *dx = AT(parts, g->out_n);
    for (int device = 0; device < 2; device++)
        g->k->row_norm_dots(g->d, P(0), P(1 + device), AT(parts, row_place(g, device)), XF(1) + row_first(g, device),
                            AT(WEIGHTS, row_place(g, device)), dots + device * P(0));
    g->k->add(g->d, P(0), (real *)(dots + P(0)), (real *)dots);
    for (int device = 0; device < 2; device++) {
        size_t width = P(1 + device), first = row_first(g, device), place = row_place(g, device);
        g->k->row_norm_backward(g->d, P(0), width, device ? P(3) : 0, g->n[1], AT(parts, place), XF(1) + first, rstd,
                                dots, AT(WEIGHTS, place), AT(dx, place), DXF(1) + first);
        for (size_t r = 0; r < P(0); r++)
            g->k->add(g->d, width, AT(dx, place + r * width), AT(DX(0), r * g->n[1] + first));
    }
}

FUNCTION(bias_setup)
{
    g->inputs = 1;
    g->n[0] = P(1);
    g->out_n = P(0) * P(1);
}
FUNCTION(bias_forward)
{
    g->k->zero(g->d, g->out_n * 4, Y);
    g->k->bias_forward(g->d, P(0), P(1), XF(0), Y);
}
FUNCTION(bias_backward)
{
    g->k->bias_backward(g->d, P(0), P(1), WEIGHTS, DXF(0));
}

FUNCTION(heads_setup)
{
    g->inputs = 1;
    g->n[0] = g->out_n = 3 * P(0) * P(1) * P(2);
}
FUNCTION(heads_forward)
{
    size_t n = P(0) * P(1) * P(2);
    g->k->split_heads(g->d, P(0), P(1), P(2), X(0), Y, AT(Y, n), AT(Y, 2 * n));
}
FUNCTION(heads_backward)
{
    size_t n = P(0) * P(1) * P(2);
    g->k->merge_heads(g->d, P(0), P(1), P(2), WEIGHTS, AT(WEIGHTS, n), AT(WEIGHTS, 2 * n), DX(0));
}

FUNCTION(gelu_setup)
{
    g->inputs = 1;
    g->n[0] = g->out_n = P(0);
}
FUNCTION(gelu_forward)
{
    g->k->gelu_forward(g->d, P(0), P(1), X(0), Y);
}
FUNCTION(gelu_backward)
{
    g->k->gelu_backward(g->d, P(0), P(1), X(0), WEIGHTS, DX(0));
}

FUNCTION(rotary_setup)
{
    run_integers(&g->run, P(0), 0, 100);
    g->inputs = 1;
    g->n[0] = g->out_n = P(0) * P(1) * P(2);
}
FUNCTION(rotary_forward)
{
    g->k->copy(g->d, g->out_n * 4, X(0), Y);
    const struct rotary rotary = {P(3), 100.0f, {2, 0, 0, 0}};
    g->k->rotary(g->d, P(0), P(1), P(2), &rotary, I(0), false, Y);
}
FUNCTION(rotary_backward)
{
    g->k->copy(g->d, g->out_n * 4, WEIGHTS, DX(0));
    const struct rotary rotary = {P(3), 100.0f, {2, 0, 0, 0}};
    g->k->rotary(g->d, P(0), P(1), P(2), &rotary, I(0), true, DX(0));
}

FUNCTION(attention_setup)
{
    run_sequences(&g->run, P(0), P(1), P(2), P(3), P(4));
    g->inputs = 3;
    g->n[0] = g->out_n = P(1) * P(2) * P(4);
    g->n[1] = g->n[2] = P(1) * P(3) * P(4);
    g->saved_n = P(1) * P(2);
    if (!P(5)) return; /* length of prefixes */
    g->inputs = 4;
    g->n[3] = P(5) * 2 * P(3) * P(4);
}
FUNCTION(attention_forward)
{
    g->k->attention_forward(g->d, run_attention(&g->run, g->k, g->d, P(5), X(3), NULL), X(0), X(1), X(2), Y, SAVED);
}
FUNCTION(attention_backward)
{
    g->k->attention_backward(g->d, run_attention(&g->run, g->k, g->d, P(5), X(3), DXF(3)), X(0), X(1), X(2), Y, SAVED,
                             WEIGHTS, DX(0), DX(1), DX(2));
}

FUNCTION(columns_setup)
{
    g->inputs = 2;
    g->n[0] = g->out_n = P(0) * P(1);
    g->n[1] = P(1);
}
FUNCTION(columns_forward)
{
    g->k->scale_columns(g->d, P(0), P(1), X(0), XF(1), Y);
}
FUNCTION(columns_backward)
{
    g->k->scale_columns_backward(g->d, P(0), P(1), X(0), XF(1), WEIGHTS, true, DX(0), DXF(1));
}

FUNCTION(swiglu_setup)
{
    g->inputs = 2;
    g->n[0] = g->n[1] = g->out_n = P(0);
}
FUNCTION(swiglu_forward)
{
    g->k->swiglu_forward(g->d, P(0), X(0), X(1), Y);
}
FUNCTION(swiglu_backward)
{
    g->k->swiglu_backward(g->d, P(0), X(0), X(1), WEIGHTS, DX(0), DX(1));
}

/* tokens, width, first, count: of a vocabulary of 20, and a prompt of 4 */
FUNCTION(embedding_setup)
{
    run_integers(&g->run, P(0), -4, 19);
    g->inputs = 2;
    g->n[0] = P(3) * P(1);
    g->n[1] = 4 * P(1);
    g->out_n = P(0) * P(1);
    run_order(&g->run, 0);
}
FUNCTION(embedding_forward)
{
    g->k->embedding_forward(g->d, P(0), P(1), I(0), P(2), P(3), X(0), X(1), Y);
}
FUNCTION(embedding_backward)
{
    g->k->embedding_backward(g->d, P(0), P(1), I(0), (const uint32_t *)I(1), P(2), P(3), WEIGHTS, DXF(0), DXF(1));
}

/* rows wanted, width, rows there */
FUNCTION(rows_setup)
{
    int32_t *rows = run_integers(&g->run, P(0), 0, 0);
    for (size_t i = 0; i < P(0); i++)
        rows[i] = (int32_t)(i * P(2) / P(0));
    g->inputs = 1;
    g->n[0] = P(2) * P(1);
    g->out_n = P(0) * P(1);
}
FUNCTION(rows_forward)
{
    g->k->gather_rows(g->d, P(0), P(1), (const uint32_t *)I(0), X(0), Y);
}
FUNCTION(rows_backward)
{
    g->k->scatter_rows(g->d, P(0), P(1), (const uint32_t *)I(0), WEIGHTS, DX(0));
}

/* rows, vocabulary on each of two devices, smoothing in percent. All losses have the same weight: the operation takes
 * one scale. */
FUNCTION(cross_entropy_setup)
{
    run_integers(&g->run, P(0), 0, (int32_t)(2 * P(1)) - 1);
    g->inputs = 2;
    g->n[0] = g->n[1] = P(0) * P(1);
    g->out_n = P(0);
    g->saved_n = 8 * P(0);
    g->weight = 0.5;
}
FUNCTION(cross_entropy_forward)
{
    for (size_t v = 0; v < 2; v++) {
        g->k->cross_entropy_partial(g->d, P(0), P(1), v * P(1), X(v), I(0), SAVED + v * 4 * P(0));
    }
    g->k->cross_entropy_finish(g->d, P(0), P(1), 0, 2, SAVED, I(0), 2 * P(1), 0.01f * (float)P(2), 0, X(0), YF);
}
FUNCTION(cross_entropy_backward)
{
    for (size_t v = 0; v < 2; v++) {
        g->k->copy(g->d, g->n[v] * 4, X(v), DX(v));
        g->k->cross_entropy_finish(g->d, P(0), P(1), v * P(1), 2, SAVED, I(0), 2 * P(1), 0.01f * (float)P(2), 0.5f,
                                   DX(v), YF);
    }
}

const struct gradient_case gradient_cases[] = {
    {"rms_norm_backward", {7, 33}, rms_norm_setup, rms_norm_forward, rms_norm_backward},
    {"rms_norm_backward", {21, 64}, rms_norm_setup, rms_norm_forward, rms_norm_backward},
    {"layer_norm_backward", {7, 33}, layer_norm_setup, layer_norm_forward, layer_norm_backward},
    {"layer_norm_backward", {21, 64}, layer_norm_setup, layer_norm_forward, layer_norm_backward},
    {"row_norm_backward", {9, 20, 27, 5}, row_norm_setup, row_norm_forward, row_norm_backward},
    {"row_norm_backward", {9, 33, 8, 0}, row_norm_setup, row_norm_forward, row_norm_backward},
    {"bias_backward", {9, 33}, bias_setup, bias_forward, bias_backward},
    {"merge_heads", {5, 3, 7}, heads_setup, heads_forward, heads_backward},
    {"gelu_backward", {333, 0}, gelu_setup, gelu_forward, gelu_backward},
    {"gelu_backward", {333, 1}, gelu_setup, gelu_forward, gelu_backward},
    {"rotary", {11, 3, 16, 16}, rotary_setup, rotary_forward, rotary_backward},
    {"rotary", {5, 2, 34, 10}, rotary_setup, rotary_forward, rotary_backward},
    {"attention_backward", {2, 21, 3, 2, 8}, attention_setup, attention_forward, attention_backward},
    {"attention_backward", {3, 90, 4, 1, 16}, attention_setup, attention_forward, attention_backward},
    {"attention_backward", {1, 81, 2, 2, 11}, attention_setup, attention_forward, attention_backward},
    {"attention_backward", {5, 60, 4, 2, 8, 11}, attention_setup, attention_forward, attention_backward},
    {"scale_columns_backward", {9, 33}, columns_setup, columns_forward, columns_backward},
    {"swiglu_backward", {333}, swiglu_setup, swiglu_forward, swiglu_backward},
    {"embedding_backward", {30, 17, 0, 20}, embedding_setup, embedding_forward, embedding_backward},
    {"embedding_backward", {30, 17, 5, 9}, embedding_setup, embedding_forward, embedding_backward},
    {"scatter_rows", {9, 13, 20}, rows_setup, rows_forward, rows_backward},
    {"cross_entropy_finish", {9, 35}, cross_entropy_setup, cross_entropy_forward, cross_entropy_backward},
    {"cross_entropy_finish", {9, 35, 10}, cross_entropy_setup, cross_entropy_forward, cross_entropy_backward},
};
const size_t gradient_case_count = sizeof gradient_cases / sizeof gradient_cases[0];
