/* The plan: points, and the tree of stages that computes them, each training prefix once.
 *
 * At full size: 10^5 points planned in under 2 s and 1 GiB, so a stage here is compact and points to the sweep; the
 * whole description (struct stage) is made when it is handed out. Pure: no files, no MPI; the same sweep gives the same
 * plan on every machine.
 *
 * An identity is the XXH3-128 of a line of text that names everything the stage computes from: kind, parent's identity,
 * data digest, model, method, recipe, seed, steps. Throughput knobs are not in it. docs/architecture.md lists the
 * fields. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_PLAN_H
#define TUNELAW_ORCHESTRATOR_PLAN_PLAN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "io/store/store.h"
#include "orchestrator/sweep/sweep.h"
#include "workers/stage/stage.h"

#define PLAN_NONE ((uint32_t)-1)

struct plan_stage {
    struct digest identity;
    enum stage_kind kind;
    uint32_t parent; /* index of a stage, PLAN_NONE for a root; parents come before children */
    uint32_t point;  /* index of the point that it computes, PLAN_NONE for pretraining and prefixes */
    uint32_t task;   /* index: its data set is what the stage reads */
    uint32_t model, tokens, method, size, rate, seed, examples; /* indices into the sweep's axes */
    uint32_t reference; /* of the plan's references: of a candidate, or of a stage whose rate (GRID_TUNED) it tunes */
    uint32_t degree;    /* devices */
    uint64_t first_step, last_step;
    double flops;            /* of training */
    double recompute_flops;  /* of activations that are computed again, beside `flops` */
    double evaluation_flops; /* of validation and test, finetuning */
    double seconds;          /* predicted, on `degree` devices */
    double path_seconds;     /* longest chain from the start of this stage to the end of the tree */
    double priority;         /* in the schedule: path_seconds, or by plan_order_by_information */
    uint64_t bytes;          /* on one device */
    uint32_t share;          /* of its device, orchestrator/plan/share.h; 0: the whole of each */
    bool recompute;
};

/* A method's learning rates, tried at one cell; the best by validation is that of the method's other points. */
struct plan_reference {
    struct digest identity; /* of its candidates' identities */
    uint32_t method, task;  /* of the cell */
    uint32_t *candidates;   /* stages, by ascending learning rate */
    size_t count;           /* 0: they are in another part of the sweep, which comes before this one */
    double tail;            /* seconds of the longest chain that waits for it */
};

struct plan {
    const struct sweep *sweep; /* not owned */
    struct store_point *points;
    size_t point_count;
    struct plan_stage *stages;
    size_t stage_count;
    uint32_t *stage_of_point;
    struct plan_reference *references;
    size_t reference_count;
    struct digest identity; /* of all stages: equal plans, equal digests */
    double flops;           /* of all stages */
    double recompute_flops; /* of all stages */
    double flops_alone;     /* if every point trained its own prefix */
};

/* rate: predicted FLOP/s of one device. NULL with *err (memory does not fit, identical points). */
struct plan *plan_create(const struct sweep *sweep, double rate, struct error *err);
void plan_destroy(struct plan *plan);

/* The kind of training of a stage, of 1 + method_count of a sweep: 0 pretraining, then finetuning by its methods. */
static inline size_t plan_class(const struct plan_stage *stage)
{
    return stage->kind == STAGE_PRETRAIN ? 0 : 1 + stage->method;
}

/* The pretraining that a stage builds on, itself or an ancestor; PLAN_NONE: a folder's weights. */
uint32_t plan_base(const struct plan *plan, uint32_t index);

/* A number, from 1, of the base that a stage uses and leaves as it is: the same for stages on the same weights. 0: it
 * trains them. */
uint32_t plan_kept_base(const struct plan *plan, uint32_t index);

/* Everything a worker needs for stage `index`, as of attempt `attempt`, in run directory `dir` (absolute). The
 * learning rate of a stage that waits for a reference is 0: the master fills it in. */
void plan_stage_describe(const struct plan *plan, size_t index, const char *dir, uint32_t attempt, struct stage *out);

/* Bytes on all devices of a stage: its arenas, and what a process has beside them there. */
uint64_t plan_stage_bytes(const struct plan *plan, const struct plan_stage *stage);

/* Whether a stage waits for the candidates of its reference, or is one of them; the learning rate of one of them. */
bool plan_is_tuned(const struct plan_stage *stage);
bool plan_is_candidate(const struct plan_stage *stage);
double plan_stage_rate(const struct plan *plan, const struct plan_stage *stage);

/* What the plan asks of so many devices. seconds: a lower bound, the larger of the longest chain and of all work shared
 * evenly. */
struct plan_forecast {
    double seconds, longest_seconds, device_seconds;
    uint64_t largest_bytes;      /* of a stage, on one device */
    uint64_t largest_gang_bytes; /* of a stage, on all its devices */
    uint32_t widest;             /* devices of the stage that needs most */
};
struct plan_forecast plan_forecast(const struct plan *plan, size_t devices);

/* The tables that `tunelaw plan` prints; one line a point; and all of it as JSON (-1: memory, or the stream failed). */
void plan_print(const struct plan *plan, size_t devices, FILE *out);
void plan_print_points(const struct plan *plan, FILE *out);
int plan_print_json(const struct plan *plan, size_t devices, FILE *out);

#endif
