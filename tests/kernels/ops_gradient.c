/* Backward operations against finite differences of the forward ones.
 *
 * The loss is sum(weights * out) in double. Its derivative along a random direction of one input is taken by central
 * differences at h and 2h, combined so that the error is of fourth order; it must be the dot product of that direction
 * and the backward operation's gradient. In fp32: where reals are rounded, differences are noise. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/ops_gradient.h"

enum { DIRECTIONS = 6 };
static const double TOLERANCE = 2e-3; /* of the gradient's norm times the direction's */

static float *floats(size_t n)
{
    float *x = calloc(n + 1, sizeof *x);
    if (!x) abort();
    return x;
}

/* Device memory with these bytes, or zeros. */
static void *placed(struct gradient *g, size_t n, const void *host)
{
    void *x = g->k->allocate(g->d, n * sizeof(float) + 1, NULL);
    if (!x) abort();
    if (host) g->k->to_device(g->d, x, host, n * sizeof(float));
    return x;
}

static void gradient_create(struct gradient *g, const struct gradient_case *c)
{
    g->run.bytes = sizeof(float);
    memcpy(g->run.p, c->p, sizeof c->p);
    c->setup(g);
    for (int i = 0; i < g->run.count; i++)
        g->run.b[i].x = placed(g, g->run.b[i].n, g->run.b[i].initial);
    for (int i = 0; i < g->inputs; i++) {
        g->host_x[i] = floats(g->n[i]);
        g->host_dx[i] = floats(g->n[i]);
        for (size_t j = 0; j < g->n[i]; j++)
            g->host_x[i][j] = (float)run_draw(&g->run);
        g->x[i] = placed(g, g->n[i], g->host_x[i]);
        g->dx[i] = placed(g, g->n[i], NULL);
    }
    g->host_out = floats(g->out_n);
    g->host_weights = floats(g->out_n);
    for (size_t j = 0; j < g->out_n; j++)
        g->host_weights[j] = (float)(g->weight > 0 ? g->weight : run_draw(&g->run));
    g->out = placed(g, g->out_n, NULL);
    g->weights = placed(g, g->out_n, g->host_weights);
    g->saved = placed(g, g->saved_n, NULL);
}

static void gradient_free(struct gradient *g)
{
    for (int i = 0; i < g->inputs; i++) {
        free(g->host_x[i]);
        free(g->host_dx[i]);
        g->k->release(g->d, g->x[i]);
        g->k->release(g->d, g->dx[i]);
    }
    free(g->host_out);
    free(g->host_weights);
    void *memory[] = {g->out, g->weights, g->saved, g->run.prefixes};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++)
        g->k->release(g->d, memory[i]);
    for (int i = 0; i < g->run.count; i++)
        g->k->release(g->d, g->run.b[i].x);
    run_free(&g->run);
}

static double loss_at(struct gradient *g, const struct gradient_case *c, int input, const float *direction, double h)
{
    size_t n = g->n[input];
    float *moved = floats(n);
    for (size_t j = 0; j < n; j++)
        moved[j] = (float)(g->host_x[input][j] + h * direction[j]);
    g->k->to_device(g->d, g->x[input], moved, n * 4);
    c->forward(g);
    double loss = 0;
    g->k->to_host(g->d, g->host_out, g->out, g->out_n * 4);
    for (size_t j = 0; j < g->out_n; j++)
        loss += (double)g->host_weights[j] * g->host_out[j];
    g->k->to_device(g->d, g->x[input], g->host_x[input], n * 4);
    g->k->synchronise(g->d, NULL);
    free(moved);
    return loss;
}

/* Directions: half of them along one element, the others along all. */
static void draw_direction(struct gradient *g, int number, size_t n, float *direction)
{
    memset(direction, 0, n * 4);
    if (number % 2) {
        direction[run_below(&g->run, n)] = 1;
    } else {
        for (size_t j = 0; j < n; j++)
            direction[j] = run_below(&g->run, 2) ? 1 : -1;
    }
}

static int check_input(struct gradient *g, const struct gradient_case *c, int input)
{
    size_t n = g->n[input];
    float *direction = floats(n);
    double norm = 0;
    int failed = 0;
    for (size_t j = 0; j < n; j++)
        norm += (double)g->host_dx[input][j] * g->host_dx[input][j];
    for (int number = 0; number < DIRECTIONS; number++) {
        draw_direction(g, number, n, direction);
        double analytic = 0, length = 0, h = 0.02;
        for (size_t j = 0; j < n; j++) {
            analytic += (double)g->host_dx[input][j] * direction[j];
            length += (double)direction[j] * direction[j];
        }
        double near = loss_at(g, c, input, direction, h) - loss_at(g, c, input, direction, -h);
        double far = loss_at(g, c, input, direction, 2 * h) - loss_at(g, c, input, direction, -2 * h);
        double numeric = (8 * near - far) / (12 * h);
        double allowed = TOLERANCE * sqrt(norm / (double)n) * sqrt(length);
        if (norm > 0 && fabs(numeric - analytic) <= allowed) continue;
        printf("FAILED  %-10s %-22s input %d, direction %d: numeric %.6g, analytic %.6g\n", g->k->name, c->op, input,
               number, numeric, analytic);
        failed = 1;
    }
    free(direction);
    return failed;
}

/* Whether the device has what the case needs: the backward operation, and those around it, in the same file. */
static bool has_all(const struct kernels *k, const struct gradient_case *c)
{
    static const char *const forwards[][2] = {{"rms_norm_backward", "rms_norm_forward"},
                                              {"layer_norm_backward", "layer_norm_forward"},
                                              {"row_norm_backward", "row_norm_forward"},
                                              {"bias_backward", "bias_forward"},
                                              {"merge_heads", "split_heads"},
                                              {"gelu_backward", "gelu_forward"},
                                              {"attention_backward", "attention_forward"},
                                              {"scale_columns_backward", "scale_columns"},
                                              {"swiglu_backward", "swiglu_forward"},
                                              {"embedding_backward", "embedding_forward"},
                                              {"scatter_rows", "gather_rows"},
                                              {"row_norm_backward", "add"}};
    if (!op_there(op_find(c->op), k)) return false;
    for (size_t i = 0; i < sizeof forwards / sizeof forwards[0]; i++)
        if (strcmp(forwards[i][0], c->op) == 0 && !op_there(op_find(forwards[i][1]), k)) return false;
    return true;
}

static int check_case(const struct kernels *k, struct device *d, const struct gradient_case *c, int *count)
{
    struct gradient g = {.k = k, .d = d};
    int failed = 0;
    gradient_create(&g, c);
    c->forward(&g);
    c->backward(&g);
    for (int input = 0; input < g.inputs; input++, ++*count) {
        k->to_host(d, g.host_dx[input], g.dx[input], g.n[input] * 4);
        failed += check_input(&g, c, input);
    }
    gradient_free(&g);
    return failed;
}

int gradients_check(const struct kernels *k, bool (*wanted)(const char *op))
{
    struct error err;
    struct device *d = k->device_create(0, 1, &err);
    if (!d) {
        printf("FAILED  %s: %s\n", k->name, err.text);
        return 1;
    }
    int count = 0, failed = 0;
    for (size_t i = 0; i < gradient_case_count; i++)
        if (wanted(gradient_cases[i].op) && has_all(k, &gradient_cases[i]))
            failed += check_case(k, d, &gradient_cases[i], &count);
    printf("grad: %s: %d of %d gradients\n", k->name, count - failed, count);
    k->device_destroy(d);
    return failed;
}
