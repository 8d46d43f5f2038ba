/* The sweep file's axis of models: shapes that are spelled out, named ones, and imported ones with their revisions. */
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/tokenizer/tokenizer_folder.h"
#include "orchestrator/sweep/sweep_parts.h"
#include "workers/files/huggingface.h"

enum { REVISIONS_LIMIT = 4096, PADDING_LIMIT = 1024 /* rows that a model may have beyond the tokenizer */ };

static const char *const model_keys[] = {
    "name",      "tasks",      "text",         "pretrain_tokens", "preset",       "import",     "tokens",
    "revisions", "layers",     "width",        "heads",           "kv_heads",     "head_width", "ffn",
    "tied",      "rope_theta", "norm_epsilon", "family",          "norm",         "activation", "norm_after",
    "parallel",  "qkv_bias",   "out_bias",     "mlp_bias",        "rotary_width", "window",     NULL};
enum { FIRST_SHAPE_KEY = 8 };

/* The models of the paper (Zhang et al. 2024, table 1): multi-query attention, heads of 256. What it does not say
 * is Llama's: RMSNorm, rotary positions, SwiGLU (with which, and 256,000 pieces, they are as large as their names say),
 * and the embedding as the output matrix. */
static const struct {
    const char *name;
    uint32_t layers, width, heads, ffn;
} presets[] = {
    {"paper-1b", 16, 2048, 8, 8192},   {"paper-2b", 20, 2560, 10, 10240},  {"paper-4b", 24, 3072, 12, 12288},
    {"paper-8b", 32, 4096, 16, 16384}, {"paper-16b", 40, 5120, 20, 20480},
};
enum { PRESETS = sizeof presets / sizeof *presets };

/* The shape that the keys of an entry start from; 0: they are all required. */
static struct model_config take_preset(const struct config_group *group)
{
    const char *names[PRESETS];
    for (int i = 0; i < PRESETS; i++)
        names[i] = presets[i].name;
    struct model_config model = {.layers = 0};
    if (!config_has(group, "preset")) return model;
    int i = config_take_choice(group, "preset", names, PRESETS, -1);
    if (config_file_failed(group->file)) return model;
    model = (struct model_config){.layers = presets[i].layers,
                                  .width = presets[i].width,
                                  .heads = presets[i].heads,
                                  .kv_heads = 1,
                                  .head_width = 256,
                                  .ffn = presets[i].ffn};
    snprintf(model.name, sizeof model.name, "%s", presets[i].name);
    return model;
}

/* Of a preset, where the key is absent; else required. */
static uint32_t take_size(const struct config_group *group, const char *key, uint64_t most, uint32_t preset)
{
    return (uint32_t)(preset ? config_take_uint_or(group, key, 1, most, preset)
                             : config_take_uint(group, key, 1, most));
}

/* Index of a choice among `count` names by a function; `usual` where the key is absent. */
static int take_name(const struct config_group *group, const char *key, const char *(*name)(int), int count, int usual)
{
    const char *names[8];
    for (int i = 0; i < count; i++)
        names[i] = name(i);
    return config_take_choice(group, key, names, (size_t)count, usual);
}

static const char *family_at(int i)
{
    return family_name((enum model_family)i);
}

static const char *norm_at(int i)
{
    return norm_name((enum norm_kind)i);
}

static const char *activation_at(int i)
{
    return activation_name((enum activation)i);
}

static void read_architecture(const struct config_group *group, struct model_config *model)
{
    enum model_family family = (enum model_family)take_name(group, "family", family_at, FAMILIES, FAMILY_LLAMA);
    struct architecture usual = architecture_of(family, model->head_width), *a = &model->architecture;
    *a = usual;
    a->rotary_width = usual.rotary_width / 2 * 2;
    a->norm = (enum norm_kind)take_name(group, "norm", norm_at, NORMS, (int)usual.norm);
    a->activation = (enum activation)take_name(group, "activation", activation_at, ACTIVATIONS, (int)usual.activation);
    a->norm_after = config_take_bool_or(group, "norm_after", usual.norm_after);
    a->parallel = config_take_bool_or(group, "parallel", usual.parallel);
    a->qkv_bias = config_take_bool_or(group, "qkv_bias", usual.qkv_bias);
    a->out_bias = config_take_bool_or(group, "out_bias", usual.out_bias);
    a->mlp_bias = config_take_bool_or(group, "mlp_bias", usual.mlp_bias);
    a->rotary_width = (uint32_t)config_take_uint_or(group, "rotary_width", 0, UINT32_MAX, a->rotary_width);
    if (a->rotary_width == model->head_width) a->rotary_width = 0;
    a->window = (uint32_t)config_take_uint_or(group, "window", 0, UINT32_MAX, 0);
}

static void read_shape(const struct config_group *group, const struct model_config *preset, struct model_config *model)
{
    model->layers = take_size(group, "layers", LAYERS_LIMIT, preset->layers);
    model->width = take_size(group, "width", WIDTH_LIMIT, preset->width);
    model->heads = take_size(group, "heads", HEADS_LIMIT, preset->heads);
    model->kv_heads = (uint32_t)config_take_uint_or(group, "kv_heads", 1, HEADS_LIMIT,
                                                    preset->kv_heads ? preset->kv_heads : model->heads);
    uint32_t share = preset->head_width ? preset->head_width : model->heads ? model->width / model->heads : 0;
    if (!config_file_failed(group->file) && !preset->head_width && !config_has(group, "head_width") &&
        model->width % model->heads)
        config_fail(group, "heads", "heads %u does not divide width %u; give head_width, or a divisor of the width",
                    model->heads, model->width);
    model->head_width = (uint32_t)config_take_uint_or(group, "head_width", 1, WIDTH_LIMIT, share);
    model->ffn = take_size(group, "ffn", FFN_LIMIT, preset->ffn);
    model->tied = config_take_bool_or(group, "tied", true);
    model->rope_theta = config_take_double_or(group, "rope_theta", CONFIG_POSITIVE, DBL_MAX, 10000.0);
    model->norm_epsilon = config_take_double_or(group, "norm_epsilon", CONFIG_POSITIVE, 1.0, 1e-5);
    read_architecture(group, model);
}

/* One more imported base; NULL after an error. */
static struct sweep_import *add_import(const struct config_group *group, struct sweep *sweep)
{
    struct sweep_import *grown = reallocarray(sweep->imports, sweep->import_count + 1, sizeof *grown);
    if (!grown) {
        config_fail(group, NULL, "out of memory");
        return NULL;
    }
    sweep->imports = grown;
    grown[sweep->import_count] = (struct sweep_import){.tokens = 0};
    return &grown[sweep->import_count++];
}

static void fail_shape(const struct config_group *group, const char *key, const char *dir,
                       const struct model_config *found, const struct model_config *wanted, bool declared)
{
    char shape[MODEL_TEXT], other[MODEL_TEXT];
    model_text(found, other, sizeof other);
    model_text(wanted, shape, sizeof shape);
    if (strcmp(shape, other) != 0)
        config_fail(group, key, "%s is another model than %s: (%s), not (%s)", dir,
                    declared ? "the keys beside it say" : "the revision before it", other, shape);
}

/* A base that is declared and not there: its identity stands for the one that it will have. */
static void declare_folder(const struct config_group *group, const char *key, const char *dir, struct sweep *sweep,
                           struct sweep_import *import)
{
    char shape[MODEL_TEXT], text[MODEL_TEXT + 128];
    const struct model_config *model = &sweep->models[import->model];
    model_text(model, shape, sizeof shape);
    int length =
        snprintf(text, sizeof text, "declared base %s tokens=%" PRIu64 " %s", model->name, import->tokens, shape);
    import->identity = digest_of(text, (size_t)length);
    if (!sweep->missing.text[0])
        config_describe(group, key, &sweep->missing,
                        "%s: the base is declared and not there: the sweep can be planned, not run", dir);
}

static void check_vocabularies(const struct config_group *group, const char *key, const char *dir,
                               const struct sweep *sweep, uint32_t index)
{
    bool several = sweep->task_count > 1;
    struct error err;
    for (size_t i = 0; i < sweep->task_count; i++)
        if (sweep->bases[index].tasks >> i & 1 &&
            sweep_vocabulary_check(sweep->tasks[i].data.vocabulary, &sweep->models[index], &err))
            config_fail(group, key, "%s: %s%s%s", dir, several ? sweep->tasks[i].name : "", several ? ": " : "",
                        err.text);
}

/* Ids of a data set with a tokenizer of its own, which is not the folder's, mean nothing to the model. */
static void check_folder_tokenizer(const struct config_group *group, const char *key, const char *dir,
                                   const struct sweep *sweep, uint32_t index)
{
    for (size_t i = 0; i < sweep->task_count; i++) {
        struct error err;
        const struct sweep_task *task = &sweep->tasks[i];
        char path[PATH_MAX];
        size_t size;
        enum tokenizer_match match = TOKENIZERS_UNKNOWN;
        if (!(sweep->bases[index].tasks >> i & 1) || !task->there) continue;
        struct dataset *dataset = dataset_open(task->dataset, &err);
        const void *bytes = dataset ? dataset_tokenizer(dataset, &size) : NULL;
        if (!dataset || tokenizer_match_folder(dir, bytes, size, &match, path, sizeof path, &err))
            config_fail(group, key, "%s", err.text);
        if (match == TOKENIZERS_DIFFER)
            config_fail(group, key,
                        "%s: the tokenizer of %s is another one, its ids mean other pieces to this model; allowed: a "
                        "data set of the model's tokenizer (`tunelaw data --tokenizer`, or --ids)",
                        path, task->dataset);
        dataset_close(dataset);
    }
}

/* The model in `dir`: the first of an entry gives the shape, unless it is declared; the others must have the same. */
static void read_folder(const struct config_group *group, const char *key, const char *dir, uint32_t index,
                        uint64_t tokens, struct sweep *sweep)
{
    struct error err;
    struct model_config found, *model = &sweep->models[index], wanted = *model;
    struct sweep_import *import = add_import(group, sweep);
    if (!import) return;
    import->model = index;
    import->tokens = tokens;
    snprintf(import->dir, sizeof import->dir, "%s", dir);
    bool declared = sweep->bases[index].declared;
    if (declared && access(dir, F_OK) != 0 && errno == ENOENT) {
        declare_folder(group, key, dir, sweep, import);
        check_vocabularies(group, key, dir, sweep, index);
        return;
    }
    if (huggingface_config(dir, &found, &err)) {
        config_fail(group, key, "%s", err.text);
        return;
    }
    memcpy(found.name, model->name, sizeof found.name);
    if (declared) wanted.vocabulary = found.vocabulary; /* with its rows of padding */
    if (model->layers) fail_shape(group, key, dir, &found, &wanted, declared);
    *model = found;
    check_vocabularies(group, key, dir, sweep, index);
    /* revisions follow each other, of one tokenizer */
    bool other = sweep->import_count > 1 && import[-1].model == index && access(import[-1].dir, F_OK) == 0;
    if (!other && !config_file_failed(group->file)) check_folder_tokenizer(group, key, dir, sweep, index);
    if (config_file_failed(group->file)) return;
    if (huggingface_identify(dir, &found, &import->identity, &err)) config_fail(group, key, "%s", err.text);
}

static void read_revision(const struct config_group *group, const char *folder, uint32_t index, struct sweep *sweep)
{
    char dir[PATH_MAX];
    const char *path = config_take_string(group, "path", PATH_MAX - 1);
    uint64_t tokens = config_take_uint(group, "tokens", 1, SWEEP_STEPS_LIMIT << 10);
    if (config_file_failed(group->file)) return;
    if (snprintf(dir, sizeof dir, "%s%s%s", path[0] == '/' ? "" : folder, path[0] == '/' ? "" : "/", path) >=
        (int)sizeof dir) {
        config_fail(group, "path", "the path is too long; allowed: up to %d bytes", PATH_MAX - 1);
        return;
    }
    for (size_t i = 0; i < sweep->import_count; i++)
        if (sweep->imports[i].model == index && sweep->imports[i].tokens == tokens)
            config_fail(group, "tokens", "%" PRIu64 " tokens are those of %s, too", tokens, sweep->imports[i].dir);
    if (!config_file_failed(group->file)) read_folder(group, "path", dir, index, tokens, sweep);
}

static void read_import(const struct config_group *group, uint32_t index, struct sweep *sweep)
{
    static const char *const revision_keys[] = {"path", "tokens", NULL};
    char dir[PATH_MAX];
    const char *path = config_take_string(group, "import", PATH_MAX - 1);
    static const char *const trained_keys[] = {"text", "pretrain_tokens"};
    for (size_t i = 0; i < sizeof trained_keys / sizeof *trained_keys; i++)
        if (config_has(group, trained_keys[i])) config_fail(group, trained_keys[i], "not allowed beside import");
    if (config_has(group, "tokens") == config_has(group, "revisions"))
        config_fail(group, "import", "either tokens (that the model has seen) or revisions is required with it");
    if (config_file_failed(group->file)) return;
    if (sweep_resolve(sweep->path, path, dir)) {
        config_fail(group, "import", "the path is too long; allowed: up to %d bytes", PATH_MAX - 1);
        return;
    }
    if (config_has(group, "tokens")) {
        read_folder(group, "import", dir, index, config_take_uint(group, "tokens", 1, SWEEP_STEPS_LIMIT << 10), sweep);
        return;
    }
    size_t count = config_open_list(group, "revisions", true);
    if (count > REVISIONS_LIMIT)
        config_fail(group, "revisions", "%zu entries; allowed: up to %d", count, REVISIONS_LIMIT);
    for (size_t i = 0; i < count && !config_file_failed(group->file); i++) {
        struct config_group revision = config_open_element(group, "revisions", i, revision_keys);
        read_revision(&revision, dir, index, sweep);
    }
}

/* The key that an error of model_config_check begins with. */
static void fail_model(const struct config_group *group, const char *text)
{
    for (size_t i = 1; model_keys[i]; i++) {
        size_t length = strlen(model_keys[i]);
        if (!strncmp(text, model_keys[i], length) && text[length] == ' ' && config_has(group, model_keys[i])) {
            config_fail(group, model_keys[i], "%s", text);
            return;
        }
    }
    config_fail(group, NULL, "%s", text);
}

static bool same_shape(const struct model_config *a, const struct model_config *b)
{
    char x[MODEL_TEXT], y[MODEL_TEXT];
    model_text(a, x, sizeof x);
    model_text(b, y, sizeof y);
    return !strcmp(x, y);
}

static void check_model(const struct config_group *group, const struct sweep *sweep, size_t index)
{
    struct error err;
    const struct model_config *models = sweep->models;
    if (model_config_check(&models[index], &err)) {
        fail_model(group, err.text);
        return;
    }
    bool imported = sweep_imported(sweep, index);
    for (size_t i = 0; i < index; i++) {
        if (!strcmp(models[i].name, models[index].name))
            config_fail(group, "name", "\"%s\" is the name of models[%zu], too", models[i].name, i);
        else if (!imported && !sweep_imported(sweep, i) && sweep->bases[i].text == sweep->bases[index].text &&
                 same_shape(&models[i], &models[index]))
            config_fail(group, NULL, "the same shape as models[%zu] \"%s\"", i, models[i].name);
    }
    if (imported || !(config_has(group, "tokens") || config_has(group, "revisions"))) return;
    config_fail(group, config_has(group, "tokens") ? "tokens" : "revisions", "only allowed with import");
}

/* A model has one vocabulary: that of the text that it is pretrained on, and of every task that it is finetuned on. */
static void check_tokenizers(const struct config_group *group, const struct sweep *sweep, size_t index)
{
    const struct sweep_model *base = &sweep->bases[index];
    const struct sweep_task *text = &sweep->tasks[base->text];
    for (size_t i = 0; i < sweep->task_count; i++) {
        const struct sweep_task *task = &sweep->tasks[i];
        bool same =
            task->data.vocabulary == text->data.vocabulary &&
            (!task->tokenizer.hex[0] || !text->tokenizer.hex[0] || !strcmp(task->tokenizer.hex, text->tokenizer.hex));
        if (base->tasks >> i & 1 && !same)
            config_fail(
                group, config_has(group, "text") ? "text" : "tasks",
                "the data sets of \"%s\" (vocabulary %zu) and \"%s\" (vocabulary %zu) have different "
                "tokenizers; allowed: data sets of one tokenizer (`tunelaw data --tokenizer`), or another model",
                text->name, text->data.vocabulary, task->name, task->data.vocabulary);
    }
}

/* The text that a model is pretrained on, and its own token counts. */
static void read_text(const struct config_group *group, size_t index, struct sweep *sweep)
{
    struct sweep_model *base = &sweep->bases[index];
    const char *names[SWEEP_TASKS];
    int usual = -1;
    for (size_t i = sweep->task_count; i-- > 0;) {
        names[i] = sweep->tasks[i].name;
        if (base->tasks >> i & 1 && (usual < 0 || sweep->tasks[i].data.text_tokens[SPLIT_TRAIN])) usual = (int)i;
    }
    base->text = config_has(group, "text")
                     ? (uint32_t)config_take_choice(group, "text", names, sweep->task_count, usual)
                     : (uint32_t)usual;
    base->tokens = config_take_uints(group, "pretrain_tokens", 1, SWEEP_STEPS_LIMIT << 10, false, &base->token_count);
    if (base->tokens) sweep_sort_axis(base->tokens, base->token_count);
    sweep->models[index].vocabulary = (uint32_t)sweep->tasks[base->text].data.vocabulary;
    check_tokenizers(group, sweep, index);
}

/* Beside import: what the folder will hold. */
static bool has_shape(const struct config_group *group)
{
    for (size_t i = FIRST_SHAPE_KEY; model_keys[i]; i++)
        if (config_has(group, model_keys[i])) return true;
    return config_has(group, "preset");
}

static void read_model(const struct config_group *group, size_t index, struct sweep *sweep)
{
    struct model_config *model = &sweep->models[index], preset = take_preset(group);
    if (config_file_failed(group->file)) return;
    bool named = preset.layers && !config_has(group, "name");
    snprintf(model->name, sizeof model->name, "%s", named ? preset.name : config_take_name(group, "name", SWEEP_NAME));
    struct sweep_model *base = &sweep->bases[index];
    base->line = config_line(group);
    base->tasks = sweep_read_task_names(group, sweep);
    bool import = config_has(group, "import");
    base->declared = import && has_shape(group);
    if (!import || base->declared) read_shape(group, &preset, model);
    if (config_file_failed(group->file)) return;
    if (import) {
        for (size_t i = sweep->task_count; base->declared && i-- > 0;)
            if (base->tasks >> i & 1) model->vocabulary = (uint32_t)sweep->tasks[i].data.vocabulary;
        read_import(group, (uint32_t)index, sweep);
    } else {
        read_text(group, index, sweep);
    }
}

int sweep_vocabulary_check(size_t vocabulary, const struct model_config *model, struct error *err)
{
    if (vocabulary <= model->vocabulary && model->vocabulary - vocabulary < PADDING_LIMIT) return 0;
    return error_set(err,
                     "the model has a vocabulary of %" PRIu32 ", the data set one of %zu: they are of different "
                     "tokenizers; allowed: the model's, less at most %d rows of padding",
                     model->vocabulary, vocabulary, PADDING_LIMIT - 1);
}

bool sweep_imported(const struct sweep *sweep, size_t model)
{
    for (size_t i = 0; i < sweep->import_count; i++)
        if (sweep->imports[i].model == model) return true;
    return false;
}

const struct sweep_import *sweep_import_of(const struct sweep *sweep, size_t model, uint64_t tokens)
{
    for (size_t i = 0; i < sweep->import_count; i++)
        if (sweep->imports[i].model == model && sweep->imports[i].tokens == tokens) return &sweep->imports[i];
    return NULL;
}

bool sweep_has_base(const struct sweep *sweep, size_t model, size_t tokens)
{
    const struct sweep_model *base = &sweep->bases[model];
    uint64_t wanted = sweep->pretrain_tokens[tokens];
    if (sweep_imported(sweep, model)) return sweep_import_of(sweep, model, wanted) != NULL;
    for (size_t i = 0; i < base->token_count; i++)
        if (base->tokens[i] == wanted) return true;
    return false;
}

void sweep_read_models(const struct config_group *root, struct sweep *sweep)
{
    size_t count = config_open_list(root, "models", true);
    sweep->models = count ? calloc(count, sizeof *sweep->models) : NULL;
    sweep->bases = count ? calloc(count, sizeof *sweep->bases) : NULL;
    sweep->model_count = sweep->models && sweep->bases ? count : 0;
    for (size_t i = 0; i < sweep->model_count && !config_file_failed(root->file); i++) {
        struct config_group group = config_open_element(root, "models", i, model_keys);
        read_model(&group, i, sweep);
        if (!config_file_failed(root->file)) check_model(&group, sweep, i);
    }
}
