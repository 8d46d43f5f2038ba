/* Every operation of every backend of this machine, against the reference and against finite differences; --help says
 * what else. Without words: test, then grad.
 *
 * A backend computes a case in buffers with guard words around them and poison in its outputs, twice: the second time
 * at other addresses and after other work, where it must give the same bytes. */
#include <argp.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/plugin.h"
#include "kernels/random.h"
#include "tests/kernels/ops.h"

enum { GUARD = 16 };                         /* words before and after a buffer */
static const uint32_t POISON = 0x7fc0dead;   /* a NaN */
static const uint32_t GUARDED = 0x7fa5a5a5u; /* another */

static const struct kernels *backends[3];
static size_t backend_count;
static struct device *oracle; /* of the reference backend */

static void *checked(void *memory, const struct error *err)
{
    if (memory) return memory;
    fprintf(stderr, "test_kernels_ops: %s\n", err->text);
    exit(1);
}

static void words_fill(uint32_t *x, size_t n, uint32_t word)
{
    for (size_t i = 0; i < n; i++)
        x[i] = word;
}

/* Place the buffers of a run in device memory, `shift` words off the alignment. memory[] is what to release. */
static void place(const struct kernels *k, struct device *d, struct run *run, size_t shift, void *memory[BUFFERS])
{
    struct error err;
    for (int i = 0; i < run->count; i++) {
        struct buffer *b = &run->b[i];
        size_t words = shift + GUARD + b->n + GUARD;
        uint32_t *host = checked(malloc(words * 4), &(struct error){"out of memory"});
        words_fill(host, words, GUARDED);
        if (b->role == OUT) {
            words_fill(host + shift + GUARD, b->n, POISON);
        } else if (b->n) {
            memcpy(host + shift + GUARD, b->initial, b->n * 4);
        }
        memory[i] = checked(k->allocate(d, words * 4, &err), &err);
        k->to_device(d, memory[i], host, words * 4);
        b->x = (float *)memory[i] + shift + GUARD;
        free(host);
    }
}

/* Fetch one buffer and look at its guards, and at an input's contents. The caller frees the result. */
static float *fetch(const struct kernels *k, struct device *d, const struct buffer *b, const void *memory, size_t shift,
                    const char **wrong)
{
    size_t words = shift + GUARD + b->n + GUARD;
    uint32_t *host = checked(malloc(words * 4), &(struct error){"out of memory"});
    k->to_host(d, host, memory, words * 4);
    for (size_t i = 0; i < shift + GUARD; i++) {
        if (host[i] != GUARDED || (i < GUARD && host[words - 1 - i] != GUARDED)) *wrong = "wrote outside a buffer";
    }
    float *x = checked(malloc(b->n * 4 + 4), &(struct error){"out of memory"});
    memcpy(x, host + shift + GUARD, b->n * 4);
    if (b->role == IN && b->n && memcmp(x, b->initial, b->n * 4)) *wrong = "changed an input";
    free(host);
    return x;
}

/* Run a case on a backend; results[i] are the contents of the buffers afterwards. NULL or what is wrong. */
static const char *execute(const struct op *op, const struct kernels *k, struct device *d, struct run *run,
                           size_t shift, float *results[BUFFERS])
{
    void *memory[BUFFERS];
    const char *wrong = NULL;
    struct error err;
    run->result = 0;
    place(k, d, run, shift, memory);
    op->call(k, d, run);
    if (k->synchronise(d, &err)) wrong = "the device failed";
    for (int i = 0; i < run->count; i++) {
        results[i] = fetch(k, d, &run->b[i], memory[i], shift, &wrong);
        k->release(d, memory[i]);
    }
    return wrong;
}

static double normalised_error(size_t n, const float *x, const float *expected)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)x[i] - expected[i];
        error += difference * difference;
        norm += (double)expected[i] * expected[i];
    }
    return error > 0 || isnan(error) ? error / (norm > 0 ? norm : 1) : 0;
}

static const char *compare(double bound, const struct run *run, float *const results[], float *const expected[],
                           double *worst)
{
    for (int i = 0; i < run->count; i++) {
        if (run->b[i].role == IN) continue;
        if (run->b[i].integers) {
            if (memcmp(results[i], expected[i], run->b[i].n * 4)) return "other integers than the reference's";
            continue;
        }
        double error = normalised_error(run->b[i].n, results[i], expected[i]);
        if (!isnan(*worst) && !(error <= *worst)) *worst = error;
    }
    return *worst <= bound ? NULL : "differs from the reference";
}

static const char *same_bytes(const struct run *run, float *const a[], float *const b[])
{
    for (int i = 0; i < run->count; i++) {
        if (run->b[i].n && memcmp(a[i], b[i], run->b[i].n * 4)) return "other bytes at another address";
    }
    return NULL;
}

static void release_results(const struct run *run, float *results[BUFFERS])
{
    for (int i = 0; i < run->count; i++)
        free(results[i]);
}

static void print_case(const char *verdict, const struct kernels *k, const struct shape *shape)
{
    printf("%-7s %-10s %-22s", verdict, k->name, shape->op);
    for (int i = 0; i < PARAMETERS; i++)
        printf(" %zu", shape->p[i]);
}

static int test_case(const struct kernels *k, struct device *d, const struct shape *shape, double slack)
{
    const struct kernels *reference = kernels_find("reference", NULL);
    const struct op *op = op_find(shape->op);
    struct run run = {0};
    float *expected[BUFFERS], *first[BUFFERS], *second[BUFFERS];
    memcpy(run.p, shape->p, sizeof run.p);
    op->setup(&run);
    const char *wrong = execute(op, reference, oracle, &run, 0, expected);
    double expected_result = run.result, worst = 0;
    const char *also = execute(op, k, d, &run, 0, first);
    if (!wrong) wrong = also;
    double result = run.result;
    also = execute(op, k, d, &run, 1, second);
    if (!wrong) wrong = also;
    if (!wrong) wrong = compare(slack * op->bound, &run, first, expected, &worst);
    if (!wrong) wrong = same_bytes(&run, first, second);
    if (!wrong && !(fabs(result - expected_result) <=
                    1e-11 * (double)shape->p[0] + sqrt(slack * op->bound) * fabs(expected_result)))
        wrong = "returned another value";
    if (!wrong && memcmp(&result, &run.result, sizeof result)) wrong = "returned other bytes at another address";
    if (wrong) {
        print_case("FAILED", k, shape);
        printf(": %s (error %.1e, bound %.1e)\n", wrong, worst, slack * op->bound);
    }
    release_results(&run, expected);
    release_results(&run, first);
    release_results(&run, second);
    run_free(&run);
    return wrong ? 1 : 0;
}

/* Elements that are NaN in the reference and numbers here. */
static size_t hidden_nans(const struct run *run, float *const results[], float *const expected[])
{
    size_t hidden = 0;
    for (int i = 0; i < run->count; i++) {
        for (size_t j = 0; run->b[i].role != IN && !run->b[i].integers && j < run->b[i].n; j++) {
            hidden += isnan(expected[i][j]) && isfinite(results[i][j]);
        }
    }
    return hidden;
}

static int test_nan(const struct kernels *k, struct device *d, const struct nan_case *c)
{
    const struct op *op = op_find(c->shape.op);
    struct run run = {0};
    float *expected[BUFFERS], *results[BUFFERS];
    memcpy(run.p, c->shape.p, sizeof run.p);
    op->setup(&run);
    run.b[c->buffer].initial[0] = NAN;
    execute(op, kernels_find("reference", NULL), oracle, &run, 0, expected);
    double expected_result = run.result;
    execute(op, k, d, &run, 0, results);
    size_t hidden = hidden_nans(&run, results, expected) + (isnan(expected_result) && !isnan(run.result));
    if (hidden) {
        print_case("FAILED", k, &c->shape);
        printf(": hides a NaN of input %d in %zu elements\n", c->buffer, hidden);
    }
    release_results(&run, expected);
    release_results(&run, results);
    run_free(&run);
    return hidden ? 1 : 0;
}

static int test_backend(const struct kernels *k, int threads, const char *only)
{
    struct error err;
    struct device *d = checked(k->device_create(0, threads, &err), &err);
    int count = 0, failed = 0;
    for (size_t i = 0; i < test_shape_count; i++) {
        if (only && strcmp(only, test_shapes[i].op)) continue;
        failed += test_case(k, d, &test_shapes[i], 1);
        count++;
    }
    for (size_t i = 0; i < nan_case_count; i++) {
        if (only && strcmp(only, nan_cases[i].shape.op)) continue;
        failed += test_nan(k, d, &nan_cases[i]);
        count++;
    }
    printf("test: %s, %d threads: %d of %d cases\n", k->name, threads, count - failed, count);
    k->device_destroy(d);
    return count ? failed : 1;
}

/* What the command line says. */
struct options {
    const char *mode, *only;
    uint64_t seed;
    int count, threads;
};

/* Log-uniform: small sizes are as likely as large ones, and odd ones as even ones. */
static size_t draw_size(const size_t range[2], struct random_key key, uint64_t *draws)
{
    double low = (double)range[0], high = (double)range[1];
    size_t size = (size_t)(exp(log(low + 1) + random_uniform(key, (*draws)++) * (log(high + 2) - log(low + 1))) - 1);
    return size < range[0] ? range[0] : size > range[1] ? range[1] : size;
}

/* `count` shapes of each operation, a function of the seed. */
static int test_random(const struct kernels *k, int threads, const struct options *options)
{
    struct error err;
    struct device *d = checked(k->device_create(0, threads, &err), &err);
    int count = 0, failed = 0;
    for (size_t i = 0; i < random_shape_count; i++) {
        const struct random_shape *r = &random_shapes[i];
        struct random_key key = {options->seed, random_stream(r->op)};
        uint64_t draws = 0;
        if (options->only && strcmp(options->only, r->op)) continue;
        for (int n = 0; n < options->count; n++, count++) {
            struct shape shape = {.op = r->op};
            for (int j = 0; j < PARAMETERS; j++)
                shape.p[j] = draw_size(r->range[j], key, &draws);
            if (r->tidy) r->tidy(shape.p);
            failed += test_case(k, d, &shape, 10); /* few elements: errors average less */
        }
    }
    printf("random: %s, %d threads, seed %llu: %d of %d cases\n", k->name, threads, (unsigned long long)options->seed,
           count - failed, count);
    k->device_destroy(d);
    return failed;
}

/* Of every backend but the reference, which is the oracle, at one thread and at two. */
static int run_random(const struct options *options)
{
    int failed = 0;
    for (size_t b = 0; b < backend_count; b++) {
        if (strcmp(backends[b]->name, "reference") == 0) continue;
        for (int threads = 1; threads <= 2; threads++)
            failed += test_random(backends[b], threads, options);
    }
    return failed;
}

static int run_tests(const char *only)
{
    int failed = 0;
    for (size_t b = 0; b < backend_count; b++) {
        for (int threads = 1; threads <= 2; threads++)
            failed += test_backend(backends[b], threads, only);
    }
    return failed;
}

static int run_gradients(const char *only)
{
    int failed = 0;
    for (size_t b = 0; b < backend_count; b++)
        failed += gradients_check(backends[b], only);
    return failed;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The fastest of several calls: the machine may be shared. */
static double fastest(const struct op *op, const struct kernels *k, struct device *d, struct run *run)
{
    double best = INFINITY, end = seconds() + 0.05;
    op->call(k, d, run);
    do {
        double start = seconds();
        op->call(k, d, run);
        k->synchronise(d, NULL);
        best = fmin(best, seconds() - start);
    } while (seconds() < end);
    return best;
}

static void measure(const struct kernels *k, struct device *d, const struct shape *shape)
{
    const struct op *op = op_find(shape->op);
    struct run run = {0};
    void *memory[BUFFERS];
    memcpy(run.p, shape->p, sizeof run.p);
    op->setup(&run);
    place(k, d, &run, 0, memory);
    double time = fastest(op, k, d, &run);
    print_case("perf", k, shape);
    printf(": %.1f us, %.1f %s\n", 1e6 * time, 1e-9 * op->work(run.p) / time, op->flops ? "GFLOP/s" : "GB/s");
    for (int i = 0; i < run.count; i++)
        k->release(d, memory[i]);
    run_free(&run);
}

static int run_perf(const struct options *options)
{
    const char *only = options->only;
    for (size_t b = 0; b < backend_count; b++) {
        if (strcmp(backends[b]->name, "reference") == 0) continue;
        struct error err;
        struct device *d = checked(backends[b]->device_create(0, options->threads, &err), &err);
        for (size_t i = 0; i < perf_shape_count; i++) {
            if (!only || strcmp(only, perf_shapes[i].op) == 0) measure(backends[b], d, &perf_shapes[i]);
        }
        backends[b]->device_destroy(d);
    }
    return 0;
}

static bool has(const struct kernels *k, const char *op)
{
#define F(name)                                                                                                        \
    {                                                                                                                  \
#name, offsetof(struct kernels, name)                                                                          \
    }
    static const struct {
        const char *name;
        size_t offset;
    } functions[] = {F(matmul),
                     F(matmul_floats),
                     F(matmul_group),
                     F(linear),
                     F(zero),
                     F(copy),
                     F(add),
                     F(scale),
                     F(sums),
                     F(adamw),
                     F(sgd),
                     F(square_sums),
                     F(moving_average),
                     F(adafactor_squares),
                     F(adafactor),
                     F(rms_norm_forward),
                     F(rms_norm_backward),
                     F(layer_norm_forward),
                     F(layer_norm_backward),
                     F(row_squares),
                     F(row_norm_forward),
                     F(row_norm_dots),
                     F(row_norm_backward),
                     F(bias_forward),
                     F(bias_backward),
                     F(split_heads),
                     F(merge_heads),
                     F(rotary),
                     F(attention_forward),
                     F(attention_backward),
                     F(attention_decode),
                     F(swiglu_forward),
                     F(swiglu_backward),
                     F(gelu_forward),
                     F(gelu_backward),
                     F(dropout),
                     F(embedding_forward),
                     F(embedding_backward),
                     F(gather_rows),
                     F(scatter_rows),
                     F(cross_entropy_partial),
                     F(cross_entropy_finish),
                     F(top_k)};
#undef F
    void (*function)(void);
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (strcmp(functions[i].name, op)) continue;
        memcpy(&function, (const char *)k + functions[i].offset, sizeof function);
        return function != NULL;
    }
    return !kernels_missing(k); /* a case that is made of several operations */
}

/* A line a backend, then one for each operation that it lacks. A plugin without all of them is not used. */
static int run_support(void)
{
    const char *names[] = {"reference", "cpu", "cuda"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct error err, none;
        char library[64] = "";
        const struct kernels *k = kernels_find(names[i], &err), *table = k;
        const struct kernels_plugin *plugin = k || i != 2 ? NULL : plugin_load(&none);
        if (plugin) table = plugin->kernels;
        size_t count = 0;
        for (size_t o = 0; table && o < op_count; o++)
            count += has(table, ops[o].name);
        if (k) kernels_library(k, library, sizeof library);
        printf("support: %s: %zu of %zu operations%s%s%s\n", names[i], count, op_count, k ? "" : "; ",
               k ? "" : err.text,
               k && kernels_fast_bf16(k) ? "; bf16 arithmetic"
               : k                       ? "; bf16 by rounding"
                                         : "");
        if (k) printf("support: %s: matrix products by %s\n", names[i], library);
        for (size_t o = 0; table && o < op_count; o++)
            if (!has(table, ops[o].name)) printf("support: %s: no %s\n", names[i], ops[o].name);
    }
    return 0;
}

static const char *const modes[] = {"test", "grad", "perf", "support", "random"};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case 's':
        options->seed = strtoull(text, NULL, 10);
        return 0;
    case 'c':
        options->count = atoi(text);
        return 0;
    case 't':
        options->threads = atoi(text);
        if (options->threads < 1) argp_error(state, "--threads: at least 1");
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0) {
            options->mode = text;
            for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
                if (strcmp(modes[i], text) == 0) return 0;
            argp_error(state, "no mode \"%s\"; allowed: test, grad, perf, support, random", text);
        } else if (state->arg_num == 1) {
            options->only = text;
            if (!op_find(text)) argp_error(state, "no operation \"%s\"; `perf` names them", text);
        } else {
            argp_error(state, "too many words");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option argp_options[] = {
    {"seed", 's', "N", 0, "of the random shapes (2026)", 0},
    {"count", 'c', "N", 0, "random shapes of each operation (2; in mode random 50)", 0},
    {"threads", 't', "N", 0, "of the device in mode perf (1)", 0},
    {0}};
static const struct argp argp = {
    argp_options,
    parse_option,
    "[test|grad|perf|support|random] [OPERATION]",
    "Every operation of every backend of this machine.\v"
    "test: each case against the reference, at 1 and 2 threads, outputs poisoned, buffers guarded, twice at other "
    "addresses with the same bytes; then some random shapes.\n"
    "grad: backward operations against finite differences of the forward ones.\n"
    "perf: the fastest of some calls, GFLOP/s or GB/s.\n"
    "support: which operations a backend has.\n"
    "random: random shapes alone.\n"
    "Without a mode: test and grad.",
    NULL,
    NULL,
    NULL};

int main(int argc, char **argv)
{
    struct error err;
    struct options options = {.mode = "", .seed = 2026, .count = 0, .threads = 1};
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    const char *mode = options.mode;
    int failed = 0;
    if (!options.count) options.count = strcmp(mode, "random") == 0 ? 50 : 2;
    backend_count = kernels_available(backends, 3);
    oracle = checked(kernels_find("reference", NULL)->device_create(0, 1, &err), &err);
    if (strcmp(mode, "perf") == 0) return run_perf(&options);
    if (strcmp(mode, "support") == 0) return run_support();
    if (strcmp(mode, "grad") && strcmp(mode, "random")) failed += run_tests(options.only);
    if (strcmp(mode, "grad")) failed += run_random(&options);
    if (strcmp(mode, "grad") == 0 || !mode[0]) failed += run_gradients(options.only);
    printf(failed ? "FAILED: %d cases\n" : "passed\n", failed);
    return failed ? 1 : 0;
}
