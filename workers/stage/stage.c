/* What a stage is called, and where its files lie. */
#include "workers/stage/stage.h"

#include <inttypes.h>
#include <stdio.h>

#include "workers/model/names.h"

static const char *const kind_names[STAGE_KINDS] = {"pretrain", "finetune", "prefix"};

const char *stage_kind_name(enum stage_kind kind)
{
    return (unsigned)kind < STAGE_KINDS ? kind_names[kind] : "unknown";
}

int stage_kind_find(const char *name)
{
    return name_find(kind_names, STAGE_KINDS, name);
}

static void state_path(const struct stage *stage, const struct digest *identity, const char *suffix, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.*s/checkpoints/%.32s%.60s", STAGE_DIR_LIMIT, stage->dir, identity->hex, suffix);
}

void stage_state_path(const struct stage *stage, char out[PATH_MAX])
{
    state_path(stage, &stage->identity, ".h5", out);
}

void stage_parent_path(const struct stage *stage, char out[PATH_MAX])
{
    state_path(stage, &stage->parent, ".h5", out);
}

void stage_prefix_path(const struct stage *stage, char out[PATH_MAX])
{
    state_path(stage, &stage->prefix, ".h5", out);
}

void stage_best_path(const struct stage *stage, uint64_t step, char out[PATH_MAX])
{
    char suffix[48];
    snprintf(suffix, sizeof suffix, ".best-%" PRIu64 ".h5", step);
    state_path(stage, &stage->identity, suffix, out);
}

void stage_step_path(const struct stage *stage, char out[PATH_MAX])
{
    state_path(stage, &stage->identity, ".step", out);
}

void stage_log_path(const struct stage *stage, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.*s/logs/%.32s.log", STAGE_DIR_LIMIT, stage->dir, stage->identity.hex);
}

void stage_generations_path(const struct stage *stage, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.*s/generations/%.32s.jsonl", STAGE_DIR_LIMIT, stage->dir, stage->identity.hex);
}
