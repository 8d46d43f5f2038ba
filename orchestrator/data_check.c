/* The digest of the data set, computed in a thread of rank 0 while the first stages train. */
#include "orchestrator/data_check.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"

struct data_check {
    struct dataset *dataset;
    char *path;
    pthread_t thread;
    struct error error; /* of the thread, once it has failed */
    atomic_int verdict; /* as data_check_poll */
};

static double gigabytes(const struct dataset_info *info)
{
    double tokens = (double)info->text_tokens[0] + (double)info->text_tokens[1];
    for (int split = 0; split < SPLITS; split++)
        tokens += (double)info->example_tokens[split];
    return tokens * (info->vocabulary <= 1 << 16 ? 2e-9 : 4e-9);
}

static void *check_main(void *argument)
{
    struct data_check *check = argument;
    double start = clock_elapsed();
    int result = dataset_verify(check->dataset, &check->error);
    double size = gigabytes(dataset_info(check->dataset));
    if (result == 0) LOG("%s: verified, %.3f GB in %.2f s", check->path, size, clock_elapsed() - start);
    atomic_store(&check->verdict, result == 0 ? 1 : -1);
    return NULL;
}

/* Signals are for the main thread, whose waiting they end. */
static int start_thread(struct data_check *check)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&check->thread, NULL, check_main, check);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

static void check_free(struct data_check *check)
{
    dataset_close(check->dataset);
    free(check->path);
    free(check);
}

struct data_check *data_check_start(const char *path, const struct digest *planned, struct error *err)
{
    struct data_check *check = calloc(1, sizeof *check);
    if (check) check->path = strdup(path);
    if (!check || !check->path) {
        free(check);
        error_set(err, "out of memory");
        return NULL;
    }
    check->dataset = dataset_open(path, err);
    if (!check->dataset) {
        check_free(check);
        return NULL;
    }
    const char *found = dataset_info(check->dataset)->digest.hex;
    int failed = strcmp(found, planned->hex) != 0;
    if (failed)
        error_set(err, "%s: the data has changed: digest %s, planned with %s", path, found, planned->hex);
    else if ((failed = start_thread(check)) != 0)
        error_set(err, "cannot start a thread");
    if (!failed) return check;
    check_free(check);
    return NULL;
}

int data_check_poll(struct data_check *check, struct error *err)
{
    int verdict = atomic_load(&check->verdict);
    if (verdict < 0) error_set(err, "%s: %.900s", check->path, check->error.text);
    return verdict;
}

void data_check_destroy(struct data_check *check)
{
    if (!check) return;
    if (atomic_load(&check->verdict) == 0) {
        pthread_detach(check->thread);
        return; /* it still reads what would be freed */
    }
    pthread_join(check->thread, NULL);
    check_free(check);
}
