/* What a person sees of a running sweep: status.json, the progress line, the summary at the end. */
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/log.h"
#include "io/quantity.h"
#include "orchestrator/run/master_internal.h"

#define STATUS_INTERVAL 1.0 /* seconds between writes of status.json */
#define LINE_INTERVAL 10.0  /* seconds between plain progress lines */

static json_t *running_json(const struct master *master, const struct running *running)
{
    const struct plan_stage *stage = &master->plan->stages[running->stage];
    const struct sweep *sweep = master->sweep;
    const struct stage_progress *p = &running->progress;
    json_t *entry = json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:i, s:i, s:I, s:I, s:f, s:f, s:f, s:I}", "stage", stage->identity.hex, "kind",
        stage_kind_name(stage->kind), "model", sweep->models[stage->model].name, "rank", (int)running->node, "host",
        master->node_info[running->node].host, "pid", (int)running->pid, "attempt",
        (int)master->stages[running->stage].attempts, "step", (json_int_t)p->step, "steps", (json_int_t)p->steps,
        "loss", p->loss == p->loss && p->loss < 1e300 ? p->loss : -1.0, "tokens_per_second", p->tokens_per_second,
        "seconds", clock_elapsed() - running->started, "checkpoint_step", (json_int_t)p->checkpoint_step);
    if (entry && running->packed > 1) json_object_set_new(entry, "packed", json_integer((json_int_t)running->packed));
    if (entry && stage->point != PLAN_NONE) {
        const struct store_point *point = &master->plan->points[stage->point];
        char method[STORE_NAME + 1];
        store_text(method, sizeof method, point->method, sizeof point->method);
        json_object_set_new(entry, "method", json_string(method));
        json_object_set_new(entry, "pet_size", json_integer((json_int_t)point->pet_size));
        json_object_set_new(entry, "finetune_examples", json_integer((json_int_t)point->finetune_examples));
        json_object_set_new(entry, "pretrain_tokens", json_integer((json_int_t)point->pretrain_tokens));
    }
    return entry;
}

/* Where the plan's seconds and the measured ones differ: an entry for each model and method that has run. */
static json_t *calibration_json(const struct master *master)
{
    const struct calibration *c = &master->calibration;
    const struct sweep *sweep = master->sweep;
    json_t *list = json_array();
    for (size_t i = 0; i < c->models * c->classes; i++) {
        const struct calibration_cell *cell = &c->cells[i];
        size_t class = i % c->classes;
        if (!(cell->stages > 0.0)) continue;
        json_t *entry =
            json_pack("{s:s, s:s, s:f, s:f, s:f}", "model", sweep->models[i / c->classes].name, "method",
                      class ? method_name(sweep->methods[class - 1].config.kind) : "pretrain", "stages", cell->stages,
                      "predicted_seconds", cell->predicted_seconds, "actual_seconds", cell->actual_seconds);
        json_array_append_new(list, entry);
    }
    return list;
}

static json_t *nodes_json(const struct master *master)
{
    json_t *list = json_array();
    for (int r = 0; r < master->transport->size; r++)
        if (master->node_info[r].present)
            json_array_append_new(list, json_pack("{s:i, s:s, s:i, s:i}", "rank", r, "host", master->node_info[r].host,
                                                  "devices", (int)master->nodes[r].devices, "free",
                                                  (int)master->nodes[r].free));
    return list;
}

/* The newest first. */
static json_t *failures_json(const struct master *master)
{
    json_t *list = json_array();
    size_t kept = master->failure_count < FAILURES_KEPT ? master->failure_count : FAILURES_KEPT;
    for (size_t i = 1; i <= kept; i++) {
        const struct failure *failure = &master->failures[(master->failure_count - i) % FAILURES_KEPT];
        const struct plan_stage *stage = &master->plan->stages[failure->stage];
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:s, s:f, s:s}", "stage", stage->identity.hex, "model",
                                              master->sweep->models[stage->model].name, "attempt",
                                              (int)failure->attempt, "status", store_status_name(failure->status),
                                              "when", failure->when, "message", failure->message));
    }
    return list;
}

static void write_status(struct master *master)
{
    struct master_summary s = master_summary(master);
    json_t *running = json_array();
    for (size_t i = 0; i < master->running_count; i++)
        json_array_append_new(running, running_json(master, &master->running[i]));
    json_t *status = json_pack(
        "{s:s, s:f, s:f, s:i, s:{s:I, s:I, s:I, s:I, s:I, s:I}, s:f, s:b, s:b, s:b, s:i, s:o, s:o, s:o, s:o}", "name",
        master->sweep->name, "updated", clock_wall(), "seconds", s.seconds, "pid", (int)getpid(), "points", "total",
        (json_int_t)s.points, "done", (json_int_t)s.done, "diverged", (json_int_t)s.diverged, "failed",
        (json_int_t)s.failed, "skipped", (json_int_t)s.skipped, "left", (json_int_t)s.left, "eta_seconds",
        master_eta(master), "draining", (int)master->draining, "paused", (int)master->paused, "finished",
        (int)master_finished(master), "ranks", master->transport->size, "running", running, "calibration",
        calibration_json(master), "nodes", nodes_json(master), "failures", failures_json(master));
    char path[PATH_MAX + 32];
    struct file_draft draft;
    struct error why = {""};
    snprintf(path, sizeof path, "%s/status.json", master->options.dir);
    /* only a view: a failure here (a full disk) must not end the sweep */
    if (status && file_draft_open(&draft, path, 0666, &why) == 0) {
        json_dumpf(status, draft.file, JSON_INDENT(1));
        file_draft_publish(&draft, false, &why);
    }
    if (why.text[0]) LOG("%s", why.text);
    json_decref(status);
}

static const char *unit(const struct master *master)
{
    return master->options.only ? "stages that the tasks share" : "points";
}

/* " 3 skipped,"; "" where there are none: the line is to fit a terminal. */
static const char *count_text(size_t count, const char *what, char out[48])
{
    snprintf(out, 48, count ? " %zu %s," : "", count, what);
    return out;
}

/* Counted as the summary at the end does. */
static void print_line(struct master *master)
{
    struct master_summary s = master_summary(master);
    char eta[QUANTITY_TEXT], elapsed[QUANTITY_TEXT], diverged[48], skipped[48];
    quantity_clock(master_eta(master), eta);
    quantity_clock(s.seconds, elapsed);
    char line[256];
    snprintf(line, sizeof line, "%zu of %zu %s done,%s %zu running, %zu failed,%s %s gone, ETA %s", s.done, s.points,
             unit(master), count_text(s.diverged, "diverged", diverged), master->running_count, s.failed,
             count_text(s.skipped, "skipped", skipped), elapsed, eta);
    if (master->options.progress_line)
        fprintf(stderr, "\r\033[K%s", line);
    else {
        printf("%s\n", line);
        fflush(stdout);
    }
}

void master_say(const struct master *master, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (master->options.progress_line) fputs("\r\033[K", stderr);
    printf("%s\n", line);
    fflush(stdout);
    LOG("%s", line);
}

void master_show(struct master *master, bool now)
{
    double time = clock_elapsed();
    if (now || time - master->status_written >= STATUS_INTERVAL) {
        master->status_written = time;
        write_status(master);
    }
    if (now || time - master->line_written >= (master->options.progress_line ? STATUS_INTERVAL : LINE_INTERVAL)) {
        master->line_written = time;
        print_line(master);
    }
}

void master_print_summary(struct master *master)
{
    enum { SHOWN = 10 };
    struct master_summary s = master_summary(master);
    write_status(master); /* the run has ended */
    if (master->options.progress_line) fprintf(stderr, "\n");
    char elapsed[QUANTITY_TEXT];
    quantity_clock(s.seconds, elapsed);
    printf("%zu %s: %zu done, %zu diverged, %zu failed, %zu skipped, %zu left; %zu committed in this run, %s\n",
           s.points, unit(master), s.done, s.diverged, s.failed, s.skipped, s.left, s.committed_now, elapsed);
    size_t shown = 0;
    for (size_t i = 0; i < master->plan->stage_count && shown < SHOWN; i++) {
        if (master->stages[i].state != STAGE_FAILED) continue;
        const struct plan_stage *stage = &master->plan->stages[i];
        struct store_state state;
        char reason[STORE_MESSAGE + 1] = "a base could not be trained";
        if (stage->point != PLAN_NONE && store_read_state(master->store, stage->point, &state, NULL) == 0)
            store_text(reason, sizeof reason, state.message, sizeof state.message);
        printf("  failed: stage %.12s: %s; see %s/logs/%s.log\n", stage->identity.hex, reason, master->options.dir,
               stage->identity.hex);
        shown++;
    }
}
