/* The thread that commits: it takes all rows that wait, and while it is at work the next ones gather. */
#include "orchestrator/run/committer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/file.h"
#include "orchestrator/run/thread.h"

enum { GROUP = 256 }; /* rows under one pair of fdatasync: what a kill in the middle of it may cost */

/* Rows in the order in which they came; what is at [i] belongs together. */
struct batch {
    struct store_row *rows;
    uint32_t *numbers;
    size_t count, capacity;
    char *lines;       /* one behind the other, */
    size_t *line_ends; /* where each ends */
    size_t lines_size, lines_capacity;
};

struct committer {
    struct store *store;
    int log_fd, done_fd; /* done_fd: an eventfd */
    committer_clean clean;
    void *context;
    pthread_t thread;
    bool torn; /* the log ends in half a line; the thread's alone */
    atomic_bool unlogged;
    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t changed;
    struct batch waiting;
    bool open, stopping, failed;
    size_t done; /* rows, since the last poll */
    struct error error;
};

static void batch_free(struct batch *batch)
{
    free(batch->rows);
    free(batch->numbers);
    free(batch->lines);
    free(batch->line_ends);
}

static int batch_grow(struct batch *batch, size_t line)
{
    if (batch->count == batch->capacity) {
        size_t capacity = batch->capacity ? 2 * batch->capacity : 16;
        struct store_row *rows = realloc(batch->rows, capacity * sizeof *rows);
        if (rows) batch->rows = rows;
        uint32_t *numbers = realloc(batch->numbers, capacity * sizeof *numbers);
        if (numbers) batch->numbers = numbers;
        size_t *ends = realloc(batch->line_ends, capacity * sizeof *ends);
        if (ends) batch->line_ends = ends;
        if (!rows || !numbers || !ends) return -1;
        batch->capacity = capacity;
    }
    if (batch->lines_size + line > batch->lines_capacity) {
        size_t capacity = 2 * (batch->lines_size + line);
        char *lines = realloc(batch->lines, capacity);
        if (!lines) return -1;
        batch->lines = lines;
        batch->lines_capacity = capacity;
    }
    return 0;
}

/* A line that cannot be written is a gap in the log and no reason to end a run whose rows are on the disk. The next one
 * begins a new line. They are synced once for all rows of a group, since from then on nothing else tells of a line that
 * is missing. */
static void write_lines(struct committer *committer, const char *lines, size_t size)
{
    if (committer->torn && file_append(committer->log_fd, "\n", 1) != 0) return;
    committer->torn = file_append(committer->log_fd, lines, size) != 0;
    if (committer->torn || fdatasync(committer->log_fd) != 0) atomic_store(&committer->unlogged, true);
}

/* Rows [first, end) of a batch. */
static int group_commit(struct committer *committer, const struct batch *batch, size_t first, size_t end,
                        struct error *err)
{
    size_t from = first > 0 ? batch->line_ends[first - 1] : 0;
    if (store_commit(committer->store, batch->rows + first, end - first, err) != 0) return -1;
    /* what the rows made useless may be in use by a run that has taken over in the meantime */
    if (store_check_replaced(committer->store, err) != 0) return -1;
    write_lines(committer, batch->lines + from, batch->line_ends[end - 1] - from);
    for (size_t i = first; i < end; i++)
        committer->clean(committer->context, batch->numbers[i]);
    return 0;
}

/* Without the lock; with it again at the end. */
static void batch_commit(struct committer *committer, const struct batch *batch)
{
    for (size_t first = 0, end; first < batch->count; first = end) {
        struct error err;
        end = batch->count - first > GROUP ? first + GROUP : batch->count;
        int result = group_commit(committer, batch, first, end, &err);
        pthread_mutex_lock(&committer->mutex);
        if (result == 0)
            committer->done += end - first;
        else
            committer->error = err;
        committer->failed = result != 0;
        eventfd_write(committer->done_fd, 1);
        if (result != 0 || end == batch->count) return;
        pthread_mutex_unlock(&committer->mutex);
    }
}

static bool has_work(const struct committer *committer)
{
    return committer->open && !committer->failed && committer->waiting.count > 0;
}

static void *committer_main(void *argument)
{
    struct committer *committer = argument;
    struct batch batch = {0};
    pthread_mutex_lock(&committer->mutex);
    for (;;) {
        while (!has_work(committer) && !committer->stopping)
            pthread_cond_wait(&committer->changed, &committer->mutex);
        if (!has_work(committer)) break;
        struct batch empty = batch;
        batch = committer->waiting;
        empty.count = empty.lines_size = 0;
        committer->waiting = empty;
        pthread_mutex_unlock(&committer->mutex);
        batch_commit(committer, &batch);
    }
    pthread_mutex_unlock(&committer->mutex);
    batch_free(&batch);
    return NULL;
}

static void committer_free(struct committer *committer)
{
    if (committer->done_fd >= 0) close(committer->done_fd);
    pthread_cond_destroy(&committer->changed);
    pthread_mutex_destroy(&committer->mutex);
    batch_free(&committer->waiting);
    free(committer);
}

struct committer *committer_start(struct store *store, int log_fd, committer_clean clean, void *context,
                                  struct error *err)
{
    struct committer *committer = calloc(1, sizeof *committer);
    if (!committer) {
        error_set(err, "out of memory");
        return NULL;
    }
    *committer = (struct committer){.store = store, .log_fd = log_fd, .clean = clean, .context = context};
    committer->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&committer->mutex, NULL);
    pthread_cond_init(&committer->changed, NULL);
    if (committer->done_fd < 0)
        error_set_errno(err, "eventfd");
    else if (thread_start(&committer->thread, committer_main, committer, err) == 0)
        return committer;
    committer_free(committer);
    return NULL;
}

int committer_add(struct committer *committer, const struct store_row *row, const char *line, uint32_t number,
                  struct error *err)
{
    size_t size = strlen(line);
    pthread_mutex_lock(&committer->mutex);
    struct batch *batch = &committer->waiting;
    int result = batch_grow(batch, size);
    if (result == 0) {
        memcpy(batch->lines + batch->lines_size, line, size);
        batch->lines_size += size;
        batch->line_ends[batch->count] = batch->lines_size;
        batch->numbers[batch->count] = number;
        batch->rows[batch->count++] = *row;
        pthread_cond_signal(&committer->changed);
    }
    pthread_mutex_unlock(&committer->mutex);
    return result == 0 ? 0 : error_set(err, "out of memory");
}

void committer_open(struct committer *committer)
{
    pthread_mutex_lock(&committer->mutex);
    committer->open = true;
    pthread_cond_signal(&committer->changed);
    pthread_mutex_unlock(&committer->mutex);
}

int committer_poll(struct committer *committer, size_t *count, struct error *err)
{
    eventfd_t ignored;
    pthread_mutex_lock(&committer->mutex);
    eventfd_read(committer->done_fd, &ignored); /* under the lock, as it is written */
    *count = committer->done;
    committer->done = 0;
    int result = committer->failed ? error_set(err, "%s", committer->error.text) : 0;
    pthread_mutex_unlock(&committer->mutex);
    return result;
}

void committer_stop(struct committer *committer)
{
    if (!committer) return;
    pthread_mutex_lock(&committer->mutex);
    committer->stopping = true;
    pthread_cond_signal(&committer->changed);
    pthread_mutex_unlock(&committer->mutex);
    pthread_join(committer->thread, NULL);
    committer_free(committer);
}

int committer_fd(const struct committer *committer)
{
    return committer->done_fd;
}

bool committer_unlogged(const struct committer *committer)
{
    return atomic_load(&committer->unlogged);
}
