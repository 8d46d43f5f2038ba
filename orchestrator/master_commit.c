/* Rows on their way to the disk: they wait for the next commit, which takes all that have arrived; then the log has
 * them, and what they made useless is removed. */
#include <stdio.h>
#include <stdlib.h>

#include "io/log.h"
#include "orchestrator/master_internal.h"

#define STORE_INTERVAL 1.0 /* seconds between looks at the store's name */
#define COMMIT_GROUP 256   /* rows under one pair of fdatasync */

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

/* One line of the log of executed stages. */
void master_log(struct master *master, uint32_t index, const struct stage_outcome *outcome, uint32_t node,
                double finished)
{
    const struct plan_stage *stage = &master->plan->stages[index];
    dprintf(master->log_fd,
            "{\"stage\": \"%s\", \"kind\": \"%s\", \"attempt\": %u, \"status\": \"%s\", \"from_step\": %llu, "
            "\"to_step\": %llu, "
            "\"steps\": %llu, \"recomputed_steps\": %llu, \"flops\": %.17g, \"seconds\": %.6f, "
            "\"predicted_seconds\": %.6f, \"model\": \"%s\", \"method\": \"%s\", \"predicted_bytes\": %llu, "
            "\"peak_bytes\": %llu, "
            "\"packed\": %u, \"rank\": %u, \"host\": \"%s\", \"finished\": %.3f, \"eta_seconds\": %.3f}\n",
            stage->identity.hex, stage_kind_name(stage->kind), master->stages[index].attempts,
            store_status_name(outcome->status), (unsigned long long)outcome->resumed_step,
            (unsigned long long)outcome->end_step, (unsigned long long)(stage->last_step - stage->first_step),
            (unsigned long long)outcome->recomputed_steps, outcome->flops, outcome->seconds, stage->seconds,
            master->sweep->models[stage->model].name,
            stage->kind == STAGE_PRETRAIN ? "pretrain" : method_name(master->sweep->methods[stage->method].config.kind),
            (unsigned long long)(stage->bytes * stage->degree), (unsigned long long)outcome->peak_bytes,
            outcome->packed ? outcome->packed : 1, node, master->node_info[node].host, finished, master_eta(master));
}

/* A run that was taken for dead (its node was cut off, its lock was lost) sees here that another goes on in its place.
 * What it has written since went to a file without a name. */
int master_check_store(struct master *master, struct error *err)
{
    double now = clock_elapsed();
    if (master->row_count == 0 && now - master->store_checked < STORE_INTERVAL) return 0;
    master->store_checked = now;
    if (!store_is_replaced(master->store)) return 0;
    return error_set(err, "%s: another run has taken this directory over; this one ends", master->options.dir);
}

int master_queue(struct master *master, uint32_t index, uint32_t node, const struct stage_outcome *outcome,
                 struct error *err)
{
    if (master->row_count == master->row_capacity) {
        size_t capacity = master->row_capacity ? 2 * master->row_capacity : 16;
        struct store_row *rows = realloc(master->rows, capacity * sizeof *rows);
        if (rows) master->rows = rows;
        struct arrival *arrivals = realloc(master->arrivals, capacity * sizeof *arrivals);
        if (arrivals) master->arrivals = arrivals;
        if (!rows || !arrivals) return error_set(err, "out of memory");
        master->row_capacity = capacity;
    }
    struct store_row *row = &master->rows[master->row_count];
    *row = outcome->row;
    row->index = master->plan->stages[index].point;
    row->execution.epoch = store_epoch(master->store);
    master->arrivals[master->row_count++] = (struct arrival){index, node, clock_wall(), *outcome};
    return 0;
}

/* Commit the rows that have arrived; then, and only then, what they made useless is removed. */
int master_commit(struct master *master, struct error *err)
{
    /* 1: the data set is what it was planned as, 0: not known yet, -1: it is not */
    int known = master->data_check ? data_check_poll(master->data_check, err) : 1;
    if (known <= 0) return known;
    for (size_t first = 0; first < master->row_count; first += COMMIT_GROUP) {
        size_t count = master->row_count - first < COMMIT_GROUP ? master->row_count - first : COMMIT_GROUP;
        if (store_commit(master->store, master->rows + first, count, err) != 0) return -1;
    }
    /* what the rows made useless may be in use by a run that has taken over in the meantime */
    if (master->row_count > 0 && master_check_store(master, err) != 0) return -1;
    for (size_t i = 0; i < master->row_count; i++) {
        const struct store_row *row = &master->rows[i];
        const struct arrival *arrival = &master->arrivals[i];
        uint32_t index = arrival->stage;
        if (master_set_state(master, (uint32_t)row->index, (enum store_status)row->result.status, 1, false, NULL,
                             err) != 0)
            return -1;
        master->committed[row->index] = 1;
        if (row->result.status == STORE_DIVERGED)
            master->summary.diverged++;
        else
            master->summary.done++;
        master->summary.committed_now++;
        master_log(master, index, &arrival->outcome, arrival->node, arrival->finished);
        stage_cleanup(master_describe(master, index));
        if (master_complete(master, index, err) != 0) return -1;
    }
    master->row_count = 0;
    return 0;
}
