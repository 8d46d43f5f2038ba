/* One rank of a stage: its device, its shard of the weights, its model, its feeds. */
#include <stdlib.h>

#include "workers/huggingface.h"
#include "workers/stage_internal.h"

static void report(void *context)
{
    struct member *member = context;
    if (member->collective->rank == 0) monitor_tick(&member->run->monitor);
}

static uint32_t prompt_length(const struct stage *stage)
{
    return stage->method.kind == METHOD_PROMPT ? stage->method.size : 0;
}

static struct feed *open_split(const struct run *run, enum dataset_split split, uint64_t limit, bool shuffle,
                               struct error *err)
{
    const struct stage *stage = run->stage;
    struct feed_spec spec = {.dataset = run->dataset,
                             .split = split,
                             .text = stage->kind == STAGE_PRETRAIN,
                             .length = stage->recipe.sequence_length,
                             .mixture = stage->recipe.objective == OBJECTIVE_UL2 ? &stage->recipe.mixture : NULL,
                             .prompt = prompt_length(stage),
                             .limit = limit,
                             .shuffle = shuffle,
                             .stream = stage->recipe.order == ORDER_STREAM,
                             .seed = stage->seed};
    /* a limit above what the split has means all of it; examples to train on were checked when the sweep was planned */
    if (!shuffle && limit > dataset_info(run->dataset)->examples[split]) spec.limit = 0;
    return feed_create(&spec, err);
}

static int open_feeds(struct member *member, struct error *err)
{
    struct run *run = member->run;
    const struct stage *stage = run->stage;
    struct error none = {""};
    member->text = feed_text_valid(run->dataset, prompt_length(stage), &none);
    if (!member->text && none.text[0]) return error_set(err, "%s", none.text);
    if (stage->kind == STAGE_PRETRAIN) {
        member->train = open_split(run, SPLIT_TRAIN, 0, true, err);
        return member->train ? 0 : -1;
    }
    if (run->training) member->train = open_split(run, SPLIT_TRAIN, stage->examples, true, err);
    if (run->training && !member->train) return -1;
    member->valid = open_split(run, SPLIT_VALID, stage->valid_examples, false, err);
    member->test = member->valid ? open_split(run, SPLIT_TEST, stage->test_examples, false, err) : NULL;
    return member->test ? 0 : -1;
}

int member_create(struct member *member, struct run *run, const struct collective *collective, struct error *err)
{
    const struct stage *stage = run->stage;
    const struct batch_capacity capacity = stage_capacity(stage);
    *member = (struct member){.run = run, .collective = collective, .state = run->start};
    member->tick = (struct tick){.call = report, .stop = member_stopped, .context = member};
    member->device = run->kernels->device_create(collective->rank, (int)stage->threads, err);
    if (!member->device) return -1;
    run->kernels->set_precision(member->device, stage->recipe.precision);
    member->parameters = parameters_create(&stage->model, &stage->method, run->training ? &stage->recipe : NULL,
                                           collective, run->kernels, member->device, err);
    if (!member->parameters) return -1;
    member->model = model_create(&stage->model, &stage->method, member->parameters, &capacity, run->training, err);
    if (member->model) {
        model_smooth_labels(member->model, stage->recipe.label_smoothing);
        model_dropout(member->model, stage->recipe.dropout);
    }
    if (!member->model || batch_buffer_create(&member->buffer, &capacity, err) || open_feeds(member, err)) return -1;
    member->trainer = (struct trainer){.recipe = &stage->recipe,
                                       .seed = stage->seed,
                                       .parameters = member->parameters,
                                       .model = member->model,
                                       .feed = member->train,
                                       .buffer = &member->buffer,
                                       .tick = &member->tick};
    return 0;
}

void member_destroy(struct member *member)
{
    feed_destroy(member->train);
    feed_destroy(member->valid);
    feed_destroy(member->test);
    feed_destroy(member->text);
    batch_buffer_destroy(&member->buffer);
    model_destroy(member->model);
    parameters_destroy(member->parameters);
    if (member->device) member->run->kernels->device_destroy(member->device);
}

static int load(struct member *member, const struct checkpoint *checkpoint, bool trainable_only, bool moments,
                struct error *err)
{
    pthread_mutex_lock(&member->run->io);
    int result = parameters_load(member->parameters, checkpoint, trainable_only, moments, err);
    pthread_mutex_unlock(&member->run->io);
    return result;
}

int member_load_trainable(struct member *member, const struct checkpoint *checkpoint, bool moments, struct error *err)
{
    return load(member, checkpoint, true, moments, err);
}

int member_load(struct member *member, struct error *err)
{
    const struct run *run = member->run;
    const struct stage *stage = run->stage;
    if (stage->kind == STAGE_PRETRAIN) {
        const struct checkpoint *from = run->own ? run->own : run->parent;
        if (from) return load(member, from, true, true, err);
        parameters_initialise_base(member->parameters, &stage->model, stage->seed);
        return 0;
    }
    if (run->weights ? huggingface_load(member->parameters, run->weights, err)
                     : load(member, run->parent, false, false, err))
        return -1;
    const struct checkpoint *from = run->own ? run->own : run->prefix;
    if (from && !run->start.finished) return load(member, from, true, true, err);
    return parameters_initialise_adapter(member->parameters, &stage->model, &stage->method, stage->seed, err);
}
