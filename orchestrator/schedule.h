/* Which ready stage goes to which node: a pure function of ready stages, free devices and the time that is left.
 *
 * At full size: 10^5 ready stages, 10^3 nodes, thousands of decisions a second: a heap of ready stages (longest
 * remaining chain first, then the larger one, then the order of the plan), and for the chosen stage the node with the
 * fewest free devices that still fits it. A stage that fits nowhere does not hold up smaller ones behind it. */
#ifndef TUNELAW_ORCHESTRATOR_SCHEDULE_H
#define TUNELAW_ORCHESTRATOR_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

struct schedule_stage {
    uint32_t stage;  /* index in the plan */
    uint32_t degree; /* devices on one node */
    double priority; /* seconds of the longest chain from here */
    double flops;
    double seconds; /* until it ends or has its first checkpoint, whichever comes first */
};

struct schedule_node {
    uint32_t devices; /* in all */
    uint32_t free;
};

struct schedule {
    struct schedule_stage *heap;
    size_t count, capacity;
    struct schedule_stage *aside; /* popped, fits nowhere at present */
    size_t aside_capacity;
};

void schedule_init(struct schedule *schedule);
void schedule_free(struct schedule *schedule);
int schedule_add(struct schedule *schedule, const struct schedule_stage *stage); /* 0, or -1: out of memory */

/* Take the best stage that fits on some node now and needs no more than seconds_left; its devices are taken from that
 * node's `free`. 1 and *stage, *node; or 0: nothing fits. */
int schedule_next(struct schedule *schedule, struct schedule_node *nodes, size_t node_count, double seconds_left,
                  struct schedule_stage *stage, size_t *node);

#endif
