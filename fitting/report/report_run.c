/* Fitting: what a sweep took, from its store: sums over points, kinds of machines, a choice of training curves. */
#include "fitting/report/report_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/report/report_internal.h"

enum { DIVERGED_SHOWN = 24 };

/* Add one element to a growing array; NULL where there is no memory. Rooms are powers of two. */
static void *append(void **array, size_t *count, size_t size)
{
    if ((*count & (*count - 1)) == 0) {
        void *grown = realloc(*array, (*count ? 2 * *count : 1) * size);
        if (!grown) return NULL;
        *array = grown;
    }
    void *element = (char *)*array + (*count)++ * size;
    memset(element, 0, size);
    return element;
}
#define APPEND(array, count) append((void **)&(array), &(count), sizeof *(array))

static struct run_cost *find_cost(struct run_record *record, const struct store_point *point)
{
    char task[OBSERVATION_NAME], method[OBSERVATION_NAME];
    store_text(task, sizeof task, point->task, sizeof point->task);
    store_text(method, sizeof method, point->method, sizeof point->method);
    for (size_t i = record->cost_count; i-- > 0;) { /* the last one is the likeliest */
        struct run_cost *cost = &record->costs[i];
        if (cost->parameters == (double)point->parameters && cost->pet_size == (double)point->pet_size &&
            !strcmp(cost->method, method) && !strcmp(cost->task, task))
            return cost;
    }
    struct run_cost *cost = APPEND(record->costs, record->cost_count);
    if (!cost) return NULL;
    *cost = (struct run_cost){.pet_size = (double)point->pet_size,
                              .parameters = (double)point->parameters,
                              .trainable = (double)point->trainable_parameters,
                              .longest = SIZE_MAX};
    memcpy(cost->task, task, sizeof cost->task);
    memcpy(cost->method, method, sizeof cost->method);
    return cost;
}

static int add_kind(struct run_record *record, const struct store_execution *execution)
{
    struct run_kind kind = {.points = 1, .seconds = execution->seconds};
    store_text(kind.device, sizeof kind.device, execution->device, sizeof execution->device);
    store_text(kind.execution_class, sizeof kind.execution_class, execution->execution_class,
               sizeof execution->execution_class);
    store_text(kind.version, sizeof kind.version, execution->version, sizeof execution->version);
    for (size_t i = 0; i < record->kind_count; i++) {
        struct run_kind *known = &record->kinds[i];
        if (strcmp(known->device, kind.device) || strcmp(known->execution_class, kind.execution_class) ||
            strcmp(known->version, kind.version))
            continue;
        known->points++;
        known->seconds += kind.seconds;
        return 0;
    }
    struct run_kind *added = APPEND(record->kinds, record->kind_count);
    if (!added) return -1;
    *added = kind;
    return 0;
}

static int add_host(struct run_record *record, const struct store_execution *execution)
{
    char host[STORE_NAME + 1];
    store_text(host, sizeof host, execution->host, sizeof execution->host);
    for (size_t i = record->host_count; i-- > 0;)
        if (!strcmp(record->hosts[i], host)) return 0;
    char(*added)[STORE_NAME + 1] = APPEND(record->hosts, record->host_count);
    if (!added) return -1;
    memcpy(*added, host, sizeof host);
    return 0;
}

static int add_point(struct run_record *record, const struct store_point *point, size_t row,
                     const struct store_result *result, const struct store_execution *execution)
{
    struct run_cost *cost = find_cost(record, point);
    struct run_point *entry = cost ? APPEND(record->points, record->point_count) : NULL;
    if (!entry || add_kind(record, execution) || add_host(record, execution)) return -1;
    *entry = (struct run_point){
        .cost = (size_t)(cost - record->costs), .seconds = execution->seconds, .flops = result->flops};
    cost->points++;
    cost->retried += execution->attempt > 1;
    cost->seconds += execution->seconds;
    cost->flops += result->flops;
    if (execution->peak_bytes > cost->peak_bytes) cost->peak_bytes = execution->peak_bytes;
    double examples = (double)point->finetune_examples, tokens = (double)point->pretrain_tokens;
    if (result->status == STORE_DONE &&
        (examples > cost->longest_examples ||
         (examples == cost->longest_examples && examples > 0 && tokens > cost->longest_tokens))) {
        cost->longest = row;
        cost->longest_examples = examples;
        cost->longest_tokens = tokens;
    }
    if (execution->started > 0) {
        record->started = record->started > 0 ? fmin(record->started, execution->started) : execution->started;
        record->finished = fmax(record->finished, execution->finished);
    }
    return 0;
}

static int add_curve(struct run_record *record, const struct store *store, size_t row, size_t cost, bool diverged)
{
    struct store_result result;
    struct run_curve *curve = APPEND(record->curves, record->curve_count);
    if (!curve) return -1;
    *curve = (struct run_curve){
        .cost = cost, .examples = (double)store_point(store, row)->finetune_examples, .diverged = diverged};
    if (store_read(store, row, &result, NULL, &curve->curve, NULL) != 1 || !curve->curve.count) record->curve_count--;
    return 0;
}

static int compare_costs(const void *a, const void *b)
{
    const struct run_cost *x = a, *y = b;
    int text = strcmp(x->task, y->task);
    if (!text) text = strcmp(x->method, y->method);
    if (text) return text;
    if (x->pet_size != y->pet_size) return x->pet_size < y->pet_size ? -1 : 1;
    return (x->parameters > y->parameters) - (x->parameters < y->parameters);
}

/* Costs in their order, points after them. */
static int sort_costs(struct run_record *record)
{
    size_t *place = calloc(record->cost_count + 1, sizeof *place);
    struct run_cost *before = calloc(record->cost_count + 1, sizeof *before);
    if (place && before) {
        memcpy(before, record->costs, record->cost_count * sizeof *before);
        qsort(record->costs, record->cost_count, sizeof *record->costs, compare_costs);
        for (size_t i = 0; i < record->cost_count; i++)
            for (size_t k = 0; k < record->cost_count; k++)
                if (!compare_costs(&before[i], &record->costs[k])) place[i] = k;
        for (size_t i = 0; i < record->point_count; i++)
            record->points[i].cost = place[record->points[i].cost];
    }
    int result = place && before ? 0 : -1;
    free(place);
    free(before);
    return result;
}

/* The longest run of each cost, and a few that diverged. */
static int read_curves(struct run_record *record, const struct store *store, const size_t *diverged, size_t count)
{
    for (size_t i = 0; i < record->cost_count; i++)
        if (record->costs[i].longest != SIZE_MAX && add_curve(record, store, record->costs[i].longest, i, false))
            return -1;
    for (size_t i = 0; i < count; i++) {
        const struct run_cost *cost = find_cost(record, store_point(store, diverged[i]));
        if (!cost || add_curve(record, store, diverged[i], (size_t)(cost - record->costs), true)) return -1;
    }
    return 0;
}

static int read_store(struct run_record *out, const struct store *store)
{
    size_t diverged[DIVERGED_SHOWN], diverged_count = 0;
    for (size_t i = 0; i < store_count(store); i++) {
        struct store_result result;
        struct store_execution execution;
        if (store_read(store, i, &result, &execution, NULL, NULL) != 1) continue;
        if (add_point(out, store_point(store, i), i, &result, &execution)) return -1;
        if (result.status == STORE_DIVERGED && diverged_count < DIVERGED_SHOWN) diverged[diverged_count++] = i;
    }
    if (sort_costs(out)) return -1;
    snprintf(out->shard, sizeof out->shard, "%s", store_shard(store));
    snprintf(out->made_by, sizeof out->made_by, "%s", store_made_by(store));
    snprintf(out->config_path, sizeof out->config_path, "%s", store_config_path(store));
    out->provenance = strdup(store_provenance(store));
    return out->provenance ? read_curves(out, store, diverged, diverged_count) : -1;
}

int run_record_read(const char *dir, struct run_record *out, struct error *err)
{
    *out = (struct run_record){0};
    struct store *store = store_open(dir, false, err);
    if (!store) return -1;
    int result = read_store(out, store);
    store_close(store);
    if (result == 0) result = run_record_read_logs(dir, out);
    if (result) {
        error_set(err, "out of memory for the report of %s", dir);
        run_record_destroy(out);
    }
    return result;
}

void run_record_destroy(struct run_record *record)
{
    free(record->costs);
    free(record->points);
    free(record->curves);
    free(record->kinds);
    free(record->hosts);
    free(record->provenance);
    free(record->parameters);
    *record = (struct run_record){0};
}
