/* Fitting, where it begins: from the rows of a store to the table that laws are fitted to, and the list of what is not
 * in it. */
#include "fitting/observations.h"

#include <libconfig.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/store.h"

const char *omission_name(enum omission why)
{
    static const char *const names[OMISSIONS] = {"not finished",
                                                 "failed",
                                                 "diverged",
                                                 "another learning rate is better",
                                                 "no longer in the sweep file",
                                                 "damaged row",
                                                 "loss is not a positive number"};
    return names[why];
}

void observations_destroy(struct observations *observations)
{
    if (!observations) return;
    free(observations->rows);
    free(observations->base);
    free(observations->omitted);
    free(observations->config);
    *observations = (struct observations){0};
}

static void omit(struct observations *out, const struct observation *point, enum omission why, const char *status,
                 const char *message)
{
    struct observation_omitted *entry = &out->omitted[out->omitted_count++];
    entry->point = *point;
    entry->point.loss = 0;
    entry->why = why;
    snprintf(entry->status, sizeof entry->status, "%s", status);
    snprintf(entry->message, sizeof entry->message, "%s", message);
    out->omitted_by[why]++;
}

/* What the sweep file says about fitting. A file that does not parse (it did once) gives the defaults. */
static void read_config(const char *text, const char *x, struct observations *out)
{
    config_t config;
    config_init(&config);
    const char *named = NULL;
    if (config_read_string(&config, text) == CONFIG_TRUE) {
        config_lookup_string(&config, "fit.x", &named);
        config_lookup_float(&config, "fit.huber_delta", &out->huber_delta);
    }
    snprintf(out->x_name, sizeof out->x_name, "%s", x ? x : named ? named : "parameters");
    config_destroy(&config);
}

static int check_x(const struct observations *out, struct error *err)
{
    if (!strcmp(out->x_name, "parameters") || !strcmp(out->x_name, "non_embedding_parameters")) return 0;
    return error_set(err, "x is \"%s\"; allowed: parameters, non_embedding_parameters", out->x_name);
}

static void describe(const struct store_point *point, bool non_embedding, struct observation *out)
{
    *out = (struct observation){
        .parameters = (double)(non_embedding ? point->non_embedding_parameters : point->parameters),
        .pretrain_tokens = (double)point->pretrain_tokens,
        .pet_size = (double)point->pet_size,
        .examples = (double)point->finetune_examples,
        .learning_rate = point->learning_rate,
        .seed = point->seed,
        .held_out = point->held_out != 0,
    };
    store_text(out->identity, sizeof out->identity, point->identity, sizeof point->identity);
    store_text(out->method, sizeof out->method, point->method, sizeof point->method);
    store_text(out->model, sizeof out->model, point->model, sizeof point->model);
    store_text(out->task, sizeof out->task, point->task, sizeof point->task);
}

/* Number of the trunk of a point; first[trunks] holds a point of each trunk seen so far, and grows. */
static size_t find_trunk(const struct store *store, size_t index, size_t *first, size_t *trunks)
{
    const struct store_point *point = store_point(store, index);
    for (size_t i = 0; i < *trunks; i++)
        if (!memcmp(store_point(store, first[i])->trunk, point->trunk, sizeof point->trunk)) return i;
    first[*trunks] = index;
    return (*trunks)++;
}

static void add_unfinished(const struct store *store, size_t index, const struct observation *point,
                           struct observations *out)
{
    struct store_state state = {.status = STORE_PENDING};
    char message[STORE_MESSAGE + 1];
    if (store_read_state(store, index, &state, NULL)) state = (struct store_state){.status = STORE_PENDING};
    store_text(message, sizeof message, state.message, sizeof state.message);
    bool failed = state.status == STORE_OUT_OF_MEMORY || state.status == STORE_CRASHED ||
                  state.status == STORE_TIMED_OUT || state.status == STORE_SKIPPED;
    omit(out, point, failed ? OMITTED_FAILED : OMITTED_UNFINISHED, store_status_name((enum store_status)state.status),
         message);
}

static void add_point(const struct store *store, size_t index, size_t trunk, bool non_embedding,
                      struct observations *out)
{
    struct observation row;
    struct store_result result;
    struct store_execution execution;
    struct error damage = {""};
    const struct store_point *point = store_point(store, index);
    describe(point, non_embedding, &row);
    row.trunk = trunk;
    int committed = store_read(store, index, &result, &execution, NULL, &damage);
    if (committed < 0) {
        omit(out, &row, OMITTED_DAMAGED, "damaged", damage.text);
    } else if (committed == 0) {
        add_unfinished(store, index, &row, out);
    } else if (point->removed) {
        omit(out, &row, OMITTED_REMOVED, "removed", "");
    } else if (result.status == STORE_DIVERGED) {
        omit(out, &row, OMITTED_DIVERGED, "diverged", "");
    } else if (!isfinite(result.test_loss) || result.test_loss <= 0) {
        omit(out, &row, OMITTED_LOSS, "done", "");
    } else {
        row.loss = result.test_loss;
        row.valid_loss = result.valid_loss;
        row.pretrain_loss = result.pretrain_loss > 0 ? result.pretrain_loss : NAN;
        row.seconds = execution.seconds > 0 ? execution.seconds : 0;
        if (!strcmp(row.method, "none"))
            out->base[out->base_count++] = row;
        else
            out->rows[out->count++] = row;
    }
}

/* Order that brings the learning rates of a cell, then its seeds, together. */
static int compare_rows(const void *a, const void *b)
{
    const struct observation *x = a, *y = b;
    int text = strcmp(x->method, y->method);
    if (text) return text;
    const double keys[][2] = {
        {x->pet_size, y->pet_size}, {x->parameters, y->parameters},       {x->pretrain_tokens, y->pretrain_tokens},
        {x->examples, y->examples}, {x->learning_rate, y->learning_rate}, {(double)x->seed, (double)y->seed}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i][0] != keys[i][1]) return keys[i][0] < keys[i][1] ? -1 : 1;
    text = strcmp(x->model, y->model);
    return text ? text : strcmp(x->identity, y->identity);
}

static bool same_cell(const struct observation *x, const struct observation *y)
{
    return !strcmp(x->method, y->method) && x->pet_size == y->pet_size && x->parameters == y->parameters &&
           x->pretrain_tokens == y->pretrain_tokens && x->examples == y->examples;
}

/* The learning rate to keep of rows [first, end) of one cell. */
static double best_rate(const struct observation *rows, size_t first, size_t end)
{
    double best = rows[first].learning_rate, best_mean = INFINITY;
    size_t most = 0;
    for (size_t i = first; i < end;) {
        size_t next = i;
        double sum = 0;
        for (; next < end && rows[next].learning_rate == rows[i].learning_rate; next++)
            sum += rows[next].valid_loss;
        size_t seeds = next - i;
        double mean = sum / (double)seeds;
        if (seeds > most || (seeds == most && mean < best_mean)) {
            best = rows[i].learning_rate;
            best_mean = mean;
            most = seeds;
        }
        i = next;
    }
    return best;
}

static void reduce_rates(struct observations *out)
{
    size_t kept = 0;
    qsort(out->rows, out->count, sizeof *out->rows, compare_rows);
    for (size_t first = 0, end; first < out->count; first = end) {
        for (end = first + 1; end < out->count && same_cell(&out->rows[first], &out->rows[end]);)
            end++;
        double rate = best_rate(out->rows, first, end);
        for (size_t i = first; i < end; i++) {
            if (out->rows[i].learning_rate == rate)
                out->rows[kept++] = out->rows[i];
            else
                omit(out, &out->rows[i], OMITTED_RATE, "done", "");
        }
    }
    out->count = kept;
}

int observations_from_store(const char *path, const char *x, struct observations *out, struct error *err)
{
    *out = (struct observations){0};
    struct store *store = store_open(path, false, err);
    if (!store) return -1;
    int result = -1;
    size_t count = store_count(store);
    size_t *first = calloc(count, sizeof *first);
    out->rows = calloc(count, sizeof *out->rows);
    out->base = calloc(count, sizeof *out->base);
    out->omitted = calloc(count, sizeof *out->omitted);
    out->config = strdup(store_config(store));
    if (!first || !out->rows || !out->base || !out->omitted || !out->config) {
        error_set(err, "%s: out of memory for %zu points", path, count);
        goto done;
    }
    out->points = count;
    out->epoch = store_epoch(store);
    snprintf(out->source, sizeof out->source, "%s", path);
    snprintf(out->name, sizeof out->name, "%s", store_name(store));
    snprintf(out->dataset_digest, sizeof out->dataset_digest, "%s", store_dataset_digest(store));
    read_config(out->config, x, out);
    if (check_x(out, err)) goto done;
    for (size_t i = 0; i < count; i++) {
        size_t trunk = find_trunk(store, i, first, &out->trunks);
        add_point(store, i, trunk, !strcmp(out->x_name, "non_embedding_parameters"), out);
    }
    reduce_rates(out);
    qsort(out->base, out->base_count, sizeof *out->base, compare_rows);
    result = 0;
done:
    free(first);
    store_close(store);
    if (result) observations_destroy(out);
    return result;
}
