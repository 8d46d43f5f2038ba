/* config.json of Hugging Face <-> the description of a model. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/files/huggingface.h"
#include "workers/files/json_reader.h"

static enum model_family take_family(struct json_reader *reader)
{
    const char *type = json_take_string(reader, "model_type", "");
    int family = family_find(type);
    if (family >= 0) return (enum model_family)family;
    json_refuse(
        reader,
        "model_type \"%.60s\" is not one that Tunelaw has; allowed: llama, mistral, qwen2, qwen3, olmo2, gpt_neox",
        type);
    return FAMILY_LLAMA;
}

static enum activation take_activation(struct json_reader *reader, enum model_family family)
{
    static const struct {
        const char *name;
        enum activation activation;
    } known[] = {{"gelu", ACTIVATION_GELU},
                 {"gelu_new", ACTIVATION_GELU_TANH},
                 {"gelu_fast", ACTIVATION_GELU_TANH},
                 {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH}};
    bool gated = family != FAMILY_NEOX;
    const char *name = json_take_string(reader, "hidden_act", gated ? "silu" : "gelu");
    if (gated && (!strcmp(name, "silu") || !strcmp(name, "swish"))) return ACTIVATION_SWIGLU;
    for (size_t i = 0; i < sizeof known / sizeof *known && !gated; i++)
        if (!strcmp(name, known[i].name)) return known[i].activation;
    json_refuse(reader, gated ? "hidden_act \"%.60s\"; allowed: silu" : "hidden_act \"%.60s\"; allowed: gelu, gelu_new",
                name);
    return ACTIVATION_SWIGLU;
}

/* Frequencies stretched for longer contexts (kernels/rotary.h). */
static void take_scaling(struct json_reader *rope, struct rotary_scaling *out)
{
    const char *type = json_take_string(rope, "rope_type", json_take_string(rope, "type", "default"));
    *out = (struct rotary_scaling){.factor = 0};
    if (!strcmp(type, "default")) return;
    bool blended = !strcmp(type, "llama3");
    if (!blended && strcmp(type, "linear"))
        json_refuse(rope, "positions are scaled by \"%.60s\"; allowed: default, linear, llama3", type);
    out->factor = json_take_number(rope, "factor", 0);
    if (!(out->factor >= 1)) json_fail(rope, "factor", "is not at least 1");
    if (!blended) return;
    out->low = json_take_number(rope, "low_freq_factor", 0);
    out->high = json_take_number(rope, "high_freq_factor", 0);
    out->original = json_take_count(rope, "original_max_position_embeddings", 0);
    if (!(out->low > 0 && out->high > out->low))
        json_fail(rope, "high_freq_factor", "is not above low_freq_factor above 0");
}

/* Positions, as transformers 5 (rope_parameters) and as earlier versions write them. */
static void take_rotary(struct json_reader *reader, struct model_config *model)
{
    bool neox = model->architecture.family == FAMILY_NEOX;
    double theta = json_take_number(reader, neox ? "rotary_emb_base" : "rope_theta", 10000);
    double share =
        neox ? json_take_number(reader, "rotary_pct", 0.25) : json_take_number(reader, "partial_rotary_factor", 1);
    static const char *const keys[] = {"rope_parameters", "rope_scaling"};
    for (int i = 0; i < 2 && !reader->failed; i++) {
        const json_t *object = json_value_of(reader, keys[i]);
        if (!object) continue;
        struct json_reader rope = {object, reader->err, false};
        theta = json_take_number(&rope, "rope_theta", theta);
        share = json_take_number(&rope, "partial_rotary_factor", share);
        if (!json_is_object(object)) json_fail(&rope, keys[i], "is no object");
        if (json_is_object(object)) take_scaling(&rope, &model->rope_scaling);
        reader->failed |= rope.failed;
    }
    if (!(share > 0 && share <= 1)) json_fail(reader, "partial_rotary_factor", "is not above 0 and at most 1");
    /* transformers turns whole heads in these families, whatever the file says, and cannot scale parts of them */
    if (!neox && share < 1 && model->rope_scaling.factor > 0)
        json_fail(reader, "partial_rotary_factor", "is not 1, and the positions are scaled");
    if (!neox) share = 1;
    model->rope_theta = theta;
    uint32_t turned = (uint32_t)(share * model->head_width);
    model->architecture.rotary_width = turned == model->head_width ? 0 : turned;
}

static bool is_qwen(enum model_family family)
{
    return family == FAMILY_QWEN2 || family == FAMILY_QWEN3;
}

/* null: as many as heads; not there: as the family's class of transformers has it. */
static uint32_t kv_heads_unsaid(const struct json_reader *reader, const struct model_config *model)
{
    bool there = json_object_get(reader->object, "num_key_value_heads");
    if (!there && is_qwen(model->architecture.family)) return 32;
    return !there && model->architecture.family == FAMILY_MISTRAL ? 8 : model->heads;
}

static void take_heads(struct json_reader *reader, struct model_config *model)
{
    bool neox = model->architecture.family == FAMILY_NEOX;
    model->heads = json_take_count(reader, "num_attention_heads", 0);
    model->kv_heads =
        neox ? model->heads : json_take_count(reader, "num_key_value_heads", kv_heads_unsaid(reader, model));
    uint32_t share = model->width / model->heads;
    if (model->architecture.family == FAMILY_QWEN3)
        share = 128; /* whatever the model's width */
    else if (model->width % model->heads && !json_value_of(reader, "head_dim"))
        json_fail(reader, "num_attention_heads", "does not divide hidden_size");
    model->head_width = neox ? share : json_take_count(reader, "head_dim", share ? share : 1);
}

/* Whether the layers slide: from layer max_window_layers on, in Qwen's classes. */
static bool qwen_slides(struct json_reader *reader, const struct model_config *model)
{
    if (!json_take_bool(reader, "use_sliding_window", false)) return false;
    const json_t *first = json_value_of(reader, "max_window_layers");
    if (first && !json_is_integer(first)) json_fail(reader, "max_window_layers", "is no natural number");
    json_int_t full = first ? json_integer_value(first) : 28;
    if (full > 0 && full < (json_int_t)model->layers)
        json_fail(reader, "max_window_layers", "has some layers slide and others not; allowed: 0, or all of them");
    return full <= 0;
}

static void take_architecture(struct json_reader *reader, struct model_config *model)
{
    struct architecture *a = &model->architecture;
    if (a->family == FAMILY_NEOX) {
        a->parallel = json_take_bool(reader, "use_parallel_residual", true);
        a->qkv_bias = a->out_bias = json_take_bool(reader, "attention_bias", true);
    } else if (a->family == FAMILY_LLAMA || a->family == FAMILY_OLMO2 || a->family == FAMILY_QWEN3) {
        a->qkv_bias = a->out_bias = json_take_bool(reader, "attention_bias", false);
        if (a->family == FAMILY_LLAMA) a->mlp_bias = json_take_bool(reader, "mlp_bias", false);
    }
    bool slides = a->family == FAMILY_MISTRAL || (is_qwen(a->family) && qwen_slides(reader, model));
    if (slides && !json_is_null(json_object_get(reader->object, "sliding_window"))) /* not there: as in transformers */
        a->window = json_take_count(reader, "sliding_window", 4096);
}

static void take_model(struct json_reader *reader, struct model_config *model)
{
    enum model_family family = take_family(reader);
    model->width = json_take_count(reader, "hidden_size", 0);
    model->layers = json_take_count(reader, "num_hidden_layers", 0);
    model->ffn = json_take_count(reader, "intermediate_size", 0);
    model->vocabulary = json_take_count(reader, "vocab_size", 0);
    model->architecture.family = family;
    take_heads(reader, model);
    if (reader->failed) return;
    model->architecture = architecture_of(family, model->head_width);
    model->architecture.activation = take_activation(reader, family);
    take_architecture(reader, model);
    take_rotary(reader, model);
    /* what each family's configuration class has where the file says nothing */
    model->tied = json_take_bool(reader, "tie_word_embeddings", false);
    model->norm_epsilon = family == FAMILY_NEOX
                              ? json_take_number(reader, "layer_norm_eps", 1e-5)
                              : json_take_number(reader, "rms_norm_eps", family == FAMILY_OLMO2 ? 1e-5 : 1e-6);
}

const struct safetensors_tensor *huggingface_find(const struct safetensors *weights, const char *name)
{
    const struct safetensors_tensor *tensor = safetensors_find(weights, name);
    return tensor || strcmp(name, "embed_out.weight") ? tensor : safetensors_find(weights, "lm_head.weight");
}

/* A model whose weights hold an output matrix of their own is not tied, whatever the description says: transformers
 * keeps both, too. Weights that cannot be opened say nothing here: huggingface_open says why. */
static int find_tied(const char *dir, struct model_config *model, struct error *err)
{
    const struct tensor_names *names = tensor_names_of(model);
    struct error unread;
    char name[96];
    struct safetensors *weights = model->tied ? safetensors_open(dir, &unread) : NULL;
    if (!weights) return 0;
    snprintf(name, sizeof name, "%s.weight", names->embedding);
    const struct safetensors_tensor *embedding = safetensors_find(weights, name);
    snprintf(name, sizeof name, "%s.weight", names->unembedding);
    const struct safetensors_tensor *output = huggingface_find(weights, name);
    int result = embedding && output ? safetensors_same(weights, embedding, output, &model->tied, err) : 0;
    safetensors_close(weights);
    return result;
}

int huggingface_config(const char *dir, struct model_config *model, struct error *err)
{
    char path[PATH_MAX];
    *model = (struct model_config){.layers = 0};
    json_t *object = json_file_read(dir, "config.json", path, err);
    if (!object) return -1;
    struct json_reader reader = {object, err, false};
    take_model(&reader, model);
    int result = reader.failed || model_config_check(model, err) ? error_prefix(err, "%s", path) : 0;
    json_decref(object);
    return result ? result : find_tied(dir, model, err);
}

uint64_t huggingface_positions(const char *dir)
{
    char path[PATH_MAX];
    struct error ignored;
    json_t *object = json_file_read(dir, "config.json", path, &ignored);
    json_int_t positions = json_integer_value(json_object_get(object, "max_position_embeddings"));
    json_decref(object);
    return positions > 0 ? (uint64_t)positions : 0;
}

/* Which of Hugging Face's classes has this model, or why none does. */
static int check_family(const struct model_config *model, struct error *err)
{
    const struct architecture *a = &model->architecture;
    struct architecture usual = architecture_of(a->family, model->head_width);
    bool neox = a->family == FAMILY_NEOX, llama = a->family == FAMILY_LLAMA,
         biased = neox || llama || a->family == FAMILY_OLMO2 || a->family == FAMILY_QWEN3;
    bool same = a->norm == usual.norm && a->norm_after == usual.norm_after && a->qk_norm == usual.qk_norm &&
                a->fused_qkv == usual.fused_qkv && (neox || a->parallel == usual.parallel) &&
                (neox ? a->activation != ACTIVATION_SWIGLU : a->activation == ACTIVATION_SWIGLU) &&
                (neox || !a->rotary_width) && (llama || a->mlp_bias == usual.mlp_bias) &&
                (biased ? a->qkv_bias == a->out_bias : a->qkv_bias == usual.qkv_bias && !a->out_bias) &&
                (!neox || model->head_width * model->heads == model->width) &&
                (!llama || model->width % model->heads == 0);
    return same ? 0
                : error_set(err, "model \"%s\": Hugging Face's %s has no such model", model->name,
                            family_name(a->family));
}

static const char *const classes[FAMILIES] = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM",
                                              "Olmo2ForCausalLM", "GPTNeoXForCausalLM", "Qwen3ForCausalLM"};

static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

/* As earlier versions of transformers read it, too. */
static void put_scaling(json_t *object, const struct rotary_scaling *s)
{
    json_t *scaling = json_object();
    put(scaling, "rope_type", json_string(s->high > 0 ? "llama3" : "linear"));
    put(scaling, "factor", json_real(s->factor));
    if (s->high > 0) {
        put(scaling, "low_freq_factor", json_real(s->low));
        put(scaling, "high_freq_factor", json_real(s->high));
        put(scaling, "original_max_position_embeddings", json_integer(s->original));
    }
    put(object, "rope_scaling", scaling);
}

static void put_neox(json_t *object, const struct model_config *model)
{
    const struct architecture *a = &model->architecture;
    double share = a->rotary_width ? (double)a->rotary_width / model->head_width : 1;
    put(object, "hidden_act", json_string(a->activation == ACTIVATION_GELU ? "gelu" : "gelu_new"));
    put(object, "use_parallel_residual", json_boolean(a->parallel));
    put(object, "attention_bias", json_boolean(a->qkv_bias));
    put(object, "layer_norm_eps", json_real(model->norm_epsilon));
    put(object, "rotary_emb_base", json_real(model->rope_theta));
    put(object, "rotary_pct", json_real(share));
    put(object, "attention_dropout", json_real(0));
    put(object, "hidden_dropout", json_real(0));
}

static void put_llama(json_t *object, const struct model_config *model)
{
    const struct architecture *a = &model->architecture;
    put(object, "hidden_act", json_string("silu"));
    put(object, "num_key_value_heads", json_integer(model->kv_heads));
    put(object, "head_dim", json_integer(model->head_width));
    put(object, "rms_norm_eps", json_real(model->norm_epsilon));
    put(object, "rope_theta", json_real(model->rope_theta));
    put(object, "attention_dropout", json_real(0));
    if (a->family == FAMILY_LLAMA || a->family == FAMILY_OLMO2 || a->family == FAMILY_QWEN3)
        put(object, "attention_bias", json_boolean(a->qkv_bias));
    if (a->family == FAMILY_LLAMA) put(object, "mlp_bias", json_boolean(a->mlp_bias));
    if (a->family == FAMILY_MISTRAL) put(object, "sliding_window", a->window ? json_integer(a->window) : json_null());
    if (is_qwen(a->family)) put(object, "use_sliding_window", json_boolean(a->window != 0));
    if (is_qwen(a->family) && a->window) {
        put(object, "sliding_window", json_integer(a->window));
        put(object, "max_window_layers", json_integer(0));
    }
}

char *huggingface_describe(const struct model_config *model, struct error *err)
{
    const struct architecture *a = &model->architecture;
    enum { POSITIONS = 1 << 17 }; /* what transformers wants to be told; nothing depends on it */
    if (check_family(model, err)) return NULL;
    json_t *object = json_pack("{s:[s], s:s, s:s}", "architectures", classes[a->family], "model_type",
                               family_name(a->family), "torch_dtype", "float32");
    put(object, "hidden_size", json_integer(model->width));
    put(object, "num_hidden_layers", json_integer(model->layers));
    put(object, "num_attention_heads", json_integer(model->heads));
    put(object, "intermediate_size", json_integer(model->ffn));
    put(object, "vocab_size", json_integer(model->vocabulary));
    put(object, "tie_word_embeddings", json_boolean(model->tied));
    put(object, "max_position_embeddings", json_integer(POSITIONS));
    put(object, "bos_token_id", json_null());
    put(object, "eos_token_id", json_null());
    put(object, "pad_token_id", json_null());
    if (model->rope_scaling.factor > 0) put_scaling(object, &model->rope_scaling);
    if (a->family == FAMILY_NEOX)
        put_neox(object, model);
    else
        put_llama(object, model);
    char *text = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(object);
    if (!text) error_set(err, "out of memory");
    return text;
}
