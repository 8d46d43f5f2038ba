/* Examples that are cut, epochs that a whole step overshoots, sequences beyond a model's positions: one line each. */
#include "orchestrator/plan/plan_notes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "workers/files/huggingface.h"
#include "workers/train/batch.h"

enum { LISTED = 8, METHOD_WORDS = 16 * METHODS };

#define TOLERATED 1.1 /* of the epochs that are asked for */

/* "method lora", or "methods full, lora", of a set of kinds. */
static const char *name_methods(uint32_t kinds, char out[METHOD_WORDS])
{
    size_t used = (size_t)snprintf(out, METHOD_WORDS, kinds & (kinds - 1) ? "methods" : "method"), listed = 0;
    for (int kind = 0; kind < METHODS; kind++)
        if (kinds >> kind & 1)
            used += (size_t)snprintf(out + used, METHOD_WORDS - used, "%s %s", listed++ ? "," : "",
                                     method_name((enum method_kind)kind));
    return out;
}

/* What one sequence_length does to a task's examples. */
struct cut {
    uint32_t length, kinds; /* of methods that have it */
    uint64_t examples[SPLITS], cut[SPLITS], targets[SPLITS], lost[SPLITS];
};

static void add_method(struct cut *cuts, size_t *count, const struct sweep_method *method)
{
    size_t i = 0;
    while (i < *count && cuts[i].length != method->recipe.sequence_length)
        i++;
    if (i == *count) cuts[(*count)++] = (struct cut){.length = method->recipe.sequence_length};
    cuts[i].kinds |= UINT32_C(1) << method->config.kind;
}

/* used[method]: some point of the task has it. */
static void find_used(const struct plan *plan, size_t task, bool *used)
{
    memset(used, 0, plan->sweep->method_count * sizeof *used);
    for (size_t i = 0; i < plan->stage_count; i++)
        if (plan->stages[i].kind == STAGE_FINETUNE && plan->stages[i].task == task) used[plan->stages[i].method] = true;
}

static bool cuts_any(const struct sweep_task *task, const struct cut *cuts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (int split = 0; split < SPLITS; split++)
            if (cuts[i].length < task->data.longest[split]) return true;
    return false;
}

static void count_split(const struct dataset *dataset, enum dataset_split split, uint64_t limit, struct cut *cuts,
                        size_t count)
{
    uint64_t examples = dataset_info(dataset)->examples[split], targets = 0;
    if (limit && limit < examples) examples = limit;
    for (uint64_t i = 0; i < examples; i++) {
        size_t length = dataset_example_length(dataset, split, i), source = dataset_example_source(dataset, split, i);
        targets += length - source;
        for (size_t k = 0; k < count; k++) {
            size_t kept_source, kept;
            if (length <= cuts[k].length) continue;
            kept = batch_cut(length, source, cuts[k].length, &kept_source);
            cuts[k].cut[split]++;
            cuts[k].lost[split] += length - source - (kept - kept_source);
        }
    }
    for (size_t k = 0; k < count; k++) {
        cuts[k].examples[split] = examples;
        cuts[k].targets[split] = targets;
    }
}

static void print_cut(const struct sweep *sweep, const struct sweep_task *task, const struct cut *cut, FILE *out)
{
    char methods[METHOD_WORDS];
    bool trains = cut->kinds != UINT32_C(1) << METHOD_NONE, told = false;
    for (int split = trains ? SPLIT_TRAIN : SPLIT_VALID; split < SPLITS; split++) {
        if (!cut->cut[split]) continue;
        double percent = 100.0 * (double)cut->lost[split] / (double)cut->targets[split];
        if (!told)
            fprintf(out,
                    "%s: data \"%s\": examples longer than sequence_length %" PRIu32 " of %s are cut:", sweep->path,
                    task->name, cut->length, name_methods(cut->kinds, methods));
        fprintf(out, "%s %" PRIu64 " of %" PRIu64 " %s (%.*f %%%s)", told ? "," : "", cut->cut[split],
                cut->examples[split], dataset_split_name((enum dataset_split)split), percent < 10.0 ? 1 : 0, percent,
                told ? "" : " of the targets' tokens are lost");
        told = true;
    }
    if (told) fputc('\n', out);
}

/* `used` and `cuts` have room for all methods. */
static int note_cuts(const struct plan *plan, size_t index, bool *used, struct cut *cuts, FILE *out, struct error *err)
{
    const struct sweep *sweep = plan->sweep;
    const struct sweep_task *task = &sweep->tasks[index];
    size_t count = 0;
    find_used(plan, index, used);
    for (size_t i = 0; i < sweep->method_count; i++)
        if (used[i]) add_method(cuts, &count, &sweep->methods[i]);
    if (!task->there || !cuts_any(task, cuts, count)) return 0;
    struct dataset *dataset = dataset_open(task->dataset, err);
    if (!dataset) return -1;
    count_split(dataset, SPLIT_TRAIN, 0, cuts, count);
    count_split(dataset, SPLIT_VALID, task->valid_examples, cuts, count);
    count_split(dataset, SPLIT_TEST, task->test_examples, cuts, count);
    dataset_close(dataset);
    for (size_t i = 0; i < count; i++)
        print_cut(sweep, task, &cuts[i], out);
    return 0;
}

/* A method's sizes whose steps see more than `epochs` asks for, "" for none. */
struct excess {
    uint32_t batch;
    char text[64 * LISTED];
};

/* used[examples]: some point of the method has it. */
static struct excess find_excess(const struct plan *plan, size_t index, bool *used)
{
    const struct sweep *sweep = plan->sweep;
    const struct sweep_method *method = &sweep->methods[index];
    struct excess found = {.batch = method->recipe.batch};
    size_t text = 0, count = 0;
    if (method->config.kind == METHOD_NONE || method->epochs <= 0.0) return found;
    memset(used, 0, sweep->example_count * sizeof *used);
    for (size_t i = 0; i < plan->stage_count; i++)
        if (plan->stages[i].kind == STAGE_FINETUNE && plan->stages[i].method == index)
            used[plan->stages[i].examples] = true;
    for (size_t i = 0; i < sweep->example_count; i++) {
        double examples = (double)sweep->examples[i];
        double epochs =
            (double)sweep_finetune_steps(method, sweep->examples[i]) * (double)method->recipe.batch / examples;
        if (!used[i] || epochs <= TOLERATED * method->epochs || count++ >= LISTED) continue;
        text += (size_t)snprintf(found.text + text, sizeof found.text - text, "%s %.3g at %" PRIu64, text ? "," : "",
                                 epochs, sweep->examples[i]);
    }
    if (count > LISTED) snprintf(found.text + text, sizeof found.text - text, ", ... (%zu)", count);
    return found;
}

/* Methods of one recipe share a line. */
static void note_epochs(const struct plan *plan, bool *used, struct excess *list, FILE *out)
{
    const struct sweep *sweep = plan->sweep;
    char methods[METHOD_WORDS];
    for (size_t i = 0; i < sweep->method_count; i++)
        list[i] = find_excess(plan, i, used);
    for (size_t i = 0; i < sweep->method_count; i++) {
        uint32_t kinds = 0;
        if (!list[i].text[0]) continue;
        for (size_t k = sweep->method_count; k-- > i;) {
            if (list[k].batch != list[i].batch || strcmp(list[k].text, list[i].text) ||
                sweep->methods[k].epochs != sweep->methods[i].epochs)
                continue;
            kinds |= UINT32_C(1) << sweep->methods[k].config.kind;
            if (k > i) list[k].text[0] = '\0';
        }
        fprintf(out, "%s: batch %" PRIu32 " of %s: a step is a whole batch, and epochs %g come to%s examples\n",
                sweep->path, list[i].batch, name_methods(kinds, methods), sweep->methods[i].epochs, list[i].text);
    }
}

/* Tokens of the longest sequence that a finetuning stage computes, virtual ones among them. */
static uint64_t longest_sequence(const struct sweep *sweep, const struct plan_stage *stage)
{
    const struct sweep_method *method = &sweep->methods[stage->method];
    const struct dataset_info *data = &sweep->tasks[stage->task].data;
    struct method_config config = method->config;
    uint64_t longest = 0;
    for (int split = 0; split < SPLITS; split++)
        if (data->longest[split] > longest) longest = data->longest[split];
    if (longest > method->recipe.sequence_length) longest = method->recipe.sequence_length;
    if (method->size_count) config.size = method->sizes[stage->size];
    return longest + method_prompt_length(&config) + method_prefix_length(&config);
}

/* Imported models whose positions end before the sequences do. */
static void note_positions(const struct plan *plan, uint64_t *longest, FILE *out)
{
    const struct sweep *sweep = plan->sweep;
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        if (stage->kind != STAGE_FINETUNE) continue;
        uint64_t length = longest_sequence(sweep, stage);
        if (length > longest[stage->model]) longest[stage->model] = length;
    }
    for (size_t i = 0; i < sweep->import_count; i++) {
        const struct sweep_import *import = &sweep->imports[i];
        uint64_t positions = huggingface_positions(import->dir);
        if (!positions || longest[import->model] <= positions) continue;
        fprintf(out,
                "%s: model \"%s\": sequences of up to %" PRIu64 " tokens, beyond the %" PRIu64
                " positions that it was trained for (max_position_embeddings of %s/config.json)\n",
                sweep->path, sweep->models[import->model].name, longest[import->model], positions, import->dir);
        longest[import->model] = 0; /* told */
    }
}

int plan_notes(const struct plan *plan, FILE *out, struct error *err)
{
    const struct sweep *sweep = plan->sweep;
    size_t flags = sweep->method_count > sweep->example_count ? sweep->method_count : sweep->example_count;
    bool *used = calloc(flags + 1, sizeof *used);
    struct cut *cuts = calloc(sweep->method_count + 1, sizeof *cuts);
    struct excess *list = calloc(sweep->method_count + 1, sizeof *list);
    uint64_t *longest = calloc(sweep->model_count + 1, sizeof *longest);
    int result = used && cuts && list && longest ? 0 : error_set(err, "out of memory");
    for (size_t task = 0; task < sweep->task_count && !result; task++)
        result = note_cuts(plan, task, used, cuts, out, err);
    if (!result) note_epochs(plan, used, list, out);
    if (!result) note_positions(plan, longest, out);
    if (fflush(out) && !result) result = error_set_errno(err, "notes of the plan");
    free(used);
    free(cuts);
    free(list);
    free(longest);
    return result;
}
