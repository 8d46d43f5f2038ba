/* adapter_config.json of PEFT <-> the description of a method. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "workers/files/json_reader.h"
#include "workers/files/peft.h"

/* Of no effect on what an adapter computes: where it comes from, how it was begun or trained, how it is loaded. */
static const char *const free_keys[] = {"auto_mapping",
                                        "base_model_name_or_path",
                                        "inference_mode",
                                        "peft_type",
                                        "peft_version",
                                        "revision",
                                        "task_type",
                                        "init_lora_weights",
                                        "lora_dropout",
                                        "loftq_config",
                                        "eva_config",
                                        "corda_config",
                                        "lora_ga_config",
                                        "kasa_config",
                                        "megatron_core",
                                        "qalora_group_size",
                                        "r",
                                        "lora_alpha",
                                        "use_rslora",
                                        "target_modules",
                                        "feedforward_modules",
                                        "init_ia3_weights",
                                        "num_attention_heads",
                                        "num_layers",
                                        "num_transformer_submodules",
                                        "num_virtual_tokens",
                                        "token_dim",
                                        "encoder_hidden_size",
                                        "prefix_projection",
                                        "init_weights",
                                        "prompt_tuning_init",
                                        "prompt_tuning_init_text",
                                        "prompt_tuning_init_state_dict_path",
                                        "tokenizer_name_or_path",
                                        "tokenizer_kwargs"};

static bool is_free(const char *key)
{
    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
        if (!strcmp(key, free_keys[i])) return true;
    return false;
}

/* Switched off: null, false, "none", nothing in it. */
static bool is_off(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) || (json_is_array(value) && !json_array_size(value)) ||
           (json_is_object(value) && !json_object_size(value)) ||
           (json_is_string(value) && !strcmp(json_string_value(value), "none"));
}

/* Every other key asks for something that the engine does not have. */
static void refuse_others(struct json_reader *reader)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)reader->object, key, value)
    {
        if (!is_free(key) && !is_off(value))
            json_refuse(reader, "\"%.60s\" is set, and Tunelaw has nothing of this kind; allowed: null, false, none",
                        key);
    }
}

/* Some beginnings of LoRA take a part out of the base's weights: the adapter belongs to other ones than the base has.
 */
static void check_beginning(struct json_reader *reader)
{
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const json_t *value = json_value_of(reader, "init_lora_weights");
    bool known = !value || json_is_boolean(value);
    for (size_t i = 0; json_is_string(value) && i < sizeof harmless / sizeof *harmless; i++)
        known |= !strcmp(json_string_value(value), harmless[i]);
    if (!known)
        json_fail(reader, "init_lora_weights",
                  "may have changed the base's weights; allowed: true, false, gaussian, eva, orthogonal");
}

/* "q_proj", or with what stands before it: a matrix's place in every layer. */
static uint32_t module_of(struct json_reader *reader, const char *key, const json_t *value)
{
    const char *name = json_is_string(value) ? json_string_value(value) : "", *dot = strrchr(name, '.');
    const char *last = dot ? dot + 1 : name;
    bool group = !strcmp(last, "all") || !strcmp(last, "attention") || !strcmp(last, "mlp");
    uint32_t found = group ? 0 : modules_find(last);
    char what[128];
    snprintf(what, sizeof what, "\"%.30s\" names \"%.60s\"", key, name);
    if (!found) json_refuse(reader, "%s, which is no matrix of a layer of a model that Tunelaw has", what);
    return found;
}

static uint32_t take_names(struct json_reader *reader, const char *key, const json_t *list)
{
    uint32_t modules = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        modules |= module_of(reader, key, json_array_get(list, i));
    return modules;
}

static uint32_t take_modules(struct json_reader *reader)
{
    const json_t *value = json_value_of(reader, "target_modules");
    if (json_is_string(value) && !strcmp(json_string_value(value), "all-linear")) return modules_find("all");
    if (!json_is_array(value) || !json_array_size(value)) {
        json_fail(reader, "target_modules", "is neither a list of names nor \"all-linear\"");
        return 0;
    }
    return take_names(reader, "target_modules", value);
}

/* The matrices of a layer; NULL: of any model. */
static uint32_t modules_in(const struct model_config *model)
{
    struct linear_size size;
    uint32_t has = 0;
    if (!model) return modules_find("all");
    for (int kind = 0; kind < LINEARS; kind++)
        if (model_linear(model, (enum linear_kind)kind, &size)) has |= 1u << kind;
    return has;
}

/* The one way to say it: of the model's matrices, and 0 for those that are usual. */
static uint32_t normal_modules(enum method_kind kind, uint32_t modules, const struct model_config *model)
{
    uint32_t has = modules_in(model), chosen = modules & has;
    if (chosen == (modules_usual(kind) & has)) return 0;
    return chosen ? chosen : modules; /* none: method_config_check says so */
}

static void take_lora(struct json_reader *reader, const struct model_config *model, struct method_config *method)
{
    method->kind = METHOD_LORA;
    method->size = json_take_count(reader, "r", 0);
    method->alpha = json_take_number(reader, "lora_alpha", 8);
    method->rank_stabilised = json_take_bool(reader, "use_rslora", false);
    uint32_t modules = take_modules(reader);
    check_beginning(reader);
    if (!(method->alpha > 0 && isfinite(method->alpha))) json_fail(reader, "lora_alpha", "is not above 0");
    method->modules = normal_modules(METHOD_LORA, modules, model);
}

/* Inputs are scaled in the MLP, there alone: PEFT's default, where it has one. */
static void take_ia3(struct json_reader *reader, const struct model_config *model, struct method_config *method)
{
    method->kind = METHOD_IA3;
    const json_t *list = json_value_of(reader, "feedforward_modules");
    uint32_t modules = take_modules(reader), inputs = take_names(reader, "feedforward_modules", list);
    uint32_t has = modules_in(model), wanted = modules & modules_find("mlp") & has;
    /* which of all matrices there are is not known without the model */
    bool open = !model && modules == modules_find("all") && !(inputs & ~wanted);
    if (!json_is_array(list))
        json_fail(reader, "feedforward_modules", "is not a list of names");
    else if ((inputs & has) != wanted && !open)
        json_fail(reader, "feedforward_modules",
                  "are not the matrices of the MLP in target_modules: Tunelaw scales the inputs of these, and the "
                  "outputs of others");
    method->modules = normal_modules(METHOD_IA3, modules, model);
}

static void take_prompt(struct json_reader *reader, const struct model_config *model, struct method_config *method)
{
    method->kind = METHOD_PROMPT;
    method->size = json_take_count(reader, "num_virtual_tokens", 0);
    uint32_t width = json_take_count(reader, "token_dim", model ? model->width : 1);
    if (model && width != model->width) json_fail(reader, "token_dim", "is not the width of the model");
    if (json_take_count(reader, "num_transformer_submodules", 1) != 1)
        json_fail(reader, "num_transformer_submodules", "is not 1");
}

/* What the model has, and no other: PEFT cuts the table by these. */
static void check_size(struct json_reader *reader, const char *key, uint32_t wanted, const char *why)
{
    uint32_t found = json_take_count(reader, key, wanted ? wanted : 1);
    if (wanted && found != wanted) json_fail(reader, key, why);
}

/* Where heads are grouped, PEFT counts those of keys and values. Of a projection (prefix_projection) it keeps what it
 * gave, in the same table, without its weights. */
static void take_prefix(struct json_reader *reader, const struct model_config *model, struct method_config *method)
{
    method->kind = METHOD_PREFIX;
    method->size = json_take_count(reader, "num_virtual_tokens", 0);
    check_size(reader, "num_layers", model ? model->layers : 0, "is not that of the model");
    check_size(reader, "num_attention_heads", model ? model->kv_heads : 0,
               "is not the number of the model's key/value heads");
    check_size(reader, "token_dim", model ? model->kv_heads * model->head_width : 0,
               "is not the width of the model's keys and values");
    check_size(reader, "num_transformer_submodules", 1, "is not 1");
}

static void take_method(struct json_reader *reader, const struct model_config *model, struct method_config *method)
{
    const char *type = json_take_string(reader, "peft_type", ""),
               *task = json_take_string(reader, "task_type", "CAUSAL_LM");
    if (strcmp(task, "CAUSAL_LM")) json_refuse(reader, "task_type \"%.60s\"; allowed: CAUSAL_LM", task);
    if (!strcmp(type, "LORA"))
        take_lora(reader, model, method);
    else if (!strcmp(type, "PROMPT_TUNING"))
        take_prompt(reader, model, method);
    else if (!strcmp(type, "IA3"))
        take_ia3(reader, model, method);
    else if (!strcmp(type, "PREFIX_TUNING"))
        take_prefix(reader, model, method);
    else
        json_refuse(reader, "peft_type \"%.60s\"; allowed: LORA, PROMPT_TUNING, PREFIX_TUNING, IA3", type);
    refuse_others(reader);
}

int peft_config(const char *dir, const struct model_config *model, struct method_config *method, struct error *err)
{
    char path[PATH_MAX];
    *method = (struct method_config){.size = 0};
    json_t *object = json_file_read(dir, "adapter_config.json", path, err);
    if (!object) return -1;
    struct json_reader reader = {object, err, false};
    take_method(&reader, model, method);
    int result =
        reader.failed || (model && method_config_check(method, model, err)) ? error_prefix(err, "%s", path) : 0;
    json_decref(object);
    return result;
}

static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static json_t *number(double value)
{
    return value >= -0x1p52 && value <= 0x1p52 && value == floor(value) ? json_integer((json_int_t)value)
                                                                        : json_real(value);
}

/* The last parts of the names of the method's matrices, those in `among`. */
static json_t *names_of(const struct model_config *model, const struct method_config *method, uint32_t among)
{
    const struct tensor_names *names = tensor_names_of(model);
    json_t *list = json_array();
    uint32_t has = modules_in(model) & among;
    for (int kind = 0; kind < LINEARS; kind++)
        if (method_module(method, (enum linear_kind)kind) && has >> kind & 1)
            json_array_append_new(list, json_string(strrchr(names->linears[kind], '.') + 1));
    return list;
}

static void put_lora(json_t *object, const struct model_config *model, const struct method_config *method)
{
    put(object, "r", json_integer(method->size));
    put(object, "lora_alpha", number(method->alpha));
    put(object, "use_rslora", json_boolean(method->rank_stabilised));
    put(object, "target_modules", names_of(model, method, modules_find("all")));
    put(object, "lora_dropout", json_real(method->dropout));
    put(object, "bias", json_string("none"));
    put(object, "fan_in_fan_out", json_false());
    put(object, "init_lora_weights", json_true());
}

static void put_ia3(json_t *object, const struct model_config *model, const struct method_config *method)
{
    put(object, "target_modules", names_of(model, method, modules_find("all")));
    put(object, "feedforward_modules", names_of(model, method, modules_find("mlp")));
    put(object, "fan_in_fan_out", json_false());
    put(object, "init_ia3_weights", json_true());
}

static void put_prompt(json_t *object, const struct model_config *model, const struct method_config *method)
{
    put(object, "num_virtual_tokens", json_integer(method->size));
    put(object, "token_dim", json_integer(model->width));
    put(object, "num_layers", json_integer(model->layers));
    put(object, "num_attention_heads", json_integer(model->heads));
    put(object, "num_transformer_submodules", json_integer(1));
    put(object, "prompt_tuning_init", json_string("RANDOM"));
}

static void put_prefix(json_t *object, const struct model_config *model, const struct method_config *method)
{
    uint32_t width = model->kv_heads * model->head_width;
    put(object, "num_virtual_tokens", json_integer(method->size));
    put(object, "token_dim", json_integer(width));
    put(object, "num_layers", json_integer(model->layers));
    put(object, "num_attention_heads", json_integer(model->kv_heads));
    put(object, "num_transformer_submodules", json_integer(1));
    put(object, "encoder_hidden_size", json_integer(width));
    put(object, "prefix_projection", json_false());
}

char *peft_describe(const struct model_config *model, const struct method_config *method, const char *base,
                    struct error *err)
{
    static const struct {
        const char *type;
        void (*put)(json_t *object, const struct model_config *model, const struct method_config *method);
    } kinds[METHODS] = {[METHOD_LORA] = {"LORA", put_lora},
                        [METHOD_PROMPT] = {"PROMPT_TUNING", put_prompt},
                        [METHOD_PREFIX] = {"PREFIX_TUNING", put_prefix},
                        [METHOD_IA3] = {"IA3", put_ia3}};
    if ((unsigned)method->kind >= METHODS || !kinds[method->kind].put) {
        error_set(err, "no PEFT folder is written for the method %s, only for lora, prompt, prefix and ia3",
                  method_name(method->kind));
        return NULL;
    }
    json_t *object = json_pack("{s:s, s:s, s:b}", "peft_type", kinds[method->kind].type, "task_type", "CAUSAL_LM",
                               "inference_mode", 1);
    put(object, "base_model_name_or_path", *base ? json_string(base) : json_null());
    kinds[method->kind].put(object, model, method);
    char *text = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(object);
    if (!text) error_set(err, "out of memory");
    return text;
}
