/* What a method is: names, PET sizes, parameter counts, and the checks that it can be built on a model. The planner
 * asks before anything is launched; the worker allocates by the same counts. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "workers/config.h"
#include "workers/names.h"

static const char *const method_names[METHODS] = {"none", "full", "lora", "prompt"};
static const char *const size_names[METHODS] = {[METHOD_LORA] = "ranks", [METHOD_PROMPT] = "lengths"};

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

enum {
    ATTENTION = 1 << LINEAR_Q | 1 << LINEAR_K | 1 << LINEAR_V | 1 << LINEAR_QKV | 1 << LINEAR_O,
    MLP = 1 << LINEAR_GATE | 1 << LINEAR_UP | 1 << LINEAR_DOWN
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

bool method_module(const struct method_config *method, enum linear_kind kind)
{
    return method->kind == METHOD_LORA && (!method->modules || method->modules >> kind & 1);
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

uint64_t method_parameters(const struct model_config *model, const struct method_config *method)
{
    switch (method->kind) {
    case METHOD_FULL:
        return model_parameters(model);
    case METHOD_LORA:
        return lora_parameters(model, method);
    case METHOD_PROMPT:
        return (uint64_t)method->size * model->width;
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
    if (method->kind == METHOD_PROMPT && (method->size < 1 || method->size > model->vocabulary))
        return error_set(err,
                         "prompt length %u is out of range for model \"%s\"; allowed: 1..%u "
                         "(prompts begin as vocabulary embeddings)",
                         method->size, model->name, model->vocabulary);
    return 0;
}
