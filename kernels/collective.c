/* Collectives between the threads of one process. Each rank publishes a pointer, all meet, every rank reads or reduces
 * what it needs straight from the others' memory, and all meet again before anyone touches its buffer. */
#include "kernels/collective.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Looks at the barrier before sleeping: a few microseconds, less than a wake-up, and no harm where cores are shared. */
enum { SPINS = 500 };

struct collective_group {
    int size;
    bool aborted; /* under the mutex */
    int arrived;  /* under the mutex */
    atomic_uint generation;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    void *published[]; /* [size] */
};

struct collective_group *collective_group_create(int size, struct error *err)
{
    if (size < 1) {
        error_set(err, "a gang of %d ranks; allowed: at least 1", size);
        return NULL;
    }
    struct collective_group *group = calloc(1, sizeof *group + (size_t)size * sizeof group->published[0]);
    if (!group) {
        error_set(err, "out of memory");
        return NULL;
    }
    group->size = size;
    atomic_init(&group->generation, 0);
    pthread_mutex_init(&group->mutex, NULL);
    pthread_cond_init(&group->condition, NULL);
    return group;
}

void collective_group_destroy(struct collective_group *group)
{
    if (!group) return;
    pthread_cond_destroy(&group->condition);
    pthread_mutex_destroy(&group->mutex);
    free(group);
}

void collective_abort(struct collective_group *group)
{
    pthread_mutex_lock(&group->mutex);
    group->aborted = true;
    pthread_cond_broadcast(&group->condition);
    pthread_mutex_unlock(&group->mutex);
}

bool collective_aborted(const struct collective *c)
{
    if (c->size == 1) return false;
    pthread_mutex_lock(&c->group->mutex);
    bool aborted = c->group->aborted;
    pthread_mutex_unlock(&c->group->mutex);
    return aborted;
}

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Meet all ranks. An abort breaks a meeting that is not complete; one that is complete has happened on every rank.
 * The closing meeting of an operation is not abortable: all ranks are in the operation and will come, and none may
 * leave while another still reads its buffer. */
static int meet(struct collective_group *group, bool abortable)
{
    int result = 0;
    pthread_mutex_lock(&group->mutex);
    unsigned generation = atomic_load(&group->generation);
    if (abortable && group->aborted) {
        pthread_mutex_unlock(&group->mutex);
        return -1;
    }
    if (++group->arrived == group->size) {
        group->arrived = 0;
        atomic_store(&group->generation, generation + 1);
        pthread_cond_broadcast(&group->condition);
        pthread_mutex_unlock(&group->mutex);
        return 0;
    }
    pthread_mutex_unlock(&group->mutex);

    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&group->generation) != generation) return 0;
        pause_briefly();
    }
    pthread_mutex_lock(&group->mutex);
    while (atomic_load(&group->generation) == generation) {
        if (abortable && group->aborted) {
            result = -1;
            break;
        }
        pthread_cond_wait(&group->condition, &group->mutex);
    }
    pthread_mutex_unlock(&group->mutex);
    return result;
}

static int open_with(const struct collective *c, const void *x)
{
    c->group->published[c->rank] = (void *)(uintptr_t)x;
    return meet(c->group, true);
}

static void close_all(const struct collective *c)
{
    meet(c->group, false);
}

/* Each rank reduces one slice, in rank order, and writes it into the buffer of every rank. */
static void reduce_slice(const struct collective *c, size_t begin, size_t end)
{
    enum { BLOCK = 256 };
    for (size_t at = begin; at < end; at += BLOCK) {
        size_t n = end - at < BLOCK ? end - at : BLOCK;
        float sum[BLOCK];
        memcpy(sum, (const float *)c->group->published[0] + at, n * sizeof *sum);
        for (int r = 1; r < c->size; r++) {
            const float *x = (const float *)c->group->published[r] + at;
            for (size_t i = 0; i < n; i++)
                sum[i] += x[i];
        }
        for (int r = 0; r < c->size; r++)
            memcpy((float *)c->group->published[r] + at, sum, n * sizeof *sum);
    }
}

int collective_sum(const struct collective *c, size_t n, float *x)
{
    if (c->size == 1) return 0;
    if (open_with(c, x)) return -1;
    size_t slice = (n / (size_t)c->size + 15) / 16 * 16 + 16; /* whole cache lines; the last slices may be empty */
    size_t begin = slice * (size_t)c->rank, end = begin + slice;
    if (begin < n) reduce_slice(c, begin, end < n ? end : n);
    close_all(c);
    return 0;
}

int collective_gather(const struct collective *c, size_t n, const float *x, float *all)
{
    if (c->size == 1) {
        if (n) memmove(all, x, n * sizeof *all);
        return 0;
    }
    if (open_with(c, x)) return -1;
    for (int r = 0; r < c->size; r++) {
        if (n) memmove(all + (size_t)r * n, c->group->published[r], n * sizeof *all);
    }
    close_all(c);
    return 0;
}

/* Few numbers: the first rank adds for all. */
int collective_sum_doubles(const struct collective *c, size_t n, double *x)
{
    if (c->size == 1) return 0;
    if (open_with(c, x)) return -1;
    for (size_t i = 0; c->rank == 0 && i < n; i++) {
        double sum = x[i];
        for (int r = 1; r < c->size; r++)
            sum += ((const double *)c->group->published[r])[i];
        for (int r = 0; r < c->size; r++)
            ((double *)c->group->published[r])[i] = sum;
    }
    close_all(c);
    return 0;
}

int collective_sum_double(const struct collective *c, double *x)
{
    return collective_sum_doubles(c, 1, x);
}

int collective_barrier(const struct collective *c)
{
    return c->size == 1 ? 0 : meet(c->group, true);
}
