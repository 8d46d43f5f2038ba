/* Ready stages to nodes: a heap by longest chain, best fit inside the nodes. */
#include "orchestrator/schedule.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void schedule_init(struct schedule *schedule)
{
    memset(schedule, 0, sizeof *schedule);
}

void schedule_free(struct schedule *schedule)
{
    free(schedule->heap);
    free(schedule->aside);
    schedule_init(schedule);
}

static bool before(const struct schedule_stage *a, const struct schedule_stage *b)
{
    if (a->priority > b->priority || a->priority < b->priority) return a->priority > b->priority;
    if (a->flops > b->flops || a->flops < b->flops) return a->flops > b->flops;
    return a->stage < b->stage;
}

static void swap(struct schedule_stage *a, struct schedule_stage *b)
{
    struct schedule_stage t = *a;
    *a = *b;
    *b = t;
}

int schedule_add(struct schedule *schedule, const struct schedule_stage *stage)
{
    if (schedule->count == schedule->capacity) {
        size_t capacity = schedule->capacity ? 2 * schedule->capacity : 64;
        struct schedule_stage *grown = realloc(schedule->heap, capacity * sizeof *grown);
        if (!grown) return -1;
        schedule->heap = grown;
        schedule->capacity = capacity;
    }
    size_t at = schedule->count++;
    schedule->heap[at] = *stage;
    while (at > 0 && before(&schedule->heap[at], &schedule->heap[(at - 1) / 2])) {
        swap(&schedule->heap[at], &schedule->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    return 0;
}

static struct schedule_stage pop(struct schedule *schedule)
{
    struct schedule_stage top = schedule->heap[0];
    schedule->heap[0] = schedule->heap[--schedule->count];
    for (size_t at = 0;;) {
        size_t best = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < schedule->count && before(&schedule->heap[child], &schedule->heap[best])) best = child;
        if (best == at) return top;
        swap(&schedule->heap[at], &schedule->heap[best]);
        at = best;
    }
}

/* The node with the fewest free devices that fits; false: none. */
static bool best_fit(const struct schedule_node *nodes, size_t count, uint32_t degree, size_t *node)
{
    bool found = false;
    for (size_t i = 0; i < count; i++)
        if (nodes[i].free >= degree && (!found || nodes[i].free < nodes[*node].free)) {
            *node = i;
            found = true;
        }
    return found;
}

int schedule_next(struct schedule *schedule, struct schedule_node *nodes, size_t node_count, double seconds_left,
                  struct schedule_stage *stage, size_t *node)
{
    uint32_t most = 0;
    for (size_t i = 0; i < node_count; i++)
        if (nodes[i].free > most) most = nodes[i].free;
    size_t aside = 0;
    int found = 0;
    while (most > 0 && schedule->count > 0 && !found) {
        struct schedule_stage top = pop(schedule);
        if (top.degree <= most && top.seconds <= seconds_left && best_fit(nodes, node_count, top.degree, node)) {
            nodes[*node].free -= top.degree;
            *stage = top;
            found = 1;
            break;
        }
        if (aside == schedule->aside_capacity) {
            size_t capacity = aside ? 2 * aside : 64;
            struct schedule_stage *grown = realloc(schedule->aside, capacity * sizeof *grown);
            if (!grown) { /* put it back and let a later call try again */
                schedule_add(schedule, &top);
                break;
            }
            schedule->aside = grown;
            schedule->aside_capacity = capacity;
        }
        schedule->aside[aside++] = top;
    }
    while (aside > 0)
        schedule_add(schedule, &schedule->aside[--aside]); /* the heap has had room for them */
    return found;
}
