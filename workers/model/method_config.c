/* What a method is: names, PET sizes, parameter counts, and the checks that it can be built on a model. The planner
 * asks before anything is launched; the worker allocates by the same counts. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/digest.h"
#include "workers/model/config.h"
#include "workers/model/names.h"

enum { PREFIX_LIMIT = 1 << 16 };

static const char *const method_names[METHODS] = {"none", "full",   "lora",    "prompt",  "prefix",
                                                  "ia3",  "bitfit", "adapter", "unfreeze"};
static const char *const size_names[METHODS] = {
    [METHOD_LORA] = "ranks", [METHOD_PROMPT] = "lengths", [METHOD_PREFIX] = "lengths", [METHOD_ADAPTER] = "widths"};

const char *method_name(enum method_kind kind)
{
    return (unsigned)kind < METHODS ? method_names[kind] : "unknown";
}

int method_find(const char *name)
{
    return name_find(method_names, METHODS, name);
}

const char *method_sizes(enum method_kind kind)
{
    return (unsigned)kind < METHODS ? size_names[kind] : NULL;
}

uint32_t method_prompt_length(const struct method_config *method)
{
    return method->kind == METHOD_PROMPT ? method->size : 0;
}

uint32_t method_prefix_length(const struct method_config *method)
{
    return method->kind == METHOD_PREFIX ? method->size : 0;
}

enum {
    ATTENTION = 1 << LINEAR_Q | 1 << LINEAR_K | 1 << LINEAR_V | 1 << LINEAR_QKV | 1 << LINEAR_O,
    MLP = 1 << LINEAR_GATE | 1 << LINEAR_UP | 1 << LINEAR_DOWN,
    IA3 = 1 << LINEAR_K | 1 << LINEAR_V | 1 << LINEAR_QKV | 1 << LINEAR_DOWN
};

static uint32_t module_in(const struct tensor_names *names, const char *name)
{
    uint32_t found = 0;
    for (int kind = 0; kind < LINEARS; kind++) {
        const char *dot = names->linears[kind] ? strrchr(names->linears[kind], '.') : NULL;
        if (dot && !strcmp(dot + 1, name)) found |= 1u << kind;
    }
    return found;
}

uint32_t modules_find(const char *name)
{
    if (!strcmp(name, "all")) return ATTENTION | MLP;
    if (!strcmp(name, "attention")) return ATTENTION;
    if (!strcmp(name, "mlp")) return MLP;
    uint32_t found = 0;
    for (int family = 0; family < FAMILIES; family++) {
        struct model_config model = {.architecture.family = (enum model_family)family};
        found |= module_in(tensor_names_of(&model), name);
    }
    return found;
}

uint32_t modules_usual(enum method_kind kind)
{
    return kind == METHOD_LORA ? ATTENTION | MLP : kind == METHOD_IA3 ? IA3 : 0;
}

bool method_module(const struct method_config *method, enum linear_kind kind)
{
    uint32_t usual = modules_usual(method->kind);
    return usual && (method->modules ? method->modules : usual) >> kind & 1;
}

uint64_t method_thaw(const struct method_config *method, const struct model_config *model, uint32_t block)
{
    if (method->kind != METHOD_UNFREEZE) return 0;
    return (model->layers - 1 - block) / method->thaw_layers * method->thaw_steps;
}

int method_text(const struct method_config *method, char *out, size_t size)
{
    static const char *const places[LINEARS] = {"q", "k", "v", "qkv", "o", "gate", "up", "down"};
    int used = snprintf(out, size, "%s", method->rank_stabilised ? " rank_stabilised=1" : "");
    if (method->dropout > 0) used += snprintf(out + used, size - (size_t)used, " lora_dropout=%.17g", method->dropout);
    const char *before = " modules=";
    for (int kind = 0; kind < LINEARS && method->modules; kind++) {
        if (!(method->modules >> kind & 1) || used < 0 || (size_t)used >= size) continue;
        used += snprintf(out + used, size - (size_t)used, "%s%s", before, places[kind]);
        before = ",";
    }
    if (method->mlp_only && used >= 0 && (size_t)used < size)
        used += snprintf(out + used, size - (size_t)used, " placement=mlp");
    if (method->kind == METHOD_UNFREEZE && used >= 0 && (size_t)used < size)
        used += snprintf(out + used, size - (size_t)used, " thaw_layers=%" PRIu32 " thaw_steps=%" PRIu64,
                         method->thaw_layers, method->thaw_steps);
    if (method->text[0] && used >= 0 && (size_t)used < size)
        used +=
            snprintf(out + used, size - (size_t)used, " text=%s", digest_of(method->text, strlen(method->text)).hex);
    return used;
}

/* A of [rank][in] and B of [out][rank] beside each chosen matrix of a layer. */
static uint64_t lora_parameters(const struct model_config *model, const struct method_config *method)
{
    struct linear_size size;
    uint64_t sides = 0;
    for (int kind = 0; kind < LINEARS; kind++)
        if (method_module(method, (enum linear_kind)kind) && model_linear(model, (enum linear_kind)kind, &size))
            sides += size.in + size.out;
    return model->layers * method->size * sides;
}

/* A vector of the outputs of each chosen matrix in attention, of the inputs in the MLP. */
static uint64_t ia3_parameters(const struct model_config *model, const struct method_config *method)
{
    struct linear_size size;
    uint64_t sum = 0;
    for (int kind = 0; kind < LINEARS; kind++)
        if (method_module(method, (enum linear_kind)kind) && model_linear(model, (enum linear_kind)kind, &size))
            sum += MLP >> kind & 1 ? size.in : size.out;
    return model->layers * sum;
}

static uint64_t model_biases(const struct model_config *model)
{
    struct linear_size size;
    uint64_t norms = model->architecture.norm == NORM_LAYER ? model->width : 0, sum = 2 * norms;
    for (int kind = 0; kind < LINEARS; kind++)
        if (model_linear(model, (enum linear_kind)kind, &size)) sum += size.bias ? size.out : 0;
    return model->layers * sum + norms;
}

/* Down and up with their biases, after each half or the MLP alone. */
static uint64_t adapter_parameters(const struct model_config *model, const struct method_config *method)
{
    uint64_t width = model->width, size = method->size, one = 2 * width * size + width + size;
    return model->layers * (method->mlp_only ? 1 : 2) * one;
}

uint64_t method_parameters(const struct model_config *model, const struct method_config *method)
{
    switch (method->kind) {
    case METHOD_FULL:
    case METHOD_UNFREEZE:
        return model_parameters(model);
    case METHOD_IA3:
        return ia3_parameters(model, method);
    case METHOD_BITFIT:
        return model_biases(model);
    case METHOD_ADAPTER:
        return adapter_parameters(model, method);
    case METHOD_LORA:
        return lora_parameters(model, method);
    case METHOD_PROMPT:
        return (uint64_t)method->size * model->width;
    case METHOD_PREFIX: /* keys and values of every layer */
        return (uint64_t)method->size * model->layers * 2 * model->kv_heads * model->head_width;
    default:
        return 0;
    }
}

int method_modules_check(const struct method_config *method, const struct model_config *model, struct error *err)
{
    char has[256] = "";
    int used = 0;
    struct linear_size size;
    const struct tensor_names *names = tensor_names_of(model);
    for (int kind = 0; kind < LINEARS; kind++) {
        if (!model_linear(model, (enum linear_kind)kind, &size) || !names->linears[kind]) continue;
        if (method_module(method, (enum linear_kind)kind)) return 0;
        const char *dot = strrchr(names->linears[kind], '.');
        if ((size_t)used < sizeof has)
            used += snprintf(has + used, sizeof has - (size_t)used, "%s%s", used ? ", " : "", dot + 1);
    }
    return error_set(err, "model \"%s\" has none of these modules; allowed: %s; attention, mlp, all", model->name, has);
}

static int check_lora(const struct method_config *method, const struct model_config *model, struct error *err)
{
    if (method->size < 1 || method->size > model->width)
        return error_set(err, "rank %u is %s the width %u of model \"%s\"; allowed: 1..%u", method->size,
                         method->size ? "above" : "below 1, for", model->width, model->name, model->width);
    if (!isfinite(method->alpha) || method->alpha <= 0.0)
        return error_set(err, "alpha %g is out of range; allowed: above 0", method->alpha);
    if (!(method->dropout >= 0.0 && method->dropout < 1.0))
        return error_set(err, "dropout %g is out of range; allowed: 0 .. below 1", method->dropout);
    return method_modules_check(method, model, err);
}

int method_config_check(const struct method_config *method, const struct model_config *model, struct error *err)
{
    if ((unsigned)method->kind >= METHODS) return error_set(err, "unknown method %d", (int)method->kind);
    if (!method_sizes(method->kind) && method->size)
        return error_set(err, "%s has no PET size, got %u", method_name(method->kind), method->size);
    if (method->kind == METHOD_LORA) return check_lora(method, model, err);
    if (method->kind == METHOD_IA3) return method_modules_check(method, model, err);
    if (method->kind == METHOD_BITFIT && !model_biases(model))
        return error_set(err,
                         "bitfit trains biases, and model \"%s\" has none; allowed: models with biases, such as Qwen2, "
                         "GPT-NeoX, or with qkv_bias, out_bias, mlp_bias",
                         model->name);
    if (method->kind == METHOD_ADAPTER && (method->size < 1 || method->size > model->width))
        return error_set(err, "adapter width %u is out of range for model \"%s\"; allowed: 1..%u, its width",
                         method->size, model->name, model->width);
    if (method->kind == METHOD_UNFREEZE && (!method->thaw_layers || !method->thaw_steps))
        return error_set(err, "thaw_layers %u, thaw_steps %" PRIu64 "; allowed: 1 and more", method->thaw_layers,
                         method->thaw_steps);
    if (method->kind == METHOD_PREFIX && (method->size < 1 || method->size > PREFIX_LIMIT))
        return error_set(err, "prefix length %u is out of range; allowed: 1..%d", method->size, PREFIX_LIMIT);
    if (method->kind == METHOD_PROMPT && (method->size < 1 || method->size > model->vocabulary))
        return error_set(err,
                         "prompt length %u is out of range for model \"%s\"; allowed: 1..%u "
                         "(prompts begin as vocabulary embeddings)",
                         method->size, model->name, model->vocabulary);
    return 0;
}
