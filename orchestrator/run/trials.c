/* Processes that measure: started, asked, heard, ended. */
#include "orchestrator/run/trials.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/log.h"
#include "workers/stage/worker.h"

#define MOST 1024
#define MACHINE_PATIENCE 120.0 /* seconds: a node of eight GPUs takes some ten for its driver */
#define TRIAL_PATIENCE 1800.0  /* beside those of the measuring: a large model is made, and a step of it may be long */
#define END_PATIENCE 10.0

struct measurer {
    uint32_t number;
    int socket; /* -1: it has closed it */
    bool heard, ended;
    int status; /* as waitpid gives it, once it has ended */
};

static uint32_t next_number(void)
{
    static uint32_t number = UINT32_MAX; /* an agent that has the same launcher begins at the other end */
    return number--;
}

static int start(const struct trials_host *host, struct measurer *m, uint32_t place, uint32_t degree, struct error *err)
{
    char gpus[GPUS_TEXT];
    *m = (struct measurer){.number = next_number(), .socket = -1};
    if (host->gpus && gpus_text(host->gpus, place * degree, degree, gpus, err)) return -1;
    return launcher_spawn(host->launcher, LAUNCHER_MEASURE, m->number, place * degree * host->threads,
                          degree * host->threads, host->gpus ? gpus : NULL, &m->socket, err);
}

/* One that has died already is told as that, when the launcher says of what. */
static int ask(struct measurer *m, const struct trial_request *request, const char *stage, struct error *err)
{
    struct error ignored;
    size_t length = stage ? strlen(stage) : 0, size = sizeof *request + length;
    char *payload = malloc(size);
    if (!payload) return error_set(err, "out of memory");
    memcpy(payload, request, sizeof *request);
    if (stage) memcpy(payload + sizeof *request, stage, length);
    frame_send(m->socket, FRAME_TRIAL, payload, size, &ignored);
    free(payload);
    return 0;
}

static void close_socket(struct measurer *m)
{
    if (m->socket >= 0) close(m->socket);
    m->socket = -1;
}

/* Its answer; where there is none it has died, and the launcher will say of what. */
static int hear(struct measurer *m, void *answer, size_t bytes, struct error *err)
{
    uint32_t type;
    void *payload;
    size_t size;
    struct error ignored;
    if (frame_receive(m->socket, &type, &payload, &size, &ignored) <= 0) {
        close_socket(m);
        return 0;
    }
    m->heard = type == FRAME_TRIAL && size == bytes;
    if (m->heard) memcpy(answer, payload, size);
    free(payload);
    return m->heard ? 0 : error_set(err, "a process that measures answers with something else than it was asked for");
}

/* All that the launcher has to say: it waits while nobody listens. */
static int listen_to_launcher(struct launcher *launcher, struct measurer *list, uint32_t count, struct error *err)
{
    struct launcher_event event;
    int got;
    while ((got = launcher_poll(launcher, &event, err)) > 0)
        for (uint32_t i = 0; i < count; i++) {
            if (list[i].number != event.number || event.kind == LAUNCHER_SPAWNED) continue;
            list[i].ended = true;
            list[i].status = event.status;
            if (event.kind == LAUNCHER_FAILED)
                return error_set(err, "a process that measures could not be started: %s", strerror(event.status));
        }
    return got;
}

static int died(const struct measurer *m, struct error *err)
{
    if (!WIFSIGNALED(m->status))
        return error_set(err, "the process that measures has ended with code %d", WEXITSTATUS(m->status));
    return error_set(err, "the process that measures was ended by signal %d (%s)", WTERMSIG(m->status),
                     strsignal(WTERMSIG(m->status)));
}

/* What is awaited of a process: an answer, or its end. */
static bool is_awaited(const struct measurer *m, bool ends)
{
    return ends ? !m->ended : !m->heard;
}

/* Until all have answered, or ended: 1; 0 at the end of the patience; -1: one has died, or the launcher has. */
static int wait_for(const struct trials_host *host, struct measurer *list, uint32_t count, bool ends, void *answers,
                    size_t bytes, double patience, struct error *err)
{
    struct pollfd polls[1 + MOST];
    double end = clock_elapsed() + patience;
    for (;;) {
        uint32_t left = 0;
        if (listen_to_launcher(host->launcher, list, count, err)) return -1;
        polls[0] = (struct pollfd){.fd = host->launcher->fd, .events = POLLIN};
        for (uint32_t i = 0; i < count; i++) {
            bool awaited = is_awaited(&list[i], ends);
            left += awaited;
            if (awaited && list[i].ended) return died(&list[i], err);
            polls[1 + i] = (struct pollfd){.fd = awaited ? list[i].socket : -1, .events = POLLIN};
        }
        if (!left) return 1;
        if (clock_elapsed() >= end) return 0;
        if (poll(polls, 1 + count, 1000) < 0 && errno != EINTR) return error_set_errno(err, "poll");
        for (uint32_t i = 0; i < count && !ends; i++)
            if (polls[1 + i].revents && hear(&list[i], (unsigned char *)answers + i * bytes, bytes, err)) return -1;
    }
}

/* When this returns, what they had is free again. */
static void end(const struct trials_host *host, struct measurer *list, uint32_t count)
{
    struct error ignored;
    for (uint32_t i = 0; i < count; i++) {
        if (!list[i].heard) launcher_kill(host->launcher, list[i].number, &ignored); /* it is in the middle of it */
        if (list[i].socket >= 0) frame_send(list[i].socket, FRAME_EXIT, NULL, 0, &ignored);
        close_socket(&list[i]);
    }
    for (int force = 0; force < 2; force++) {
        if (wait_for(host, list, count, true, NULL, 0, END_PATIENCE, &ignored)) return;
        for (uint32_t i = 0; i < count; i++)
            if (!list[i].ended) launcher_kill(host->launcher, list[i].number, &ignored);
    }
}

/* The request, and the text behind it, to so many processes at once; answers[workers] of `bytes` each. */
static int exchange(const struct trials_host *host, uint32_t workers, uint32_t degree,
                    const struct trial_request *request, const char *stage, void *answers, size_t bytes,
                    double patience, struct error *err)
{
    struct measurer *list = calloc(workers, sizeof *list);
    uint32_t started = 0;
    int result = list ? 0 : error_set(err, "out of memory");
    for (; started < workers && !result; started += !result)
        result = start(host, &list[started], started, degree, err);
    for (uint32_t i = 0; i < started && !result; i++)
        result = ask(&list[i], request, stage, err);
    int got = result ? -1 : wait_for(host, list, started, false, answers, bytes, patience, err);
    if (got == 0) result = error_set(err, "a process that measures has not answered for %.0f s", patience);
    if (got < 0) result = -1;
    if (list) end(host, list, started);
    free(list);
    return result;
}

int trials_machine(struct launcher *launcher, const struct gpus *gpus, const char *backend, enum precision precision,
                   uint32_t threads, bool measure, struct probe *probe, struct error *err)
{
    struct launcher own;
    struct trial_request request = {
        .kind = TRIAL_MACHINE, .seconds = measure ? 1 : 0, .precision = precision, .threads = threads};
    snprintf(request.backend, sizeof request.backend, "%s", backend);
    if (!launcher && launcher_start(&own, err)) return -1;
    const struct trials_host host = {launcher ? launcher : &own, gpus, 1, threads};
    int result = exchange(&host, 1, 1, &request, NULL, probe, sizeof *probe, MACHINE_PATIENCE, err);
    if (!launcher) launcher_stop(&own);
    return !result && probe->message[0] ? error_set(err, "%s", probe->message) : result;
}

static void add(struct trial *mean, const struct trial *trial, double share)
{
    mean->steps += share * trial->steps;
    mean->step_seconds += share * trial->step_seconds;
    mean->step_tokens += share * trial->step_tokens;
    mean->evaluation_seconds += share * trial->evaluation_seconds;
    mean->evaluation_tokens += share * trial->evaluation_tokens;
    mean->evaluation_targets += share * trial->evaluation_targets;
    mean->evaluation_sequences += share * trial->evaluation_sequences;
    mean->flops_per_second += share * trial->flops_per_second;
    if (trial->peak_bytes > mean->peak_bytes) mean->peak_bytes = trial->peak_bytes;
}

int trials_measure(const struct trials_host *host, uint32_t workers, uint32_t degree,
                   const struct trial_request *request, const char *stage, struct trial *mean, struct error *err)
{
    *mean = (struct trial){.steps = 0};
    if (workers > MOST) return error_set(err, "%" PRIu32 " devices; allowed: up to %d", workers, MOST);
    struct trial *trials = calloc(workers, sizeof *trials);
    if (!trials) return error_set(err, "out of memory");
    double patience = TRIAL_PATIENCE + 10 * request->seconds;
    int result = exchange(host, workers, degree, request, stage, trials, sizeof *trials, patience, err);
    for (uint32_t i = 0; i < workers && !result; i++) {
        if (trials[i].message[0]) result = error_set(err, "%s", trials[i].message);
        add(mean, &trials[i], 1.0 / workers);
    }
    free(trials);
    return result;
}
