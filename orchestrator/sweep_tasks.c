/* The sweep file's tasks: a data set each, opened here and described to all that comes after. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "orchestrator/sweep_parts.h"

static const char *const task_keys[] = {"name", "dataset", "valid_examples", "test_examples", NULL};

/* What the tasks of this file may be known from: another sweep's. */
struct known {
    const struct sweep_task *tasks;
    size_t count;
    bool alone; /* and so is the task of the file */
};

static const struct sweep_task *find_known(const struct known *known, const struct sweep_task *task)
{
    for (size_t i = 0; i < known->count && task->name[0]; i++)
        if (!strcmp(known->tasks[i].name, task->name)) return &known->tasks[i];
    for (size_t i = 0; i < known->count && task->dataset[0]; i++)
        if (!strcmp(known->tasks[i].dataset, task->dataset)) return &known->tasks[i];
    return known->alone ? known->tasks : NULL;
}

static void open_dataset(const struct config_group *group, bool several, struct sweep_task *task)
{
    struct error err;
    struct dataset *dataset = dataset_open(task->dataset, &err);
    if (!dataset) {
        config_fail(group, "dataset", "%s; `tunelaw data --help` says how a data set is made", err.text);
        return;
    }
    task->data = *dataset_info(dataset);
    if (several) {
        size_t size = 0;
        const void *bytes = dataset_tokenizer(dataset, &size);
        task->tokenizer = digest_of(bytes, size);
    }
    dataset_close(dataset);
}

static void check_splits(const struct config_group *group, const struct sweep_task *task)
{
    for (int split = 0; split < SPLITS; split++)
        if (!task->data.examples[split])
            config_fail(group, "dataset", "%.200s has no %s examples", task->dataset,
                        dataset_split_name((enum dataset_split)split));
}

static void take_data(const struct config_group *group, const struct known *known, bool several,
                      const struct sweep *sweep, struct sweep_task *task)
{
    const char *name = config_take_string(group, "dataset", PATH_MAX - 1);
    if (config_file_failed(group->file)) return;
    if (sweep_resolve(sweep->path, name, task->dataset)) {
        config_fail(group, "dataset", "the path is too long; allowed: up to %d bytes", PATH_MAX - 1);
        return;
    }
    const struct sweep_task *found = find_known(known, task);
    if (found) {
        task->data = found->data;
        task->tokenizer = found->tokenizer;
    } else {
        open_dataset(group, several, task);
    }
    if (!config_file_failed(group->file)) check_splits(group, task);
}

static uint64_t read_limit(const struct config_group *group, const char *key, size_t have)
{
    uint64_t wanted = config_take_uint_or(group, key, 0, INT64_MAX, 0);
    if (wanted > have && !config_file_failed(group->file))
        config_fail(group, key, "%" PRIu64 " examples, more than the data set has; allowed: 0 (all) .. %zu", wanted,
                    have);
    return wanted;
}

static void read_task(const struct config_group *group, const struct known *known, bool several, struct sweep *sweep,
                      size_t index)
{
    struct sweep_task *task = &sweep->tasks[index];
    if (several || config_has(group, "name"))
        snprintf(task->name, sizeof task->name, "%s", config_take_name(group, "name", SWEEP_NAME));
    for (size_t i = 0; i < index && !config_file_failed(group->file); i++)
        if (!strcmp(sweep->tasks[i].name, task->name))
            config_fail(group, "name", "\"%s\" is the name of data[%zu], too", task->name, i);
    take_data(group, known, several, sweep, task);
    if (!task->name[0]) snprintf(task->name, sizeof task->name, "%s", task->data.task);
    task->valid_examples = read_limit(group, "valid_examples", task->data.examples[SPLIT_VALID]);
    task->test_examples = read_limit(group, "test_examples", task->data.examples[SPLIT_TEST]);
}

void sweep_read_tasks(const struct config_group *root, const struct sweep_task *known, size_t known_count,
                      struct sweep *sweep)
{
    bool several = config_is_list(root, "data");
    size_t count = several ? config_open_list(root, "data", true) : 1;
    struct known from = {known, known_count, known_count == 1 && count == 1};
    if (count > SWEEP_TASKS) config_fail(root, "data", "%zu tasks; allowed: up to %d", count, SWEEP_TASKS);
    if (config_file_failed(root->file)) return;
    sweep->tasks = calloc(count, sizeof *sweep->tasks);
    if (!sweep->tasks) {
        config_fail(root, "data", "out of memory");
        return;
    }
    sweep->task_count = count;
    for (size_t i = 0; i < count && !config_file_failed(root->file); i++) {
        struct config_group group = several ? config_open_element(root, "data", i, task_keys)
                                            : config_open_group(root, "data", task_keys, true);
        read_task(&group, &from, several, sweep, i);
    }
}

uint32_t sweep_read_task_names(const struct config_group *group, const struct sweep *sweep)
{
    uint32_t all = (UINT32_C(1) << sweep->task_count) - 1, set = 0;
    const char *axis[SWEEP_TASKS];
    size_t count = 0;
    if (!config_has(group, "tasks")) return all;
    for (size_t i = 0; i < sweep->task_count; i++)
        axis[i] = sweep->tasks[i].name;
    const char **names = config_take_strings(group, "tasks", SWEEP_NAME, true, &count);
    for (size_t i = 0; i < count && !config_file_failed(group->file); i++) {
        size_t task = 0;
        while (task < sweep->task_count && strcmp(axis[task], names[i]) != 0)
            task++;
        if (task == sweep->task_count)
            sweep_fail_name(group, "tasks", i, names[i], axis, sweep->task_count);
        else
            set |= UINT32_C(1) << task;
    }
    free(names);
    return set;
}

const struct sweep_task *sweep_smallest_task(const struct sweep *sweep, uint32_t tasks)
{
    const struct sweep_task *least = NULL;
    for (size_t i = 0; i < sweep->task_count; i++)
        if (tasks >> i & 1 &&
            (!least || sweep->tasks[i].data.examples[SPLIT_TRAIN] < least->data.examples[SPLIT_TRAIN]))
            least = &sweep->tasks[i];
    return least;
}

void sweep_digests(const struct sweep *sweep, char out[SWEEP_DIGESTS])
{
    size_t used = 0;
    out[0] = '\0';
    if (sweep->task_count == 1) snprintf(out, SWEEP_DIGESTS, "%s", sweep->tasks[0].data.digest.hex);
    for (size_t i = 0; i < sweep->task_count && sweep->task_count > 1; i++)
        used += (size_t)snprintf(out + used, SWEEP_DIGESTS - used, "%s%s %s", i ? ", " : "", sweep->tasks[i].name,
                                 sweep->tasks[i].data.digest.hex);
}

struct digest sweep_digest_of(const char *digests, const char *single, const char *task)
{
    struct digest digest = {""};
    size_t length = strlen(task);
    if (!strchr(digests, ' ')) {
        if (!strcmp(single, task)) snprintf(digest.hex, sizeof digest.hex, "%s", digests);
        return digest;
    }
    for (const char *at = digests; at; at = strstr(at, ", ") ? strstr(at, ", ") + 2 : NULL)
        if (!strncmp(at, task, length) && at[length] == ' ')
            snprintf(digest.hex, sizeof digest.hex, "%.*s", DIGEST_HEX, at + length + 1);
    return digest;
}
