/* The node agent: what the master assigns, and the workers that it goes to. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/log.h"
#include "io/store/store.h"
#include "orchestrator/run/agent_internal.h"
#include "orchestrator/run/host.h"
#include "workers/model/model.h"
#include "workers/stage/worker.h"

#define KILLS_INTERVAL 1.0

enum { POLLS_BEFORE = 2 }; /* what is waited for besides the workers comes first */

struct agent *agent_create(struct launcher *launcher, struct transport *transport, const struct agent_devices *wanted,
                           struct error *err)
{
    struct agent *agent = calloc(1, sizeof *agent);
    if (!agent) {
        error_set(err, "out of memory");
        return NULL;
    }
    uint32_t threads = wanted->threads ? wanted->threads : 1,
             devices = host_devices(wanted->gpus, wanted->count, threads);
    uint64_t rank = (uint64_t)transport->local_rank, ranks = (uint64_t)transport->local_size;
    agent->launcher = launcher;
    agent->transport = transport;
    agent->host_first = (uint32_t)(rank * devices / ranks);
    agent->devices = (uint32_t)((rank + 1) * devices / ranks) - agent->host_first;
    agent->threads = threads;
    agent->gpus = wanted->gpus;
    agent->dir = wanted->dir;
    agent->device_bytes = wanted->device_bytes;
    if (devices == 0)
        error_set(err, "resources.devices is %u, but this node was given %u GPUs", wanted->count, wanted->gpus->count);
    if (devices == 0 || (wanted->gpus && gpus_claim(wanted->gpus, agent->host_first, agent->devices, wanted->wait,
                                                    wanted->dir, err) != 0)) {
        agent_destroy(agent);
        return NULL;
    }
    agent->failures = calloc(agent->devices + 1, sizeof *agent->failures);
    struct message_hello hello = {.devices = agent->devices, .threads = threads};
    gethostname(hello.host, sizeof hello.host - 1);
    if (!agent->failures || transport_send(transport, 0, MESSAGE_HELLO, &hello, sizeof hello, err) != 0) {
        if (!agent->failures) error_set(err, "out of memory");
        agent_destroy(agent);
        return NULL;
    }
    LOG("agent on %s: devices %u..%u of %u, %u thread%s each", hello.host, agent->host_first,
        agent->host_first + agent->devices, devices, threads, threads == 1 ? "" : "s");
    if (!wanted->gpus && devices > 1 && (uint64_t)devices * threads > host_cpus())
        LOG("agent on %s: %u devices of %u thread%s are more than its %u cores: they take turns", hello.host, devices,
            threads, threads == 1 ? "" : "s", host_cpus());
    return agent;
}

void agent_destroy(struct agent *agent)
{
    if (!agent) return;
    for (size_t i = 0; i < agent->count; i++)
        agent_worker_free(&agent->workers[i]);
    for (struct pending *next, *at = agent->pending; at; at = next) {
        next = at->next;
        free(at->jobs);
        free(at);
    }
    free(agent->workers);
    free(agent->polls);
    free(agent->failures);
    free(agent);
}

int agent_send_outcome(struct agent *agent, uint32_t stage_index, const struct stage_outcome *outcome,
                       uint32_t lost_device, struct error *err)
{
    struct message_outcome *message = calloc(1, sizeof *message);
    if (!message) return error_set(err, "out of memory");
    message->stage = stage_index;
    message->lost_device = lost_device;
    message->outcome = *outcome;
    message->outcome.row.execution.rank = (uint32_t)agent->transport->rank;
    int result = transport_send(agent->transport, 0, MESSAGE_OUTCOME, message, sizeof *message, err);
    free(message);
    return result;
}

/* The attempt of a stage has failed for a reason that the worker could not tell itself. */
static int send_failure(struct agent *agent, const struct message_assign *job, enum store_status status,
                        const char *reason, struct error *err)
{
    struct stage_outcome *outcome = calloc(1, sizeof *outcome);
    if (!outcome) return error_set(err, "out of memory");
    outcome->identity = job->identity;
    outcome->status = status;
    error_shorten(outcome->message, sizeof outcome->message, reason);
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/logs/%s.log", agent->dir, job->identity.hex);
    int log = file_open_write(path, O_APPEND);
    if (log >= 0) {
        dprintf(log, "attempt %u failed: %s\n", job->attempt, reason);
        close(log);
    }
    LOG("stage %.12s attempt %u: %s", job->identity.hex, job->attempt, reason);
    int result = agent_send_outcome(agent, job->stage, outcome, 0, err);
    free(outcome);
    return result;
}

static struct worker *start_worker(struct agent *agent, uint32_t first, uint32_t count, struct error *err)
{
    if (agent->count == agent->capacity) {
        size_t capacity = agent->capacity ? 2 * agent->capacity : 8;
        struct worker *workers = realloc(agent->workers, capacity * sizeof *workers);
        if (workers) agent->workers = workers;
        struct pollfd *polls = realloc(agent->polls, (POLLS_BEFORE + capacity) * sizeof *polls);
        if (polls) agent->polls = polls;
        if (!workers || !polls) {
            error_set(err, "out of memory");
            return NULL;
        }
        agent->capacity = capacity;
    }
    struct worker worker = {.number = agent->next_number, .socket = -1, .first = first, .count = count};
    uint32_t host_first = agent->host_first + first;
    char gpus[GPUS_TEXT];
    if (agent->gpus && gpus_text(agent->gpus, host_first, count, gpus, err) != 0) return NULL;
    if (launcher_spawn(agent->launcher, LAUNCHER_WORKER, worker.number, host_first * agent->threads,
                       count * agent->threads, agent->gpus ? gpus : NULL, &worker.socket, err) != 0)
        return NULL;
    agent->next_number++;
    agent->workers[agent->count] = worker;
    return &agent->workers[agent->count++];
}

int agent_send_failures(struct agent *agent, struct message_assign *jobs, uint32_t count, enum store_status status,
                        const char *reason, struct error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (jobs[i].stage == JOB_ENDED) continue;
        if (send_failure(agent, &jobs[i], status, reason, err) != 0) return -1;
        jobs[i].stage = JOB_ENDED;
    }
    return 0;
}

/* The host's kills for want of memory: the file costs more than handing out a stage, so it is read once a second. */
static uint64_t recent_kills(struct agent *agent)
{
    double now = clock_elapsed();
    if (agent->kills_read > 0.0 && now - agent->kills_read < KILLS_INTERVAL) return agent->memory_kills;
    agent->kills_read = now;
    return agent->memory_kills = host_memory_kills();
}

/* Hand stages to a worker on their devices, NULL: a new one. Takes the assignment. */
static int hand_over(struct agent *agent, struct pending *assignment, struct worker *worker, struct error *err)
{
    struct error why;
    const struct message_assign *job = &assignment->jobs[0];
    if (!worker) worker = start_worker(agent, job->first, job->degree, &why);
    int result = 0;
    if (!worker) {
        result = agent_send_failures(agent, assignment->jobs, job->count, STORE_CRASHED, why.text, err);
    } else {
        worker->state = WORKER_BUSY;
        worker->bytes = assignment->bytes;
        free(worker->jobs);
        worker->jobs = assignment->jobs;
        worker->job_count = worker->jobs_left = job->count;
        assignment->jobs = NULL;
        worker->heard = clock_elapsed();
        worker->timed_out = worker->killed = false;
        worker->memory_kills = recent_kills(agent);
        /* a failure here means that the worker has died: its socket will say so */
        frame_send(worker->socket, FRAME_STAGE, assignment->text, assignment->size, &why);
    }
    free(assignment->jobs);
    free(assignment);
    return result;
}

/* Start what waits and now has memory. */
static int start_pending(struct agent *agent, struct error *err)
{
    for (struct pending **at = &agent->pending; *at;) {
        struct pending *assignment = *at;
        struct worker *worker;
        if (!agent_find_worker(agent, assignment, &worker)) {
            at = &assignment->next;
            continue;
        }
        *at = assignment->next;
        if (hand_over(agent, assignment, worker, err) != 0) return -1;
    }
    return 0;
}

/* Once, on a rank that is not the master: does its file system show the lock that the master holds? */
static void look_at_lock(struct agent *agent)
{
    const char *dir = agent->dir;
    struct error err;
    if (agent->looked_at_lock || agent->transport->rank == 0) return;
    agent->looked_at_lock = true;
    int held = store_lock_held(dir, &err);
    if (held > 0) return;
    if (held == 0)
        error_set(&err,
                  "%s/results.lock: the master's lock is not seen on this node: this file system's locks do not "
                  "keep two runs apart; start only one",
                  dir);
    LOG("%s", err.text);
    fprintf(stderr, "tunelaw: rank %d: %s\n", agent->transport->rank, err.text);
}

/* What a message assigns: its headers (the caller frees) and where its text begins. NULL with *err. */
static struct message_assign *read_jobs(const void *payload, size_t size, size_t *headers, struct error *err)
{
    struct message_assign first = {.count = 0};
    if (size >= sizeof first) memcpy(&first, payload, sizeof first);
    *headers = first.count * sizeof first;
    struct message_assign *jobs =
        first.count && first.count <= PACK_LIMIT && size >= *headers ? malloc(*headers) : NULL;
    if (jobs)
        memcpy(jobs, payload, *headers);
    else
        error_set(err, "an assignment from the master of %zu bytes and %u stages", size, first.count);
    return jobs;
}

static int assign(struct agent *agent, const void *payload, size_t size, struct error *err)
{
    size_t headers;
    struct message_assign *jobs = read_jobs(payload, size, &headers, err);
    if (!jobs) return -1;
    uint32_t first = jobs[0].first, degree = jobs[0].degree;
    bool here = first <= agent->devices && degree <= agent->devices - first;
    struct pending *assignment = here ? malloc(sizeof *assignment + size) : NULL;
    if (!assignment) {
        free(jobs);
        return here ? error_set(err, "out of memory")
                    : error_set(err, "a stage is for devices %u..%u, this rank has %u", first, first + degree - 1,
                                agent->devices);
    }
    *assignment = (struct pending){.jobs = jobs, .size = size - headers};
    for (uint32_t i = 0; i < jobs[0].count; i++)
        assignment->bytes += jobs[i].bytes;
    memcpy(assignment->text, (const char *)payload + headers, assignment->size);
    look_at_lock(agent);
    struct pending **last = &agent->pending;
    while (*last)
        last = &(*last)->next;
    *last = assignment;
    return start_pending(agent, err);
}

static int cut_job(struct agent *agent, const struct message_assign *job, struct error *err)
{
    struct stage_outcome *outcome = calloc(1, sizeof *outcome);
    if (!outcome) return error_set(err, "out of memory");
    outcome->identity = job->identity;
    outcome->status = STORE_CUT;
    snprintf(outcome->message, sizeof outcome->message, "not begun");
    int result = agent_send_outcome(agent, job->stage, outcome, 0, err);
    free(outcome);
    return result;
}

/* A drain: what has not begun ends as cut. */
static int cut_pending(struct agent *agent, struct error *err)
{
    int result = 0;
    while (agent->pending && result == 0) {
        struct pending *assignment = agent->pending;
        agent->pending = assignment->next;
        const struct message_assign *jobs = assignment->jobs;
        for (uint32_t i = 0; i < jobs[0].count && result == 0; i++)
            result = cut_job(agent, &jobs[i], err);
        free(assignment->jobs);
        free(assignment);
    }
    return result;
}

int agent_message(struct agent *agent, int tag, const void *payload, size_t size, struct error *err)
{
    struct error ignored;
    switch (tag) {
    case MESSAGE_ASSIGN:
        return assign(agent, payload, size, err);
    case MESSAGE_DRAIN:
        for (size_t i = 0; i < agent->count; i++)
            if (agent->workers[i].state == WORKER_BUSY && agent->workers[i].socket >= 0)
                frame_send(agent->workers[i].socket, FRAME_DRAIN, NULL, 0, &ignored);
        return cut_pending(agent, err);
    case MESSAGE_STOP:
        agent->stopping = true;
        for (size_t i = 0; i < agent->count; i++)
            if (agent->workers[i].socket >= 0) agent_leave(&agent->workers[i]);
        return 0;
    default:
        return error_set(err, "unknown message %d from the master", tag);
    }
}

bool agent_stopped(const struct agent *agent)
{
    return agent->stopping && agent->count == 0;
}

int agent_step(struct agent *agent, double seconds, int wake, struct error *err)
{
    const struct timespec timeout = {(time_t)seconds, (long)(1e9 * (seconds - floor(seconds)))};
    struct pollfd without_workers[POLLS_BEFORE];
    struct pollfd *polls = agent->polls ? agent->polls : without_workers;
    size_t count = agent->count;
    polls[0] = (struct pollfd){agent->launcher->fd, POLLIN, 0};
    polls[1] = (struct pollfd){wake, POLLIN, 0}; /* -1 is ignored */
    for (size_t i = 0; i < count; i++)
        polls[POLLS_BEFORE + i] = (struct pollfd){agent->workers[i].socket, POLLIN, 0};
    if (ppoll(polls, POLLS_BEFORE + count, &timeout, NULL) < 0 && errno != EINTR) return error_set_errno(err, "poll");
    for (size_t i = 0; i < count; i++)
        if (polls[POLLS_BEFORE + i].revents && agent->workers[i].socket >= 0 &&
            agent_worker_read(agent, &agent->workers[i], err) != 0)
            return -1;
    if (polls[0].revents && agent_launcher_said(agent, err) != 0) return -1;
    return start_pending(agent, err) == 0 ? agent_watch(agent, err) : -1;
}
