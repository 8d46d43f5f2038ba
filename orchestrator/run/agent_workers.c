/* What an agent hears of its workers: frames on their sockets, their ends from the launcher; and those that it ends. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/log.h"
#include "io/store/store.h"
#include "orchestrator/run/agent_internal.h"
#include "orchestrator/run/host.h"
#include "workers/stage/worker.h"

#define EXIT_GRACE 5.0 /* seconds that a worker has to leave when it is told to */

/* The one of a worker's stages that it speaks of; of several where it could not read which, the first that is left. */
static struct message_assign *find_job(struct worker *worker, const struct digest *identity)
{
    struct message_assign *left = NULL;
    for (uint32_t i = 0; i < worker->job_count; i++) {
        struct message_assign *job = &worker->jobs[i];
        if (job->stage == JOB_ENDED) continue;
        if (strcmp(job->identity.hex, identity->hex) == 0) return job;
        if (!left) left = job;
    }
    return left;
}

void agent_worker_free(struct worker *worker)
{
    if (worker->socket >= 0) close(worker->socket);
    free(worker->buffer);
    free(worker->jobs);
}

/* One whole frame from a worker. */
static int worker_said(struct agent *agent, struct worker *worker, uint32_t type, const unsigned char *payload,
                       size_t size, struct error *err)
{
    worker->heard = clock_elapsed();
    if (worker->state != WORKER_BUSY) return 0;
    if (type == FRAME_PROGRESS && size == sizeof(struct stage_progress)) {
        struct message_progress message = {.pid = worker->pid};
        memcpy(&message.progress, payload, size);
        const struct message_assign *job = find_job(worker, &message.progress.identity);
        if (!job || strcmp(job->identity.hex, message.progress.identity.hex) != 0) return 0; /* it has ended */
        message.stage = job->stage;
        return transport_send(agent->transport, 0, MESSAGE_PROGRESS, &message, sizeof message, err);
    }
    if (type == FRAME_OUTCOME && size == sizeof(struct stage_outcome)) {
        struct stage_outcome outcome;
        memcpy(&outcome, payload, size);
        struct message_assign *job = find_job(worker, &outcome.identity);
        uint32_t stage = job->stage, lost = 0;
        job->stage = JOB_ENDED;
        if (--worker->jobs_left == 0) {
            worker->state = WORKER_IDLE;
            lost = agent_judge_devices(agent, worker, &outcome);
            if (agent->stopping || outcome.failed_device) agent_leave(worker); /* the error is the process's, too */
        }
        return agent_send_outcome(agent, stage, &outcome, lost, err);
    }
    LOG("worker %u: frame of type %u and %zu bytes ignored", worker->number, type, size);
    return 0;
}

/* The worker's socket has closed: if it was at work, the attempt has failed; how is known when the launcher tells. */
static void worker_closed(struct worker *worker)
{
    close(worker->socket);
    worker->socket = -1;
}

int agent_worker_read(struct agent *agent, struct worker *worker, struct error *err)
{
    for (;;) {
        if (worker->capacity - worker->used < 8192) {
            size_t capacity = worker->capacity ? 2 * worker->capacity : 16384;
            unsigned char *grown = realloc(worker->buffer, capacity);
            if (!grown) return error_set(err, "out of memory");
            worker->buffer = grown;
            worker->capacity = capacity;
        }
        size_t room = worker->capacity - worker->used;
        ssize_t got = recv(worker->socket, worker->buffer + worker->used, room, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (got <= 0) {
            worker_closed(worker);
            break;
        }
        worker->used += (size_t)got;
        size_t at = 0;
        struct frame_header header;
        while (worker->used - at >= sizeof header) {
            memcpy(&header, worker->buffer + at, sizeof header);
            if (header.magic != FRAME_MAGIC || header.size > FRAME_LIMIT) {
                LOG("worker %u: not a frame; it is ended", worker->number);
                return launcher_kill(agent->launcher, worker->number, err);
            }
            if (worker->used - at - sizeof header < header.size) break;
            if (worker_said(agent, worker, header.type, worker->buffer + at + sizeof header, header.size, err) != 0)
                return -1;
            at += sizeof header + header.size;
        }
        memmove(worker->buffer, worker->buffer + at, worker->used - at);
        worker->used -= at;
        if ((size_t)got < room) break; /* that was all; poll tells of more */
    }
    return 0;
}

/* The kernel does not say whom it has killed for want of memory; a worker that nobody here has killed while it did. */
static bool ran_out_of_memory(const struct worker *worker, int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !worker->killed &&
           host_memory_kills() > worker->memory_kills;
}

static void describe_end(const struct worker *worker, int status, bool memory, char *out, size_t size)
{
    if (worker->timed_out)
        snprintf(out, size, "no progress for %.0f s: ended as hung", worker->jobs[0].hang_seconds);
    else if (memory)
        snprintf(out, size, "out of memory: worker killed by the kernel");
    else if (WIFSIGNALED(status))
        snprintf(out, size, "worker killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(out, size, "worker left with exit code %d", WEXITSTATUS(status));
}

/* Remove a worker that has ended; what it was doing has failed. */
static int worker_ended(struct agent *agent, size_t index, int status, struct error *err)
{
    struct worker *worker = &agent->workers[index];
    int result = 0;
    if (worker->socket >= 0) result = agent_worker_read(agent, worker, err); /* what it said before it ended */
    if (result == 0 && worker->state == WORKER_BUSY) {
        char reason[STORE_MESSAGE];
        bool memory = ran_out_of_memory(worker, status);
        agent->kills_read = 0.0; /* what has happened by now is not the next stage's */
        describe_end(worker, status, memory, reason, sizeof reason);
        result = agent_send_failures(agent, worker->jobs, worker->job_count,
                                     worker->timed_out ? STORE_TIMED_OUT
                                     : memory          ? STORE_OUT_OF_MEMORY
                                                       : STORE_CRASHED,
                                     reason, err);
    }
    agent_worker_free(worker);
    agent->workers[index] = agent->workers[--agent->count];
    return result;
}

int agent_launcher_said(struct agent *agent, struct error *err)
{
    struct launcher_event event;
    int got;
    while ((got = launcher_poll(agent->launcher, &event, err)) > 0) {
        size_t index = 0;
        while (index < agent->count && agent->workers[index].number != event.number)
            index++;
        if (index == agent->count) continue;
        if (event.kind == LAUNCHER_SPAWNED) agent->workers[index].pid = event.pid;
        if (event.kind == LAUNCHER_FAILED) {
            LOG("worker %u could not be started: %s", event.number, strerror(event.status));
            event.kind = LAUNCHER_EXITED;
            event.status = 127 << 8;
        }
        if (event.kind == LAUNCHER_EXITED && worker_ended(agent, index, event.status, err) != 0) return -1;
    }
    return got;
}

/* End workers that hang, and those that do not leave. */
int agent_watch(struct agent *agent, struct error *err)
{
    double now = clock_elapsed();
    for (size_t i = 0; i < agent->count; i++) {
        struct worker *w = &agent->workers[i];
        double silent = now - w->heard;
        bool hung = w->state == WORKER_BUSY && w->jobs[0].hang_seconds > 0 && silent > w->jobs[0].hang_seconds;
        bool lingers = w->state == WORKER_LEAVING && silent > EXIT_GRACE;
        if ((!hung && !lingers) || w->killed) continue;
        w->timed_out = hung;
        w->killed = true;
        if (launcher_kill(agent->launcher, w->number, err) != 0) return -1;
    }
    return 0;
}
