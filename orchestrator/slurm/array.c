/* What is in the run directory of an array: between `tunelaw submit`, the stores of the tasks, and `status`. */
#include "orchestrator/slurm/array.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "io/file.h"
#include "orchestrator/run/rates.h"

static void record_path(const char *dir, const char *suffix, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.*s/slurm/array%s", PATH_MAX - 32, dir, suffix);
}

int array_read(const char *dir, struct array_record *record, struct error *err)
{
    char path[PATH_MAX], name[16], value[64];
    *record = (struct array_record){0};
    record_path(dir, "", path);
    FILE *file = fopen(path, "re");
    if (!file) return errno == ENOENT ? 0 : error_set_errno(err, "%s", path);
    while (fscanf(file, "%15s %63s", name, value) == 2) {
        if (!strcmp(name, "tasks")) record->tasks = (uint32_t)strtoul(value, NULL, 10);
        if (!strcmp(name, "plan")) snprintf(record->plan.hex, sizeof record->plan.hex, "%.*s", DIGEST_HEX, value);
        char *id = !strcmp(name, "trunks")  ? record->trunks
                   : !strcmp(name, "array") ? record->array
                   : !strcmp(name, "merge") ? record->merge
                                            : NULL;
        if (id && strspn(value, "0123456789") == strlen(value)) snprintf(id, SLURM_ID, "%.*s", SLURM_ID - 1, value);
    }
    fclose(file);
    if (record->tasks >= 1 && record->tasks <= ARRAY_TASKS) return 1;
    return error_set(err, "%s: not what `tunelaw submit` writes; remove it and %s/shards to begin anew", path, dir);
}

int array_write(const char *dir, const struct array_record *record, struct error *err)
{
    char path[PATH_MAX];
    struct file_draft draft;
    record_path(dir, "", path);
    if (file_draft_open(&draft, path, 0666, err)) return -1;
    FILE *file = draft.file;
    fprintf(file, "tasks %" PRIu32 "\nplan %s\n", record->tasks, record->plan.hex);
    if (record->trunks[0]) fprintf(file, "trunks %s\n", record->trunks);
    if (record->array[0]) fprintf(file, "array %s\n", record->array);
    if (record->merge[0]) fprintf(file, "merge %s\n", record->merge);
    return file_draft_publish(&draft, false, err);
}

int array_forget(const char *dir, struct error *err)
{
    char path[PATH_MAX];
    record_path(dir, "", path);
    return unlink(path) == 0 || errno == ENOENT ? 0 : error_set_errno(err, "%s", path);
}

void array_task_dir(const char *dir, uint32_t task, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.*s/shards/%" PRIu32, PATH_MAX - 32, dir, task);
}

/* Whether a task's store has a point without a result; where there is no store, all are. */
static int task_left(const char *dir, unsigned char *left, struct error *err)
{
    char path[PATH_MAX + 16];
    struct stat status;
    *left = 1;
    snprintf(path, sizeof path, "%s/results.h5", dir);
    if (stat(path, &status) != 0) return errno == ENOENT ? 0 : error_set_errno(err, "%s", path);
    struct store *store = store_open(dir, false, err);
    if (!store) return error_prefix(err, "the store cannot be read (`tunelaw verify` says what is left of it)");
    size_t rows = store_count(store);
    unsigned char *committed = malloc(rows + 1);
    int result = committed ? store_committed(store, committed, err) : error_set(err, "out of memory");
    *left = 0;
    for (size_t i = 0; i < rows && result == 0; i++)
        *left |= !committed[i] && !store_point(store, i)->removed;
    free(committed);
    store_close(store);
    return result;
}

int array_tasks_left(const char *dir, uint32_t tasks, unsigned char *left, size_t *count, struct error *err)
{
    char path[PATH_MAX];
    *count = 0;
    for (uint32_t i = 0; i < tasks; i++) {
        array_task_dir(dir, i + 1, path);
        if (task_left(path, &left[i], err) != 0) return -1;
        *count += left[i];
    }
    return 0;
}

bool array_trunks_left(const char *dir, const struct plan *plan, const struct shard_array *array)
{
    struct stage *stage = calloc(1, sizeof *stage);
    bool left = stage == NULL;
    for (size_t i = 0; i < plan->stage_count && !left; i++) {
        char path[PATH_MAX];
        struct checkpoint_header header;
        struct error ignored;
        if (!array->shared[i] || plan->stages[i].point != PLAN_NONE) continue;
        plan_stage_describe(plan, i, dir, 1, stage);
        stage_state_path(stage, path);
        left = checkpoint_peek(path, &header, &ignored) != 1 || !header.finished;
    }
    free(stage);
    return left;
}

static bool has_result(const struct store *store, const struct plan *plan, uint32_t stage)
{
    struct error ignored;
    long row = store_find(store, plan->stages[stage].identity.hex, &ignored);
    return row >= 0 && store_read(store, (size_t)row, NULL, NULL, NULL, &ignored) == 1;
}

bool array_candidates_left(const char *dir, const struct plan *plan)
{
    struct error ignored;
    if (plan->reference_count == 0) return false;
    double *rates = calloc(plan->reference_count, sizeof *rates);
    struct store *store = store_open(dir, false, &ignored);
    bool left = !rates || !store || rates_read(dir, plan, rates, &ignored) != 0;
    for (size_t i = 0; i < plan->reference_count && !left; i++) {
        const struct plan_reference *reference = &plan->references[i];
        left = rates[i] == 0;
        for (size_t k = 0; k < reference->count && !left; k++)
            left = !has_result(store, plan, reference->candidates[k]);
    }
    store_close(store);
    free(rates);
    return left;
}

void array_list(const unsigned char *left, uint32_t tasks, char *out)
{
    char *start = out;
    *out = 0;
    for (uint32_t i = 0; i < tasks; i++) {
        if (!left[i]) continue;
        uint32_t last = i;
        while (last + 1 < tasks && left[last + 1])
            last++;
        out += sprintf(out, "%s%" PRIu32, out > start ? "," : "", i + 1);
        if (last > i) out += sprintf(out, "-%" PRIu32, last + 1);
        i = last;
    }
}
