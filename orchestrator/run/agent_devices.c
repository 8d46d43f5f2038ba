/* What is on the devices of an agent: idle workers that keep their base, those that must leave for others, devices that
 * have failed too often. */
#include <stdio.h>

#include "io/log.h"
#include "orchestrator/run/agent_internal.h"
#include "orchestrator/sweep/sweep.h"
#include "workers/stage/worker.h"

#define DEVICE_FAILURES 2 /* in a row, until a device is set aside */

uint32_t agent_judge_devices(struct agent *agent, const struct worker *worker, const struct stage_outcome *outcome)
{
    if (outcome->status == STORE_DONE)
        for (uint32_t d = worker->first; d < worker->first + worker->count; d++)
            if (agent->failures[d] < DEVICE_FAILURES) agent->failures[d] = 0;
    if (outcome->failed_device == 0 || outcome->failed_device > worker->count) return 0;
    uint32_t device = worker->first + outcome->failed_device - 1;
    if (++agent->failures[device] != DEVICE_FAILURES) return 0; /* not yet, or it is known */
    LOG("device %u has failed %d times in a row: it is set aside", agent->host_first + device, DEVICE_FAILURES);
    fprintf(stderr, "tunelaw: rank %d: device %u has failed %d times in a row and is set aside: %s\n",
            agent->transport->rank, agent->host_first + device, DEVICE_FAILURES, outcome->message);
    return device + 1;
}

void agent_leave(struct worker *worker)
{
    struct error ignored;
    if (worker->state != WORKER_IDLE) return;
    frame_send(worker->socket, FRAME_EXIT, NULL, 0,
               &ignored); /* where that fails its death is already on its way to us */
    worker->state = WORKER_LEAVING;
    worker->heard = clock_elapsed();
}

static bool overlaps(const struct worker *worker, const struct message_assign *job)
{
    return worker->first < job->first + job->degree && job->first < worker->first + worker->count;
}

/* Of what shares a device, idle workers stay as long as there is memory: one of them has the next stage's base. */
static bool is_in_the_way(const struct worker *worker, const struct message_assign *job)
{
    return worker->state == WORKER_IDLE && overlaps(worker, job) &&
           !(job->shared && worker->first == job->first && worker->count == job->degree);
}

/* Memory for an assignment beside all other workers on its devices; else one more that is idle is told to leave. Where
 * none is left to leave, the rest was counted when it was assigned. On a device that one worker has, who leaves must
 * have gone. */
static bool make_room(struct agent *agent, const struct pending *assignment, const struct worker *own)
{
    const struct message_assign *job = &assignment->jobs[0];
    uint64_t used = assignment->bytes + GPU_PROCESS_BYTES;
    struct worker *idle = NULL;
    bool leaving = false;
    for (size_t i = 0; i < agent->count; i++) {
        struct worker *worker = &agent->workers[i];
        if (worker == own || !overlaps(worker, job)) continue;
        used += worker->bytes + GPU_PROCESS_BYTES;
        if (worker->state == WORKER_IDLE && worker->socket >= 0) idle = worker;
        leaving = leaving || worker->state == WORKER_LEAVING;
    }
    if (!agent->device_bytes) return !leaving; /* it may still hold a base */
    if (used <= agent->device_bytes) return true;
    if (idle && !leaving) agent_leave(idle);
    return !idle && !leaving;
}

bool agent_find_worker(struct agent *agent, const struct pending *assignment, struct worker **found)
{
    const struct message_assign *job = &assignment->jobs[0];
    *found = NULL;
    for (size_t i = 0; i < agent->count; i++) {
        struct worker *worker = &agent->workers[i];
        if (worker->state != WORKER_IDLE || worker->socket < 0) continue;
        if (!*found && worker->first == job->first && worker->count == job->degree)
            *found = worker;
        else if (is_in_the_way(worker, job))
            agent_leave(worker);
    }
    return make_room(agent, assignment, *found);
}
