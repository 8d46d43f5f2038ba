/* Which ready stage goes to which devices: a pure function of ready stages, free devices and the time that is left. The
 * master and the simulator (orchestrator/plan/simulate.h) share it.
 *
 * At full size: 10^5 ready stages, 10^3 nodes, thousands of decisions a second: for each number of devices a heap of
 * ready stages (longest remaining chain first, then the larger one, then the order of the plan), and for the chosen
 * stage the smallest gap between busy devices that fits it, on the node with the fewest free ones. A stage that fits
 * nowhere does not hold up smaller ones behind it.
 *
 * A stage with a share of a device (orchestrator/plan/share.h) takes a free device where there is one; else it goes
 * beside others, to the device with the least room that is enough. Not while a stage that comes before it waits for
 * whole devices: those would never become free.
 *
 * A worker keeps the weights of a base that its last stage has left as they are (workers/stage/residence.h). So devices
 * that are free get, of the stages that come next to within a thirty-second of their priority, one on the base that is
 * there: of equal ones nothing is lost, and of nearly equal ones hardly anything. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_SCHEDULE_H
#define TUNELAW_ORCHESTRATOR_PLAN_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "orchestrator/plan/share.h"

struct schedule_stage {
    uint32_t stage;  /* index in the plan */
    uint32_t degree; /* devices side by side on one node */
    double priority; /* seconds of the longest chain from here */
    double flops;
    double seconds; /* until it ends or has its first checkpoint, whichever comes first */
    uint32_t share; /* of its device: 0 or SHARE_WHOLE: the whole; less only where degree is 1 */
    uint32_t base;  /* a number of the base that it uses and leaves as it is, from 1; 0: it leaves none */
};

struct schedule_device {
    uint32_t used; /* sum of the shares on it */
    uint32_t base; /* of the last stage that was given to it */
    bool lost;     /* set aside: what is on it may end, nothing new comes */
};

struct schedule_node {
    uint32_t devices; /* that are not lost */
    uint32_t free;    /* of these: nothing is on them */
    uint32_t gap;     /* most free ones side by side */
    uint32_t shared;  /* that have room beside what is on them */
    uint32_t size;
    struct schedule_device *device; /* [size] */
};

/* Where a stage is; the caller keeps it until schedule_release. */
struct schedule_seat {
    uint32_t node, first, degree; /* devices first .. first+degree-1 */
    uint32_t share;               /* of each */
};

struct schedule_heap {
    struct schedule_stage *stages;
    size_t count, capacity;
};

/* Between stages of different widths: the longest chain first, or the chain that keeps most device seconds from
 * ending. Which one packs better depends on the grid: orchestrator/plan/simulate.h tries both. */
enum schedule_order { SCHEDULE_CHAIN, SCHEDULE_CHAIN_DEVICES };

/* Heaps of stages with a share: class c holds those of which 2^c, but not 2^(c+1), fill a device. */
enum { SCHEDULE_SHARES = 7 };

struct schedule {
    enum schedule_order order;                    /* may be changed at any time */
    struct schedule_heap *heaps;                  /* [degrees]: heaps[d - 1] holds the stages that need d devices */
    struct schedule_heap shares[SCHEDULE_SHARES]; /* those that need a part of one */
    size_t degrees;
    struct schedule_heap late; /* did not fit into the time that was left; a list */
    double late_least;         /* the fewest seconds among them */
    size_t count;              /* of stages in all */
};

void schedule_init(struct schedule *schedule);
void schedule_free(struct schedule *schedule);
int schedule_add(struct schedule *schedule, const struct schedule_stage *stage); /* 0, or -1: out of memory */

/* A node of free devices. -1: out of memory. Freed by schedule_node_free, which leaves one without devices. */
int schedule_node_init(struct schedule_node *node, uint32_t devices);
/* A copy on which nothing runs yet; lost devices are lost there, too. */
int schedule_node_copy(struct schedule_node *node, const struct schedule_node *from);
void schedule_node_free(struct schedule_node *node);
/* A device is set aside. */
void schedule_node_lose(struct schedule_node *node, uint32_t device);
/* The most devices side by side that are not lost. */
uint32_t schedule_node_widest(const struct schedule_node *node);

/* Take the best stage that fits somewhere now and needs no more than seconds_left; its share of its devices is taken.
 * 1 and *stage, *seat; or 0: nothing fits. */
int schedule_next(struct schedule *schedule, struct schedule_node *nodes, size_t node_count, double seconds_left,
                  struct schedule_stage *stage, struct schedule_seat *seat);

/* The seat takes `share` more of its devices: true where there is so much, or where nothing else is on them (then it
 * has them whole at the most). */
bool schedule_grow(struct schedule_node *nodes, struct schedule_seat *seat, uint32_t share);
void schedule_release(struct schedule_node *nodes, const struct schedule_seat *seat);

/* The longest chain among the stages that wait; 0: none waits. */
double schedule_longest(const struct schedule *schedule);

#endif
