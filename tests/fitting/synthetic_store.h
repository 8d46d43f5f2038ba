/* A store of a small sweep whose losses follow a known joint law, for the tests of observations, analysis and report.
 */
#ifndef TUNELAW_TESTS_FITTING_SYNTHETIC_STORE_H
#define TUNELAW_TESTS_FITTING_SYNTHETIC_STORE_H

#include <stdbool.h>
#include <string.h>

#include "io/store/store.h"
#include "tests/fitting/synthetic.h"

struct sweep_shape {
    size_t models, pretrains, examples; /* at most 5, 5, 8 */
    size_t seeds, rates, tasks;         /* 0: 1; "copy", and a second task with losses twice as high */
    double noise;
    bool held_out;       /* the largest model at the most examples */
    bool failures;       /* one point diverged, one crashed, one never ran */
    bool tuned;          /* the learning rate is that of a reference cell: known with the result */
    bool cut;            /* the one that never ran was cut */
    bool classes;        /* every other point is of another execution class */
    const char *name;    /* of the sweep; NULL: "synthetic" */
    const char *config;  /* NULL: a small one */
    bool short_lora;     /* lora has fewer targets: its examples are cut */
    bool run;            /* curves, costs, pretraining losses, and a second execution class */
    const char *message; /* of the crashed point; NULL: "signal 9" */
};

enum { SYNTHETIC_POINTS = 4096 };
static const double synthetic_joint_truth[] = {4.0, 0.20, 0.10, 0.15, 0.1}; /* log A, alpha, gamma, beta, log E */
static const struct {
    const char *name;
    uint64_t size;
    double shift;
} synthetic_methods[] = {{"none", 0, 0}, {"full", 0, 0}, {"lora", 2, 0.05}, {"lora", 8, 0.03}, {"prompt", 4, 0.12}};

static inline double synthetic_loss(const struct store_point *point, double shift)
{
    const double *t = synthetic_joint_truth;
    double examples = point->finetune_examples ? (double)point->finetune_examples : 20;
    return exp(t[0] + shift - t[1] * log((double)point->parameters) - t[2] * log((double)point->pretrain_tokens) -
               t[3] * log(examples)) +
           exp(t[4]);
}

static inline size_t synthetic_points(const struct sweep_shape *shape, struct store_point *points, double *shift)
{
    size_t count = 0, seeds = shape->seeds ? shape->seeds : 1, rates = shape->rates ? shape->rates : 1;
    for (size_t t = 0; t < (shape->tasks ? shape->tasks : 1); t++)
        for (size_t m = 0; m < shape->models; m++)
            for (size_t p = 0; p < shape->pretrains; p++)
                for (size_t k = 0; k < sizeof synthetic_methods / sizeof *synthetic_methods; k++)
                    for (size_t d = 0; d < (k ? shape->examples : 1); d++)
                        for (size_t s = 0; s < (k ? seeds : 1); s++)
                            for (size_t r = 0; r < (k ? rates : 1); r++) {
                                struct store_point point = {0};
                                char text[160];
                                point.parameters = (uint64_t)(1e5 * pow(2.5, (double)m));
                                point.non_embedding_parameters = point.parameters / 2;
                                point.trainable_parameters = point.parameters / 4;
                                point.pretrain_tokens = (uint64_t)250000 << p;
                                point.finetune_examples = k ? (uint64_t)250 << d : 0;
                                point.pet_size = synthetic_methods[k].size;
                                point.seed = k ? s + 1 : 0;
                                point.learning_rate = k && !shape->tuned ? 1e-3 * (double)(r + 1) : 0;
                                point.held_out =
                                    shape->held_out && k && m + 1 == shape->models && d + 1 == shape->examples;
                                snprintf(text, sizeof text, "model-%c", (char)('a' + m));
                                store_field(point.model, sizeof point.model, text);
                                store_field(point.trunk, sizeof point.trunk, digest_of(text, strlen(text)).hex);
                                snprintf(text, sizeof text, "%zu %zu", m, p);
                                store_field(point.base, sizeof point.base, digest_of(text, strlen(text)).hex);
                                store_field(point.method, sizeof point.method, synthetic_methods[k].name);
                                store_field(point.task, sizeof point.task, t ? "sort" : "copy");
                                snprintf(text, sizeof text, "%zu %zu %zu %zu %zu %zu%s", m, p, k, d, s, r,
                                         t ? " sort" : "");
                                store_field(point.identity, sizeof point.identity, digest_of(text, strlen(text)).hex);
                                shift[count] = synthetic_methods[k].shift + 0.05 * (double)r;
                                points[count++] = point;
                            }
    return count;
}

static inline struct store_row synthetic_row(const struct store_point *point, size_t index, double loss)
{
    struct store_row row = {.index = index};
    memcpy(row.result.identity, point->identity, sizeof row.result.identity);
    memcpy(row.curve.identity, point->identity, sizeof row.curve.identity);
    row.result.status = STORE_DONE;
    store_result_without_generations(&row.result);
    row.result.test_loss = loss;
    row.result.valid_loss = loss + 0.01;
    row.result.test_perplexity = exp(loss);
    row.result.test_tokens = 6566;
    row.result.valid_tokens = 640;
    store_field(row.execution.host, sizeof row.execution.host, "node");
    store_field(row.execution.version, sizeof row.execution.version, "test");
    store_field(row.execution.execution_class, sizeof row.execution.execution_class, "reference");
    return row;
}

/* What a run leaves beside the losses. */
static inline void synthetic_run(const struct store_point *point, double loss, struct store_row *row)
{
    double examples = (double)point->finetune_examples;
    row->result.pretrain_loss = 3 + (examples > 0 ? 0.05 * log(examples) : 0);
    row->result.bleu = 100 - 10 * loss;
    row->result.rougeL = 1 - 0.1 * loss;
    row->result.generated = 50;
    row->result.beams = 1;
    row->result.max_new_tokens = 64;
    row->result.flops = 6 * (double)point->parameters * examples * 40;
    row->execution.seconds = 0.5 + row->result.flops / 1e9;
    row->execution.started = 1.75e9;
    row->execution.finished = 1.75e9 + row->execution.seconds;
    row->execution.attempt = 1 + (row->index % 10 == 9);
    row->execution.peak_bytes = 16 * point->parameters;
    store_field(row->execution.device, sizeof row->execution.device, "cpu");
    if (row->index % 2) store_field(row->execution.execution_class, sizeof row->execution.execution_class, "other");
    row->curve.count = examples > 0 ? 5 : 0;
    for (size_t i = 0; i < row->curve.count; i++) {
        double gone = (double)(i + 1) / (double)row->curve.count;
        row->curve.entries[i] = (struct store_curve_entry){.step = gone * 100,
                                                           .tokens = gone * examples * 40,
                                                           .train_loss = loss + 0.4 * (1 - gone) - 0.05,
                                                           .valid_loss = loss + 0.3 * (1 - gone) + 0.01};
    }
}

/* Create DIR/results.h5 with every point committed, but for the failures. 0, or -1 with *err. */
static inline int synthetic_store(const char *dir, const struct sweep_shape *shape, struct error *err)
{
    static struct store_point points[SYNTHETIC_POINTS];
    static double shift[SYNTHETIC_POINTS];
    static struct store_row rows[SYNTHETIC_POINTS];
    size_t count = synthetic_points(shape, points, shift), done = 0;
    uint64_t state = 3;
    const struct store_header header = {
        .config_text = shape->config ? shape->config
                                     : "name = \"synthetic\";\nfit = { x = \"parameters\"; huber_delta = 2e-3; };\n",
        .config_path = "synthetic.cfg",
        .version = "test",
        .dataset_digest = shape->tasks > 1
                              ? "copy 00112233445566778899aabbccddeeff, sort ffeeddccbbaa99887766554433221100"
                              : "00112233445566778899aabbccddeeff",
        .name = shape->name ? shape->name : "synthetic",
    };
    if (store_generation(dir, &header, points, count, NULL, err)) return -1;
    struct store *store = store_open(dir, true, err);
    if (!store) return -1;
    for (size_t i = 0; i < count; i++) {
        double loss = (points[i].task[0] == 's' ? 2 : 1) * synthetic_loss(&points[i], shift[i]) *
                      exp(shape->noise * synthetic_normal(&state));
        struct store_state crashed = {.status = STORE_CRASHED, .attempts = 3};
        if (shape->failures && i == 3) { /* crashed */
            store_field(crashed.message, sizeof crashed.message, shape->message ? shape->message : "signal 9");
            if (store_set_state(store, i, &crashed, err)) break;
            continue;
        }
        if (shape->failures && i == 5) {
            struct store_state cut = {.status = STORE_CUT, .attempts = 1};
            if (shape->cut && store_set_state(store, i, &cut, err)) break;
            continue;
        }
        rows[done] = synthetic_row(&points[i], i, loss);
        if (shape->tuned) rows[done].result.learning_rate = 1e-3;
        if (shape->short_lora && !strcmp(points[i].method, "lora")) {
            rows[done].result.test_tokens = 2572;
            rows[done].result.valid_tokens = 250 + points[i].pet_size;
        }
        if (shape->run) synthetic_run(&points[i], loss, &rows[done]);
        if (shape->classes && i % 2)
            store_field(rows[done].execution.execution_class, sizeof rows[done].execution.execution_class, "other");
        if (shape->failures && i == 7) {
            rows[done].result.status = STORE_DIVERGED;
            rows[done].result.test_loss = NAN;
        }
        done++;
    }
    int result = store_commit(store, rows, done, err);
    store_close(store);
    return result;
}

#endif
