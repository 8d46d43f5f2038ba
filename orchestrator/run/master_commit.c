/* Results on their way to the disk: from an agent's message to the committer, and back when they are durable. */
#include <stdio.h>
#include <stdlib.h>

#include "io/log.h"
#include "orchestrator/run/master_internal.h"

#define STORE_INTERVAL 1.0 /* seconds between looks at the store's name */

int master_count_committed(struct master *master, struct error *err)
{
    struct store_result result;
    for (size_t p = 0; p < master->plan->point_count; p++) {
        if (!master->committed[p]) continue;
        if (store_read(master->store, p, &result, NULL, NULL, err) < 0) return -1;
        if (result.status == STORE_DIVERGED)
            master->summary.diverged++;
        else
            master->summary.done++;
    }
    master->summary.points = master->plan->point_count;
    return 0;
}

/* In the committer's thread, which shares nothing with the master but the plan. */
static void clean(void *context, uint32_t index)
{
    const struct master *master = context;
    plan_stage_describe(master->plan, index, master->options.dir, 0, master->clean_scratch);
    master->clean_scratch->generation = master->generation;
    stage_cleanup(master->clean_scratch);
}

int master_commit_start(struct master *master, struct error *err)
{
    master->committer = committer_start(master->store, master->log_fd, clean, master, err);
    return master->committer ? 0 : -1;
}

/* A run that was taken for dead (its node was cut off, its lock was lost) sees here that another goes on in its place.
 * What it has written since went to a file without a name. */
int master_check_store(struct master *master, struct error *err)
{
    double now = clock_elapsed();
    if (now - master->store_checked < STORE_INTERVAL) return 0;
    master->store_checked = now;
    return store_check_replaced(master->store, err);
}

int master_queue(struct master *master, uint32_t index, uint32_t node, const struct stage_outcome *outcome,
                 struct error *err)
{
    if (master->arrival_count == master->arrival_capacity) {
        size_t capacity = master->arrival_capacity ? 2 * master->arrival_capacity : 16;
        struct arrival *arrivals = realloc(master->arrivals, capacity * sizeof *arrivals);
        if (!arrivals) return error_set(err, "out of memory");
        master->arrivals = arrivals;
        master->arrival_capacity = capacity;
    }
    char line[MASTER_LINE];
    struct store_row row = outcome->row;
    row.index = master->plan->stages[index].point;
    row.execution.epoch = store_epoch(master->store);
    master_line(master, index, outcome, node, line);
    master->stages[index].state = STAGE_COMMITTING;
    master->arrivals[master->arrival_count++] = (struct arrival){index, outcome->status};
    return committer_add(master->committer, &row, line, index, err);
}

static int take_committed(struct master *master, const struct arrival *arrival, struct error *err)
{
    uint32_t point = master->plan->stages[arrival->stage].point;
    if (master_set_state(master, point, arrival->status, 1, false, NULL, err) != 0) return -1;
    master->committed[point] = 1;
    /* else the next run finds the stage in flight, and writes its line */
    if (!committer_unlogged(master->committer)) losses_end(master->losses, arrival->stage);
    if (arrival->status == STORE_DIVERGED)
        master->summary.diverged++;
    else
        master->summary.done++;
    master->summary.committed_now++;
    return master_complete(master, arrival->stage, err);
}

int master_take_committed(struct master *master, struct error *err)
{
    size_t count;
    if (master->first_arrival == master->arrival_count) return 0;
    if (!master->committing) {
        /* 1: the data set is what it was planned as, 0: not known yet, -1: it is not */
        int known = master->data_check ? data_check_poll(master->data_check, err) : 1;
        if (known <= 0) return known;
        committer_open(master->committer);
        master->committing = true;
    }
    int result = committer_poll(master->committer, &count, err); /* what came before a failure is on the disk */
    for (; count > 0; count--) {
        struct error why;
        if (take_committed(master, &master->arrivals[master->first_arrival++], result == 0 ? err : &why) != 0)
            return -1;
    }
    if (master->first_arrival == master->arrival_count) master->first_arrival = master->arrival_count = 0;
    return result;
}

int master_wake_fd(const struct master *master)
{
    return committer_fd(master->committer);
}
