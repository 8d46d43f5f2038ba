/* tunelaw evaluate: finished points whose texts were not generated as the sweep file says now get their metrics, from
 * the weights that were kept, in a new generation of the store. */
#include <argp.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/log.h"
#include "io/version.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/run/rebuilt.h"
#include "orchestrator/run/view.h"
#include "workers/stage/worker.h"
#include "workers/text/metrics.h"

#define AMEND_SECONDS 300.0 /* what has been measured is in the store so often: each time writes all of it */

struct evaluation {
    const char *dir;
    struct view view;
    struct rebuilt rebuilt;
    struct store_result *results; /* not in the store yet */
    size_t count, written, failed;
    double amended;
};

static uint64_t wanted_examples(const struct sweep *sweep, const struct view_row *row)
{
    char name[STORE_NAME + 1];
    uint64_t have = 0;
    store_text(name, sizeof name, row->point.task, sizeof row->point.task);
    for (size_t i = 0; i < sweep->task_count; i++)
        if (i == 0 || !strcmp(sweep->tasks[i].name, name))
            have = sweep->tasks[i].test_examples ? sweep->tasks[i].test_examples
                                                 : sweep->tasks[i].data.examples[SPLIT_TEST];
    return sweep->generate.examples ? sweep->generate.examples : have;
}

/* Whether a result's texts are those that the sweep file asks for. */
static bool is_current(const struct sweep *sweep, const struct view_row *row)
{
    const struct generation_config *wanted = &sweep->generate;
    const struct store_result *r = &row->result;
    const double values[TEXT_METRICS] = {r->bleu, r->chrf, r->rouge1, r->rouge2, r->rougeL};
    for (int metric = 0; metric < TEXT_METRICS; metric++)
        if ((wanted->metrics & 1u << metric) && isnan(values[metric])) return false;
    return r->generated == wanted_examples(sweep, row) && r->beams == wanted->beams &&
           r->max_new_tokens == wanted->max_new_tokens &&
           (r->beams == 1 || r->length_penalty == wanted->length_penalty);
}

static int amend(struct evaluation *evaluation, struct error *err)
{
    evaluation->amended = clock_elapsed();
    if (evaluation->count == 0) return 0;
    if (store_amend(evaluation->dir, evaluation->results, evaluation->count, version_string(), err)) return -1;
    evaluation->written += evaluation->count;
    evaluation->count = 0;
    return 0;
}

/* With the texts kept where the sweep file asks for it. */
static int measure(const struct stage *stage, const struct view_row *row, struct store_result *measured,
                   struct error *err)
{
    char path[PATH_MAX];
    struct file_draft draft;
    struct generation_request request = {
        .split = SPLIT_TEST, .count = stage->generate.examples ? stage->generate.examples : stage->test_examples};
    if (!stage->generate.save) return stage_generate(stage, &row->result, &request, measured, err);
    stage_generations_path(stage, path);
    *strrchr(path, '/') = 0;
    mkdir(path, 0777); /* where it cannot be made the draft says why */
    stage_generations_path(stage, path);
    if (file_draft_open(&draft, path, 0666, err)) return -1;
    request.file = draft.file;
    if (stage_generate(stage, &row->result, &request, measured, err)) {
        file_draft_discard(&draft);
        return -1;
    }
    return file_draft_publish(&draft, true, err);
}

static void print_measured(const struct view_row *row, const struct store_result *measured)
{
    char what[256];
    const double values[TEXT_METRICS] = {measured->bleu, measured->chrf, measured->rouge1, measured->rouge2,
                                         measured->rougeL};
    view_describe(&row->point, what, sizeof what);
    printf("row %zu (%s):", row->index, what);
    for (int metric = 0; metric < TEXT_METRICS; metric++)
        if (!isnan(values[metric])) printf(" %s %.4g", text_metric_name((enum text_metric)metric), values[metric]);
    printf("\n");
    fflush(stdout);
}

static int evaluate_row(struct evaluation *evaluation, const struct view_row *row, struct error *err)
{
    struct error why;
    struct stage *stage = rebuilt_stage(&evaluation->rebuilt, &evaluation->view, &row->point, &why);
    struct store_result *measured = &evaluation->results[evaluation->count];
    if (!stage || measure(stage, row, measured, &why)) {
        rebuilt_failed(&evaluation->view, row, &why);
        fprintf(stderr, "tunelaw: %s\n", why.text);
        evaluation->failed++;
    } else {
        print_measured(row, measured);
        evaluation->count++;
    }
    free(stage);
    return clock_elapsed() - evaluation->amended >= AMEND_SECONDS ? amend(evaluation, err) : 0;
}

static int evaluate_rows(struct evaluation *evaluation, struct view_row *row, struct error *err)
{
    const struct sweep *sweep = evaluation->rebuilt.sweep;
    size_t current = 0;
    for (size_t i = 0; i < store_count(evaluation->view.store); i++) {
        if (view_read(&evaluation->view, i, row, err)) return -1;
        if (!row->committed || row->point.removed || row->result.status != STORE_DONE) continue;
        bool skip = is_current(sweep, row);
        current += skip;
        if (!skip && evaluate_row(evaluation, row, err)) return -1;
    }
    if (amend(evaluation, err)) return -1;
    printf("%zu points measured, %zu were so already, %zu could not be\n", evaluation->written, current,
           evaluation->failed);
    return 0;
}

static int run(struct evaluation *evaluation, struct view_row *row, struct error *err)
{
    size_t count = store_count(evaluation->view.store);
    if (rebuilt_create(&evaluation->rebuilt, &evaluation->view, err)) return -1;
    if (!evaluation->rebuilt.sweep->generate.max_new_tokens)
        return error_set(err,
                         "the sweep file of %s has no group finetune.generate; `tunelaw run` with a file that has one "
                         "takes it over, and runs no finished point again",
                         evaluation->dir);
    evaluation->results = calloc(count + 1, sizeof *evaluation->results);
    evaluation->amended = clock_elapsed();
    return evaluation->results ? evaluate_rows(evaluation, row, err) : error_set(err, "out of memory");
}

/* Before a lock is left in a place that has no run. */
static int check_store(const char *dir, struct error *err)
{
    char path[PATH_MAX];
    if (command_check_directory(dir, err)) return -1;
    if (snprintf(path, sizeof path, "%s/results.h5", dir) >= (int)sizeof path)
        return error_set(err, "%s: the path is too long", dir);
    return access(path, F_OK) ? error_set_errno(err, "%s", path) : 0;
}

static error_t parse(int key, char *word, struct argp_state *state)
{
    return command_parse_directory(key, word, state, state->input);
}

int command_evaluate(int argc, char **argv)
{
    static const struct argp argp = {
        NULL,
        parse,
        "DIR",
        "Generate and measure texts of the finished points of the run in DIR, as finetune.generate of its sweep file "
        "says, "
        "where that was not done or done otherwise, with the best weights that were kept.\v"
        "Nothing is trained. The metrics go into a new generation of the store; every other number of a result stays. "
        "To add the group to a finished sweep, `tunelaw run` its changed file first: that takes the file over and runs "
        "nothing again. It cannot be while a run is at work in DIR. The exit code is 0 where every point could be "
        "measured.",
        NULL,
        NULL,
        NULL};
    struct error err;
    int lock = -1;
    struct evaluation evaluation = {0};
    argp_parse(&argp, argc, argv, 0, NULL, (void *)&evaluation.dir);
    if (check_store(evaluation.dir, &err) || store_lock(evaluation.dir, 0, &lock, &err)) return command_fail(&err);
    struct view_row *row = malloc(sizeof *row);
    int failed = row ? view_open(&evaluation.view, evaluation.dir, &err) : error_set(&err, "out of memory");
    if (!failed) {
        failed = run(&evaluation, row, &err);
        rebuilt_destroy(&evaluation.rebuilt);
        view_close(&evaluation.view);
    }
    free(evaluation.results);
    free(row);
    close(lock);
    return failed ? command_fail(&err) : evaluation.failed > 0;
}
