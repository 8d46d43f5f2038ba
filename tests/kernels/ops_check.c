/* A backend computes a case in buffers with guard bytes around them and poison in its outputs, then again at other
 * addresses and after other work, where it must give the same bytes. */
#include "tests/kernels/ops_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GUARD = 64 };                        /* bytes before and after a buffer */
enum { POISON = 0x7fc1, GUARDED = 0x7fa5 }; /* in each two bytes: NaN as a bfloat16, as a float, as a double */

static void *checked(void *memory, const struct error *err)
{
    if (memory) return memory;
    fprintf(stderr, "test_kernels_ops: %s\n", err ? err->text : "out of memory");
    exit(1);
}

struct device *ops_device(const struct kernels *k, int threads)
{
    struct error err;
    return checked(k->device_create(0, threads, &err), &err);
}

static struct device *oracle(void)
{
    static struct device *device;
    if (!device) device = ops_device(kernels_find("reference", NULL), 1);
    return device;
}

static void fill(unsigned char *x, size_t bytes, unsigned halves)
{
    for (size_t i = 0; i < bytes; i++)
        x[i] = (unsigned char)(i % 2 ? halves >> 8 : halves);
}

/* Where buffers lie: all of them aligned (0), or two of the ways 1 .. SHIFTS an element further. Of any two of the
 * first six buffers each is off in some way in which the other is not. */
enum { SHIFTS = 4 };

/* Where a buffer begins in its memory, and the bytes of that memory. */
static size_t begin(const struct run *run, const struct buffer *b, int shift)
{
    static const int ways[] = {1 + 2, 1 + 4, 1 + 8, 2 + 4, 2 + 8, 4 + 8};
    bool off = shift > 0 && (ways[(b - run->b) % 6] >> (shift - 1) & 1);
    return GUARD + (off ? run_bytes(run, b) : 0);
}

static size_t extent(const struct run *run, const struct buffer *b, int shift)
{
    return (begin(run, b, shift) + b->n * run_bytes(run, b) + GUARD + 3) / 4 * 4;
}

/* Place the buffers of a run in device memory. memory[] is what to release. */
static void place(const struct kernels *k, struct device *d, struct run *run, int shift, void *memory[BUFFERS])
{
    struct error err;
    run->bytes = k->element_bytes(d);
    for (int i = 0; i < run->count; i++) {
        struct buffer *b = &run->b[i];
        size_t bytes = extent(run, b, shift), first = begin(run, b, shift);
        unsigned char *host = checked(malloc(bytes), NULL);
        fill(host, bytes, GUARDED);
        if (b->role == OUT)
            fill(host + first, b->n * run_bytes(run, b), POISON);
        else
            run_store(run, b, b->initial, host + first);
        memory[i] = checked(k->allocate(d, bytes, &err), &err);
        k->to_device(d, memory[i], host, bytes);
        k->synchronise(d, NULL);
        b->x = (unsigned char *)memory[i] + first;
        free(host);
    }
}

/* Fetch one buffer and look at its guards, and at an input's contents. The caller frees the result. */
static float *fetch(const struct kernels *k, struct device *d, const struct run *run, const struct buffer *b,
                    const void *memory, int shift, const char **wrong)
{
    size_t bytes = extent(run, b, shift), first = begin(run, b, shift), last = first + b->n * run_bytes(run, b);
    unsigned char *host = checked(malloc(bytes), NULL), *guards = checked(malloc(bytes), NULL);
    k->to_host(d, host, memory, bytes);
    fill(guards, bytes, GUARDED);
    if (memcmp(host, guards, first) || memcmp(host + last, guards + last, bytes - last))
        *wrong = "wrote outside a buffer";
    float *x = checked(malloc(b->n * sizeof *x + 1), NULL);
    run_load(run, b, host + first, x);
    run_store(run, b, b->initial, guards + first);
    if (b->role == IN && memcmp(host + first, guards + first, last - first)) *wrong = "changed an input";
    free(host);
    free(guards);
    return x;
}

/* Run a case on a backend; results[i] are the contents of the buffers afterwards. NULL or what is wrong. */
static const char *execute(const struct op *op, const struct kernels *k, struct device *d, struct run *run, int shift,
                           float *results[BUFFERS])
{
    void *memory[BUFFERS];
    const char *wrong = NULL;
    struct error err;
    run->result = 0;
    place(k, d, run, shift, memory);
    op->call(k, d, run);
    if (k->synchronise(d, &err)) wrong = "the device failed";
    for (int i = 0; i < run->count; i++) {
        results[i] = fetch(k, d, run, &run->b[i], memory[i], shift, &wrong);
        k->release(d, memory[i]);
    }
    k->release(d, run->prefixes);
    run->prefixes = NULL;
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

/* Of one buffer, where a backend stores reals as the run's precision says. */
static double bound_of(const struct op *op, const struct run *run, const struct buffer *b)
{
    if (run->precision != PRECISION_BF16) return op->bounds.fp32;
    return b->kind == REALS ? op->bounds.reals : op->bounds.floats;
}

/* NULL, or what is wrong with the buffer where error and bound are farthest apart. */
static const char *compare(const struct op *op, double slack, const struct run *run, float *const results[],
                           float *const expected[], double *error, double *bound)
{
    for (int i = 0; i < run->count; i++) {
        const struct buffer *b = &run->b[i];
        if (b->role == IN) continue;
        if (b->kind == WORDS) {
            if (b->n && memcmp(results[i], expected[i], b->n * 4)) return "other words than the reference's";
            continue;
        }
        for (size_t j = 0; run->precision == PRECISION_BF16 && b->kind == REALS && j < b->n; j++)
            expected[i][j] = bf16_value(bf16_of(expected[i][j]));
        *error = normalised_error(b->n, results[i], expected[i]);
        *bound = slack * bound_of(op, run, b);
        if (!(*error <= *bound)) return "differs from the reference";
    }
    return NULL;
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

void ops_print(const char *verdict, const struct target *target, const struct shape *shape)
{
    printf("%-7s %-10s %-4s %-22s", verdict, target->k->name, precision_name(target->precision), shape->op);
    for (int i = 0; i < PARAMETERS; i++)
        printf(" %zu", shape->p[i]);
}

static void set_up(const struct op *op, const struct target *target, const struct shape *shape, struct run *run)
{
    *run = (struct run){.precision = target->precision};
    memcpy(run->p, shape->p, sizeof run->p);
    op->setup(run);
    run_round(run);
}

static const char *wrong_result(const struct shape *shape, double bound, double result, double expected)
{
    bool near = fabs(result - expected) <= 1e-11 * (double)shape->p[0] + sqrt(bound) * fabs(expected);
    return near ? NULL : "returned another value";
}

/* Products of a library that chooses its algorithm by the alignment of what it is given, too. */
static bool chosen_by_address(const struct op *op, const struct target *target)
{
    return !strcmp(target->k->name, "cuda") && (!strncmp(op->name, "matmul", 6) || !strcmp(op->name, "linear"));
}

/* NULL, or in what the case gives something else at other addresses (shift 0: at the same). */
static const char *execute_again(const struct op *op, const struct target *target, struct run *run, int shift,
                                 double slack, float *const first[BUFFERS], float *const expected[BUFFERS])
{
    float *again[BUFFERS];
    double result = run->result, error, bound;
    const char *wrong = execute(op, target->k, target->device, run, shift, again);
    if (!wrong && shift > 0 && chosen_by_address(op, target))
        wrong = compare(op, slack, run, again, expected, &error, &bound);
    else if (!wrong)
        wrong = same_bytes(run, first, again);
    if (!wrong && memcmp(&result, &run->result, sizeof result)) wrong = "returned other bytes at another address";
    release_results(run, again);
    run->result = result;
    return wrong;
}

int ops_check(const struct target *target, const struct shape *shape, double slack)
{
    const struct op *op = op_find(shape->op);
    struct run run;
    float *expected[BUFFERS], *first[BUFFERS];
    double error = 0, bound = 0;
    set_up(op, target, shape, &run);
    const char *wrong = execute(op, kernels_find("reference", NULL), oracle(), &run, 0, expected);
    double expected_result = run.result;
    const char *why = execute(op, target->k, target->device, &run, 0, first);
    if (!why) why = wrong;
    if (!why) why = compare(op, slack, &run, first, expected, &error, &bound);
    if (!why) why = wrong_result(shape, slack * op->bounds.fp32, run.result, expected_result);
    for (int shift = chosen_by_address(op, target) ? 0 : 1; !why && shift <= SHIFTS; shift++)
        why = execute_again(op, target, &run, shift, slack, first, expected);
    if (why) {
        ops_print("FAILED", target, shape);
        printf(": %s (error %.1e, bound %.1e)\n", why, error, bound);
    }
    release_results(&run, expected);
    release_results(&run, first);
    run_free(&run);
    return why ? 1 : 0;
}

/* Elements that are NaN in the reference and numbers here. */
static size_t hidden_nans(const struct run *run, float *const results[], float *const expected[])
{
    size_t hidden = 0;
    for (int i = 0; i < run->count; i++) {
        for (size_t j = 0; run->b[i].role != IN && run->b[i].kind != WORDS && j < run->b[i].n; j++) {
            hidden += isnan(expected[i][j]) && isfinite(results[i][j]);
        }
    }
    return hidden;
}

int ops_check_nan(const struct target *target, const struct nan_case *c)
{
    const struct op *op = op_find(c->shape.op);
    struct run run;
    float *expected[BUFFERS], *results[BUFFERS];
    set_up(op, target, &c->shape, &run);
    run.b[c->buffer].initial[0] = NAN;
    execute(op, kernels_find("reference", NULL), oracle(), &run, 0, expected);
    double expected_result = run.result;
    execute(op, target->k, target->device, &run, 0, results);
    size_t hidden = hidden_nans(&run, results, expected) + (isnan(expected_result) && !isnan(run.result));
    if (hidden) {
        ops_print("FAILED", target, &c->shape);
        printf(": hides a NaN of input %d in %zu elements\n", c->buffer, hidden);
    }
    release_results(&run, expected);
    release_results(&run, results);
    run_free(&run);
    return hidden ? 1 : 0;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double fastest(const struct op *op, const struct target *target, struct run *run)
{
    double best = INFINITY, end = seconds() + 0.05;
    op->call(target->k, target->device, run);
    target->k->synchronise(target->device, NULL);
    do {
        double start = seconds();
        op->call(target->k, target->device, run);
        target->k->synchronise(target->device, NULL);
        best = fmin(best, seconds() - start);
    } while (seconds() < end);
    return best;
}

/* Each input and output once, what is both twice. */
static double bytes_moved(const struct run *run)
{
    size_t bytes = 0;
    for (int i = 0; i < run->count; i++)
        bytes += run->b[i].n * run_bytes(run, &run->b[i]) * (run->b[i].role == INOUT ? 2 : 1);
    return (double)bytes;
}

void ops_measure(const struct target *target, const struct shape *shape)
{
    const struct op *op = op_find(shape->op);
    struct run run;
    void *memory[BUFFERS];
    set_up(op, target, shape, &run);
    place(target->k, target->device, &run, 0, memory);
    double time = fastest(op, target, &run);
    ops_print("perf", target, shape);
    printf(": %.1f us, %.1f %s\n", 1e6 * time, 1e-9 * (op->work ? op->work(&run) : bytes_moved(&run)) / time,
           op->flops ? "GFLOP/s" : "GB/s");
    for (int i = 0; i < run.count; i++)
        target->k->release(target->device, memory[i]);
    target->k->release(target->device, run.prefixes);
    run_free(&run);
}
