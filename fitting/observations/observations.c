/* Fitting, where it begins: from the rows of a store to the table that laws are fitted to, and the list of what is not
 * in it. */
#include "fitting/observations/observations.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/observations/observations_internal.h"

const char *omission_name(enum omission why)
{
    static const char *const names[OMISSIONS] = {"not finished",
                                                 "cut on the way",
                                                 "failed",
                                                 "diverged",
                                                 "another learning rate is better",
                                                 "no longer in the sweep file",
                                                 "damaged row",
                                                 "loss is not a positive number",
                                                 "the metric was not measured"};
    return names[why];
}

void observations_destroy(struct observations *observations)
{
    if (!observations) return;
    free(observations->rows);
    free(observations->base);
    free(observations->omitted);
    free(observations->config);
    free(observations->dataset_digest);
    free(observations->classes);
    free(observations->noise);
    fit_settings_destroy(&observations->settings);
    *observations = (struct observations){0};
}

void observations_omit(struct observations *out, const struct observation *point, enum omission why, const char *status,
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

const char *const metric_names[METRICS] = {"test_loss", "valid_loss", "pretrain_loss", "bleu",
                                           "chrf",      "rouge1",     "rouge2",        "rougeL"};
const char *const metric_titles[METRICS] = {"test loss",   "validation loss", "loss on the pretraining text",
                                            "100 - BLEU",  "100 - chrF",      "1 - ROUGE-1",
                                            "1 - ROUGE-2", "1 - ROUGE-L"};
const char *const metric_units[METRICS] = {"nats per token", "nats per token", "nats per token", "", "", "", "", ""};
const char *const metric_scores[METRICS] = {"", "", "", "BLEU", "chrF", "ROUGE-1", "ROUGE-2", "ROUGE-L"};

/* Index of `word` among the names, or -1 with *err. */
static int choose(const char *what, const char *word, const char *const *names, size_t count, struct error *err)
{
    char allowed[160] = "";
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(allowed);
        if (!strcmp(word, names[i])) return (int)i;
        snprintf(allowed + used, sizeof allowed - used, "%s%s", i ? ", " : "", names[i]);
    }
    return error_set(err, "%s is \"%s\"; allowed: %s", what, word, allowed);
}

/* What the sweep file says about fitting, and over it what the caller says. */
static int settle(const struct observation_options *options, struct observations *out, struct error *err)
{
    static const struct observation_options none = {0};
    const struct observation_options *said = options ? options : &none;
    if (fit_settings_of_text(out->config, &out->settings, &out->settings_lost)) out->settings = fit_settings_default();
    int x = said->x ? choose("x", said->x, settings_x_names, SETTINGS_XS, err) : (int)out->settings.x;
    int seeds =
        said->seeds ? choose("seeds", said->seeds, settings_seed_names, SETTINGS_SEEDS, err) : (int)out->settings.seeds;
    int metric = said->metric ? choose("metric", said->metric, metric_names, METRICS, err) : METRIC_TEST;
    if (x < 0 || seeds < 0 || metric < 0) return -1;
    out->settings.x = (enum settings_x)x;
    out->seeds = (enum settings_seeds)seeds;
    out->metric = (enum metric)metric;
    snprintf(out->x_name, sizeof out->x_name, "%s", settings_x_names[x]);
    return 0;
}

const char *observations_label(const struct observations *observations, const char *task, const char *method,
                               char out[OBSERVATION_LABEL])
{
    const bool several = observations->several_tasks;
    snprintf(out, OBSERVATION_LABEL, "%s%s%s", several ? task : "", several ? ": " : "", method);
    return out;
}

bool observation_is_tuned(const struct observation *row)
{
    return row->examples > 0 && !(row->learning_rate > 0);
}

/* Rows, base and what was left out are looked at: a task whose points all failed is one of the sweep. */
static bool has_several_tasks(const struct observations *out)
{
    const char *first = NULL;
    bool several = false;
    for (size_t i = 0; i < out->count + out->base_count + out->omitted_count && !several; i++) {
        const char *task = i < out->count ? out->rows[i].task
                           : i < out->count + out->base_count
                               ? out->base[i - out->count].task
                               : out->omitted[i - out->count - out->base_count].point.task;
        several = first && strcmp(first, task) != 0;
        first = task;
    }
    return several;
}

double observations_size(const struct store_point *point, enum settings_x x)
{
    const uint64_t sizes[SETTINGS_XS] = {point->parameters, point->non_embedding_parameters,
                                         point->trainable_parameters};
    return (double)sizes[x];
}

static void describe(const struct store_point *point, enum settings_x x, struct observation *out)
{
    *out = (struct observation){
        .parameters = observations_size(point, x),
        .pretrain_tokens = (double)point->pretrain_tokens,
        .pet_size = (double)point->pet_size,
        .examples = (double)point->finetune_examples,
        .learning_rate = point->learning_rate,
        .seed = point->seed,
        .replicates = 1,
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
    enum omission why = failed ? OMITTED_FAILED : state.status == STORE_CUT ? OMITTED_CUT : OMITTED_UNFINISHED;
    observations_omit(out, point, why, store_status_name((enum store_status)state.status), message);
}

/* Number of an execution class; the list grows. There is room for one a point. */
static size_t find_class(struct observations *out, const struct store_execution *execution)
{
    char name[STORE_NAME + 1];
    store_text(name, sizeof name, execution->execution_class, sizeof execution->execution_class);
    for (size_t i = 0; i < out->class_count; i++)
        if (!strcmp(out->classes[i], name)) return i;
    memcpy(out->classes[out->class_count], name, sizeof name);
    return out->class_count++;
}

static void add_measured(const struct store_result *result, const struct store_execution *execution,
                         struct observation *row, struct observations *out)
{
    const double scores[OBSERVATION_SCORES] = {result->bleu, result->chrf, result->rouge1, result->rouge2,
                                               result->rougeL};
    const double losses[METRICS] = {result->test_loss,  result->valid_loss, result->pretrain_loss, 100 - result->bleu,
                                    100 - result->chrf, 1 - result->rouge1, 1 - result->rouge2,    1 - result->rougeL};
    memcpy(row->scores, scores, sizeof scores);
    row->loss = losses[out->metric];
    if (out->metric == METRIC_TEST) row->targets = (double)result->test_tokens;
    if (out->metric == METRIC_VALID) row->targets = (double)result->valid_tokens;
    /* a test and a validation there always are */
    if (out->metric >= METRIC_PRETRAIN &&
        (isnan(row->loss) || (out->metric == METRIC_PRETRAIN && result->pretrain_loss == 0))) {
        observations_omit(out, row, OMITTED_METRIC, "done", "");
        return;
    }
    if (!isfinite(row->loss) || row->loss <= 0) {
        observations_omit(out, row, OMITTED_LOSS, "done", "");
        return;
    }
    row->valid_loss = result->valid_loss;
    row->pretrain_loss = result->pretrain_loss > 0 ? result->pretrain_loss : NAN;
    row->seconds = execution->seconds > 0 ? execution->seconds : 0;
    row->execution_class = find_class(out, execution);
    if (!strcmp(row->method, "none"))
        out->base[out->base_count++] = *row;
    else
        out->rows[out->count++] = *row;
}

static void add_point(const struct store *store, size_t index, size_t trunk, struct observations *out)
{
    struct observation row;
    struct store_result result;
    struct store_execution execution;
    struct error damage = {""};
    const struct store_point *point = store_point(store, index);
    describe(point, out->settings.x, &row);
    row.trunk = trunk;
    int committed = store_read(store, index, &result, &execution, NULL, &damage);
    if (committed > 0 && result.learning_rate > 0) row.learning_rate = result.learning_rate;
    if (committed < 0)
        observations_omit(out, &row, OMITTED_DAMAGED, "damaged", damage.text);
    else if (committed == 0)
        add_unfinished(store, index, &row, out);
    else if (point->removed)
        observations_omit(out, &row, OMITTED_REMOVED, "removed", "");
    else if (result.status == STORE_DIVERGED)
        observations_omit(out, &row, OMITTED_DIVERGED, "diverged", "");
    else
        add_measured(&result, &execution, &row, out);
}

/* Room for everything that a store of so many points can give. */
static int make_room(const struct store *store, struct observations *out)
{
    size_t count = store_count(store);
    out->rows = calloc(count + 1, sizeof *out->rows);
    out->base = calloc(count + 1, sizeof *out->base);
    out->omitted = calloc(count + 1, sizeof *out->omitted);
    out->classes = calloc(count + 1, sizeof *out->classes);
    out->config = strdup(store_config(store));
    out->dataset_digest = strdup(store_dataset_digest(store));
    return out->rows && out->base && out->omitted && out->classes && out->config && out->dataset_digest ? 0 : -1;
}

int observations_from_store(const char *path, const struct observation_options *options, struct observations *out,
                            struct error *err)
{
    *out = (struct observations){0};
    struct store *store = store_open(path, false, err);
    if (!store) return -1;
    int result = -1;
    size_t count = store_count(store), *first = calloc(count + 1, sizeof *first);
    if (!first || make_room(store, out)) {
        error_set(err, "%s: out of memory for %zu points", path, count);
        goto done;
    }
    out->points = count;
    out->epoch = store_epoch(store);
    snprintf(out->source, sizeof out->source, "%s", path);
    snprintf(out->name, sizeof out->name, "%s", store_name(store));
    if (settle(options, out, err)) goto done;
    for (size_t i = 0; i < count; i++) {
        size_t trunk = find_trunk(store, i, first, &out->trunks);
        add_point(store, i, trunk, out);
    }
    if (out->metric >= METRIC_BLEU && !out->count && !out->base_count) {
        error_set(err, "%s: no point has %s; it is measured where finetune.generate.metrics asks for it", path,
                  metric_scores[out->metric]);
        goto done;
    }
    out->several_tasks = has_several_tasks(out);
    observations_reduce_rates(out);
    result = observations_reduce_seeds(out, err);
done:
    free(first);
    store_close(store);
    if (result) observations_destroy(out);
    return result;
}

double observation_parameters(const struct observation *row)
{
    return row->parameters;
}

double observation_pretrain_tokens(const struct observation *row)
{
    return row->pretrain_tokens;
}

double observation_pet_size(const struct observation *row)
{
    return row->pet_size;
}

double observation_examples(const struct observation *row)
{
    return row->examples;
}

double observation_learning_rate(const struct observation *row)
{
    return row->learning_rate;
}

double observation_seed(const struct observation *row)
{
    return (double)row->seed;
}
