/* tunelaw status: how far a sweep is, from the store alone, with the running stages where a master is at work. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "io/quantity.h"
#include "orchestrator/commands/column.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/run/stage_log.h"
#include "orchestrator/run/status_live.h"
#include "orchestrator/run/view.h"
#include "orchestrator/slurm/array_view.h"

enum {
    DAMAGED = STORE_STATUSES, /* statuses of their own here */
    INTERRUPTED,
    STATUSES,
    METHODS_SHOWN = 64,
    ERRORS_SHOWN = 10
};

struct method_counts {
    char name[STORE_NAME + 1];
    size_t points[STATUSES];
};

struct tally {
    struct method_counts methods[METHODS_SHOWN];
    size_t method_count;
    size_t total[STATUSES], points, committed, attempts; /* of the sweep */
    size_t left;                                         /* points that have left it: kept, and counted nowhere else */
    struct view_row errors[ERRORS_SHOWN];                /* latest first */
    size_t error_count, errors_in_all;
};

static const char *status_name(int status)
{
    return status == DAMAGED       ? "damaged"
           : status == INTERRUPTED ? "interrupted"
                                   : store_status_name((enum store_status)status);
}

static int status_of(const struct view_row *row)
{
    uint32_t status = row->committed ? row->result.status : row->state.status;
    if (row->damaged) return DAMAGED;
    if (row->interrupted) return INTERRUPTED;
    return status < STORE_STATUSES ? (int)status : STORE_PENDING;
}

static struct method_counts *method_of(struct tally *tally, const struct store_point *point)
{
    char name[STORE_NAME + 1];
    store_text(name, sizeof name, point->method, sizeof point->method);
    for (size_t i = 0; i < tally->method_count; i++)
        if (!strcmp(tally->methods[i].name, name)) return &tally->methods[i];
    if (tally->method_count == METHODS_SHOWN) return &tally->methods[METHODS_SHOWN - 1];
    struct method_counts *method = &tally->methods[tally->method_count++];
    snprintf(method->name, sizeof method->name, "%s", name);
    return method;
}

static void tally_error(struct tally *tally, const struct view_row *row)
{
    tally->errors_in_all++;
    size_t place = tally->error_count;
    while (place && tally->errors[place - 1].state.updated < row->state.updated)
        place--;
    if (place == ERRORS_SHOWN) return;
    if (tally->error_count < ERRORS_SHOWN) tally->error_count++;
    memmove(tally->errors + place + 1, tally->errors + place, (tally->error_count - place - 1) * sizeof *tally->errors);
    tally->errors[place] = *row;
}

static int tally_rows(const struct view *view, const struct array_view *array, struct tally *tally, struct error *err)
{
    struct view_row *row = calloc(1, sizeof *row);
    if (!row) return error_set(err, "out of memory");
    int result = 0;
    for (size_t i = 0; i < store_count(view->store) && !result; i++) {
        result = array_view_outcome(array, view, i, row, err);
        if (result) break;
        if (row->point.removed) {
            tally->left++;
            continue;
        }
        tally->points++;
        int status = status_of(row);
        method_of(tally, &row->point)->points[status]++;
        tally->total[status]++;
        tally->committed += row->committed;
        tally->attempts += row->state.attempts;
        if (row->state.message[0] && !row->committed && row->state.status != STORE_CUT) tally_error(tally, row);
    }
    free(row);
    return result;
}

static void print_duration(double seconds)
{
    long whole = (long)(seconds + 0.5);
    if (whole >= 3600)
        printf("%ld h %02ld min", whole / 3600, whole / 60 % 60);
    else if (whole >= 60)
        printf("%ld min %02ld s", whole / 60, whole % 60);
    else
        printf("%ld s", whole);
}

static void print_counts(const char *name, const size_t *points, const size_t *total)
{
    printf("%-12.47s", name);
    for (int status = 0; status < STATUSES; status++)
        if (total[status])
            printf(" %*zu", (int)strlen(status_name(status)) > 6 ? (int)strlen(status_name(status)) : 6,
                   points[status]);
    printf("\n");
}

static void print_table(const struct tally *tally)
{
    printf("%-12s", "");
    for (int status = 0; status < STATUSES; status++)
        if (tally->total[status]) printf(" %6s", status_name(status));
    printf("\n");
    for (size_t i = 0; i < tally->method_count; i++)
        print_counts(tally->methods[i].name, tally->methods[i].points, tally->total);
    print_counts("all", tally->total, tally->total);
}

static void print_stage(const json_t *stage)
{
    const char *method = status_string(stage, "method");
    printf("  %.12s %s %s", status_string(stage, "stage"), status_string(stage, "model"),
           *method ? method : status_string(stage, "kind"));
    if (status_number(stage, "pet_size") > 0) printf(" %.0f", status_number(stage, "pet_size"));
    if (status_number(stage, "finetune_examples") > 0)
        printf(", %.0f tokens, %.0f examples", status_number(stage, "pretrain_tokens"),
               status_number(stage, "finetune_examples"));
    printf(": step %.0f of %.0f", status_number(stage, "step"), status_number(stage, "steps"));
    if (status_number(stage, "loss") > 0) printf(", loss %.4f", status_number(stage, "loss"));
    printf(", %.0f tokens/s, rank %.0f", status_number(stage, "tokens_per_second"), status_number(stage, "rank"));
    if (status_number(stage, "attempt") > 1) printf(", attempt %.0f", status_number(stage, "attempt"));
    printf("\n");
}

/* The newest Slurm job of the run, where one was submitted; an empty state where it is no longer in the queue. false
 * where there is none, or Slurm cannot be asked. */
static bool newest_job(const char *dir, struct slurm_state *job)
{
    char id[1][SLURM_ID];
    size_t count = 0, found = 0;
    struct slurm_state *states = NULL;
    struct error ignored;
    if (slurm_jobs_read(dir, id, 1, &count, &ignored) != 0 || count == 0 ||
        slurm_states_ask(id, 1, &states, &found, &ignored) != 0)
        return false;
    *job = found > 0 ? states[0] : (struct slurm_state){0};
    memcpy(job->id, id[0], sizeof job->id);
    free(states);
    return true;
}

static void print_slurm(const struct slurm_state *job)
{
    printf("\nSlurm job %s: ", job->id);
    if (job->state[0])
        slurm_state_print(job, stdout);
    else
        printf("no longer in the queue");
    printf("\n");
}

/* What the plan said of the stages that have ended, and what they took. */
static void print_measured(const struct stage_log *log)
{
    if (log->count)
        printf("\nstages that ended        number  seconds: plan   actual    ratio  memory: plan       peak\n");
    for (size_t i = 0; i < log->count; i++) {
        char plan[QUANTITY_TEXT], peak[QUANTITY_TEXT];
        const struct stage_log_entry *entry = &log->entries[i];
        printf("  %-12.12s%-10.10s%7zu%15.4g%9.4g%9.3g%14s%11s\n", entry->model, entry->method, entry->stages,
               entry->predicted_seconds, entry->actual_seconds,
               entry->predicted_seconds > 0 ? entry->actual_seconds / entry->predicted_seconds : 0.0,
               quantity_bytes(entry->predicted_bytes, plan),
               entry->peak_bytes > 0 ? quantity_bytes(entry->peak_bytes, peak) : "-");
    }
}

/* command: with which the sweep was begun. */
static void print_live(const json_t *live, bool complete, bool queued, const char *command)
{
    if (!live && !complete && queued) return;
    if (!live || complete) {
        if (complete)
            printf("\ncomplete: nothing is left to run\n");
        else
            printf("\nnothing is running: the same `tunelaw %s` goes on from here\n", command);
        return;
    }
    const json_t *stages = json_object_get(live, "running");
    printf("\nrunning: %zu stage%s", json_array_size(stages), json_array_size(stages) == 1 ? "" : "s");
    if (json_is_true(json_object_get(live, "draining"))) printf(", stopping at the next checkpoint");
    if (json_is_true(json_object_get(live, "paused")))
        printf(", paused: it starts nothing new until `p` in `tunelaw top`");
    if (status_number(live, "eta_seconds") > 0) {
        printf(", ETA ");
        print_duration(status_number(live, "eta_seconds"));
    }
    double silent = clock_wall() - status_number(live, "updated");
    if (silent > STATUS_DOUBT) printf(" (the last word of this run is %.0f s old: it may have died)", silent);
    printf("\n");
    for (size_t i = 0; i < json_array_size(stages); i++)
        print_stage(json_array_get(stages, i));
}

static void print_errors(const struct tally *tally)
{
    if (!tally->errors_in_all) return;
    printf("\nlast errors:\n");
    for (size_t i = 0; i < tally->error_count; i++) {
        const struct view_row *row = &tally->errors[i];
        char what[256], message[STORE_MESSAGE + 1];
        view_describe(&row->point, what, sizeof what);
        store_text(message, sizeof message, row->state.message, sizeof row->state.message);
        printf("  %zu %.12s %s: %s after %" PRIu32 " attempt%s: %s\n", row->index, row->point.identity, what,
               view_status(row), row->state.attempts, row->state.attempts == 1 ? "" : "s", message);
    }
    if (tally->errors_in_all > tally->error_count)
        printf("  and %zu more: tunelaw export has them all\n", tally->errors_in_all - tally->error_count);
}

static void print_text(const struct view *view, const struct array_view *array, const struct tally *tally,
                       const json_t *live, const struct slurm_state *job, const struct stage_log *log)
{
    size_t count = tally->points, ended = tally->committed;
    printf("%s: %zu of %zu points committed, %zu attempts, generation %" PRIu64 " of %s\n", store_name(view->store),
           ended, count, tally->attempts, store_epoch(view->store), view->dir);
    if (tally->left) printf("%zu more are no longer in the sweep; their results are kept\n", tally->left);
    printf("\n");
    print_table(tally);
    if (job) print_slurm(job);
    if (array->tasks) array_view_print(array, stdout);
    print_live(live, ended == count, job ? slurm_state_active(job) : array_view_queued(array),
               job || array->tasks ? "submit" : "run");
    print_measured(log);
    print_errors(tally);
}

static json_t *counts_json(const size_t *points)
{
    json_t *object = json_object();
    for (int status = 0; status < STATUSES; status++)
        if (points[status]) json_object_set_new(object, status_name(status), json_integer((json_int_t)points[status]));
    return object;
}

static int print_json(const struct view *view, const struct array_view *array, const struct tally *tally, json_t *live,
                      const struct slurm_state *job, const struct stage_log *log)
{
    json_t *methods = json_object(), *errors = json_array();
    for (size_t i = 0; i < tally->method_count; i++)
        json_object_set_new(methods, tally->methods[i].name, counts_json(tally->methods[i].points));
    for (size_t i = 0; i < tally->error_count; i++)
        json_array_append_new(errors, column_json_row(&tally->errors[i]));
    json_t *root =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:O?, s:o?, s:o?}", "name",
                  store_name(view->store), "dir", view->dir, "epoch", (json_int_t)store_epoch(view->store), "points",
                  (json_int_t)tally->points, "no_longer_in_sweep", (json_int_t)tally->left, "committed",
                  (json_int_t)tally->committed, "attempts", (json_int_t)tally->attempts, "statuses",
                  counts_json(tally->total), "methods", methods, "errors", errors, "measured", stage_log_json(log),
                  "live", live, "slurm", job ? slurm_state_json(job) : NULL, "array", array_view_json(array));
    int failed = !root || json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(root);
    printf("\n");
    return failed;
}

struct arguments {
    const char *path;
    bool json, left;
};

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'j':
        arguments->json = true;
        return 0;
    case 'l':
        arguments->left = true;
        return 0;
    default:
        return command_parse_path(key, word, state, &arguments->path);
    }
}

/* Points that the next run would have to compute, were those that failed not tried again. */
static size_t points_left(const struct tally *tally)
{
    static const int open[] = {STORE_PENDING, STORE_RUNNING, STORE_CUT, DAMAGED, INTERRUPTED};
    size_t left = 0;
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        left += tally->total[open[i]];
    return left;
}

static int print_status(const struct view *view, const struct array_view *array, const struct tally *tally,
                        const struct arguments *arguments)
{
    struct slurm_state state, *job = NULL;
    struct stage_log log = {0};
    int code = 0;
    if (arguments->left) {
        printf("%zu\n", points_left(tally));
        return 0;
    }
    if (!array->tasks && newest_job(view->dir, &state)) job = &state;
    json_t *live = status_live(view->dir);
    stage_log_read(view->dir, NULL, &log); /* without memory for it there is none to show */
    if (arguments->json)
        code = print_json(view, array, tally, live, job, &log);
    else
        print_text(view, array, tally, live, job, &log);
    json_decref(live);
    stage_log_free(&log);
    return code;
}

int command_status(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"json", 'j', NULL, 0, "for a program", 0},
        {"left", 'l', NULL, 0, "only the number of points that have neither a result nor been given up", 0},
        {0}};
    static const struct argp argp = {options, parse, "DIR", "How far the sweep in DIR (or a store file) is.",
                                     NULL,    NULL,  NULL};
    struct arguments arguments = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);

    struct error err;
    struct view view;
    struct slurm_state job;
    if (view_open(&view, arguments.path, &err)) {
        if (arguments.left || arguments.json || !newest_job(arguments.path, &job)) return command_fail(&err);
        printf("%s: submitted, nothing has run yet\n", arguments.path);
        print_slurm(&job);
        return 0;
    }
    struct tally *tally = calloc(1, sizeof *tally);
    struct array_view array = {0};
    int code = 0;
    if (!tally || array_view_open(&array, &view, &err) || tally_rows(&view, &array, tally, &err)) {
        if (!tally) error_set(&err, "out of memory");
        code = command_fail(&err);
    } else {
        code = print_status(&view, &array, tally, &arguments);
    }
    free(tally);
    array_view_close(&array);
    view_close(&view);
    return code;
}
