/* Backward operations beside the forward ones whose gradient they give. */
#ifndef TUNELAW_TESTS_OPS_GRADIENT_H
#define TUNELAW_TESTS_OPS_GRADIENT_H

#include "tests/kernels/ops.h"

enum { INPUTS = 4 };

struct gradient {
    const struct kernels *k;
    struct device *d;
    struct run run; /* integers and sequences; p */
    int inputs;
    size_t n[INPUTS], out_n, saved_n;
    double weight; /* of all of out, or 0: weights are drawn */
    float *host_x[INPUTS], *host_dx[INPUTS], *host_out, *host_weights;
    void *x[INPUTS], *dx[INPUTS], *out, *weights, *saved; /* the device's */
};

struct gradient_case {
    const char *op; /* the backward operation */
    size_t p[PARAMETERS];
    void (*setup)(struct gradient *g);
    void (*forward)(struct gradient *g);  /* x -> out */
    void (*backward)(struct gradient *g); /* x, out, saved, weights -> dx, which holds zeros */
};

extern const struct gradient_case gradient_cases[];
extern const size_t gradient_case_count;

#endif
