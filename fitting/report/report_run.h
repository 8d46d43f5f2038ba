/* What a sweep took: read from its store and its log of executed stages, for the report alone. Internal to fitting/.
 *
 * At full size: 10^5 points. One pass over the results; curves are read of a few chosen points only. */
#ifndef TUNELAW_FITTING_REPORT_REPORT_RUN_H
#define TUNELAW_FITTING_REPORT_REPORT_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fitting/observations/observations.h"
#include "io/store/store.h"

/* Committed points of one task, method, PET size and model size, in this order. */
struct run_cost {
    char task[OBSERVATION_NAME], method[OBSERVATION_NAME];
    double pet_size, parameters;
    size_t points, retried; /* retried: needed more than one attempt */
    double seconds, flops;  /* sums */
    double trainable;
    uint64_t peak_bytes; /* largest */
    size_t longest;      /* row of the done point with most examples, then pretraining tokens; SIZE_MAX: none */
    double longest_examples, longest_tokens;
};

/* One committed point that was trained. */
struct run_point {
    size_t cost; /* index into costs */
    double seconds, flops;
};

struct run_curve {
    size_t cost;
    double examples;
    bool diverged;
    struct store_curve curve;
};

/* Points that ran in the same way. */
struct run_kind {
    char device[STORE_NAME + 1], execution_class[STORE_NAME + 1], version[STORE_NAME + 1];
    size_t points;
    double seconds;
};

enum run_stage { RUN_PRETRAIN = 0, RUN_FINETUNE, RUN_STAGES };
/* Attempts of stages, from logs/stages.jsonl. */
struct run_stages {
    size_t completed, ended; /* ended: attempts that did not complete the stage */
    double seconds, flops;   /* of those that completed */
    double lost_seconds;     /* of the others; their steps up to a checkpoint are not lost */
    double recomputed_steps, steps;
};

struct run_record {
    struct run_cost *costs;
    size_t cost_count;
    struct run_point *points;
    size_t point_count;
    struct run_curve *curves; /* in order of costs; the done ones of a cost first */
    size_t curve_count;
    struct run_kind *kinds;
    size_t kind_count;
    char (*hosts)[STORE_NAME + 1];
    size_t host_count;
    double started, finished; /* of points, seconds since 1970; 0: not known */
    bool has_stages;          /* the log is there */
    struct run_stages stages[RUN_STAGES];
    char shard[64], made_by[64], config_path[1024];
    char *provenance; /* JSON lines of a merge, "" for none */
    char *parameters; /* logs/parameters.txt: every key, those not in the file marked; NULL: not there */
};

/* Read the store in a run directory and what lies beside it. -1 with *err: no such store, memory. */
int run_record_read(const char *dir, struct run_record *out, struct error *err);
void run_record_destroy(struct run_record *record);

#endif
