/* From a run directory back to its plan. */
#include "orchestrator/run/rebuilt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The data sets are those of the run. */
static int check_data(const struct sweep *sweep, const struct store *store, struct error *err)
{
    for (size_t i = 0; i < sweep->task_count; i++) {
        const struct sweep_task *task = &sweep->tasks[i];
        struct digest run = sweep_digest_of(store_dataset_digest(store), task->name, task->name);
        if (strcmp(task->data.digest.hex, run.hex) != 0)
            return error_set(err, "%s is not the data set of this run: its digest is %.12s, the run's is %.12s",
                             task->dataset, task->data.digest.hex, run.hex);
    }
    return 0;
}

int rebuilt_create(struct rebuilt *rebuilt, const struct view *view, struct error *err)
{
    const char *text = store_config(view->store);
    *rebuilt = (struct rebuilt){NULL, NULL};
    rebuilt->sweep = sweep_parse(store_config_path(view->store), text, strlen(text), err);
    if (!rebuilt->sweep || sweep_check_complete(rebuilt->sweep, err)) {
        struct error why = *err;
        if (!strstr(why.text, strerror(ENOENT))) return -1;
        return error_set(err,
                         "%s; that sweep file is the one in the store: `tunelaw run FILE --dir DIR` with other paths "
                         "takes them over",
                         why.text);
    }
    if (check_data(rebuilt->sweep, view->store, err)) return -1;
    rebuilt->plan = plan_create(rebuilt->sweep, 1e9, err);
    return rebuilt->plan ? 0 : -1;
}

int rebuilt_failed(const struct view *view, const struct view_row *row, struct error *err)
{
    error_prefix(err, "row %zu", row->index);
    struct error why = *err;
    if (!*store_provenance(view->store) || !strstr(why.text, "/checkpoints/") || !strstr(why.text, strerror(ENOENT)))
        return -1;
    return error_set(err, "%s; rows of other stores come without checkpoints: those lie with the stores", why.text);
}

void rebuilt_destroy(struct rebuilt *rebuilt)
{
    plan_destroy(rebuilt->plan);
    sweep_destroy(rebuilt->sweep);
}

static int find_stage(const struct plan *plan, const struct store_point *point, size_t *stage, struct error *err)
{
    for (size_t i = 0; i < plan->point_count; i++)
        if (!memcmp(plan->points[i].identity, point->identity, DIGEST_HEX)) {
            *stage = plan->stage_of_point[i];
            return 0;
        }
    return error_set(err,
                     "point %.12s is no longer in the sweep: it was taken out, the weights that it began with have "
                     "changed where they lie, or this version plans it otherwise",
                     point->identity);
}

struct stage *rebuilt_stage(const struct rebuilt *rebuilt, const struct view *view, const struct store_point *point,
                            struct error *err)
{
    size_t index = 0;
    if (find_stage(rebuilt->plan, point, &index, err)) return NULL;
    struct stage *stage = malloc(sizeof *stage);
    if (stage)
        plan_stage_describe(rebuilt->plan, index, view->dir, 1, stage);
    else
        error_set(err, "out of memory");
    return stage;
}
