/* What agents say: that they are there, how far a stage is, how it ended, that a signal asks for a drain. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "orchestrator/run/master_internal.h"

#define STATE_INTERVAL 5.0 /* seconds between rewrites of a running point's /state row */

/* What a worker has found is so for every stage: the run ends, and the point is not to blame. */
static int data_unusable(struct master *master, uint32_t index, const struct stage_outcome *outcome, struct error *err)
{
    uint32_t point = master->plan->stages[index].point;
    if (point != PLAN_NONE && master_set_state(master, point, STORE_PENDING, 0, false, outcome->message, err) != 0)
        return -1;
    return error_set(err,
                     "%s; put the data set back that this run began with, and the same command goes on, or run what it "
                     "is now with another --dir",
                     outcome->message);
}

/* A stage that this run may still hand out. */
static bool is_left(unsigned char state)
{
    return state == STAGE_WAITING || state == STAGE_READY || state == STAGE_RUNNING;
}

/* Every rank has said what it has: a stage that is left and fits on none of them will never run. */
static int check_degrees(const struct master *master, struct error *err)
{
    uint32_t most = 0;
    for (int r = 0; r < master->transport->size; r++)
        if (schedule_node_widest(&master->nodes[r]) > most) most = schedule_node_widest(&master->nodes[r]);
    for (size_t i = 0; i < master->plan->stage_count; i++)
        if (master->plan->stages[i].degree > most && is_left(master->stages[i].state))
            return error_set(
                err,
                "resources.tensor_parallel: a stage needs %u devices on one rank, the largest rank has %u; "
                "start fewer ranks a host, or give the host more devices (resources.devices, resources.threads)",
                master->plan->stages[i].degree, most);
    return 0;
}

/* What is left to do and fits nowhere any more drains the run. */
static int drain_if_nothing_fits(struct master *master, struct error *err)
{
    struct error why;
    return check_degrees(master, &why) ? master_drain(master, why.text, err) : 0;
}

/* A device of a rank does not work any more, with all its places. */
static int lose_device(struct master *master, uint32_t node, uint32_t device, struct error *err)
{
    schedule_node_lose(&master->nodes[node], device);
    master_say(master, "rank %u on %s has set a device aside that failed: %u left", node, master->node_info[node].host,
               master->nodes[node].devices);
    return drain_if_nothing_fits(master, err);
}

/* A stage is no longer in flight; with the last of its pack, its devices are free. */
static void land(struct master *master, uint32_t index)
{
    uint32_t slot = master->stages[index].running;
    struct master_seat *seat = master->running[slot].seat;
    if (--seat->left == 0) {
        schedule_release(master->nodes, &seat->at);
        free(seat);
    }
    master->running[slot] = master->running[--master->running_count];
    master->stages[master->running[slot].stage].running = slot;
}

/* A result that is not of this stage would end the run at its commit: it is one failed attempt instead. */
static void check_result(const struct plan *plan, uint32_t index, struct stage_outcome *outcome)
{
    const struct plan_stage *stage = &plan->stages[index];
    if (outcome->status != STORE_DONE && outcome->status != STORE_DIVERGED) return;
    bool point = stage->point != PLAN_NONE;
    const struct store_result *result = &outcome->row.result;
    if (strcmp(outcome->identity.hex, stage->identity.hex) == 0 &&
        (!point || (memcmp(result->identity, plan->points[stage->point].identity, DIGEST_HEX) == 0 &&
                    result->status == (uint32_t)outcome->status && outcome->row.curve.count <= STORE_CURVE)))
        return;
    outcome->status = STORE_CRASHED;
    snprintf(outcome->message, sizeof outcome->message, "its worker answered with the result of another stage");
}

static int handle_outcome(struct master *master, uint32_t node, struct message_outcome *message, struct error *err)
{
    uint32_t index = message->stage;
    if (index >= master->plan->stage_count || master->stages[index].state != STAGE_RUNNING) return 0;
    const struct plan_stage *stage = &master->plan->stages[index];
    check_result(master->plan, index, &message->outcome);
    const struct stage_outcome *outcome = &message->outcome;
    land(master, index);
    master->nothing_fits = false;
    if (message->lost_device && lose_device(master, node, message->lost_device - 1, err) != 0) return -1;
    bool result = outcome->status == STORE_DONE || (outcome->status == STORE_DIVERGED && stage->point != PLAN_NONE);
    if (!result || stage->point == PLAN_NONE) { /* else when the row is committed */
        master_log(master, index, outcome, node);
        losses_end(master->losses, index);
    }
    if (result && stage->point == PLAN_NONE) {
        master_log_sync(master); /* before the file goes that would tell the same */
        stage_cleanup(master_describe(master, index));
    }
    if (result) {
        master_observe(master, stage, outcome);
        return stage->point == PLAN_NONE ? master_complete(master, index, err)
                                         : master_queue(master, index, node, outcome, err);
    }
    if (outcome->status == STORE_CUT) {
        master->stages[index].state = STAGE_CUT;
        return stage->point == PLAN_NONE
                   ? 0
                   : master_set_state(master, stage->point, STORE_CUT, 0, false, outcome->message, err);
    }
    return outcome->data_unusable ? data_unusable(master, index, outcome, err)
                                  : master_fail(master, index, outcome, err);
}

/* A rank has said what it has, or will never say it. */
static int node_known(struct master *master, int rank, struct error *err)
{
    master->node_info[rank].present = true;
    master->nodes_present++;
    master->nothing_fits = false;
    if (master->nodes_present < (size_t)master->transport->size) return 0;
    return check_degrees(master, err) ? -1 : master_choose_order(master, err);
}

static int handle_hello(struct master *master, int rank, const struct message_hello *hello, struct error *err)
{
    struct master_node *info = &master->node_info[rank];
    if (info->present) return 0;
    snprintf(info->host, sizeof info->host, "%.*s", (int)sizeof hello->host - 1, hello->host);
    if (schedule_node_init(&master->nodes[rank], hello->devices)) return error_set(err, "out of memory");
    LOG("rank %d on %s: %u devices", rank, info->host, hello->devices);
    return node_known(master, rank, err);
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

/* The attempt of a stage that was in flight on a rank that is gone. */
static int lose_stage(struct master *master, uint32_t index, uint32_t node, struct error *err)
{
    struct stage_outcome *outcome = calloc(1, sizeof *outcome);
    if (!outcome) return error_set(err, "out of memory");
    outcome->identity = master->plan->stages[index].identity;
    outcome->status = STORE_CRASHED;
    snprintf(outcome->message, sizeof outcome->message, "rank %u on %s was lost", node, master->node_info[node].host);
    land(master, index);
    master_log(master, index, outcome, node);
    losses_end(master->losses, index);
    int result = master_fail(master, index, outcome, err);
    free(outcome);
    return result;
}

int master_lost(struct master *master, int rank, struct error *err)
{
    struct master_node *info = &master->node_info[rank];
    bool was_known = info->present;
    size_t stages = 0;
    info->lost = true;
    schedule_node_free(&master->nodes[rank]); /* seats there are released into nothing */
    if (!was_known && node_known(master, rank, err) != 0) return -1;
    for (size_t i = 0; i < master->running_count; i++)
        stages += master->running[i].node == (uint32_t)rank;
    master_say(master, "rank %d%s%s is lost: %zu stages go back to their last checkpoints", rank,
               info->host[0] ? " on " : "", info->host, stages);
    for (size_t i = master->running_count; i-- > 0;) /* the last takes the place of one that is removed */
        if (i < master->running_count && master->running[i].node == (uint32_t)rank &&
            lose_stage(master, master->running[i].stage, (uint32_t)rank, err) != 0)
            return -1;
    master->nothing_fits = false;
    return drain_if_nothing_fits(master, err);
}

int master_message(struct master *master, int rank, int tag, const void *payload, size_t size, struct error *err)
{
    if (rank < 0 || rank >= master->transport->size) return error_set(err, "a message from rank %d", rank);
    if (master->node_info[rank].lost) return 0; /* from before its end: what it had in flight runs elsewhere by now */
    if (tag == MESSAGE_HELLO && size == sizeof(struct message_hello)) return handle_hello(master, rank, payload, err);
    if (tag == MESSAGE_PROGRESS && size == sizeof(struct message_progress))
        return handle_progress(master, payload, err);
    if (tag == MESSAGE_OUTCOME && size == sizeof(struct message_outcome)) {
        struct message_outcome message;
        memcpy(&message, payload, size);
        return handle_outcome(master, (uint32_t)rank, &message, err);
    }
    if (tag == MESSAGE_DRAIN) return master_drain(master, "a signal", err);
    return error_set(err, "message %d of %zu bytes from rank %d is not understood", tag, size, rank);
}
