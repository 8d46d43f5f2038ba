/* The master: from the plan to committed rows. Stages become ready when their parent is complete, go to agents, come
 * back as outcomes. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "orchestrator/run/master_internal.h"

struct stage *master_describe(struct master *master, uint32_t index)
{
    plan_stage_describe(master->plan, index, master->options.dir, master->stages[index].attempts, master->scratch);
    master->scratch->generation = master->generation;
    const struct plan_stage *stage = &master->plan->stages[index];
    if (plan_is_tuned(stage)) master->scratch->recipe.learning_rate = master->references[stage->reference].rate;
    return master->scratch;
}

struct master *master_create(const struct sweep *sweep, const struct plan *plan, struct transport *transport,
                             const struct master_options *options, struct error *err)
{
    struct master *master = calloc(1, sizeof *master);
    if (!master) {
        error_set(err, "out of memory");
        return NULL;
    }
    size_t ranks = (size_t)transport->size;
    master->sweep = sweep;
    master->plan = plan;
    master->transport = transport;
    master->options = *options;
    master->lock_fd = master->log_fd = -1;
    master->started = clock_elapsed();
    schedule_init(&master->schedule);
    if (calibration_init(&master->calibration, sweep, err) != 0) {
        master_destroy(master);
        return NULL;
    }
    master->stages = calloc(plan->stage_count + 1, sizeof *master->stages);
    master->nodes = calloc(ranks, sizeof *master->nodes);
    master->node_info = calloc(ranks, sizeof *master->node_info);
    master->scratch = calloc(1, sizeof *master->scratch);
    master->clean_scratch = calloc(1, sizeof *master->clean_scratch);
    if (!master->stages || !master->nodes || !master->node_info || !master->scratch || !master->clean_scratch) {
        error_set(err, "out of memory");
        goto failed;
    }
    if (master_open_store(master, err) != 0 || !(master->losses = losses_open(options->dir, plan, err)) ||
        master_packs_open(master, err) != 0 || master_list_children(master, err) != 0 ||
        master_find_work(master, err) != 0 || master_count_committed(master, err) != 0 ||
        master_log_open(master, err) != 0 || losses_start(master->losses, err) != 0 ||
        master_remove_leftovers(master, err) != 0 || master_commit_start(master, err) != 0)
        goto failed;
    if (master->schedule.count > 0) {
        master->data_check = data_check_start(sweep->tasks, sweep->task_count, err);
        if (!master->data_check) goto failed;
    }
    return master;
failed:
    master_destroy(master);
    return NULL;
}

void master_destroy(struct master *master)
{
    if (!master) return;
    data_check_destroy(master->data_check);
    committer_stop(master->committer);
    store_close(master->store);
    master_log_sync(master);
    losses_close(master->losses);
    free(master->references);
    if (master->log_fd >= 0) close(master->log_fd);
    if (master->lock_fd >= 0) close(master->lock_fd);
    schedule_free(&master->schedule);
    calibration_free(&master->calibration);
    free(master->stages);
    free(master->child_first);
    free(master->children);
    free(master->committed);
    free(master->attempts);
    for (int r = 0; master->nodes && r < master->transport->size; r++)
        schedule_node_free(&master->nodes[r]);
    free(master->nodes);
    free(master->node_info);
    for (size_t i = 0; i < master->running_count; i++)
        if (--master->running[i].seat->left == 0) free(master->running[i].seat);
    free(master->running);
    free(master->arrivals);
    free(master->scratch);
    free(master->clean_scratch);
    master_packs_free(&master->packs);
    free(master);
}

int master_step(struct master *master, struct error *err)
{
    if (master_check_store(master, err) != 0 || master_watch_time(master, err) != 0 ||
        master_watch_requests(master, err) != 0)
        return -1;
    if (master_take_committed(master, err) != 0 || master_resolve_references(master, err) != 0 ||
        master_assign(master, master_seconds_left(master), err) != 0)
        return -1;
    master_show(master, false);
    return 0;
}

bool master_finished(const struct master *master)
{
    if (master->running_count > 0 || master->first_arrival < master->arrival_count) return false;
    return master->draining || (master->ready == 0 && master->nodes_present == (size_t)master->transport->size);
}

static void count_stages(const struct master *master, struct master_summary *summary)
{
    summary->points = summary->done = summary->diverged = summary->failed = summary->skipped = 0;
    for (size_t i = 0; i < master->plan->stage_count; i++) {
        if (!master->options.only[i]) continue;
        unsigned char state = master->stages[i].state;
        summary->points++;
        summary->done += state == STAGE_COMPLETE;
        summary->failed += state == STAGE_FAILED;
        summary->skipped += state == STAGE_SKIPPED;
    }
}

struct master_summary master_summary(const struct master *master)
{
    struct master_summary summary = master->summary;
    if (master->options.only) count_stages(master, &summary);
    summary.left = summary.points - summary.done - summary.diverged - summary.failed - summary.skipped;
    summary.seconds = clock_elapsed() - master->started;
    return summary;
}
