/* The stores of an array's tasks and Slurm's words on its jobs, joined with the directory above them. */
#include "orchestrator/slurm/array_view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "orchestrator/run/status_live.h"

/* What a task has of the parent's rows. A store that cannot be opened is as none: its own `status` says why. */
static int open_task(struct array_view *array, const struct view *parent, uint32_t number, struct error *err)
{
    struct array_task *task = &array->tasks[number - 1];
    struct error ignored;
    struct stat status;
    char path[PATH_MAX], store[PATH_MAX + 16];
    array_task_dir(parent->dir, number, path);
    snprintf(store, sizeof store, "%s/results.h5", path);
    if (stat(store, &status) != 0 || view_open(&task->view, path, &ignored) != 0) {
        snprintf(task->view.dir, sizeof task->view.dir, "%s", path);
        return 0;
    }
    size_t rows = store_count(task->view.store);
    unsigned char *committed = malloc(rows + 1);
    int result = committed ? store_committed(task->view.store, committed, err) : error_set(err, "out of memory");
    for (size_t i = 0; i < rows && result == 0; i++) {
        const struct store_point *point = store_point(task->view.store, i);
        long row = parent->store ? store_find_exact(parent->store, point->identity) : -1;
        task->points += !point->removed;
        task->committed += committed[i] && !point->removed;
        if (row < 0) continue;
        array->task_of_row[row] = number;
        array->row_in_task[row] = i;
    }
    free(committed);
    return result;
}

int array_view_open(struct array_view *array, const struct view *parent, struct error *err)
{
    struct error ignored;
    *array = (struct array_view){0};
    int found = array_read(parent->dir, &array->record, err);
    if (found <= 0) return found;
    size_t rows = parent->store ? store_count(parent->store) : 0;
    array->tasks = calloc(array->record.tasks, sizeof *array->tasks);
    array->task_of_row = calloc(rows + 1, sizeof *array->task_of_row);
    array->row_in_task = calloc(rows + 1, sizeof *array->row_in_task);
    int result = array->tasks && array->task_of_row && array->row_in_task ? 0 : error_set(err, "out of memory");
    for (uint32_t i = 1; i <= array->record.tasks && result == 0; i++)
        result = open_task(array, parent, i, err);
    if (result == 0) slurm_states_of(parent->dir, &array->states, &array->state_count, &ignored);
    if (result != 0) array_view_close(array);
    return result;
}

void array_view_close(struct array_view *array)
{
    for (uint32_t i = 0; array->tasks && i < array->record.tasks; i++)
        view_close(&array->tasks[i].view);
    free(array->tasks);
    free(array->task_of_row);
    free(array->row_in_task);
    free(array->states);
    *array = (struct array_view){0};
}

int array_view_outcome(const struct array_view *array, const struct view *parent, size_t index, struct view_row *row,
                       struct error *err)
{
    if (view_read_outcome(parent, index, row, err) != 0) return -1;
    if (row->committed || !array->tasks || array->task_of_row[index] == 0) return 0;
    const struct array_task *task = &array->tasks[array->task_of_row[index] - 1];
    int result = view_read_outcome(&task->view, array->row_in_task[index], row, err);
    row->index = index;
    return result;
}

bool array_view_queued(const struct array_view *array)
{
    for (size_t i = 0; i < array->state_count; i++)
        if (slurm_state_active(&array->states[i])) return true;
    return false;
}

/* The newest word on a task, or on the job `id`; NULL: it is not in the queue any more. */
static const struct slurm_state *find_state(const struct array_view *array, const char *id, uint32_t task)
{
    const struct slurm_state *found = NULL;
    for (size_t i = 0; i < array->state_count; i++) {
        const struct slurm_state *state = &array->states[i];
        if (state->task != task || (task == 0 && strcmp(state->id, id) != 0)) continue;
        if (!found || strtoull(state->id, NULL, 10) > strtoull(found->id, NULL, 10)) found = state;
    }
    return found;
}

static void print_job(const char *what, const char *id, const struct slurm_state *state, FILE *out)
{
    char name[SLURM_TASK] = "";
    if (state) slurm_task_name(state, name);
    fprintf(out, "  %-10s %-12s ", what, state ? name : id);
    if (!state)
        fprintf(out, "no longer in the queue");
    else
        slurm_state_print(state, out);
}

static void print_task(const struct array_view *array, uint32_t number, FILE *out)
{
    const struct array_task *task = &array->tasks[number - 1];
    char what[24];
    snprintf(what, sizeof what, "task %" PRIu32, number);
    print_job(what, "-", find_state(array, "", number), out);
    if (!task->view.store) {
        fprintf(out, "; nothing has run yet\n");
        return;
    }
    fprintf(out, "; %zu of %zu points", task->committed, task->points);
    json_t *live = status_live(task->view.dir);
    if (live) fprintf(out, ", %zu stages running", json_array_size(json_object_get(live, "running")));
    json_decref(live);
    fputc('\n', out);
}

void array_view_print(const struct array_view *array, FILE *out)
{
    const struct array_record *record = &array->record;
    uint32_t done = 0;
    fprintf(out, "\nSlurm, an array of %" PRIu32 " tasks:\n", record->tasks);
    if (record->trunks[0]) {
        print_job("trunks", record->trunks, find_state(array, record->trunks, 0), out);
        fputc('\n', out);
    }
    for (uint32_t i = 1; i <= record->tasks; i++) {
        const struct array_task *task = &array->tasks[i - 1];
        const struct slurm_state *state = find_state(array, "", i);
        bool complete = task->view.store && task->committed == task->points && !(state && slurm_state_active(state));
        done += complete;
        if (!complete) print_task(array, i, out);
    }
    if (done > 0)
        fprintf(out, "  %" PRIu32 " task%s done, no point is left there\n", done, done == 1 ? " is" : "s are");
    if (record->merge[0]) {
        print_job("merge", record->merge, find_state(array, record->merge, 0), out);
        fputc('\n', out);
    }
}

static json_t *state_json(const struct slurm_state *state)
{
    return state ? slurm_state_json(state) : json_null();
}

json_t *array_view_json(const struct array_view *array)
{
    if (!array->tasks) return NULL;
    json_t *tasks = json_array();
    for (uint32_t i = 1; i <= array->record.tasks; i++) {
        const struct array_task *task = &array->tasks[i - 1];
        json_array_append_new(
            tasks, json_pack("{s:i, s:s, s:I, s:I, s:o, s:o?}", "task", (int)i, "dir", task->view.dir, "points",
                             (json_int_t)task->points, "committed", (json_int_t)task->committed, "slurm",
                             state_json(find_state(array, "", i)), "live", status_live(task->view.dir)));
    }
    return json_pack("{s:o, s:o, s:o}", "trunks", state_json(find_state(array, array->record.trunks, 0)), "tasks",
                     tasks, "merge", state_json(find_state(array, array->record.merge, 0)));
}
