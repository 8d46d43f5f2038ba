/* Tests of the operations of all backends: a list of cases an operation, run by test_ops.c. */
#ifndef TUNELAW_TESTS_OPS_H
#define TUNELAW_TESTS_OPS_H

#include "kernels/kernels.h"

enum { PARAMETERS = 7, BUFFERS = 14 };
enum role { IN, OUT, INOUT };
/* What a buffer holds: floats, elements in the device's storage type, 32-bit words that are compared as such. */
enum kind { FLOATS, REALS, WORDS };

/* An array that an operation gets. OUT is poisoned before the call. */
struct buffer {
    enum role role;
    enum kind kind;
    size_t n;
    float *initial; /* host; of reals that are stored in bf16, numbers that they have */
    void *x;        /* where it lies for this call, in the device's memory */
};

/* One call of one operation. */
struct run {
    size_t p[PARAMETERS]; /* the case's sizes; each operation gives them their meaning */
    enum precision precision;
    size_t bytes; /* of a real, on the device that it runs on */
    int count;
    struct buffer b[BUFFERS];
    struct attention attention; /* its arrays are buffers 0, 1 and `prefixes` */
    void *prefixes;             /* in the device's memory, of one call */
    double result;              /* of an operation that returns one */
    uint64_t draws;
};

/* Of the normalised mean square error; 0: the same bytes. Under bf16 of reals against the reference's number, rounded,
 * and of floats. */
struct bounds {
    double fp32, reals, floats;
};

typedef void run_call(const struct kernels *k, struct device *d, struct run *run);

struct op {
    const char *name;
    size_t function; /* its place in struct kernels */
    struct bounds bounds;
    void (*setup)(struct run *run);
    run_call *call;
    double (*work)(
        const struct run *run); /* operations where `flops`, else bytes; NULL: each buffer once, INOUT twice */
    bool flops;
};

struct op_list {
    const struct op *ops;
    size_t count;
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

extern const struct shape test_shapes[], perf_shapes[];
extern const struct nan_case nan_cases[];
extern const struct random_shape random_shapes[];
extern const size_t random_shape_count;
extern const size_t test_shape_count, perf_shape_count, nan_case_count;

const struct op *op_at(size_t number); /* NULL behind the last one */
const struct op *op_find(const char *name);
bool op_there(const struct op *op, const struct kernels *k);

/* Buffers of a run. Contents are drawn from a fixed key. */
struct buffer *run_buffer(struct run *run, enum kind kind, enum role role, size_t n);
void run_normal(struct run *run, enum kind kind, enum role role, size_t n, double deviation);
void run_positive(struct run *run, enum kind kind, enum role role, size_t n, double largest);
int32_t *run_integers(struct run *run, size_t n, int32_t lowest, int32_t highest); /* to overwrite at will */
void run_order(struct run *run, int buffer); /* of the integers in a buffer: places by ascending value */
double run_draw(struct run *run);            /* normal */
uint64_t run_below(struct run *run, uint64_t bound);
/* The first two buffers: offsets of sequences, key/value heads. */
void run_sequences(struct run *run, size_t count, size_t tokens, size_t heads, size_t kv_heads, size_t head_width);
/* Its attention on a device, with prefixes of up to `length` places, x [length][2][key/value heads][head width]; dx as
 * x, or NULL. */
const struct attention *run_attention(struct run *run, const struct kernels *k, struct device *d, size_t length,
                                      const real *x, float *dx);
/* Reals become what the run's precision stores. */
void run_round(struct run *run);
/* A call of the reference on the initial contents, in place. */
void run_on_reference(struct run *run, run_call *call);
void run_free(struct run *run);

/* Bytes of an element of a buffer, and elements as they are stored there, from floats and back. */
size_t run_bytes(const struct run *run, const struct buffer *buffer);
void run_store(const struct run *run, const struct buffer *buffer, const float *from, void *to);
void run_load(const struct run *run, const struct buffer *buffer, const void *from, float *to);

/* Finite differences against the backward operations; returns how many failed. wanted(op): whether to. */
int gradients_check(const struct kernels *k, bool (*wanted)(const char *op));

#endif
