/* One rank of a stage: its device, its shard of the weights, its model, its feeds. */
#include <stdlib.h>

#include "io/log.h"
#include "workers/files/huggingface.h"
#include "workers/files/peft.h"
#include "workers/model/prompt_text.h"
#include "workers/stage/residence.h"
#include "workers/stage/stage_internal.h"

static void report(void *context)
{
    struct member *member = context;
    if (member->collective->rank == 0) monitor_tick(&member->run->monitor);
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
                             .prompt = method_prompt_length(&stage->method),
                             .prefix = method_prefix_length(&stage->method),
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
    member->text = feed_text_valid(run->dataset, &stage->model, &stage->method, &none);
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

/* Device and weights; the lanes behind the first use its base. */
static int create_parameters(struct member *members, size_t count, struct error *err)
{
    struct member *first = &members[0];
    first->device = first->run->kernels->device_create(first->collective->rank, (int)first->run->stage->threads, err);
    if (!first->device) return -1;
    first->run->kernels->set_precision(first->device, first->run->stage->recipe.precision);
    struct error failed = {""};
    const struct parameters *base = residence_base(run_residence(first->run), first->run->stage, first->collective,
                                                   first->run->kernels, first->device, &failed);
    if (!base && failed.text[0]) return error_set(err, "%s", failed.text);
    for (size_t i = 0; i < count; i++) {
        struct member *member = &members[i];
        const struct run *run = member->run;
        const struct stage *stage = run->stage;
        const struct recipe *recipe = run->training ? &stage->recipe : NULL;
        member->device = first->device;
        bool one_pass = count == 1 && stage_capacity(stage).one_pass;
        member->parameters =
            base ? parameters_create_beside(base, &stage->model, &stage->method, recipe, err)
                 : (one_pass ? parameters_create_one_pass : parameters_create)(
                       &stage->model, &stage->method, recipe, first->collective, run->kernels, first->device, err);
        if (!member->parameters) return -1;
        if (!base) base = first->parameters;
    }
    return 0;
}

void pack_lanes(struct run *const *runs, size_t count, struct lane *lanes, struct batch_capacity *all)
{
    struct batch_capacity capacities[PACK_LIMIT] = {{0}};
    for (size_t i = 0; i < count; i++) {
        capacities[i] = stage_capacity(runs[i]->stage);
        lanes[i] = (struct lane){runs[i]->stage->method, NULL, capacities[i]};
    }
    *all = batch_capacity_join(capacities, count);
    if (count == 1 && runs[0]->stage->aligned) lanes[0].capacity = *all;
}

static int create_model(struct member *members, size_t count, struct error *err)
{
    struct lane lanes[PACK_LIMIT];
    struct run *runs[PACK_LIMIT] = {NULL};
    struct batch_capacity all;
    struct member *first = &members[0];
    const struct stage *stage = first->run->stage;
    for (size_t i = 0; i < count; i++)
        runs[i] = members[i].run;
    pack_lanes(runs, count, lanes, &all);
    for (size_t i = 0; i < count; i++)
        lanes[i].parameters = members[i].parameters;
    first->model = model_create_pack(&stage->model, lanes, count, first->run->training, err);
    if (!first->model || (stage->aligned && batch_buffer_create(&first->joined_buffer, &all, err))) return -1;
    for (size_t i = 0; i < count; i++) {
        members[i].model = first->model;
        members[i].joined = stage->aligned ? &first->joined_buffer : NULL;
        model_smooth_lane(first->model, i, members[i].run->stage->recipe.label_smoothing);
        model_lane_dropout(first->model, i, members[i].run->stage->recipe.dropout);
    }
    return 0;
}

int members_create(struct member *members, struct run *const *runs, size_t count, const struct collective *collective,
                   struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        struct member *member = &members[i];
        *member =
            (struct member){.run = runs[i], .collective = collective, .lane = (uint32_t)i, .state = runs[i]->start};
        member->tick = (struct tick){.call = report, .stop = member_stopped, .context = member};
    }
    if (create_parameters(members, count, err) || create_model(members, count, err)) return -1;
    for (size_t i = 0; i < count; i++) {
        struct member *member = &members[i];
        const struct batch_capacity capacity = stage_capacity(member->run->stage);
        if (batch_buffer_create(&member->buffer, &capacity, err) || open_feeds(member, err)) return -1;
        member->trainer = (struct trainer){.recipe = &member->run->stage->recipe,
                                           .seed = member->run->stage->seed,
                                           .parameters = member->parameters,
                                           .model = member->model,
                                           .feed = member->train,
                                           .buffer = &member->buffer,
                                           .tick = &member->tick,
                                           .lane = member->lane,
                                           .joined = member->joined};
    }
    return 0;
}

int member_create(struct member *member, struct run *run, const struct collective *collective, struct error *err)
{
    return members_create(member, &run, 1, collective, err);
}

void members_destroy(struct member *members, size_t count)
{
    struct member *first = &members[0];
    model_destroy(first->model);
    batch_buffer_destroy(&first->joined_buffer);
    for (size_t i = count; i-- > 0;) {
        struct member *member = &members[i];
        feed_destroy(member->train);
        feed_destroy(member->valid);
        feed_destroy(member->test);
        feed_destroy(member->text);
        batch_buffer_destroy(&member->buffer);
        parameters_destroy(member->parameters);
    }
    if (first->device) first->run->kernels->device_destroy(first->device);
}

void member_destroy(struct member *member)
{
    members_destroy(member, 1);
}

static int load(struct member *member, const struct checkpoint *checkpoint, bool trainable_only, bool moments,
                struct error *err)
{
    pthread_mutex_lock(member->run->io);
    int result = parameters_load(member->parameters, checkpoint, trainable_only, moments, err);
    pthread_mutex_unlock(member->run->io);
    return result;
}

int member_load_trainable(struct member *member, const struct checkpoint *checkpoint, bool moments, struct error *err)
{
    return load(member, checkpoint, true, moments, err);
}

/* What the method adds, as it begins. */
static int initialise_method(struct member *member, struct error *err)
{
    const struct stage *stage = member->run->stage;
    if (!stage->method.text[0])
        return parameters_initialise_adapter(member->parameters, &stage->model, &stage->method, stage->seed, err);
    int32_t *ids;
    size_t count;
    if (prompt_text_ids(member->run->dataset, stage->method.text, &ids, &count, err)) return -1;
    int result = parameters_initialise_prompt(member->parameters, &stage->model, ids, count, err);
    free(ids);
    return result;
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
    bool resident = residence_holds(run_residence(run)), loaded = member->lane > 0 || resident; /* by the first */
    if (resident && member->lane == 0 && member->collective->rank == 0) LOG("the base is there from an earlier stage");
    if (!loaded && (run->weights ? huggingface_load(member->parameters, run->weights, err)
                                 : load(member, run->parent, false, false, err)))
        return -1;
    const struct checkpoint *from = run->own ? run->own : run->prefix;
    if (from && !run->start.finished) return load(member, from, true, true, err);
    if (run->adapter) return peft_load(member->parameters, run->adapter, err);
    return initialise_method(member, err);
}
