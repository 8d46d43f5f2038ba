/* Tests of the operations of all backends: a list of cases an operation, run by test_ops.c. */
#ifndef TUNELAW_TESTS_OPS_H
#define TUNELAW_TESTS_OPS_H

#include "kernels/kernels.h"

enum { PARAMETERS = 7, BUFFERS = 12 };
enum role { IN, OUT, INOUT };

/* An array of 32-bit words that an operation gets. OUT is poisoned before the call. */
struct buffer {
    enum role role;
    bool integers; /* compared as such */
    size_t n;
    float *initial; /* host */
    float *x;       /* where it lies for this call, in the device's memory */
};

/* One call of one operation. */
struct run {
    size_t p[PARAMETERS]; /* the case's sizes; each operation gives them their meaning */
    int count;
    struct buffer b[BUFFERS];
    struct attention attention;
    struct attention_prefix *prefixes; /* of its sequences, for one call */
    uint32_t *offsets, *kv_head_of;
    double result; /* of an operation that returns one */
    uint64_t draws;
};

struct op {
    const char *name;
    double bound; /* of the normalised mean square error; 0: the same bytes */
    void (*setup)(struct run *run);
    void (*call)(const struct kernels *k, struct device *d, struct run *run);
    double (*work)(const size_t p[PARAMETERS]); /* of one call: operations where `flops`, else bytes moved */
    bool flops;
};

struct shape {
    const char *op;
    size_t p[PARAMETERS];
};

/* A shape with a NaN in the first place of one input: what becomes NaN in the reference must not become a number. */
struct nan_case {
    struct shape shape;
    int buffer;
};

/* Sizes to be drawn: parameter i between least[i] and most[i], small ones as often as large ones; then `tidy`, where
 * sizes depend on each other. */
struct random_shape {
    const char *op;
    size_t range[PARAMETERS][2];
    void (*tidy)(size_t p[PARAMETERS]);
};

extern const struct op ops[];
extern const size_t op_count;
extern const struct shape test_shapes[], perf_shapes[];
extern const struct nan_case nan_cases[];
extern const struct random_shape random_shapes[];
extern const size_t random_shape_count;
extern const size_t test_shape_count, perf_shape_count, nan_case_count;

const struct op *op_find(const char *name);

/* Buffers of a run. Contents are drawn from a fixed key. */
struct buffer *run_buffer(struct run *run, enum role role, size_t n);
void run_normal(struct run *run, enum role role, size_t n, double deviation);
void run_positive(struct run *run, enum role role, size_t n, double largest);
int32_t *run_integers(struct run *run, size_t n, int32_t lowest, int32_t highest); /* to overwrite at will */
void run_order(struct run *run, int buffer); /* of the integers in a buffer: places by ascending value */
double run_draw(struct run *run);            /* normal */
uint64_t run_below(struct run *run, uint64_t bound);
void run_sequences(struct run *run, size_t count, size_t tokens, size_t heads, size_t kv_heads, size_t head_width);
/* Its attention with prefixes of up to `length` places, x [length][2][key/value heads][head width]; dx as x, or NULL.
 */
const struct attention *run_prefixes(struct run *run, size_t length, float *x, float *dx);
void run_free(struct run *run);

/* Finite differences against the backward operations; returns how many failed. `only` may be NULL. */
int gradients_check(const struct kernels *k, const char *only);

#endif
