/* The plan as JSON, for programs: the content of the tables, every stage and every point. Objects are written one by
 * one. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "orchestrator/plan/pack.h"
#include "orchestrator/plan/plan.h"

static int write_object(json_t *object, const char *before, FILE *out)
{
    int rc = object ? 0 : -1;
    if (!rc) rc = fputs(before, out) < 0 ? -1 : json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    return rc;
}

/* Stages that a stage waits for beside its parent: those that tune its learning rate. */
static json_t *candidates_array(const struct plan *plan, const struct plan_stage *stage)
{
    json_t *list = json_array();
    const struct plan_reference *reference = plan_is_tuned(stage) ? &plan->references[stage->reference] : NULL;
    for (size_t i = 0; reference && i < reference->count; i++)
        json_array_append_new(list, json_string(plan->stages[reference->candidates[i]].identity.hex));
    return list;
}

static json_t *stage_object(const struct plan *plan, const struct plan_stage *stage)
{
    const struct sweep *sweep = plan->sweep;
    bool pretrain = stage->kind == STAGE_PRETRAIN;
    json_t *parent = stage->parent == PLAN_NONE ? json_null() : json_string(plan->stages[stage->parent].identity.hex);
    json_t *point = stage->point == PLAN_NONE ? json_null() : json_integer(stage->point);
    return json_pack("{s:s, s:s, s:o, s:o, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:b, s:f, s:o}",
                     "identity", stage->identity.hex, "kind", stage_kind_name(stage->kind), "parent", parent, "point",
                     point, "task", sweep->tasks[stage->task].name, "model", sweep->models[stage->model].name, "method",
                     pretrain ? "full" : method_name(sweep->methods[stage->method].config.kind), "first_step",
                     (json_int_t)stage->first_step, "last_step", (json_int_t)stage->last_step, "devices",
                     (json_int_t)stage->degree, "bytes", (json_int_t)stage->bytes, "flops", stage->flops, "seconds",
                     stage->seconds, "path_seconds", stage->path_seconds, "recompute", (int)stage->recompute,
                     "recompute_flops", stage->recompute_flops, "waits_for", candidates_array(plan, stage));
}

static json_t *point_object(const struct plan *plan, size_t index)
{
    const struct store_point *point = &plan->points[index];
    char identity[DIGEST_HEX + 1], base[DIGEST_HEX + 1], trunk[DIGEST_HEX + 1];
    char task[STORE_NAME + 1], model[STORE_NAME + 1], method[STORE_NAME + 1];
    store_text(identity, sizeof identity, point->identity, sizeof point->identity);
    store_text(base, sizeof base, point->base, sizeof point->base);
    store_text(trunk, sizeof trunk, point->trunk, sizeof point->trunk);
    store_text(task, sizeof task, point->task, sizeof point->task);
    store_text(model, sizeof model, point->model, sizeof point->model);
    store_text(method, sizeof method, point->method, sizeof point->method);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b}", "identity",
                     identity, "base", base, "trunk", trunk, "task", task, "model", model, "method", method,
                     "parameters", (json_int_t)point->parameters, "non_embedding_parameters",
                     (json_int_t)point->non_embedding_parameters, "trainable_parameters",
                     (json_int_t)point->trainable_parameters, "pretrain_tokens", (json_int_t)point->pretrain_tokens,
                     "finetune_examples", (json_int_t)point->finetune_examples, "pet_size", (json_int_t)point->pet_size,
                     "seed", (json_int_t)point->seed, "learning_rate", point->learning_rate, "held_out",
                     (int)point->held_out);
}

static json_t *tasks_array(const struct sweep *sweep)
{
    json_t *tasks = json_array();
    for (size_t i = 0; i < sweep->task_count; i++) {
        const struct sweep_task *task = &sweep->tasks[i];
        json_array_append_new(tasks, json_pack("{s:s, s:s, s:s}", "task", task->name, "dataset", task->dataset,
                                               "dataset_digest", task->data.digest.hex));
    }
    return tasks;
}

static int write_head(const struct plan *plan, size_t devices, FILE *out)
{
    const struct sweep *sweep = plan->sweep;
    struct plan_forecast forecast = plan_forecast(plan, devices);
    const struct sweep_task *first = &sweep->tasks[0]; /* as a sweep of one task has always been written */
    json_t *head = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:I, s:I, s:f, s:f, s:f, s:o, s:s}", "sweep", sweep->name,
        "plan", plan->identity.hex, "dataset", first->dataset, "dataset_digest", first->data.digest.hex, "task",
        first->name, "point_count", (json_int_t)plan->point_count, "stage_count", (json_int_t)plan->stage_count,
        "flops", plan->flops, "flops_alone", plan->flops_alone, "largest_bytes", (json_int_t)forecast.largest_bytes,
        "devices", (json_int_t)devices, "seconds", forecast.seconds, "longest_seconds", forecast.longest_seconds,
        "device_seconds", forecast.device_seconds, "tasks", tasks_array(sweep), "missing", sweep->missing.text);
    if (!head) return -1;
    char *text = json_dumps(head, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(head);
    if (!text) return -1;
    text[strlen(text) - 1] = '\0'; /* the object goes on with its lists */
    int rc = fputs(text, out) < 0 ? -1 : 0;
    free(text);
    return rc;
}

static json_t *pack_object(const struct plan *plan, const struct pack_list *list, size_t index)
{
    struct pack_cost cost = pack_cost(plan, list, index);
    json_t *stages = json_array();
    for (size_t i = list->first[index]; i < list->first[index + 1]; i++)
        json_array_append_new(stages, json_string(plan->stages[list->order[i]].identity.hex));
    return json_pack("{s:o, s:f, s:f, s:f}", "stages", stages, "flops", cost.flops, "bytes", cost.bytes, "seconds",
                     cost.seconds);
}

/* None where nothing packs. */
static int write_packs(const struct plan *plan, size_t devices, FILE *out)
{
    struct pack_list list;
    int rc = pack_plan(plan, devices, &list);
    fputs("],\n\"packs\": [", out);
    for (size_t i = 0; !rc && i < list.count; i++)
        rc = write_object(pack_object(plan, &list, i), i ? ",\n" : "\n", out);
    pack_list_free(&list);
    return rc;
}

int plan_print_json(const struct plan *plan, size_t devices, FILE *out)
{
    int rc = write_head(plan, devices, out);
    fputs(",\n\"stages\": [", out);
    for (size_t i = 0; i < plan->stage_count && !rc; i++)
        rc = write_object(stage_object(plan, &plan->stages[i]), i ? ",\n" : "\n", out);
    if (!rc) rc = write_packs(plan, devices, out);
    fputs("],\n\"points\": [", out);
    for (size_t i = 0; i < plan->point_count && !rc; i++)
        rc = write_object(point_object(plan, i), i ? ",\n" : "\n", out);
    fputs("]}\n", out);
    return rc || fflush(out) || ferror(out) ? -1 : 0;
}
