/* Workers that measure: started, asked, heard, ended. */
#include "orchestrator/trials.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workers/worker.h"

#define WORKERS 1024
#define PATIENCE_MS 120000 /* a node of eight GPUs takes some ten seconds for its driver */

static uint32_t next_number(void)
{
    static uint32_t number = UINT32_MAX; /* an agent that has the same launcher begins at the other end */
    return number--;
}

static int start(const struct trials_host *host, uint32_t number, uint32_t worker, uint32_t degree, int *socket,
                 struct error *err)
{
    char gpus[GPUS_TEXT];
    if (host->gpus && gpus_text(host->gpus, worker * degree, degree, gpus, err)) return -1;
    return launcher_spawn(host->launcher, LAUNCHER_MEASURE, number, worker * degree * host->threads,
                          degree * host->threads, host->gpus ? gpus : NULL, socket, err);
}

static int ask(int socket, const struct trial_request *request, const char *stage, struct error *err)
{
    size_t length = stage ? strlen(stage) : 0, size = sizeof *request + length;
    char *payload = malloc(size);
    if (!payload) return error_set(err, "out of memory");
    memcpy(payload, request, sizeof *request);
    if (stage) memcpy(payload + sizeof *request, stage, length);
    int result = frame_send(socket, FRAME_TRIAL, payload, size, err);
    free(payload);
    return result;
}

/* How a worker has ended, as waitpid gives it; -1: not within a second, or the launcher does not know. */
static int status_of(struct launcher *launcher, uint32_t number)
{
    struct launcher_event event;
    for (int looks = 0; looks < 100; looks++, usleep(10000))
        while (launcher_poll(launcher, &event, NULL) > 0)
            if (event.number == number && event.kind == LAUNCHER_EXITED) return event.status;
    return -1;
}

static int dead(struct launcher *launcher, uint32_t number, struct error *err)
{
    int status = status_of(launcher, number);
    if (status < 0) return error_set(err, "the process that measures is gone");
    if (!WIFSIGNALED(status))
        return error_set(err, "the process that measures has ended with code %d", WEXITSTATUS(status));
    return error_set(err, "the process that measures was ended by signal %d (%s)", WTERMSIG(status),
                     strsignal(WTERMSIG(status)));
}

/* The answer, of so many bytes. */
static int hear(struct launcher *launcher, uint32_t number, int socket, void *answer, size_t bytes, struct error *err)
{
    uint32_t type;
    void *payload;
    size_t size;
    if (frame_receive(socket, &type, &payload, &size, err) <= 0) return dead(launcher, number, err);
    bool good = type == FRAME_TRIAL && size == bytes;
    if (good) memcpy(answer, payload, size);
    free(payload);
    return good ? 0 : error_set(err, "a worker answers with something else than it was asked for");
}

static void end(int socket)
{
    struct error ignored;
    frame_send(socket, FRAME_EXIT, NULL, 0, &ignored); /* where that fails it has ended already */
    close(socket);
}

static void add(struct trial *mean, const struct trial *trial, double share)
{
    mean->steps += trial->steps;
    mean->step_seconds += share * trial->step_seconds;
    mean->step_tokens += share * trial->step_tokens;
    mean->evaluation_seconds += share * trial->evaluation_seconds;
    mean->evaluation_tokens += share * trial->evaluation_tokens;
    mean->evaluation_targets += share * trial->evaluation_targets;
    mean->evaluation_sequences += share * trial->evaluation_sequences;
    mean->flops_per_second += share * trial->flops_per_second;
    if (trial->peak_bytes > mean->peak_bytes) mean->peak_bytes = trial->peak_bytes;
}

/* One worker, waited for. */
static int ask_machine(struct launcher *launcher, const struct trial_request *request, struct probe *probe,
                       struct error *err)
{
    const struct trials_host host = {.launcher = launcher, .devices = 1, .threads = request->threads};
    uint32_t number = next_number();
    int socket;
    if (start(&host, number, 0, 1, &socket, err)) return -1;
    struct pollfd answer = {.fd = socket, .events = POLLIN};
    int result = ask(socket, request, NULL, err);
    while (!result && poll(&answer, 1, PATIENCE_MS) <= 0) {
        if (errno == EINTR) continue;
        launcher_kill(launcher, number, NULL);
        result = error_set(err, "no answer for %d s", PATIENCE_MS / 1000);
    }
    if (!result) result = hear(launcher, number, socket, probe, sizeof *probe, err);
    end(socket);
    if (!result) status_of(launcher, number); /* what it had on a GPU is free again */
    if (!result && probe->message[0]) result = error_set(err, "%s", probe->message);
    return result;
}

int trials_machine(struct launcher *launcher, const char *backend, enum precision precision, uint32_t threads,
                   bool measure, struct probe *probe, struct error *err)
{
    struct launcher own;
    struct trial_request request = {
        .kind = TRIAL_MACHINE, .seconds = measure ? 1 : 0, .precision = precision, .threads = threads};
    snprintf(request.backend, sizeof request.backend, "%s", backend);
    if (!launcher && launcher_start(&own, err)) return -1;
    int result = ask_machine(launcher ? launcher : &own, &request, probe, err);
    if (!launcher) launcher_stop(&own);
    return result;
}

int trials_measure(const struct trials_host *host, uint32_t workers, uint32_t degree,
                   const struct trial_request *request, const char *stage, struct trial *mean, struct error *err)
{
    int sockets[WORKERS], result = 0;
    uint32_t numbers[WORKERS], started = 0;
    *mean = (struct trial){.steps = 0};
    if (workers > WORKERS) return error_set(err, "%" PRIu32 " devices; allowed: up to %d", workers, WORKERS);
    for (uint32_t i = 0; i < workers && !result; i++) {
        numbers[i] = next_number();
        result = start(host, numbers[i], i, degree, &sockets[i], err);
        started += !result;
    }
    for (uint32_t i = 0; i < started && !result; i++)
        result = ask(sockets[i], request, stage, err);
    for (uint32_t i = 0; i < started && !result; i++) {
        struct trial trial;
        result = hear(host->launcher, numbers[i], sockets[i], &trial, sizeof trial, err);
        if (!result && trial.message[0]) result = error_set(err, "%s", trial.message);
        if (!result) add(mean, &trial, 1.0 / workers);
    }
    for (uint32_t i = 0; i < started; i++)
        end(sockets[i]);
    return result;
}
