/* Reading a run: the store's parts joined row by row, for status, show, export and verify. */
#include "orchestrator/run/view.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "orchestrator/run/status_live.h"

static bool is_idle(const char *dir)
{
    struct error ignored;
    json_t *live = status_live(dir);
    int held = live ? 1 : store_lock_held(dir, &ignored);
    bool idle = held == 0 || (held < 0 && errno == ENOENT); /* who may not write cannot tell */
    json_decref(live);
    return idle;
}

int view_open(struct view *view, const char *path, struct error *err)
{
    struct stat found;
    memset(view, 0, sizeof *view);
    if (stat(path, &found)) return error_set_errno(err, "%s", path);
    if (!realpath(path, view->dir)) return error_set_errno(err, "%s", path);
    if (!S_ISDIR(found.st_mode)) {
        char *slash = strrchr(view->dir, '/');
        slash[slash == view->dir] = 0;
    }
    view->store = store_open(path, false, err);
    view->idle = is_idle(view->dir);
    return view->store ? 0 : -1;
}

void view_close(struct view *view)
{
    store_close(view->store);
    view->store = NULL;
}

enum parts { OUTCOME, SCALARS, ALL };

static int read_parts(const struct view *view, size_t index, enum parts parts, struct view_row *row, struct error *err)
{
    struct error damage;
    if (index >= store_count(view->store)) return error_set(err, "no row %zu", index);
    row->index = index;
    row->point = *store_point(view->store, index);
    memset(&row->result, 0, sizeof row->result);
    if (parts >= SCALARS) memset(&row->execution, 0, sizeof row->execution);
    if (parts == ALL) memset(&row->curve, 0, sizeof row->curve);
    row->state_damaged = store_read_state(view->store, index, &row->state, &damage) != 0;
    if (row->state_damaged) {
        memset(&row->state, 0, sizeof row->state);
        store_field(row->state.message, sizeof row->state.message, damage.text);
    }
    int found = store_read(view->store, index, &row->result, parts >= SCALARS ? &row->execution : NULL,
                           parts == ALL ? &row->curve : NULL, &damage);
    row->committed = found == 1;
    row->damaged = found < 0;
    row->interrupted = view->idle && !row->committed && row->state.status == STORE_RUNNING;
    row->learning_rate =
        row->committed && row->result.learning_rate > 0 ? row->result.learning_rate : row->point.learning_rate;
    if (row->damaged) store_field(row->state.message, sizeof row->state.message, damage.text);
    return 0;
}

int view_read(const struct view *view, size_t index, struct view_row *row, struct error *err)
{
    return read_parts(view, index, ALL, row, err);
}

int view_read_scalars(const struct view *view, size_t index, struct view_row *row, struct error *err)
{
    return read_parts(view, index, SCALARS, row, err);
}

int view_read_outcome(const struct view *view, size_t index, struct view_row *row, struct error *err)
{
    return read_parts(view, index, OUTCOME, row, err);
}

const char *view_status(const struct view_row *row)
{
    if (row->damaged) return "damaged";
    if (row->interrupted) return "interrupted";
    return store_status_name(row->committed ? row->result.status : row->state.status);
}

int view_find(const struct view *view, const char *word, size_t *index, struct error *err)
{
    size_t count = store_count(view->store);
    if (*word && strspn(word, "0123456789") == strlen(word)) {
        errno = 0;
        unsigned long long number = strtoull(word, NULL, 10);
        if (!errno && number < count) {
            *index = (size_t)number;
            return 0;
        }
        if (strlen(word) < 4) return error_set(err, "no row %s; allowed: 0..%zu", word, count ? count - 1 : 0);
    }
    long row = store_find(view->store, word, err);
    if (row < 0) return -1;
    *index = (size_t)row;
    return 0;
}

static bool is_tuned(const struct store_point *point)
{
    return point->learning_rate <= 0 && point->finetune_examples > 0;
}

void view_tuning(const struct view *view, const struct view_row *row, char *out, size_t size)
{
    const struct store_point *point = &row->point, *cell = NULL;
    double low = INFINITY, high = 0;
    size_t tried = 0;
    char where[256];
    out[0] = '\0';
    if (!is_tuned(point)) return;
    for (size_t i = 0; i < store_count(view->store); i++) {
        const struct store_point *other = store_point(view->store, i);
        if (other->learning_rate <= 0 || other->removed || memcmp(other->method, point->method, sizeof point->method) ||
            memcmp(other->task, point->task, sizeof point->task))
            continue;
        cell = other;
        low = fmin(low, other->learning_rate);
        high = fmax(high, other->learning_rate);
        tried++;
    }
    if (!cell) {
        snprintf(out, size, "at a reference cell of another task");
        return;
    }
    view_describe(cell, where, sizeof where);
    if (strstr(where, ", learning rate ")) *strstr(where, ", learning rate ") = '\0';
    bool end = row->learning_rate > 0 && (row->learning_rate == low || row->learning_rate == high);
    snprintf(out, size, "the best of %zu, %g to %g, at %s%s", tried, low, high, where,
             end ? "; it is the last of them, one beyond it may be better" : "");
}

void view_describe(const struct store_point *point, char *out, size_t size)
{
    char model[STORE_NAME + 1], method[STORE_NAME + 1], pet[24] = "", rate[64];
    store_text(model, sizeof model, point->model, sizeof point->model);
    store_text(method, sizeof method, point->method, sizeof point->method);
    if (point->pet_size) snprintf(pet, sizeof pet, " %" PRIu64, point->pet_size);
    snprintf(rate, sizeof rate, "%g", point->learning_rate);
    snprintf(out, size, "%s %s%s, %" PRIu64 " tokens, %" PRIu64 " examples, learning rate %s, seed %" PRIu64, model,
             method, pet, point->pretrain_tokens, point->finetune_examples,
             is_tuned(point) ? "of its reference cell" : rate, point->seed);
}
