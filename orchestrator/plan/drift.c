/* What a changed sweep file means for the points of a store: which stay, which are new, which leave; and whether a run
 * may go on. Points are compared by identity, which is what they compute; fields say why. */
#include "orchestrator/plan/drift.h"

#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/drift_parts.h"

static int compare_fields(const struct store *store, const struct sweep *sweep, struct drift *out, struct error *err)
{
    const char *text = store_config(store);
    struct error why;
    struct sweep *old =
        sweep_parse_on(store_config_path(store), text, strlen(text), sweep->tasks, sweep->task_count, &why);
    if (!old) {
        snprintf(out->incomparable, sizeof out->incomparable, "%.250s", why.text);
        return 0;
    }
    int result = drift_fields(old->parameters, sweep->parameters, out);
    sweep_destroy(old);
    return result == 0 ? 0 : error_set(err, "out of memory");
}

/* Place in the grid: what a point is to a person, whatever its identity. */
static int compare_places(const void *a, const void *b)
{
    const struct store_point *x = *(const struct store_point *const *)a, *y = *(const struct store_point *const *)b;
    int orders[] = {memcmp(x->task, y->task, sizeof x->task),
                    memcmp(x->model, y->model, sizeof x->model),
                    memcmp(x->method, y->method, sizeof x->method),
                    (x->pet_size > y->pet_size) - (x->pet_size < y->pet_size),
                    (x->pretrain_tokens > y->pretrain_tokens) - (x->pretrain_tokens < y->pretrain_tokens),
                    (x->finetune_examples > y->finetune_examples) - (x->finetune_examples < y->finetune_examples),
                    (x->seed > y->seed) - (x->seed < y->seed),
                    (x->learning_rate > y->learning_rate) - (x->learning_rate < y->learning_rate)};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
        if (orders[i] != 0) return orders[i];
    return 0;
}

struct points {
    unsigned char *committed, *in_sweep; /* [rows of the store] */
    const struct store_point **places;   /* of the plan, sorted */
    bool *reloaded;                      /* [models]: imported, with other weights than a point began with */
};

static void note_weights(const struct sweep *sweep, const struct store_point *was, const struct store_point *is,
                         bool *reloaded)
{
    for (size_t i = 0; i < sweep->model_count; i++)
        if (!strcmp(sweep->models[i].name, is->model) && sweep_imported(sweep, i) &&
            memcmp(was->base, is->base, sizeof was->base))
            reloaded[i] = true;
}

static void name_reloaded(const struct sweep *sweep, const bool *reloaded, struct drift *out)
{
    size_t used = 0;
    for (size_t i = 0; i < sweep->model_count && used < sizeof out->weights; i++)
        if (reloaded[i])
            used += (size_t)snprintf(out->weights + used, sizeof out->weights - used, "%s%s", used ? ", " : "",
                                     sweep->models[i].name);
}

static int match_points(const struct store *store, const struct sweep *sweep, const struct plan *plan,
                        struct points *points, struct drift *out, struct error *err)
{
    size_t rows = store_count(store);
    points->committed = calloc(rows, 1);
    points->in_sweep = calloc(rows, 1);
    points->places = calloc(plan->point_count + 1, sizeof(struct store_point *));
    points->reloaded = calloc(sweep->model_count, sizeof *points->reloaded);
    if (!points->committed || !points->in_sweep || !points->places || !points->reloaded)
        return error_set(err, "out of memory");
    if (store_committed(store, points->committed, err) != 0) return -1;
    for (size_t i = 0; i < plan->point_count; i++) {
        points->places[i] = &plan->points[i];
        long row = store_find_exact(store, plan->points[i].identity);
        out->added += row < 0;
        if (row >= 0) points->in_sweep[row] = 1;
    }
    qsort(points->places, plan->point_count, sizeof *points->places, compare_places);
    for (size_t i = 0; i < rows; i++) {
        const struct store_point *point = store_point(store, i);
        if (!points->committed[i]) continue;
        out->kept += points->in_sweep[i];
        if (points->in_sweep[i] || point->removed) continue;
        out->left++;
        const struct store_point *const *successor =
            bsearch(&point, points->places, plan->point_count, sizeof *points->places, compare_places);
        long row = successor ? store_find_exact(store, (*successor)->identity) : -1;
        if (!successor || (row >= 0 && points->committed[row])) continue;
        out->again++;
        note_weights(sweep, point, *successor, points->reloaded);
    }
    name_reloaded(sweep, points->reloaded, out);
    return 0;
}

/* The data of a run is never another one's. Of several tasks some may come or go, but one that stays keeps its data. */
static void refuse_data(const struct store *store, const struct sweep *sweep, struct drift *out)
{
    const char *digests = store_dataset_digest(store);
    char first[STORE_NAME + 1];
    store_text(first, sizeof first, store_point(store, 0)->task, sizeof store_point(store, 0)->task);
    bool one = !strchr(digests, ' ') && sweep->task_count == 1, any = false;
    for (size_t i = 0; i < sweep->task_count && !out->refused[0]; i++) {
        const struct sweep_task *task = &sweep->tasks[i];
        struct digest old = sweep_digest_of(digests, one ? task->name : first, task->name);
        any = any || old.hex[0];
        if (old.hex[0] && strcmp(old.hex, task->data.digest.hex) != 0)
            snprintf(out->refused, sizeof out->refused,
                     "the results are of another data set (digest %.12s, task %s) than %.200s (digest %.12s, task %s): "
                     "every point would be another one; give another --dir",
                     old.hex, one ? first : task->name, task->dataset, task->data.digest.hex, task->name);
    }
    if (!any && !out->refused[0])
        snprintf(out->refused, sizeof out->refused, "the results are of no task of the sweep file; give another --dir");
    if (one && !out->refused[0] && strcmp(first, sweep->tasks[0].name) != 0 &&
        strcmp(store_made_by(store), "merge") != 0)
        snprintf(out->refused, sizeof out->refused, "the results are of task %s, the data set is of task %s", first,
                 sweep->tasks[0].name);
}

static void refuse(const struct store *store, const struct sweep *sweep, const char *shard, struct drift *out)
{
    refuse_data(store, sweep, out);
    if (!out->refused[0] && strcmp(store_shard(store), shard) != 0)
        snprintf(out->refused, sizeof out->refused,
                 "it holds %s%s, not %s%s: each shard has a run directory of its own",
                 store_shard(store)[0] ? "shard " : "the whole sweep", store_shard(store),
                 shard[0] ? "shard " : "the whole sweep", shard);
}

static bool has_class(const struct drift *drift, enum drift_class class)
{
    for (size_t i = 0; i < drift->count; i++)
        if (drift->changes[i].class == class) return true;
    return false;
}

/* Whether a value of the list `in`, "[1, 2]", is not one of the list `of`; not told of lists that are cut ("...") */
static bool has_other(const char *in, const char *of)
{
    if (strstr(in, "...") || strstr(of, "...")) return false;
    for (size_t length; *(in += strspn(in, "[], ")); in += length) {
        length = strcspn(in, "], ");
        const char *at = of;
        bool there = false;
        for (size_t own; !there && *(at += strspn(at, "[], ")); at += own) {
            own = strcspn(at, "], ");
            there = own == length && strncmp(at, in, own) == 0;
        }
        if (!there) return true;
    }
    return false;
}

/* Whether one member of a list has gone ("models.a") and another one has come. */
static bool replaces_member(const struct drift *drift, const struct drift_change *gone)
{
    size_t kind = strcspn(gone->field, ".");
    if (gone->class != DRIFT_AXIS || !gone->before[0] || gone->after[0]) return false;
    for (size_t i = 0; i < drift->count; i++) {
        const struct drift_change *came = &drift->changes[i];
        if (came->class == DRIFT_AXIS && !came->before[0] && came->after[0] && strcspn(came->field, ".") == kind &&
            strncmp(came->field, gone->field, kind) == 0 && strcmp(came->field, gone->field) != 0)
            return true;
    }
    return false;
}

/* An axis whose values have become others, not fewer or more. */
static bool replaces_values(const struct drift *drift)
{
    for (size_t i = 0; i < drift->count; i++) {
        const struct drift_change *change = &drift->changes[i];
        if (replaces_member(drift, change)) return true;
        if (change->class == DRIFT_AXIS && change->before[0] && change->after[0] &&
            has_other(change->before, change->after) && has_other(change->after, change->before))
            return true;
    }
    return false;
}

int drift_compare(const struct store *store, const struct sweep *sweep, const struct plan *plan, const char *shard,
                  struct drift *out, struct error *err)
{
    struct points points = {0};
    *out = (struct drift){0};
    refuse(store, sweep, shard, out);
    if (out->refused[0]) return 0;
    int result = compare_fields(store, sweep, out, err);
    if (result == 0) result = match_points(store, sweep, plan, &points, out, err);
    free(points.committed);
    free(points.in_sweep);
    free(points.places);
    free(points.reloaded);
    /* a narrowed axis says itself which points go; anything else that takes finished points away must be meant */
    bool unsaid = has_class(out, DRIFT_RERUN) || out->incomparable[0] || shard[0] || replaces_values(out);
    out->needs_acceptance = out->again > 0 || (out->left > 0 && unsaid) || has_class(out, DRIFT_RENAME);
    if (result != 0) drift_free(out);
    return result;
}

void drift_free(struct drift *drift)
{
    for (size_t i = 0; i < drift->count; i++) {
        free(drift->changes[i].field);
        free(drift->changes[i].before);
        free(drift->changes[i].after);
    }
    free(drift->changes);
    drift->changes = NULL;
    drift->count = 0;
}
