/* Joins stores by point identity. All choices are minima or maxima of total orders, so that neither the order of the
 * inputs nor their grouping matters. */
#include "io/store/store_merge.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "io/store/store_internal.h"

enum { CONFLICTS_LISTED = 1000 };

/* A row of an input. */
struct entry {
    uint32_t input;
    size_t row;
};

/* One of the results of a point. */
struct candidate {
    const struct entry *entry;
    struct store_slots slots;
};

struct merge {
    const struct store *const *inputs;
    size_t input_count;
    const struct store_merge_options *options;
    struct entry *entries; /* sorted by identity, then input, row */
    size_t entry_count;
    struct candidate *candidates; /* of the point at hand */
    size_t candidate_capacity;
    struct store_point *points;
    struct store_origin *origins;
    size_t count;
    struct store_merge_report *report;
};

static const struct store_point *point_of(const struct merge *merge, const struct entry *entry)
{
    return &merge->inputs[entry->input]->points[entry->row];
}

static int compare_entries(const void *a, const void *b, void *context)
{
    const struct entry *x = a, *y = b;
    int order = memcmp(point_of(context, x)->identity, point_of(context, y)->identity, DIGEST_HEX);
    if (order != 0) return order;
    if (x->input != y->input) return x->input < y->input ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static int entries_collect(struct merge *merge, struct error *err)
{
    size_t most = 0;
    for (size_t i = 0; i < merge->input_count; i++)
        most += merge->inputs[i]->count;
    merge->entries = calloc(most, sizeof *merge->entries);
    merge->points = calloc(most, sizeof *merge->points);
    merge->origins = calloc(most, sizeof *merge->origins);
    if (!merge->entries || !merge->points || !merge->origins)
        return error_set(err, "out of memory for %zu points", most);
    for (size_t i = 0; i < merge->input_count; i++)
        for (size_t row = 0; row < merge->inputs[i]->count; row++)
            merge->entries[merge->entry_count++] = (struct entry){.input = (uint32_t)i, .row = row};
    qsort_r(merge->entries, most, sizeof *merge->entries, compare_entries, merge);
    return 0;
}

static struct store_execution execution_of(const struct store_slots *slots)
{
    struct store_execution execution;
    memcpy(&execution, slots->execution, sizeof execution);
    return execution;
}

/* Earlier first; rows of one time by their bytes: a total order. */
static int compare_slots(const struct store_slots *a, const struct store_slots *b)
{
    double x = execution_of(a).finished, y = execution_of(b).finished;
    if (x < y || (isnan(x) && !isnan(y))) return -1;
    if (y < x || (isnan(y) && !isnan(x))) return 1;
    return memcmp(a, b, sizeof *a);
}

/* The one that the rule keeps comes first, those whose curve is lost behind all others. */
static int compare_candidates(const void *a, const void *b, void *context)
{
    const struct candidate *x = a, *y = b;
    const struct merge *merge = context;
    if (x->slots.curve_lost != y->slots.curve_lost) return x->slots.curve_lost ? 1 : -1;
    int order = compare_slots(&x->slots, &y->slots);
    return merge->options->rule == STORE_RULE_NEWEST ? -order : order;
}

static bool same_result(const struct store_slots *a, const struct store_slots *b)
{
    bool lost = a->curve_lost || b->curve_lost;
    return memcmp(a->result, b->result, sizeof a->result) == 0 &&
           (lost || memcmp(a->curve, b->curve, sizeof a->curve) == 0);
}

static bool same_class(const struct store_slots *a, const struct store_slots *b)
{
    struct store_execution x = execution_of(a), y = execution_of(b);
    return memcmp(x.execution_class, y.execution_class, sizeof x.execution_class) == 0 &&
           memcmp(x.device, y.device, sizeof x.device) == 0;
}

static bool close_numbers(double a, double b, double tolerance)
{
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    return a == b || fabs(a - b) <= tolerance * fmax(fabs(a), fabs(b));
}

static bool close_results(const struct store_slots *a, const struct store_slots *b, double tolerance)
{
    struct store_result x, y;
    memcpy(&x, a->result, sizeof x);
    memcpy(&y, b->result, sizeof y);
    return x.status == y.status && close_numbers(x.valid_loss, y.valid_loss, tolerance) &&
           close_numbers(x.test_loss, y.test_loss, tolerance) &&
           close_numbers(x.pretrain_loss, y.pretrain_loss, tolerance);
}

/* Equal, or computed in different execution classes and close. */
static bool agree(const struct store_slots *a, const struct store_slots *b, double tolerance)
{
    return same_result(a, b) || (!same_class(a, b) && close_results(a, b, tolerance));
}

static int list_conflict(struct store_merge_report *report, const struct candidate *first,
                         const struct candidate *second, bool kept, struct error *err)
{
    report->conflicts++;
    if (report->listed == CONFLICTS_LISTED) return 0;
    if (!report->list) report->list = calloc(CONFLICTS_LISTED, sizeof *report->list);
    if (!report->list) return error_set(err, "out of memory");
    report->list[report->listed++] = (struct store_conflict){first->entry->input,
                                                             first->entry->row,
                                                             second->entry->input,
                                                             second->entry->row,
                                                             kept,
                                                             same_class(&first->slots, &second->slots)};
    return 0;
}

/* One that was damaged once, and was left empty since: a training that was evaluated has entries. */
static bool curve_is_empty(const struct store_slots *slots)
{
    struct store_result result;
    struct store_curve curve;
    memcpy(&result, slots->result, sizeof result);
    memcpy(&curve, slots->curve, sizeof curve);
    return curve.count == 0 && result.evaluations > 0;
}

/* The committed rows of a point: merge->candidates[*found], the one that is kept first. */
static int candidates_read(struct merge *merge, const struct entry *entries, size_t count, size_t *found,
                           struct error *err)
{
    if (count > merge->candidate_capacity) {
        struct candidate *grown = reallocarray(merge->candidates, count, sizeof *grown);
        if (!grown) return error_set(err, "out of memory for %zu results of a point", count);
        merge->candidates = grown;
        merge->candidate_capacity = count;
    }
    *found = 0;
    for (size_t i = 0; i < count; i++) {
        struct candidate *candidate = &merge->candidates[*found];
        int state = store_read_slots(merge->inputs[entries[i].input], entries[i].row, &candidate->slots, NULL);
        merge->report->damaged += state < 0;
        if (state == 1) candidate->slots.curve_lost |= curve_is_empty(&candidate->slots);
        candidate->entry = &entries[i];
        *found += state == 1;
    }
    if (*found > 1) qsort_r(merge->candidates, *found, sizeof *merge->candidates, compare_candidates, merge);
    return 0;
}

/* How the results of one point stand to each other: every two of them are compared, so that it does not matter which of
 * them is kept. */
static int candidates_judge(struct merge *merge, size_t count, struct error *err)
{
    const struct candidate *all = merge->candidates;
    for (size_t i = 1; i < count; i++) {
        size_t against = 0;
        while (against < i && agree(&all[against].slots, &all[i].slots, merge->options->tolerance))
            against++;
        if (against < i && list_conflict(merge->report, &all[against], &all[i], against == 0, err) != 0) return -1;
        if (against < i) continue;
        if (same_result(&all[0].slots, &all[i].slots))
            merge->report->equal++;
        else
            merge->report->close++;
    }
    return 0;
}

/* What the point is: held out where any input says so, removed where all do; names from the least description. */
static void describe(const struct merge *merge, const struct entry *entries, size_t count, struct store_point *out)
{
    uint32_t held_out = 0, removed = 1;
    bool differs = false;
    for (size_t i = 0; i < count; i++) {
        struct store_point point = *point_of(merge, &entries[i]);
        differs = differs || point.held_out != point_of(merge, &entries[0])->held_out;
        held_out |= point.held_out;
        removed &= point.removed;
        point.held_out = point.removed = 0;
        if (i > 0) differs = differs || memcmp(&point, out, sizeof point) != 0;
        if (i == 0 || memcmp(&point, out, sizeof point) < 0) *out = point;
    }
    out->held_out = held_out;
    out->removed = removed;
    merge->report->renamed += differs;
}

/* By time, then by what a later merge still knows: the status of a committed row is its result's. */
static int compare_states(const struct store_state *a, const struct store_state *b)
{
    if (a->updated != b->updated) return a->updated < b->updated ? -1 : 1;
    if (a->attempts != b->attempts) return a->attempts < b->attempts ? -1 : 1;
    int order = memcmp(a->message, b->message, sizeof a->message);
    return order != 0 ? order : (a->status > b->status) - (a->status < b->status);
}

/* The state that was written last; what is running is for its own master to say. */
static struct store_state state_choose(const struct merge *merge, const struct entry *entries, size_t count)
{
    struct store_state best = {0};
    for (size_t i = 0; i < count; i++) {
        struct store_state state;
        if (store_read_state(merge->inputs[entries[i].input], entries[i].row, &state, NULL) != 0) continue;
        if (state.status == STORE_RUNNING || state.status == STORE_DONE || state.status == STORE_DIVERGED)
            state.status = STORE_PENDING;
        state.progress = 0;
        if (compare_states(&state, &best) > 0) best = state;
    }
    return best;
}

static int group_join(struct merge *merge, const struct entry *entries, size_t count, struct error *err)
{
    size_t found = 0;
    struct store_result result;
    if (candidates_read(merge, entries, count, &found, err) != 0 || candidates_judge(merge, found, err) != 0) return -1;
    struct store_state state = state_choose(merge, entries, count);
    const struct entry *kept = found > 0 ? merge->candidates[0].entry : NULL;
    const struct entry *from = kept ? kept : &entries[0];
    const struct store *store = merge->inputs[from->input];
    if (kept) {
        memcpy(&result, merge->candidates[0].slots.result, sizeof result);
        state.status = result.status;
        state.progress = 1.0;
        merge->report->committed++;
    }
    describe(merge, entries, count, &merge->points[merge->count]);
    merge->origins[merge->count++] =
        (struct store_origin){.store = store, .row = from->row, .committed = kept != NULL, .state = state};
    return 0;
}

static int groups_join(struct merge *merge, struct error *err)
{
    for (size_t first = 0, end; first < merge->entry_count; first = end) {
        const char *identity = point_of(merge, &merge->entries[first])->identity;
        for (end = first + 1; end < merge->entry_count &&
                              memcmp(point_of(merge, &merge->entries[end])->identity, identity, DIGEST_HEX) == 0;)
            end++;
        if (group_join(merge, merge->entries + first, end - first, err) != 0) return -1;
    }
    return 0;
}

static int compare_numbers(double a, double b)
{
    return (a > b) - (a < b);
}

/* By task, model size, pretraining, method, PET size, learning rate, data, seed. */
static int compare_points(const void *a, const void *b, void *points)
{
    const struct store_point *x = (const struct store_point *)points + *(const size_t *)a;
    const struct store_point *y = (const struct store_point *)points + *(const size_t *)b;
    int orders[] = {memcmp(x->task, y->task, sizeof x->task),
                    (x->parameters > y->parameters) - (x->parameters < y->parameters),
                    memcmp(x->model, y->model, sizeof x->model),
                    (x->pretrain_tokens > y->pretrain_tokens) - (x->pretrain_tokens < y->pretrain_tokens),
                    memcmp(x->method, y->method, sizeof x->method),
                    (x->pet_size > y->pet_size) - (x->pet_size < y->pet_size),
                    compare_numbers(x->learning_rate, y->learning_rate),
                    (x->finetune_examples > y->finetune_examples) - (x->finetune_examples < y->finetune_examples),
                    (x->seed > y->seed) - (x->seed < y->seed),
                    memcmp(x->identity, y->identity, DIGEST_HEX)};
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++)
        if (orders[i] != 0) return orders[i];
    return 0;
}

static int points_sort(struct merge *merge, struct error *err)
{
    size_t *order = calloc(merge->count, sizeof *order);
    struct store_point *points = calloc(merge->count, sizeof *points);
    struct store_origin *origins = calloc(merge->count, sizeof *origins);
    if (!order || !points || !origins) {
        free(order);
        free(points);
        free(origins);
        return error_set(err, "out of memory for %zu points", merge->count);
    }
    for (size_t i = 0; i < merge->count; i++)
        order[i] = i;
    qsort_r(order, merge->count, sizeof *order, compare_points, merge->points);
    for (size_t i = 0; i < merge->count; i++) {
        points[i] = merge->points[order[i]];
        origins[i] = merge->origins[order[i]];
    }
    free(order);
    free(merge->points);
    free(merge->origins);
    merge->points = points;
    merge->origins = origins;
    return 0;
}

static int compare_headers(const struct store *a, const struct store *b)
{
    size_t x = strlen(a->config), y = strlen(b->config);
    if (x != y) return x < y ? -1 : 1;
    int orders[] = {strcmp(a->config, b->config), strcmp(a->name, b->name),
                    strcmp(a->dataset_digest, b->dataset_digest), strcmp(a->config_path, b->config_path)};
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++)
        if (orders[i] != 0) return orders[i];
    return 0;
}

static const struct store *header_choose(struct merge *merge, uint64_t *epoch)
{
    const struct store *best = merge->inputs[0];
    *epoch = 0;
    for (size_t i = 0; i < merge->input_count; i++) {
        const struct store *store = merge->inputs[i];
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = strcmp(merge->inputs[j]->config, store->config) == 0;
        merge->report->configs += !seen;
        if (compare_headers(store, best) > 0) best = store;
        if (store->epoch > *epoch) *epoch = store->epoch;
    }
    return best;
}

int store_out_path(const char *out, char **path, struct error *err)
{
    struct stat status;
    size_t length = strlen(out);
    bool there = stat(out, &status) == 0;
    bool directory = there ? S_ISDIR(status.st_mode) : length < 3 || strcmp(out + length - 3, ".h5") != 0;
    if (directory && !there && mkdir(out, 0777) != 0) return error_set_errno(err, "%s", out);
    *path = NULL;
    if (!directory && file_check_named(out, err) != 0) return -1;
    if (asprintf(path, directory ? "%s/%s" : "%s", out, STORE_FILE) < 0) return error_set(err, "out of memory");
    return 0;
}

static int merge_write(struct merge *merge, const char *out, const char *version, struct error *err)
{
    uint64_t epoch;
    char *path = NULL;
    const struct store *like = header_choose(merge, &epoch);
    char *provenance = store_sources(merge->inputs, merge->input_count, err);
    struct store_header header = {.config_text = like->config,
                                  .config_path = like->config_path,
                                  .version = version,
                                  .dataset_digest = like->dataset_digest,
                                  .name = like->name,
                                  .made_by = "merge",
                                  .provenance = provenance};
    int result = -1;
    if (provenance && store_out_path(out, &path, err) == 0)
        result = store_assemble(path, &header, epoch, merge->points, merge->origins, merge->count, err);
    free(path);
    free(provenance);
    return result;
}

int store_merge(const struct store *const *inputs, size_t count, const struct store_merge_options *options,
                const char *out, const char *version, struct store_merge_report *report, struct error *err)
{
    *report = (struct store_merge_report){0};
    struct merge merge = {.inputs = inputs, .input_count = count, .options = options, .report = report};
    int result = -1;
    if (count == 0) return error_set(err, "nothing to merge");
    if (entries_collect(&merge, err) != 0 || groups_join(&merge, err) != 0) goto done;
    report->points = merge.count;
    if (report->conflicts > 0 && options->rule == STORE_RULE_FAIL)
        error_set(err,
                  "%zu results differ from others of their points; --rule earliest or --rule newest keeps one of them",
                  report->conflicts);
    else if (points_sort(&merge, err) == 0)
        result = merge_write(&merge, out, version, err);
done:
    free(merge.entries);
    free(merge.candidates);
    free(merge.points);
    free(merge.origins);
    return result;
}

void store_merge_report_free(struct store_merge_report *report)
{
    free(report->list);
    report->list = NULL;
    report->listed = 0;
}
