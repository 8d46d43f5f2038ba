/* What a stage of the plan costs: FLOPs from the data set's mean lengths, bytes from the worker's own allocating walk,
 * devices from the bytes. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>

#include "orchestrator/plan/plan_parts.h"
#include "workers/model/cost.h"
#include "workers/model/model.h"
#include "workers/text/generation.h"
#include "workers/train/batch.h"

static struct kernels_storage storage_of(const struct sweep *sweep, const struct recipe *recipe)
{
    return kernels_storage(sweep->resources.backend, recipe->precision);
}

/* What finetuning stages generate with; pretraining generates nothing. */
static int add_generation(const struct sweep *sweep, const struct model_config *model,
                          const struct batch_capacity *capacity, const struct method_config *method,
                          const struct recipe *recipe, uint32_t degree, struct memory *memory, struct error *err)
{
    struct decoding decoding = decoding_of(&sweep->generate, 0);
    size_t virtual = method_prompt_length(method) + method_prefix_length(method);
    if (recipe == &sweep->pretrain || !sweep->generate.max_new_tokens) return 0;
    size_t source = generation_source(&sweep->generate, recipe->sequence_length);
    if (decoding_check(&decoding, model, source + virtual, err)) return -1;
    return generation_memory(model, method, capacity, &sweep->generate, storage_of(sweep, recipe).element, (int)degree,
                             memory, err);
}

/* On so many devices, without recomputation and with it, as far as the sweep allows either: 1 fits, 0 too large. */
static int shape_at(const struct sweep *sweep, const struct model_config *model, const struct method_config *method,
                    const struct recipe *recipe, bool trains, uint32_t degree, struct plan_shape *shape,
                    struct error *err)
{
    const struct sweep_resources *resources = &sweep->resources;
    struct batch_capacity capacity = batch_capacity_of(recipe, model, method);
    if (resources->pack != 1 && method_packs(method->kind)) capacity = batch_capacity_join(&capacity, 1);
    int first = trains && resources->recompute == RECOMPUTE_ALWAYS;
    int last = trains && resources->recompute != RECOMPUTE_NEVER;
    for (int recompute = first; recompute <= last; recompute++) {
        struct memory memory;
        capacity.recompute = recompute;
        if (model_memory(model, method, &capacity, trains ? recipe : NULL, storage_of(sweep, recipe), (int)degree,
                         &memory, err) ||
            add_generation(sweep, model, &capacity, method, recipe, degree, &memory, err))
            return -1;
        *shape = (struct plan_shape){.degree = degree, .bytes = memory_total(&memory), .recompute = recompute};
        if (!resources->device_bytes || shape->bytes + resources->process_bytes <= resources->device_bytes) return 1;
    }
    return 0;
}

/* "FILE:LINE: models[I]", as errors of the file begin. */
static void place_of(const struct sweep *sweep, const struct model_config *model, char *out, size_t size)
{
    size_t index = (size_t)(model - sweep->models);
    snprintf(out, size, "%s:%u: models[%zu]", sweep->path, sweep->bases[index].line, index);
}

int plan_shape(const struct sweep *sweep, const struct model_config *model, const struct method_config *method,
               const struct recipe *recipe, bool trains, struct plan_shape *shape, struct error *err)
{
    const struct sweep_resources *resources = &sweep->resources;
    bool gpus = resources->process_bytes > 0;
    char place[PATH_MAX + 64];
    uint32_t first = resources->tensor_parallel ? resources->tensor_parallel : 1;
    uint32_t last = resources->tensor_parallel ? first : model->heads < 64 ? model->heads : 64;
    for (uint32_t degree = first; degree <= last; degree++) {
        int fits = shape_at(sweep, model, method, recipe, trains, degree, shape, err);
        if (fits > 0) return 0;
        place_of(sweep, model, place, sizeof place);
        if (fits < 0)
            return error_prefix(err, "%s: \"%s\", method %s, tensor_parallel %" PRIu32, place, model->name,
                                method_name(method->kind), degree);
    }
    return error_set(
        err,
        "%s: \"%s\" with method %s needs %.3g GiB on each of %" PRIu32
        " devices, more than the %.3g GiB of a device (%s); allowed: smaller models, batches or sequences, "
        "more devices a stage (tensor_parallel)%s",
        place, model->name, method_name(method->kind), (double)(shape->bytes + resources->process_bytes) / 0x1p30,
        shape->degree, (double)resources->device_bytes / 0x1p30,
        gpus ? "resources.device_bytes, or the memory of the smallest GPU"
             : "resources.device_bytes, or the host's memory over its devices",
        gpus ? "" : ", fewer devices a host (devices)");
}

double plan_pretrain_flops(const struct sweep *sweep, const struct model_config *model, uint64_t first, uint64_t last)
{
    struct method_config full = {.kind = METHOD_FULL};
    const struct recipe *recipe = &sweep->pretrain;
    double tokens = (double)sweep_step_tokens(recipe, last - first), targets = tokens;
    if (recipe->objective == OBJECTIVE_UL2)
        targets *= mixture_targets(&recipe->mixture, recipe->sequence_length) / recipe->sequence_length;
    return cost_flops(model, &full, true, tokens, targets, recipe->sequence_length);
}

double plan_pretrain_recompute(const struct sweep *sweep, const struct model_config *model, uint64_t first,
                               uint64_t last)
{
    struct method_config full = {.kind = METHOD_FULL};
    return cost_recompute_flops(model, &full, (double)sweep_step_tokens(&sweep->pretrain, last - first),
                                sweep->pretrain.sequence_length);
}

/* Mean example of a split as the model sees it: the last token is only a label, a prompt comes before. */
struct example {
    double length, targets;
};

static struct example mean_example(const struct sweep_task *task, enum dataset_split split,
                                   const struct method_config *method, uint32_t cut)
{
    const struct dataset_info *data = &task->data;
    double count = data->examples[split] ? (double)data->examples[split] : 1.0;
    double tokens = (double)data->example_tokens[split] / count, targets = (double)data->example_targets[split] / count;
    double kept = tokens > cut ? cut : tokens;
    double prompt = method_prompt_length(method);
    return (struct example){.length = kept - 1.0 + prompt, .targets = tokens > 0.0 ? targets * kept / tokens : 0.0};
}

static double examples_flops(const struct model_config *model, const struct method_config *method, bool training,
                             struct example mean, double count)
{
    return cost_flops(model, method, training, count * mean.length, count * mean.targets, mean.length);
}

double plan_finetune_flops(const struct sweep_task *task, const struct model_config *model,
                           const struct method_config *method, const struct recipe *recipe, uint64_t first,
                           uint64_t last)
{
    if (last <= first) return 0.0;
    struct example mean = mean_example(task, SPLIT_TRAIN, method, recipe->sequence_length);
    double count = (double)(last - first) * recipe->batch;
    return cost_training_flops(model, method, first, last, count * mean.length, count * mean.targets, mean.length);
}

double plan_finetune_recompute(const struct sweep_task *task, const struct model_config *model,
                               const struct method_config *method, const struct recipe *recipe)
{
    struct example mean = mean_example(task, SPLIT_TRAIN, method, recipe->sequence_length);
    return cost_recompute_flops(model, method, (double)recipe->steps * recipe->batch * mean.length, mean.length);
}

static double split_examples(const struct sweep_task *task, enum dataset_split split, uint64_t limit)
{
    return limit ? (double)limit : (double)task->data.examples[split];
}

double plan_evaluation_flops(const struct sweep_task *task, const struct model_config *model,
                             const struct method_config *method, const struct recipe *recipe, double validations,
                             bool test)
{
    struct example valid = mean_example(task, SPLIT_VALID, method, recipe->sequence_length);
    struct example tested = mean_example(task, SPLIT_TEST, method, recipe->sequence_length);
    double text = task->data.text_tokens[SPLIT_VALID] < TEXT_TOKENS ? (double)task->data.text_tokens[SPLIT_VALID]
                                                                    : (double)TEXT_TOKENS;
    double valid_flops = examples_flops(model, method, false, valid,
                                        validations * split_examples(task, SPLIT_VALID, task->valid_examples));
    if (!test) return valid_flops;
    return valid_flops +
           examples_flops(model, method, false, tested, split_examples(task, SPLIT_TEST, task->test_examples)) +
           cost_flops(model, method, false, text, text, text_length_of(model, method));
}

double plan_generation_flops(const struct sweep *sweep, const struct sweep_task *task, const struct model_config *model,
                             const struct method_config *method, const struct recipe *recipe)
{
    const struct generation_config *generate = &sweep->generate;
    struct example test = mean_example(task, SPLIT_TEST, method, recipe->sequence_length);
    if (!generate->max_new_tokens) return 0;
    double count = split_examples(task, SPLIT_TEST, generate->examples ? generate->examples : task->test_examples);
    double source = test.length - test.targets > 1 ? test.length - test.targets : 1;
    double tokens = (double)generate->beams * generate->max_new_tokens;
    return cost_flops(model, method, false, count * source, count, source) +
           cost_flops(model, method, false, count * tokens, count * tokens, 2 * (source + generate->max_new_tokens));
}

#define LAYER_OPERATIONS 12 /* of the forward pass: norms, products, rotary positions, attention, gate, sums */

/* Operations of one pass over so many sequences in micro-batches. */
static double pass(const struct model_config *model, double sequences, double length)
{
    double micro = fmax(ceil(sequences * length / MICRO_TOKENS), ceil(sequences / MICRO_SEQUENCES));
    return micro * model->layers * LAYER_OPERATIONS;
}

/* Passes of a training step: forward, gradients of inputs and of weights, forward again. */
static double training_passes(bool recompute)
{
    return recompute ? 4.0 : 3.0;
}

double plan_pretrain_operations(const struct sweep *sweep, const struct model_config *model, uint64_t steps,
                                bool recompute)
{
    return training_passes(recompute) * (double)steps *
           pass(model, sweep->pretrain.batch, sweep->pretrain.sequence_length);
}

double plan_finetune_operations(const struct sweep_task *task, const struct model_config *model,
                                const struct method_config *method, const struct recipe *recipe, uint64_t steps,
                                bool recompute)
{
    struct example mean = mean_example(task, SPLIT_TRAIN, method, recipe->sequence_length);
    return training_passes(recompute) * (double)steps * pass(model, recipe->batch, mean.length);
}

double plan_evaluation_operations(const struct sweep *sweep, const struct sweep_task *task,
                                  const struct model_config *model, const struct method_config *method,
                                  const struct recipe *recipe, double validations, bool test)
{
    const struct generation_config *generate = &sweep->generate;
    struct example valid = mean_example(task, SPLIT_VALID, method, recipe->sequence_length);
    struct example tested = mean_example(task, SPLIT_TEST, method, recipe->sequence_length);
    double count = validations * pass(model, split_examples(task, SPLIT_VALID, task->valid_examples), valid.length);
    if (!test) return count;
    count += pass(model, split_examples(task, SPLIT_TEST, task->test_examples), tested.length);
    double text = text_length_of(model, method);
    count += pass(model, TEXT_TOKENS / text, text);
    double texts = split_examples(task, SPLIT_TEST, generate->examples ? generate->examples : task->test_examples);
    return count + generate->max_new_tokens * pass(model, texts, 1.0); /* one token at a time */
}
