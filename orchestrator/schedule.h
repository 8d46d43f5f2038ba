/* Which ready stage goes to which node: a pure function of ready stages, free devices and the time that is left. The
 * master and the simulator (orchestrator/simulate.h) share it.
 *
 * At full size: 10^5 ready stages, 10^3 nodes, thousands of decisions a second: for each number of devices a heap of
 * ready stages (longest remaining chain first, then the larger one, then the order of the plan), and for the chosen
 * stage the node with the fewest free devices that still fits it. A stage that fits nowhere does not hold up smaller
 * ones behind it. */
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

struct schedule_heap {
    struct schedule_stage *stages;
    size_t count, capacity;
};

/* Between stages of different widths: the longest chain first, or the chain that keeps most device seconds from
 * ending. Which one packs better depends on the grid: orchestrator/simulate.h tries both. */
enum schedule_order { SCHEDULE_CHAIN, SCHEDULE_CHAIN_DEVICES };

struct schedule {
    enum schedule_order order;   /* may be changed at any time */
    struct schedule_heap *heaps; /* [degrees]: heaps[d - 1] holds the stages that need d devices */
    size_t degrees;
    struct schedule_heap late; /* did not fit into the time that was left; a list */
    double late_least;         /* the fewest seconds among them */
    size_t count;              /* of stages in all */
};

void schedule_init(struct schedule *schedule);
void schedule_free(struct schedule *schedule);
int schedule_add(struct schedule *schedule, const struct schedule_stage *stage); /* 0, or -1: out of memory */

/* Take the best stage that fits on some node now and needs no more than seconds_left; its devices are taken from that
 * node's `free`. 1 and *stage, *node; or 0: nothing fits. */
int schedule_next(struct schedule *schedule, struct schedule_node *nodes, size_t node_count, double seconds_left,
                  struct schedule_stage *stage, size_t *node);

/* The longest chain among the stages that wait; 0: none waits. */
double schedule_longest(const struct schedule *schedule);

#endif
