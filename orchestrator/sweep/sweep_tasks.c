/* The sweep file's tasks: a data set each, opened here, or declared where it is not at hand, and described to all that
 * comes after. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "orchestrator/sweep/sweep_parts.h"

static const char *const task_keys[] = {"name",        "dataset",     "valid_examples",     "test_examples",
                                        "examples",    "mean_tokens", "mean_target_tokens", "vocabulary",
                                        "text_tokens", NULL};
static const char *const declared_keys[] = {"examples", "mean_tokens", "mean_target_tokens", "vocabulary",
                                            "text_tokens"};

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
    task->there = true;
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

static bool has_declaration(const struct config_group *group)
{
    for (size_t i = 0; i < sizeof declared_keys / sizeof *declared_keys; i++)
        if (config_has(group, declared_keys[i])) return true;
    return false;
}

static size_t tokens_of(size_t examples, double mean)
{
    double tokens = (double)examples * mean;
    return tokens < 9e18 ? (size_t)tokens : (size_t)9e18;
}

/* What a data set is said to hold. Its digest stands for the one that it will have. */
static void read_declaration(const struct config_group *group, struct sweep_task *task)
{
    struct dataset_info *data = &task->data;
    char text[512];
    size_t examples[SPLITS];
    examples[SPLIT_TRAIN] = config_take_uint(group, "examples", 1, INT64_MAX);
    double mean = config_take_double(group, "mean_tokens", 2.0, 1e9);
    double targets = config_take_double(group, "mean_target_tokens", 1.0, 1e9);
    data->vocabulary = config_take_uint(group, "vocabulary", 1, UINT32_MAX);
    data->text_tokens[SPLIT_TRAIN] = config_take_uint_or(group, "text_tokens", 0, INT64_MAX, 0);
    data->text_tokens[SPLIT_VALID] = data->text_tokens[SPLIT_TRAIN];
    data->sentinels =
        data->vocabulary / 2; /* any objective can be planned; a data set that is there says what it has */
    examples[SPLIT_VALID] = config_take_uint(group, "valid_examples", 1, INT64_MAX);
    examples[SPLIT_TEST] = config_take_uint(group, "test_examples", 1, INT64_MAX);
    if (!config_file_failed(group->file) && targets >= mean)
        config_fail(group, "mean_target_tokens", "%g, not below the %g of mean_tokens: they are a part of these",
                    targets, mean);
    for (int split = 0; split < SPLITS; split++) {
        data->examples[split] = examples[split];
        data->example_tokens[split] = tokens_of(examples[split], mean);
        data->example_targets[split] = tokens_of(examples[split], targets);
    }
    int length = snprintf(text, sizeof text, "declared data %s %.17g %.17g %zu %zu %zu %zu %zu", task->name, mean,
                          targets, data->vocabulary, data->text_tokens[SPLIT_TRAIN], examples[SPLIT_TRAIN],
                          examples[SPLIT_VALID], examples[SPLIT_TEST]);
    data->digest = digest_of(text, (size_t)length);
}

/* The data set, if one is named and there, or else what is declared of it. */
static void take_data(const struct config_group *group, const struct known *known, bool several, struct sweep *sweep,
                      struct sweep_task *task)
{
    bool declared = has_declaration(group), named = config_has(group, "dataset") || !declared;
    const char *name = named ? config_take_string(group, "dataset", PATH_MAX - 1) : "";
    if (config_file_failed(group->file)) return;
    if (named && sweep_resolve(sweep->path, name, task->dataset)) {
        config_fail(group, "dataset", "the path is too long; allowed: up to %d bytes", PATH_MAX - 1);
        return;
    }
    const struct sweep_task *found = find_known(known, task);
    if (found) {
        task->data = found->data;
        task->tokenizer = found->tokenizer;
    } else if (declared && (!named || (access(task->dataset, F_OK) != 0 && errno == ENOENT))) {
        if (!task->name[0]) snprintf(task->name, sizeof task->name, "%s", config_take_name(group, "name", SWEEP_NAME));
        read_declaration(group, task);
        if (!sweep->missing.text[0])
            config_describe(group, named ? "dataset" : "examples", &sweep->missing,
                            "%s%sthe data set is declared and not there: the sweep can be planned, not run",
                            task->dataset, named ? ": " : "");
        return;
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
