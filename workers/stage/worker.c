/* The worker process: stages come in over a socket, one after another, progress and outcomes go back. One thread reads
 * the socket, so that a drain, or the end of the agent, is seen while the other trains. */
#include "workers/stage/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/file.h"
#include "io/log.h"
#include "workers/model/model.h"
#include "workers/stage/probe.h"
#include "workers/stage/residence.h"
#include "workers/stage/stage_files.h"
#include "workers/stage/trial.h"

struct worker {
    int fd;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    char *text; /* a stage that waits to be run, or a trial */
    size_t size;
    uint32_t type;    /* FRAME_STAGE or FRAME_TRIAL */
    bool busy, leave; /* leave: FRAME_EXIT, or the socket is closed */
    volatile int stop;
    struct residence *residence;
    struct stage *stages; /* [count] that run */
    struct stage_outcome *outcomes;
    size_t count, ended;
    const struct stage_outcome *last; /* the last to end, not sent yet */
    int logs[PACK_LIMIT];             /* of the stages; -1: not open */
};

/* A stage has come. false: it came while another runs, which no agent of this build does. */
static bool accept_stage(struct worker *worker, uint32_t type, void *payload, size_t size)
{
    pthread_mutex_lock(&worker->mutex);
    bool free_for_it = !worker->busy && !worker->text;
    if (free_for_it) {
        worker->text = payload;
        worker->size = size;
        worker->type = type;
        worker->stop = 0;
        pthread_cond_signal(&worker->changed);
    }
    pthread_mutex_unlock(&worker->mutex);
    return free_for_it;
}

static void leave(struct worker *worker, bool at_once)
{
    pthread_mutex_lock(&worker->mutex);
    worker->leave = true;
    worker->stop = 1;
    if (at_once && worker->busy) _exit(1); /* nobody is left to hear the outcome; the next attempt resumes */
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->mutex);
}

static void *reader_main(void *argument)
{
    struct worker *worker = argument;
    for (;;) {
        uint32_t type;
        void *payload;
        size_t size;
        struct error err;
        int got = frame_receive(worker->fd, &type, &payload, &size, &err);
        bool work = type == FRAME_STAGE || type == FRAME_TRIAL;
        if (got <= 0 || (work && !accept_stage(worker, type, payload, size))) {
            leave(worker, true);
            return NULL;
        }
        if (work) continue; /* the payload is taken */
        free(payload);
        if (type == FRAME_DRAIN) worker->stop = 1;
        if (type == FRAME_EXIT) {
            leave(worker, false);
            return NULL;
        }
    }
}

static void send_progress(void *context, const struct stage_progress *progress)
{
    struct worker *worker = context;
    struct error err;
    if (frame_send(worker->fd, FRAME_PROGRESS, progress, sizeof *progress, &err)) _exit(1); /* the agent is gone */
}

/* The last one waits until the worker is free: the next stage may come right after it. */
static void send_outcome(void *context, const struct stage_outcome *outcome)
{
    struct worker *worker = context;
    struct error err;
    worker->last = outcome;
    if (++worker->ended == worker->count) return;
    if (frame_send(worker->fd, FRAME_OUTCOME, outcome, sizeof *outcome, &err)) _exit(1); /* the agent is gone */
}

static void enter(void *context, size_t index)
{
    const struct worker *worker = context;
    log_open(worker->logs[index], -1);
}

/* A stage's log; its first line is the stage, so that the log can be run again. */
static int open_log(const struct stage *stage, const char *text, size_t size, size_t count, struct error *err)
{
    char path[PATH_MAX];
    stage_log_path(stage, path);
    if (stage_make_folders(stage, err)) return -1;
    int fd = file_open_write(path, O_APPEND);
    if (fd < 0) return error_set_errno(err, "%s", path);
    dprintf(fd, "%.*s\n", (int)size, text);
    if (count > 1) dprintf(fd, "packed: %zu stages in one worker\n", count);
    return fd;
}

/* Everything else that this process prints, its libraries too, goes to the log of the first stage. Returns the old
 * stdout and stderr in saved[]. */
static void redirect(const struct worker *worker, int saved[2])
{
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        saved[i] = fcntl(STDOUT_FILENO + i, F_DUPFD_CLOEXEC, 3);
        dup2(worker->logs[0], STDOUT_FILENO + i);
    }
    log_open(worker->logs[0], -1);
}

static void restore(struct worker *worker, const int saved[2])
{
    fflush(NULL);
    log_open(STDERR_FILENO, -1);
    for (int i = 0; i < 2; i++) {
        if (saved[i] < 0) continue;
        dup2(saved[i], STDOUT_FILENO + i);
        close(saved[i]);
    }
    for (size_t i = 0; i < worker->count; i++)
        if (worker->logs[i] >= 0) close(worker->logs[i]);
}

/* Room for the stages of a frame, one a line. */
static int make_room(struct worker *worker, const char *text, size_t size, struct error *err)
{
    size_t count = 1;
    for (size_t i = 0; i < size; i++)
        count += text[i] == '\n';
    if (count > PACK_LIMIT) return error_set(err, "%zu stages at once; allowed: up to %d", count, PACK_LIMIT);
    free(worker->stages);
    free(worker->outcomes);
    worker->stages = calloc(count, sizeof *worker->stages);
    worker->outcomes = calloc(count, sizeof *worker->outcomes);
    worker->count = count;
    worker->ended = 0;
    for (size_t i = 0; i < count; i++)
        worker->logs[i] = -1;
    return worker->stages && worker->outcomes ? 0 : error_set(err, "out of memory");
}

/* Stages and their logs. */
static int open_stages(struct worker *worker, const char *text, size_t size, struct error *err)
{
    const char *end = text + size;
    for (size_t i = 0; i < worker->count; i++) {
        const char *line = text, *stop = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((stop ? stop : end) - line);
        text = stop ? stop + 1 : end;
        int failed = stage_decode(line, length, &worker->stages[i], err);
        worker->outcomes[i].identity = worker->stages[i].identity;
        if (failed) return -1;
        worker->logs[i] = open_log(&worker->stages[i], line, length, worker->count, err);
        if (worker->logs[i] < 0) return -1;
    }
    return 0;
}

static void run_frame(struct worker *worker, const char *text, size_t size)
{
    int saved[2] = {-1, -1};
    struct error err;
    const struct stage_hooks hooks = {.progress = send_progress,
                                      .outcome = send_outcome,
                                      .enter = enter,
                                      .context = worker,
                                      .stop = &worker->stop,
                                      .residence = worker->residence};
    if (make_room(worker, text, size, &err)) _exit(1); /* no agent of this build sends such */
    if (open_stages(worker, text, size, &err)) {
        for (size_t i = 0; i < worker->count; i++) {
            struct stage_outcome *outcome = &worker->outcomes[i];
            outcome->status = STORE_CRASHED;
            error_shorten(outcome->message, sizeof outcome->message, err.text);
            send_outcome(worker, outcome);
        }
    } else {
        redirect(worker, saved);
        stage_run_pack(worker->stages, worker->count, &hooks, worker->outcomes);
    }
    restore(worker, saved);
}

/* Before the outcome is sent: the next stage may come right after it. */
static void become_free(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    worker->busy = false;
    pthread_mutex_unlock(&worker->mutex);
}

/* Measure, in place of a stage, and answer. */
static int run_trial(struct worker *worker, const char *payload, size_t size)
{
    struct trial_request request;
    struct stage stage;
    struct trial trial = {.steps = 0};
    struct probe probe;
    struct error err = {""};
    int failed = 0;
    if (size < sizeof request) _exit(1); /* nobody of this build sends such */
    memcpy(&request, payload, sizeof request);
    if (request.kind == TRIAL_STAGE)
        failed = stage_decode(payload + sizeof request, size - sizeof request, &stage, &err) ||
                 trial_stage(&stage, request.seconds, &trial, &err);
    if (request.kind == TRIAL_PRODUCTS) failed = trial_products(&request, &trial, &err);
    if (request.kind == TRIAL_MACHINE)
        failed = probe_machine(request.backend, request.precision, request.threads, request.seconds > 0, &probe, &err);
    bool machine = request.kind == TRIAL_MACHINE;
    if (failed) error_shorten(machine ? probe.message : trial.message, STORE_MESSAGE, err.text);
    become_free(worker);
    return machine ? frame_send(worker->fd, FRAME_TRIAL, &probe, sizeof probe, &err)
                   : frame_send(worker->fd, FRAME_TRIAL, &trial, sizeof trial, &err);
}

/* The next stage, or NULL: leave. */
static char *wait_for_stage(struct worker *worker, size_t *size)
{
    pthread_mutex_lock(&worker->mutex);
    while (!worker->text && !worker->leave)
        pthread_cond_wait(&worker->changed, &worker->mutex);
    char *text = worker->leave ? NULL : worker->text;
    *size = worker->size;
    if (text) worker->text = NULL;
    worker->busy = text != NULL;
    pthread_mutex_unlock(&worker->mutex);
    return text;
}

static int run_stages(struct worker *worker)
{
    int result = 0;
    size_t size;
    for (char *text; result == 0 && (text = wait_for_stage(worker, &size)); free(text)) {
        struct error err;
        if (worker->type == FRAME_TRIAL) {
            result = run_trial(worker, text, size);
            continue;
        }
        run_frame(worker, text, size);
        become_free(worker);
        result = frame_send(worker->fd, FRAME_OUTCOME, worker->last, sizeof *worker->last, &err);
    }
    free(worker->stages);
    free(worker->outcomes);
    return result != 0;
}

int worker_main(int fd)
{
    pthread_t reader;
    static struct residence *residence; /* its memory goes with the process, which has no device any more then */
    residence = residence_create();     /* without, nothing stays */
    struct worker worker = {.fd = fd, .residence = residence};
    const struct rlimit no_core = {0, 0}; /* a core of a full device would fill the disk */
    setrlimit(RLIMIT_CORE, &no_core);
    pthread_mutex_init(&worker.mutex, NULL);
    pthread_cond_init(&worker.changed, NULL);
    if (pthread_create(&reader, NULL, reader_main, &worker) != 0) {
        fprintf(stderr, "tunelaw: worker: cannot start a thread\n");
        return 1;
    }
    int result = run_stages(&worker);
    shutdown(fd, SHUT_RD); /* wakes the reader */
    pthread_join(reader, NULL);
    free(worker.text);
    pthread_cond_destroy(&worker.changed);
    pthread_mutex_destroy(&worker.mutex);
    return result;
}
