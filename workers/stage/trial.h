/* What this machine's devices do in training, measured in a moment by a worker that is asked for it: training steps and
 * evaluation of a stage of a sweep, without its parent and without writing anything; matrix products.
 *
 * A trial takes memory as the stage itself does, less the cache of generation, with initial weights in the place of the
 * base's, and the stage's own data. At full size: a 16B model over the devices of a node, one step of which may take
 * longer than the seconds that were asked for: at least two are taken, the first one untimed. */
#ifndef TUNELAW_WORKERS_STAGE_TRIAL_H
#define TUNELAW_WORKERS_STAGE_TRIAL_H

#include <stdint.h>

#include "io/error.h"
#include "io/store/store.h"
#include "kernels/precision.h"
#include "workers/stage/stage.h"

enum trial_kind {
    TRIAL_STAGE,    /* the JSON of a stage is behind the request; the answer is a struct trial */
    TRIAL_PRODUCTS, /* of matrices; a struct trial */
    TRIAL_MACHINE   /* what there is, and with `seconds` above 0 the rate; a struct probe (workers/stage/probe.h) */
};

/* FRAME_TRIAL to a worker of the same build. */
struct trial_request {
    enum trial_kind kind;
    double seconds; /* to measure for, of training and of evaluation */
    char backend[16];
    enum precision precision;
    uint32_t threads; /* of the host, a device */
    uint32_t size;    /* of the matrices: [size][size] */
};

/* The answer. */
struct trial {
    char message[STORE_MESSAGE]; /* "": it was measured; else why not */
    double steps;                /* timed, of the mean process */
    double step_seconds;         /* mean of them */
    double step_tokens;
    double evaluation_seconds, evaluation_tokens, evaluation_targets, evaluation_sequences; /* of validation, timed;
                                                                                              zeros: it has none */
    double flops_per_second;                                                                /* of matrix products */
    uint64_t peak_bytes; /* of the process, as a stage's */
};

/* 0, or -1: also where the data set is not that of the plan. Folders of weights are not looked at. */
int trial_stage(const struct stage *stage, double seconds, struct trial *trial, struct error *err);

/* FLOP/s of matrix products. */
int trial_products(const struct trial_request *request, struct trial *trial, struct error *err);

#endif
