/* What a file of cases is written with: an operation's buffers (setup), how it is called, and what it is held to. To
 * add an operation, add a line to the file's list. */
#ifndef TUNELAW_TESTS_OPS_CASE_H
#define TUNELAW_TESTS_OPS_CASE_H

#include <stddef.h>

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

/* Reals that are computed in fp32 and rounded once: under bf16 a few lie on the other side of a rounding. Bounds are
 * larger where a number between (x + residual, what GELU reads, the probabilities of attention) may be rounded or not.
 */
#define ROUNDED(bound)                                                                                                 \
    {                                                                                                                  \
        bound, 2e-6, bound                                                                                             \
    }
#define EXACT                                                                                                          \
    {                                                                                                                  \
        0, 0, 0                                                                                                        \
    }
#define OF(name) offsetof(struct kernels, name)
#define OP(name) #name, OF(name)
#define OP_LIST(ops)                                                                                                   \
    {                                                                                                                  \
        ops, sizeof(ops) / sizeof *(ops)                                                                               \
    }

#endif
