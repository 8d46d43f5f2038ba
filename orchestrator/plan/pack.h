/* Which points may be trained together in one pass (docs/engine.md, Packs), and what a pack takes: pure functions, for
 * the master, which packs what is ready when a device is free, and for the plan, which shows what that comes to. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_PACK_H
#define TUNELAW_ORCHESTRATOR_PLAN_PACK_H

#include "orchestrator/plan/plan.h"

#define PACK_WIDEST 16 /* that `auto` chooses by measuring */

/* 0: two stages may be in one pack: of one base, model, task, degree. */
int pack_compare_groups(const struct plan *plan, const struct plan_stage *a, const struct plan_stage *b);

/* For qsort_r over indices of stages, context: the plan. Group by group, the longest of a group first. */
int pack_compare(const void *a, const void *b, void *plan);

/* A stage is of the kind that packs: an adapter's training from its beginning. What goes on from a shared beginning is
 * trained alone: few have one in common. */
bool pack_is_possible(const struct plan *plan, const struct plan_stage *stage);

/* What grows with each member: memory (as if each had its base), and seconds to the end. */
struct pack_load {
    double bytes, seconds;
};
/* Add a stage, if the device's memory is enough. */
bool pack_add(const struct plan *plan, struct pack_load *load, const struct plan_stage *stage);

/* The packs of a plan on so many devices, were all points of a base ready at once; never so wide that devices would be
 * idle. Pack k is stages order[first[k]] .. order[first[k + 1] - 1]; those of one stage are in it, too. */
struct pack_list {
    uint32_t *order;
    size_t *first; /* [count + 1] */
    size_t count;
};
/* 0, or -1: out of memory. No packs where resources.pack is 1. */
int pack_plan(const struct plan *plan, size_t devices, struct pack_list *out);
void pack_list_free(struct pack_list *list);

/* What a pack of the list takes: its FLOPs, bytes on one device, seconds. */
struct pack_cost {
    double flops, bytes, seconds;
};
struct pack_cost pack_cost(const struct plan *plan, const struct pack_list *list, size_t pack);

#endif
