/* The master: from the plan to committed rows. Stages become ready when their parent is complete, go to agents, come
 * back as outcomes. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint.h"
#include "io/log.h"
#include "orchestrator/master_internal.h"
#include "orchestrator/run_directory.h"

#define STATE_INTERVAL 5.0   /* seconds between rewrites of a running point's /state row */
#define STORE_INTERVAL 1.0   /* seconds between looks at the store's name */
#define REQUEST_INTERVAL 0.2 /* seconds between looks for files that ask for something */
#define COMMIT_GROUP 256     /* rows under one pair of fdatasync */

struct stage *master_describe(struct master *master, uint32_t index)
{
    plan_stage_describe(master->plan, index, master->options.dir, master->stages[index].attempts, master->scratch);
    master->scratch->generation = master->generation;
    return master->scratch;
}

int master_set_state(struct master *master, uint32_t point, enum store_status status, double progress, bool new_attempt,
                     const char *message, struct error *err)
{
    struct store_state state;
    if (store_read_state(master->store, point, &state, err) != 0) return -1;
    state.status = (uint32_t)status;
    state.attempts += new_attempt ? 1 : 0;
    state.updated = clock_wall();
    state.progress = progress;
    if (message) store_field(state.message, sizeof state.message, message);
    return store_set_state(master->store, point, &state, err);
}

static int make_ready(struct master *master, uint32_t index, struct error *err)
{
    const struct plan_stage *stage = &master->plan->stages[index];
    master->stages[index].state = STAGE_READY;
    double checkpoint = master->sweep->resources.checkpoint_seconds;
    double seconds = checkpoint > 0 && checkpoint < stage->seconds ? checkpoint : stage->seconds;
    /* what may have ended earlier runs comes after what has not */
    double priority = losses_of(master->losses, index) ? 0 : stage->priority;
    struct schedule_stage entry = {index, stage->degree, priority, stage->flops, seconds};
    master->nothing_fits = false;
    return schedule_add(&master->schedule, &entry) == 0 ? 0 : error_set(err, "out of memory");
}

static int list_children(struct master *master, struct error *err)
{
    const struct plan *plan = master->plan;
    master->child_first = calloc(plan->stage_count + 2, sizeof *master->child_first);
    master->children = calloc(plan->stage_count + 1, sizeof *master->children);
    if (!master->child_first || !master->children) return error_set(err, "out of memory");
    for (size_t i = 0; i < plan->stage_count; i++)
        if (plan->stages[i].parent != PLAN_NONE) master->child_first[plan->stages[i].parent + 2]++;
    for (size_t i = 2; i < plan->stage_count + 2; i++)
        master->child_first[i] += master->child_first[i - 1];
    for (size_t i = 0; i < plan->stage_count; i++)
        if (plan->stages[i].parent != PLAN_NONE)
            master->children[master->child_first[plan->stages[i].parent + 1]++] = (uint32_t)i;
    return 0;
}

/* A pretraining stage is needed, and its ancestors down to one whose state is on disk. */
static int need(struct master *master, uint32_t index, struct error *err)
{
    for (; index != PLAN_NONE && master->stages[index].state == STAGE_UNNEEDED;
         index = master->plan->stages[index].parent) {
        bool finished;
        if (master_state_finished(master, index, &finished, err) != 0) return -1;
        master->stages[index].state = finished ? STAGE_COMPLETE : STAGE_WAITING;
        if (finished) return 0;
    }
    return 0;
}

/* What is left to do: stages of uncommitted points, or those that alone are to be run, with what they need. */
static int find_work(struct master *master, struct error *err)
{
    const struct plan *plan = master->plan;
    master->committed = calloc(store_count(master->store), 1); /* behind the sweep's points: removed ones */
    if (!master->committed) return error_set(err, "out of memory");
    if (store_committed(master->store, master->committed, err) != 0) return -1;
    for (size_t p = 0; p < plan->point_count; p++) {
        if (master->committed[p] || master->options.only) continue;
        uint32_t index = plan->stage_of_point[p];
        master->stages[index].state = STAGE_WAITING;
        if (need(master, plan->stages[index].parent, err) != 0) return -1;
    }
    for (uint32_t i = 0; master->options.only && i < plan->stage_count; i++)
        if (master->options.only[i] && need(master, i, err) != 0) return -1;
    if (master_give_up_lost(master, err) != 0) return -1;
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        if (master->stages[i].state != STAGE_WAITING) continue;
        uint32_t parent = plan->stages[i].parent;
        if ((parent == PLAN_NONE || master->stages[parent].state == STAGE_COMPLETE) && make_ready(master, i, err) != 0)
            return -1;
    }
    return 0;
}

static int count_committed(struct master *master, struct error *err)
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

bool master_drain_file(const struct master *master)
{
    return master->options.drain_file && access(master->options.drain_file, F_OK) == 0;
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
    if (!master->stages || !master->nodes || !master->node_info || !master->scratch) {
        error_set(err, "out of memory");
        goto failed;
    }
    if (master_open_store(master, err) != 0 || !(master->losses = losses_open(options->dir, plan, err)) ||
        list_children(master, err) != 0 || find_work(master, err) != 0 || count_committed(master, err) != 0 ||
        master_remove_leftovers(master, err) != 0)
        goto failed;
    if (master->schedule.count > 0) {
        master->data_check = data_check_start(sweep->dataset, &sweep_dataset(sweep)->digest, err);
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
    store_close(master->store);
    losses_close(master->losses);
    if (master->log_fd >= 0) close(master->log_fd);
    if (master->lock_fd >= 0) close(master->lock_fd);
    schedule_free(&master->schedule);
    calibration_free(&master->calibration);
    free(master->stages);
    free(master->child_first);
    free(master->children);
    free(master->committed);
    free(master->nodes);
    free(master->node_info);
    free(master->running);
    free(master->rows);
    free(master->arrivals);
    free(master->scratch);
    free(master);
}

/* One line of the log of executed stages. */
static void log_outcome(struct master *master, uint32_t index, const struct stage_outcome *outcome, uint32_t node)
{
    const struct plan_stage *stage = &master->plan->stages[index];
    dprintf(master->log_fd,
            "{\"stage\": \"%s\", \"kind\": \"%s\", \"attempt\": %u, \"status\": \"%s\", \"from_step\": %llu, "
            "\"to_step\": %llu, "
            "\"recomputed_steps\": %llu, \"flops\": %.17g, \"seconds\": %.3f, \"predicted_seconds\": %.3f, "
            "\"rank\": %u, \"host\": \"%s\", \"finished\": %.3f, \"eta_seconds\": %.3f}\n",
            stage->identity.hex, stage->kind == STAGE_PRETRAIN ? "pretrain" : "finetune",
            master->stages[index].attempts, store_status_name(outcome->status),
            (unsigned long long)outcome->resumed_step, (unsigned long long)outcome->end_step,
            (unsigned long long)outcome->recomputed_steps, outcome->flops, outcome->seconds, stage->seconds, node,
            master->node_info[node].host, clock_wall(), master_eta(master));
}

int master_skip_below(struct master *master, uint32_t index, struct error *err)
{
    for (uint32_t c = master->child_first[index]; c < master->child_first[index + 1]; c++) {
        uint32_t child = master->children[c];
        if (master->stages[child].state != STAGE_WAITING) continue;
        master->stages[child].state = STAGE_SKIPPED;
        uint32_t point = master->plan->stages[child].point;
        if (point != PLAN_NONE) {
            char message[STORE_MESSAGE];
            snprintf(message, sizeof message, "its base, stage %.12s, has failed",
                     master->plan->stages[index].identity.hex);
            master->summary.skipped++;
            if (master_set_state(master, point, STORE_SKIPPED, 0, false, message, err) != 0) return -1;
        }
        if (master_skip_below(master, child, err) != 0) return -1;
    }
    return 0;
}

static int stage_complete(struct master *master, uint32_t index, struct error *err)
{
    master->stages[index].state = STAGE_COMPLETE;
    for (uint32_t c = master->child_first[index]; c < master->child_first[index + 1]; c++)
        if (master->stages[master->children[c]].state == STAGE_WAITING &&
            make_ready(master, master->children[c], err) != 0)
            return -1;
    return 0;
}

bool master_parent_complete(const struct master *master, uint32_t index)
{
    uint32_t parent = master->plan->stages[index].parent;
    return parent == PLAN_NONE || master->stages[parent].state == STAGE_COMPLETE;
}

/* Ready now, or when the parent is complete. A parent that nobody needed until now is looked for on disk. */
static int make_ready_or_wait(struct master *master, uint32_t index, struct error *err)
{
    for (;;) {
        uint32_t parent = master->plan->stages[index].parent;
        bool finished = false;
        if (parent != PLAN_NONE && master->stages[parent].state == STAGE_UNNEEDED &&
            master_state_finished(master, parent, &finished, err) != 0)
            return -1;
        if (finished) master->stages[parent].state = STAGE_COMPLETE;
        if (master_parent_complete(master, index)) return make_ready(master, index, err);
        master->stages[index].state = STAGE_WAITING;
        if (master->stages[parent].state != STAGE_UNNEEDED) return 0;
        index = parent;
    }
}

/* A run that was taken for dead (its node was cut off, its lock was lost) sees here that another goes on in its place.
 * What it has written since went to a file without a name. */
static int check_store(struct master *master, struct error *err)
{
    double now = clock_elapsed();
    if (master->row_count == 0 && now - master->store_checked < STORE_INTERVAL) return 0;
    master->store_checked = now;
    if (!store_is_replaced(master->store)) return 0;
    return error_set(err, "%s: another run has taken this directory over; this one ends", master->options.dir);
}

/* A stage has failed: where its parent's state is proven to be damaged, that is put aside and the parent runs again. A
 * state that cannot be opened for another reason (no more descriptors, no permission, no memory) is left alone. */
static int check_parent(struct master *master, uint32_t index, struct error *err)
{
    uint32_t parent = master->plan->stages[index].parent;
    if (parent == PLAN_NONE || master->stages[parent].state != STAGE_COMPLETE) return 0;
    char path[PATH_MAX], aside[PATH_MAX + 16];
    struct error why;
    stage_state_path(master_describe(master, parent), path);
    struct checkpoint *checkpoint = checkpoint_open(path, &why);
    int reason = errno;
    bool whole = checkpoint != NULL;
    checkpoint_close(checkpoint);
    if (whole) return 0;
    if (reason != EBADMSG && reason != ENOENT) {
        master_say(master, "stage %.12s is left as it is: %s", master->plan->stages[parent].identity.hex, why.text);
        return 0;
    }
    if (store_is_replaced(master->store)) return check_store(master, err); /* it is another run's by now */
    master_say(master, "stage %.12s runs again: %s", master->plan->stages[parent].identity.hex, why.text);
    snprintf(aside, sizeof aside, "%s.damaged", path);
    if (reason == EBADMSG && rename(path, aside) != 0) return error_set_errno(err, "%s: cannot put it aside", path);
    return make_ready_or_wait(master, parent, err);
}

static void note_failure(struct master *master, uint32_t index, const struct stage_outcome *outcome)
{
    struct failure *failure = &master->failures[master->failure_count++ % FAILURES_KEPT];
    *failure = (struct failure){index, master->stages[index].attempts, outcome->status, clock_wall(), ""};
    snprintf(failure->message, sizeof failure->message, "%s", outcome->message);
}

static int stage_failed(struct master *master, uint32_t index, const struct stage_outcome *outcome, struct error *err)
{
    struct master_stage *stage = &master->stages[index];
    uint32_t point = master->plan->stages[index].point, limit = master->sweep->resources.attempts;
    note_failure(master, index, outcome);
    master_say(master, "stage %.12s attempt %u of %u: %s: %s", master->plan->stages[index].identity.hex,
               stage->attempts, limit, store_status_name(outcome->status), outcome->message);
    /* divergence is a function of the stage: another attempt would diverge, too */
    if (stage->attempts < limit && outcome->status != STORE_DIVERGED) {
        if (point != PLAN_NONE && master_set_state(master, point, STORE_PENDING, 0, false, outcome->message, err) != 0)
            return -1;
        if (check_parent(master, index, err) != 0) return -1;
        return make_ready_or_wait(master, index, err);
    }
    stage->state = STAGE_FAILED;
    if (point != PLAN_NONE) {
        master->summary.failed++;
        if (master_set_state(master, point, outcome->status, 0, false, outcome->message, err) != 0) return -1;
    }
    if (master_skip_below(master, index, err) != 0) return -1;
    return master->options.fail_fast ? master_drain(master, "a stage was given up (--fail-fast)", err) : 0;
}

/* What a worker has found is so for every stage: the run ends, and the point is not to blame. */
static int data_changed(struct master *master, uint32_t index, struct error *err)
{
    uint32_t point = master->plan->stages[index].point;
    if (point != PLAN_NONE &&
        master_set_state(master, point, STORE_PENDING, 0, false, "the data set has changed", err) != 0)
        return -1;
    return error_set(err,
                     "%.900s: the data set has changed since this run began; put it back, or run what it is now with "
                     "another --dir",
                     master->sweep->dataset);
}

/* 1: the data set is what it was planned as, 0: not known yet, -1: it is not. */
static int check_data(const struct master *master, struct error *err)
{
    return master->data_check ? data_check_poll(master->data_check, err) : 1;
}

static int queue_row(struct master *master, uint32_t index, uint32_t node, const struct stage_outcome *outcome,
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
    master->arrivals[master->row_count++] = (struct arrival){index, node, *outcome};
    return 0;
}

static int handle_outcome(struct master *master, uint32_t node, const struct message_outcome *message,
                          struct error *err)
{
    uint32_t index = message->stage;
    if (index >= master->plan->stage_count || master->stages[index].state != STAGE_RUNNING) return 0;
    const struct plan_stage *stage = &master->plan->stages[index];
    const struct stage_outcome *outcome = &message->outcome;
    losses_end(master->losses, index);
    master->nodes[node].free += stage->degree;
    master->nothing_fits = false;
    uint32_t slot = master->stages[index].running;
    master->running[slot] = master->running[--master->running_count];
    master->stages[master->running[slot].stage].running = slot;
    bool result = outcome->status == STORE_DONE || (outcome->status == STORE_DIVERGED && stage->point != PLAN_NONE);
    if (!result || stage->point == PLAN_NONE) log_outcome(master, index, outcome, node);
    if (result) {
        master_observe(master, stage, outcome);
        return stage->point == PLAN_NONE ? stage_complete(master, index, err)
                                         : queue_row(master, index, node, outcome, err);
    }
    if (outcome->status == STORE_CUT) {
        master->stages[index].state = STAGE_CUT;
        return stage->point == PLAN_NONE
                   ? 0
                   : master_set_state(master, stage->point, STORE_CUT, 0, false, outcome->message, err);
    }
    return outcome->data_changed ? data_changed(master, index, err) : stage_failed(master, index, outcome, err);
}

/* Commit the rows that have arrived; then, and only then, what they made useless is removed. */
static int commit_rows(struct master *master, struct error *err)
{
    int known = check_data(master, err);
    if (known <= 0) return known;
    for (size_t first = 0; first < master->row_count; first += COMMIT_GROUP) {
        size_t count = master->row_count - first < COMMIT_GROUP ? master->row_count - first : COMMIT_GROUP;
        if (store_commit(master->store, master->rows + first, count, err) != 0) return -1;
    }
    /* what the rows made useless may be in use by a run that has taken over in the meantime */
    if (master->row_count > 0 && check_store(master, err) != 0) return -1;
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
        log_outcome(master, index, &arrival->outcome, arrival->node);
        stage_cleanup(master_describe(master, index));
        if (stage_complete(master, index, err) != 0) return -1;
    }
    master->row_count = 0;
    return 0;
}

/* Every rank has said what it has: a stage that fits on none of them will never run. */
static int check_degrees(const struct master *master, struct error *err)
{
    uint32_t most = 0;
    for (int r = 0; r < master->transport->size; r++)
        if (master->nodes[r].devices > most) most = master->nodes[r].devices;
    for (size_t i = 0; i < master->plan->stage_count; i++)
        if (master->plan->stages[i].degree > most && master->stages[i].state != STAGE_UNNEEDED)
            return error_set(
                err,
                "resources.tensor_parallel: a stage needs %u devices on one rank, the largest rank has %u; "
                "start fewer ranks a host, or give the host more devices (resources.devices, resources.threads)",
                master->plan->stages[i].degree, most);
    return 0;
}

static int handle_hello(struct master *master, int rank, const struct message_hello *hello, struct error *err)
{
    struct master_node *info = &master->node_info[rank];
    if (info->present) return 0;
    *info = (struct master_node){.present = true};
    snprintf(info->host, sizeof info->host, "%.*s", (int)sizeof hello->host - 1, hello->host);
    master->nodes[rank] = (struct schedule_node){hello->devices, hello->devices};
    master->nodes_present++;
    master->nothing_fits = false;
    LOG("rank %d on %s: %u devices", rank, info->host, hello->devices);
    if (master->nodes_present < (size_t)master->transport->size) return 0;
    return check_degrees(master, err) ? -1 : master_choose_order(master, err);
}

static int handle_progress(struct master *master, const struct message_progress *message, struct error *err)
{
    if (message->stage >= master->plan->stage_count || master->stages[message->stage].state != STAGE_RUNNING) return 0;
    struct running *running = &master->running[master->stages[message->stage].running];
    running->pid = message->pid;
    master_progress(running, &message->progress);
    uint32_t point = master->plan->stages[message->stage].point;
    double now = clock_elapsed();
    if (point == PLAN_NONE || now - running->state_written < STATE_INTERVAL) return 0;
    running->state_written = now;
    double steps = (double)message->progress.steps;
    return master_set_state(master, point, STORE_RUNNING, steps > 0 ? (double)message->progress.step / steps : 0, false,
                            NULL, err);
}

int master_message(struct master *master, int rank, int tag, const void *payload, size_t size, struct error *err)
{
    if (rank < 0 || rank >= master->transport->size) return error_set(err, "a message from rank %d", rank);
    if (tag == MESSAGE_HELLO && size == sizeof(struct message_hello)) return handle_hello(master, rank, payload, err);
    if (tag == MESSAGE_PROGRESS && size == sizeof(struct message_progress))
        return handle_progress(master, payload, err);
    if (tag == MESSAGE_OUTCOME && size == sizeof(struct message_outcome))
        return handle_outcome(master, (uint32_t)rank, payload, err);
    if (tag == MESSAGE_DRAIN) return master_drain(master, "a signal", err);
    return error_set(err, "message %d of %zu bytes from rank %d is not understood", tag, size, rank);
}

int master_drain(struct master *master, const char *why, struct error *err)
{
    if (master->draining) return 0;
    master->draining = true;
    master_say(master, "draining: %s; running stages checkpoint and stop", why);
    for (int rank = 0; rank < master->transport->size; rank++)
        if (transport_send(master->transport, rank, MESSAGE_DRAIN, NULL, 0, err) != 0) return -1;
    return 0;
}

/* Seconds, as the plan counts them, until a drain must begin. */
static double plan_seconds_left(const struct master *master)
{
    const struct master_options *o = &master->options;
    if (o->end_time <= 0) return INFINITY;
    return (o->end_time - o->grace - clock_wall()) / master->calibration.mean;
}

/* What a person, or the batch script, asks for by files: a drain, or that nothing new starts for a while. */
static int watch_requests(struct master *master, struct error *err)
{
    double now = clock_elapsed();
    if (master->draining || now - master->requests_checked < REQUEST_INTERVAL) return 0;
    master->requests_checked = now;
    bool paused = request_present(master->options.dir, REQUEST_PAUSE);
    if (paused != master->paused)
        master_say(master, paused ? "paused: nothing new starts; running stages go on" : "no longer paused");
    master->paused = paused;
    if (master_drain_file(master)) return master_drain(master, "asked for by --drain-file", err);
    if (request_present(master->options.dir, REQUEST_DRAIN))
        return master_drain(master, "asked for by drain.request", err);
    return 0;
}

/* Drain when the job's time is up, or when what is left of it is of no use. */
static int watch_time(struct master *master, struct error *err)
{
    if (master->options.end_time <= 0 || master->draining) return 0;
    if (plan_seconds_left(master) <= 0) return master_drain(master, "the job's time limit is near", err);
    bool idle = master->running_count == 0 && master->nodes_present == (size_t)master->transport->size;
    if (idle && master->nothing_fits && master->schedule.count > 0)
        return master_drain(master, "no stage that is left reaches a checkpoint before the job's time limit", err);
    return 0;
}

int master_step(struct master *master, struct error *err)
{
    if (check_store(master, err) != 0 || commit_rows(master, err) != 0 || watch_time(master, err) != 0 ||
        watch_requests(master, err) != 0 || master_assign(master, plan_seconds_left(master), err) != 0)
        return -1;
    master_show(master, false);
    return 0;
}

bool master_finished(const struct master *master)
{
    if (master->running_count > 0 || master->row_count > 0) return false;
    return master->draining ||
           (master->schedule.count == 0 && master->nodes_present == (size_t)master->transport->size);
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
