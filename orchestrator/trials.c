/* Workers that measure: started, asked, heard, ended. */
#include "orchestrator/trials.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workers/worker.h"

#define WORKERS 1024

static int start(const struct trials_host *host, uint32_t number, uint32_t worker, uint32_t degree, int *socket,
                 struct error *err)
{
    char gpus[GPUS_TEXT];
    if (host->gpus && gpus_text(host->gpus, worker * degree, degree, gpus, err)) return -1;
    return launcher_spawn(host->launcher, number, worker * degree * host->threads, degree * host->threads,
                          host->gpus ? gpus : NULL, socket, err);
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

/* What a worker has died of, as far as the launcher knows. */
static int dead(const struct trials_host *host, uint32_t number, struct error *err)
{
    struct launcher_event event;
    for (int looks = 0; looks < 100; looks++, usleep(10000))
        while (launcher_poll(host->launcher, &event, NULL) > 0) {
            if (event.kind != LAUNCHER_EXITED || event.number != number) continue;
            if (WIFSIGNALED(event.status))
                return error_set(err, "the worker that measures was ended by signal %d (%s)", WTERMSIG(event.status),
                                 strsignal(WTERMSIG(event.status)));
            return error_set(err, "the worker that measures has ended with code %d", WEXITSTATUS(event.status));
        }
    return error_set(err, "the worker that measures is gone");
}

static int hear(const struct trials_host *host, uint32_t number, int socket, struct trial *trial, struct error *err)
{
    uint32_t type;
    void *payload;
    size_t size;
    if (frame_receive(socket, &type, &payload, &size, err) <= 0) return dead(host, number, err);
    bool good = type == FRAME_TRIAL && size == sizeof *trial;
    if (good) memcpy(trial, payload, sizeof *trial);
    free(payload);
    if (!good) return error_set(err, "a worker answers with something else than it was asked for");
    return trial->message[0] ? error_set(err, "%s", trial->message) : 0;
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

int trials_measure(const struct trials_host *host, uint32_t workers, uint32_t degree,
                   const struct trial_request *request, const char *stage, struct trial *mean, struct error *err)
{
    static uint32_t number; /* of the last worker: unique in this process */
    int sockets[WORKERS], result = 0;
    uint32_t first = number + 1, started = 0;
    *mean = (struct trial){.steps = 0};
    if (workers > WORKERS) return error_set(err, "%" PRIu32 " devices; allowed: up to %d", workers, WORKERS);
    for (uint32_t i = 0; i < workers && !result; i++) {
        result = start(host, ++number, i, degree, &sockets[i], err);
        started += !result;
    }
    for (uint32_t i = 0; i < started && !result; i++)
        result = ask(sockets[i], request, stage, err);
    for (uint32_t i = 0; i < started && !result; i++) {
        struct trial trial;
        result = hear(host, first + i, sockets[i], &trial, err);
        if (!result) add(mean, &trial, 1.0 / workers);
    }
    for (uint32_t i = 0; i < started; i++) {
        struct error ignored;
        frame_send(sockets[i], FRAME_EXIT, NULL, 0, &ignored);
        close(sockets[i]);
    }
    return result;
}
