/* Stages of a tiny sweep over the fixture's dataset, and what a run of one must leave. */
#ifndef TUNELAW_TESTS_WORKERS_TRAINED_H
#define TUNELAW_TESTS_WORKERS_TRAINED_H

#include "tests/workers/fixture.h"
#include "workers/stage/worker.h"

static inline struct stage stage_common(const struct fixture *fixture, const char *name)
{
    struct stage stage;
    memset(&stage, 0, sizeof stage);
    stage.identity = digest_of(name, strlen(name));
    strcpy(stage.dir, fixture->dir);
    strcpy(stage.dataset, fixture->dataset);
    stage.dataset_digest = fixture->info.digest;
    stage.model = (struct model_config){.name = "tiny",
                                        .layers = 2,
                                        .width = 32,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_width = 8,
                                        .ffn = 64,
                                        .vocabulary = (uint32_t)fixture->info.vocabulary,
                                        .tied = true,
                                        .rope_theta = 10000,
                                        .norm_epsilon = 1e-5};
    stage.method = (struct method_config){.kind = METHOD_FULL};
    stage.recipe = (struct recipe){.learning_rate = 3e-3,
                                   .beta1 = 0.9,
                                   .beta2 = 0.99,
                                   .epsilon = 1e-8,
                                   .weight_decay = 0.01,
                                   .clip_norm = 1,
                                   .schedule = SCHEDULE_CONSTANT,
                                   .warmup_steps = 5,
                                   .sequence_length = 32,
                                   .batch = 8};
    stage.seed = 11;
    strcpy(stage.backend, "cpu");
    stage.degree = stage.threads = stage.attempt = 1;
    stage.checkpoint_seconds = 1000;
    stage.hang_seconds = 100;
    stage.keep_weights = true;
    return stage;
}

static inline struct stage stage_pretrain(const struct fixture *fixture, uint64_t first, uint64_t last)
{
    char name[32];
    snprintf(name, sizeof name, "trunk %d", (int)last);
    struct stage stage = stage_common(fixture, name);
    stage.kind = STAGE_PRETRAIN;
    stage.first_step = first;
    stage.last_step = last;
    if (first) {
        snprintf(name, sizeof name, "trunk %d", (int)first);
        stage.parent = digest_of(name, strlen(name));
    }
    return stage;
}

static inline struct stage stage_finetune(const struct fixture *fixture, const struct stage *parent,
                                          enum method_kind method, uint64_t steps)
{
    char name[32];
    snprintf(name, sizeof name, "point %d", (int)method);
    struct stage stage = stage_common(fixture, name);
    stage.kind = STAGE_FINETUNE;
    stage.parent = stage.base = parent->identity;
    stage.method.kind = method;
    if (method_sizes(method)) stage.method.size = 4;
    if (method == METHOD_UNFREEZE) stage.method.thaw_layers = 1;
    if (method == METHOD_UNFREEZE) stage.method.thaw_steps = 7;
    if (method == METHOD_BITFIT) stage.method.kind = METHOD_IA3; /* this model has no biases */
    if (method == METHOD_LORA) stage.method.alpha = 8;
    stage.recipe.sequence_length = 40;
    stage.recipe.steps = stage.last_step = method == METHOD_NONE ? 0 : steps;
    stage.recipe.schedule = SCHEDULE_COSINE;
    stage.recipe.decay_steps = steps;
    stage.recipe.final_ratio = 0.1;
    stage.recipe.evaluations = 5;
    stage.recipe.learning_rate = method == METHOD_PROMPT ? 3e-2 : 5e-3;
    stage.examples = 100;
    stage.flops = 1e9;
    return stage;
}

static inline int file_exists(const struct stage *stage, const char *suffix)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.200s/checkpoints/%s%s", stage->dir, stage->identity.hex, suffix);
    return access(path, F_OK) == 0;
}

/* Begin again from nothing: state, best weights and step file of a stage are gone. */
static inline void forget(const struct stage *stage)
{
    char path[PATH_MAX];
    struct stage all = *stage;
    all.keep_weights = false;
    stage_cleanup(&all);
    stage_state_path(stage, path);
    unlink(path);
}

#endif
