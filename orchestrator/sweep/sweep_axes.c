/* The sweep file's axes of pretraining and data: groups of the config -> arrays of checked values, ascending. */
#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/sweep/sweep_parts.h"

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void sweep_sort_axis(uint64_t *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
}

/* Keys that one optimiser has are refused where another is chosen. */
static void read_optimiser(const struct config_group *group, struct recipe *recipe)
{
    static const struct {
        const char *key;
        enum optimiser_kind optimiser;
    } own[] = {{"beta1", OPTIMISER_ADAMW},
               {"beta2", OPTIMISER_ADAMW},
               {"epsilon", OPTIMISER_ADAMW},
               {"parameter_scale", OPTIMISER_ADAFACTOR},
               {"momentum", OPTIMISER_SGD}};
    const char *names[OPTIMISERS];
    for (int i = 0; i < OPTIMISERS; i++)
        names[i] = optimiser_name((enum optimiser_kind)i);
    recipe->optimiser =
        (enum optimiser_kind)config_take_choice(group, "optimiser", names, OPTIMISERS, (int)recipe->optimiser);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (config_has(group, own[i].key) && own[i].optimiser != recipe->optimiser)
            config_fail(group, own[i].key, "the optimiser is \"%s\"; allowed with %s",
                        optimiser_name(recipe->optimiser), optimiser_name(own[i].optimiser));
    recipe->parameter_scale = config_take_bool_or(group, "parameter_scale", recipe->parameter_scale);
    recipe->momentum = config_take_double_or(group, "momentum", 0.0, 0.999999, recipe->momentum);
    recipe->beta1 = config_take_double_or(group, "beta1", 0.0, 0.999999, recipe->beta1);
    recipe->beta2 = config_take_double_or(group, "beta2", 0.0, 0.9999999, recipe->beta2);
    recipe->epsilon = config_take_double_or(group, "epsilon", CONFIG_POSITIVE, 1.0, recipe->epsilon);
}

void sweep_read_recipe(const struct config_group *group, struct recipe *recipe)
{
    read_optimiser(group, recipe);
    const char *names[SCHEDULES];
    for (int i = 0; i < SCHEDULES; i++)
        names[i] = schedule_name((enum schedule_kind)i);
    recipe->schedule =
        (enum schedule_kind)config_take_choice(group, "schedule", names, SCHEDULES, (int)recipe->schedule);
    recipe->final_ratio = config_take_double_or(group, "final_ratio", 0.0, 1.0, recipe->final_ratio);
    if (config_has(group, "decay_share") && recipe->schedule != SCHEDULE_WSD)
        config_fail(group, "decay_share", "the schedule is \"%s\"; allowed with wsd", schedule_name(recipe->schedule));
    recipe->decay_share = config_take_double_or(group, "decay_share", CONFIG_POSITIVE, 1.0, recipe->decay_share);
    recipe->dropout = config_take_double_or(group, "dropout", 0.0, 0.999999, recipe->dropout);
    recipe->label_smoothing = config_take_double_or(group, "label_smoothing", 0.0, 0.999999, recipe->label_smoothing);
    recipe->warmup_steps = config_take_uint_or(group, "warmup_steps", 0, SWEEP_STEPS_LIMIT, recipe->warmup_steps);
    recipe->weight_decay = config_take_double_or(group, "weight_decay", 0.0, 1e3, recipe->weight_decay);
    recipe->clip_norm = config_take_double_or(group, "clip_norm", 0.0, DBL_MAX, recipe->clip_norm);
}

static const struct recipe recipe_defaults = {.parameter_scale = true,
                                              .momentum = 0.9,
                                              .beta1 = 0.9,
                                              .beta2 = 0.999,
                                              .epsilon = 1e-8,
                                              .clip_norm = 1.0,
                                              .schedule = SCHEDULE_COSINE,
                                              .final_ratio = 0.1,
                                              .decay_share = 0.1,
                                              .evaluations = 8};

/* Two token counts of one step would be one checkpoint. model: whose own list it is, or -1 for that of `pretrain`. */
static void check_token_counts(const struct config_group *root, const struct config_group *group,
                               const struct sweep *sweep, const uint64_t *tokens, size_t count, long model)
{
    const struct recipe *recipe = &sweep->pretrain;
    for (size_t i = 1; i < count; i++) {
        static const char format[] = "%s%" PRIu64 " and %" PRIu64 " tokens end at the same step: a step has %" PRIu64
                                     " tokens (batch * sequence_length)";
        if (sweep_pretrain_steps(recipe, tokens[i]) != sweep_pretrain_steps(recipe, tokens[i - 1])) continue;
        if (model < 0)
            config_fail(group, "tokens", format, "", tokens[i - 1], tokens[i], sweep_step_tokens(recipe, 1));
        else
            config_fail_element(root, "models", (size_t)model, format, "pretrain_tokens: ", tokens[i - 1], tokens[i],
                                sweep_step_tokens(recipe, 1));
    }
    uint64_t last = sweep_pretrain_steps(recipe, tokens[count - 1]);
    if (recipe->warmup_steps >= last)
        config_fail(group, "warmup_steps", "%" PRIu64 " is not below the %" PRIu64 " steps of pretraining",
                    recipe->warmup_steps, last);
}

static bool decays(const struct recipe *recipe)
{
    return recipe->schedule == SCHEDULE_COSINE || recipe->schedule == SCHEDULE_LINEAR ||
           recipe->schedule == SCHEDULE_WSD;
}

/* The step at which the rate reaches its end; 0: it has none. */
static uint64_t decay_steps(const struct config_group *group, const struct recipe *recipe, uint64_t tokens)
{
    if (!decays(recipe)) return 0;
    uint64_t steps = sweep_pretrain_steps(recipe, tokens);
    if (steps <= recipe->warmup_steps)
        config_fail(group, "decay_tokens", "ends at step %" PRIu64 ", within the warm-up of %" PRIu64 " steps", steps,
                    recipe->warmup_steps);
    return steps;
}

/* What pretraining is for one model: its token counts, the end of its schedule, text that is long enough. */
static void read_trunk(const struct config_group *root, const struct config_group *group, struct sweep *sweep,
                       size_t model)
{
    struct sweep_model *base = &sweep->bases[model];
    const struct sweep_task *text = &sweep->tasks[base->text];
    bool own = base->token_count > 0;
    if (!own) {
        base->tokens = calloc(sweep->pretrain_token_count + 1, sizeof *base->tokens);
        if (!base->tokens) {
            config_fail(group, NULL, "out of memory");
            return;
        }
        memcpy(base->tokens, sweep->pretrain_tokens, sweep->pretrain_token_count * sizeof *base->tokens);
        base->token_count = sweep->pretrain_token_count;
    }
    base->decay_steps = sweep->pretrain.decay_steps;
    if (own && !config_has(group, "decay_tokens"))
        base->decay_steps = decay_steps(group, &sweep->pretrain, base->tokens[base->token_count - 1]);
    if (text->data.text_tokens[SPLIT_TRAIN] <= sweep->pretrain.sequence_length)
        config_fail(group, "sequence_length",
                    "%u, but the pretraining text of the data set %s%s%shas %zu tokens; allowed: fewer than that",
                    sweep->pretrain.sequence_length, sweep->task_count > 1 ? "of task " : "",
                    sweep->task_count > 1 ? text->name : "", sweep->task_count > 1 ? " " : "",
                    text->data.text_tokens[SPLIT_TRAIN]);
    else
        sweep_check_objective(group, &sweep->pretrain, &text->data);
    if (own) check_token_counts(root, group, sweep, base->tokens, base->token_count, (long)model);
}

/* Models that are trained: in all, or those without token counts of their own. */
static size_t trained_models(const struct sweep *sweep, bool without_tokens)
{
    size_t count = 0;
    for (size_t i = 0; i < sweep->model_count; i++)
        count += !sweep_imported(sweep, i) && !(without_tokens && sweep->bases[i].token_count);
    return count;
}

static void read_pretrain(const struct config_group *root, struct sweep *sweep)
{
    static const char *const keys[] = {"tokens",    "sequence_length", "batch", "learning_rate", "seed", "decay_tokens",
                                       RECIPE_KEYS, OBJECTIVE_KEYS,    NULL};
    struct config_group group = config_open_group(root, "pretrain", keys, true);
    struct recipe *recipe = &sweep->pretrain;
    *recipe = recipe_defaults;
    recipe->precision = sweep->precision;
    recipe->evaluations = 1;
    sweep->pretrain_tokens = config_take_uints(&group, "tokens", 1, SWEEP_STEPS_LIMIT << 10,
                                               trained_models(sweep, true) > 0, &sweep->pretrain_token_count);
    if (sweep->pretrain_tokens) sweep_sort_axis(sweep->pretrain_tokens, sweep->pretrain_token_count);
    recipe->sequence_length = (uint32_t)config_take_uint(&group, "sequence_length", 2, 1 << 20);
    recipe->batch = (uint32_t)config_take_uint(&group, "batch", 1, 1 << 20);
    recipe->learning_rate = config_take_double(&group, "learning_rate", CONFIG_POSITIVE, 1e3);
    sweep_read_recipe(&group, recipe);
    sweep_read_objective(&group, recipe);
    sweep->pretrain_seed = config_take_uint_or(&group, "seed", 0, INT64_MAX, 1);
    if (config_has(&group, "decay_tokens") && !decays(recipe))
        config_fail(&group, "decay_tokens", "the schedule \"%s\" has no end; allowed with linear, cosine and wsd",
                    schedule_name(recipe->schedule));
    if (config_file_failed(root->file)) return;
    size_t count = sweep->pretrain_token_count;
    if (decays(recipe) && (count || config_has(&group, "decay_tokens"))) {
        uint64_t largest = count ? sweep->pretrain_tokens[count - 1] : 1;
        recipe->decay_steps = decay_steps(
            &group, recipe, config_take_uint_or(&group, "decay_tokens", 1, SWEEP_STEPS_LIMIT << 10, largest));
    }
    if (count) check_token_counts(root, &group, sweep, sweep->pretrain_tokens, count, -1);
    for (size_t i = 0; i < sweep->model_count && !config_file_failed(root->file); i++)
        if (!sweep_imported(sweep, i)) read_trunk(root, &group, sweep, i);
}

static bool on_axis(const struct sweep *sweep, uint64_t tokens)
{
    for (size_t i = 0; i < sweep->pretrain_token_count; i++)
        if (sweep->pretrain_tokens[i] == tokens) return true;
    return false;
}

/* The axis: token counts of models that are trained here, and those of imported ones. */
static void join_axis(const struct config_group *root, struct sweep *sweep)
{
    size_t most = sweep->import_count;
    for (size_t i = 0; i < sweep->model_count; i++)
        most += sweep->bases[i].token_count;
    free(sweep->pretrain_tokens);
    sweep->pretrain_token_count = 0;
    sweep->pretrain_tokens = calloc(most + 1, sizeof *sweep->pretrain_tokens);
    if (!sweep->pretrain_tokens) {
        config_fail(root, NULL, "out of memory");
        return;
    }
    for (size_t i = 0; i < sweep->model_count; i++)
        for (size_t j = 0; j < sweep->bases[i].token_count; j++)
            if (!on_axis(sweep, sweep->bases[i].tokens[j]))
                sweep->pretrain_tokens[sweep->pretrain_token_count++] = sweep->bases[i].tokens[j];
    for (size_t i = 0; i < sweep->import_count; i++)
        if (!on_axis(sweep, sweep->imports[i].tokens))
            sweep->pretrain_tokens[sweep->pretrain_token_count++] = sweep->imports[i].tokens;
    sweep_sort_axis(sweep->pretrain_tokens, sweep->pretrain_token_count);
}

void sweep_read_pretrain(const struct config_group *root, struct sweep *sweep)
{
    if (trained_models(sweep, false)) {
        read_pretrain(root, sweep);
    } else if (config_has(root, "pretrain")) {
        config_fail(root, "pretrain", "every model is imported, none is trained; allowed: no such group");
    }
    if (!config_file_failed(root->file)) join_axis(root, sweep);
}

uint64_t *sweep_read_examples(const struct config_group *group, const struct sweep *sweep, uint32_t tasks,
                              size_t *count)
{
    uint64_t *examples = config_take_uints(group, "examples", 1, INT64_MAX, true, count);
    const struct sweep_task *least = sweep_smallest_task(sweep, tasks);
    size_t have = least ? least->data.examples[SPLIT_TRAIN] : SIZE_MAX;
    for (size_t i = 0; i < *count; i++)
        if (examples[i] > have)
            config_fail_element(group, "examples", i,
                                "%" PRIu64 " examples, more than the data set %s%s%shas; allowed: 1..%zu", examples[i],
                                sweep->task_count > 1 ? "of task " : "", sweep->task_count > 1 ? least->name : "",
                                sweep->task_count > 1 ? " " : "", have);
    if (examples) sweep_sort_axis(examples, *count);
    return examples;
}

void sweep_read_passes(const struct config_group *group, struct recipe *recipe, bool *share)
{
    *share = config_take_bool_or(group, "share", *share);
    const char *names[ORDERS];
    for (int i = 0; i < ORDERS; i++)
        names[i] = example_order_name((enum example_order)i);
    recipe->order = (enum example_order)config_take_choice(group, "order", names, ORDERS, (int)recipe->order);
    bool spread = config_has(group, "evaluations"), steady = config_has(group, "evaluation_steps");
    if (spread && steady) config_fail(group, "evaluation_steps", "evaluations are given, too; allowed: one of the two");
    recipe->evaluations = (uint32_t)config_take_uint_or(group, "evaluations", 1, 1 << 20, recipe->evaluations);
    recipe->evaluation_steps =
        config_take_uint_or(group, "evaluation_steps", 0, SWEEP_STEPS_LIMIT, spread ? 0 : recipe->evaluation_steps);
    recipe->patience = (uint32_t)config_take_uint_or(group, "patience", 0, 1 << 20, recipe->patience);
}

void sweep_read_finetune(const struct config_group *root, struct sweep *sweep, struct recipe *recipe, double *epochs,
                         bool *share)
{
    static const char *const keys[] = {"examples", "sequence_length", "batch", "epochs",   "max_steps",
                                       PASS_KEYS,  RECIPE_KEYS,       "seeds", "generate", NULL};
    struct config_group group = config_open_group(root, "finetune", keys, true);
    *recipe = recipe_defaults;
    recipe->precision = sweep->precision;
    /* of several tasks, each method looks at its own */
    sweep->examples = sweep_read_examples(&group, sweep, sweep->task_count == 1, &sweep->example_count);
    recipe->sequence_length = (uint32_t)config_take_uint(&group, "sequence_length", 2, 1 << 20);
    recipe->batch = (uint32_t)config_take_uint(&group, "batch", 1, 1 << 20);
    *epochs = config_take_double_or(&group, "epochs", 0.0, 1e6, 0.0);
    recipe->steps = config_take_uint_or(&group, "max_steps", 0, SWEEP_STEPS_LIMIT, 0);
    *share = false;
    sweep_read_passes(&group, recipe, share);
    sweep_read_generate(&group, sweep);
    sweep_read_recipe(&group, recipe);
    if (config_has(&group, "seeds"))
        sweep->seeds = config_take_uints(&group, "seeds", 0, INT64_MAX, true, &sweep->seed_count);
    else if ((sweep->seeds = calloc(1, sizeof *sweep->seeds))) {
        sweep->seeds[0] = 1;
        sweep->seed_count = 1;
    }
}
