/* A sweep on a simulated clock: the scheduler of the real master, on predicted seconds, over so many nodes and jobs of
 * so many hours. Says before anything is launched how long a sweep takes and how well it fills a cluster.
 *
 * At full size: 10^5 stages on 10^3 nodes of 8 devices in a second or two; memory is a few dozen bytes a stage. Pure:
 * no files, no MPI, no clock of the machine. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_SIMULATE_H
#define TUNELAW_ORCHESTRATOR_PLAN_SIMULATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"
#include "orchestrator/plan/plan.h"
#include "orchestrator/plan/schedule.h"

struct simulate_options {
    size_t nodes;
    uint32_t devices;     /* a node */
    double wall_seconds;  /* of a job; 0: one job without an end. Cut stages go on in the next job where they were */
    double grace_seconds; /* before a job's end, when its stages checkpoint and stop */
    double checkpoint_seconds; /* from the start of a stage to its first checkpoint; 0: it has none on the way */
    enum schedule_order order;
    bool fifo; /* a plain queue instead, to compare with: first ready, first placed; what does not fit is passed */
    const struct schedule_node *cluster; /* [nodes] as they are, instead of `devices`; NULL: all alike */
    const double *seconds;               /* [stage] left to compute, negative: complete; NULL: all of the plan's */
};

struct simulate_result {
    double makespan_seconds;    /* sum over the jobs; the last one ends with its last stage */
    double lower_bound_seconds; /* the larger of all work shared evenly by the devices and the longest chain */
    double tight_bound_seconds; /* also: the gangs that fit beside each other on a node; what can be ready how early */
    double utilisation;         /* device seconds of work, of a stage with a share its share, over the makespan's */
    size_t jobs, placed;        /* placed: stages, each time that they were started */
    enum schedule_order order;
};

/* 0, or -1 with *err: a stage wider than a node, or one that reaches no checkpoint within a job. */
int simulate(const struct plan *plan, const struct simulate_options *options, struct simulate_result *result,
             struct error *err);

/* The same in each order of the scheduler: the one that ends first, options->order where they are equal. */
int simulate_best(const struct plan *plan, const struct simulate_options *options, struct simulate_result *result,
                  struct error *err);

#endif
