/* The digests of the data sets, computed in a thread of rank 0 while the first stages train. */
#include "orchestrator/run/data_check.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "orchestrator/run/thread.h"

struct data_check {
    struct dataset *datasets[SWEEP_TASKS];
    char *paths[SWEEP_TASKS];
    size_t count;
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

static int verify(const struct dataset *dataset, const char *path, struct error *err)
{
    double start = clock_elapsed();
    struct error why;
    if (dataset_verify(dataset, &why) != 0) return error_set(err, "%s: %.900s", path, why.text);
    LOG("%s: verified, %.3f GB in %.2f s", path, gigabytes(dataset_info(dataset)), clock_elapsed() - start);
    return 0;
}

static void *check_main(void *argument)
{
    struct data_check *check = argument;
    int result = 0;
    for (size_t i = 0; i < check->count && result == 0; i++)
        result = verify(check->datasets[i], check->paths[i], &check->error);
    atomic_store(&check->verdict, result == 0 ? 1 : -1);
    return NULL;
}

static void check_free(struct data_check *check)
{
    for (size_t i = 0; i < check->count; i++) {
        dataset_close(check->datasets[i]);
        free(check->paths[i]);
    }
    free(check);
}

/* One file that serves several tasks is read once. */
static bool opened(const struct data_check *check, const char *path)
{
    for (size_t i = 0; i < check->count; i++)
        if (strcmp(check->paths[i], path) == 0) return true;
    return false;
}

static int open_task(struct data_check *check, const struct sweep_task *task, struct error *err)
{
    const char *planned = task->data.digest.hex;
    if (opened(check, task->dataset)) return 0;
    char *path = strdup(task->dataset);
    struct dataset *dataset = path ? dataset_open(path, err) : NULL;
    if (!dataset) {
        if (!path) error_set(err, "out of memory");
        free(path);
        return -1;
    }
    check->paths[check->count] = path;
    check->datasets[check->count++] = dataset;
    const char *found = dataset_info(dataset)->digest.hex;
    if (strcmp(found, planned) == 0) return 0;
    return error_set(err, "%s: the data has changed: digest %s, planned with %s", path, found, planned);
}

struct data_check *data_check_start(const struct sweep_task *tasks, size_t count, struct error *err)
{
    struct data_check *check = calloc(1, sizeof *check);
    if (!check) {
        error_set(err, "out of memory");
        return NULL;
    }
    int failed = 0;
    for (size_t i = 0; i < count && !failed; i++)
        failed = open_task(check, &tasks[i], err) != 0;
    failed = failed || thread_start(&check->thread, check_main, check, err) != 0;
    if (!failed) return check;
    check_free(check);
    return NULL;
}

int data_check_poll(struct data_check *check, struct error *err)
{
    int verdict = atomic_load(&check->verdict);
    if (verdict < 0) error_set(err, "%s", check->error.text);
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
