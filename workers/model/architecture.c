/* Families of models as tables. */
#include "workers/model/architecture.h"

#include <stddef.h>
#include <string.h>

#include "workers/model/config.h"
#include "workers/model/names.h"

static const char *const families[FAMILIES] = {"llama", "mistral", "qwen2", "olmo2", "gpt_neox", "qwen3"};
static const char *const norms[NORMS] = {"rms", "layer"};
static const char *const qk_norms[QK_NORMS] = {"none", "token", "head"};
static const char *const activations[ACTIVATIONS] = {"swiglu", "gelu", "gelu_tanh"};

const char *family_name(enum model_family family)
{
    return (unsigned)family < FAMILIES ? families[family] : "unknown";
}

int family_find(const char *name)
{
    return name_find(families, FAMILIES, name);
}

const char *norm_name(enum norm_kind kind)
{
    return (unsigned)kind < NORMS ? norms[kind] : "unknown";
}

int norm_find(const char *name)
{
    return name_find(norms, NORMS, name);
}

const char *qk_norm_name(enum qk_norm kind)
{
    return (unsigned)kind < QK_NORMS ? qk_norms[kind] : "unknown";
}

int qk_norm_find(const char *name)
{
    return name_find(qk_norms, QK_NORMS, name);
}

const char *activation_name(enum activation activation)
{
    return (unsigned)activation < ACTIVATIONS ? activations[activation] : "unknown";
}

int activation_find(const char *name)
{
    return name_find(activations, ACTIVATIONS, name);
}

struct architecture architecture_of(enum model_family family, uint32_t head_width)
{
    struct architecture a = {.family = family};
    switch (family) {
    case FAMILY_QWEN2:
        a.qkv_bias = true;
        break;
    case FAMILY_OLMO2:
        a.norm_after = true;
        a.qk_norm = QK_NORM_TOKEN;
        break;
    case FAMILY_QWEN3:
        a.qk_norm = QK_NORM_HEAD;
        break;
    case FAMILY_NEOX:
        a.norm = NORM_LAYER;
        a.activation = ACTIVATION_GELU;
        a.parallel = a.fused_qkv = a.qkv_bias = a.out_bias = a.mlp_bias = true;
        a.rotary_width = head_width / 4;
        break;
    case FAMILY_LLAMA:
    case FAMILY_MISTRAL:
    case FAMILIES:
        break;
    }
    return a;
}

bool model_linear(const struct model_config *model, enum linear_kind kind, struct linear_size *size)
{
    const struct architecture *a = &model->architecture;
    uint64_t width = model->width, ffn = model->ffn;
    uint64_t query = (uint64_t)model->heads * model->head_width, key = (uint64_t)model->kv_heads * model->head_width;
    switch (kind) {
    case LINEAR_Q:
        *size = (struct linear_size){query, width, a->qkv_bias};
        return !a->fused_qkv;
    case LINEAR_K:
    case LINEAR_V:
        *size = (struct linear_size){key, width, a->qkv_bias};
        return !a->fused_qkv;
    case LINEAR_QKV:
        *size = (struct linear_size){3 * query, width, a->qkv_bias};
        return a->fused_qkv;
    case LINEAR_O:
        *size = (struct linear_size){width, query, a->out_bias};
        return true;
    case LINEAR_GATE:
        *size = (struct linear_size){ffn, width, a->mlp_bias};
        return a->activation == ACTIVATION_SWIGLU;
    case LINEAR_UP:
        *size = (struct linear_size){ffn, width, a->mlp_bias};
        return true;
    case LINEAR_DOWN:
        *size = (struct linear_size){width, ffn, a->mlp_bias};
        return true;
    case LINEARS:
        break;
    }
    return false;
}

#define LLAMA_LINEARS                                                                                                  \
    {                                                                                                                  \
        [LINEAR_Q] = "self_attn.q_proj", [LINEAR_K] = "self_attn.k_proj", [LINEAR_V] = "self_attn.v_proj",             \
        [LINEAR_O] = "self_attn.o_proj", [LINEAR_GATE] = "mlp.gate_proj", [LINEAR_UP] = "mlp.up_proj",                 \
        [LINEAR_DOWN] = "mlp.down_proj",                                                                               \
    }

/* What Llama and its descendants call alike; norms have names of their own. */
#define LLAMA_NAMES                                                                                                    \
    .embedding = "model.embed_tokens", .final_norm = "model.norm", .unembedding = "lm_head", .layers = "model.layers", \
    .linears = LLAMA_LINEARS

static const struct tensor_names llama_names = {LLAMA_NAMES, .attention_norm = "input_layernorm",
                                                .mlp_norm = "post_attention_layernorm"};

static const struct tensor_names olmo2_names = {LLAMA_NAMES, .attention_norm = "post_attention_layernorm",
                                                .mlp_norm = "post_feedforward_layernorm",
                                                .query_norm = "self_attn.q_norm", .key_norm = "self_attn.k_norm"};

static const struct tensor_names qwen3_names = {LLAMA_NAMES, .attention_norm = "input_layernorm",
                                                .mlp_norm = "post_attention_layernorm",
                                                .query_norm = "self_attn.q_norm", .key_norm = "self_attn.k_norm"};

static const struct tensor_names neox_names = {.embedding = "gpt_neox.embed_in",
                                               .final_norm = "gpt_neox.final_layer_norm",
                                               .unembedding = "embed_out",
                                               .layers = "gpt_neox.layers",
                                               .attention_norm = "input_layernorm",
                                               .mlp_norm = "post_attention_layernorm",
                                               .linears = {[LINEAR_QKV] = "attention.query_key_value",
                                                           [LINEAR_O] = "attention.dense",
                                                           [LINEAR_UP] = "mlp.dense_h_to_4h",
                                                           [LINEAR_DOWN] = "mlp.dense_4h_to_h"}};

const struct tensor_names *tensor_names_of(const struct model_config *model)
{
    switch (model->architecture.family) {
    case FAMILY_OLMO2:
        return &olmo2_names;
    case FAMILY_NEOX:
        return &neox_names;
    case FAMILY_QWEN3:
        return &qwen3_names;
    case FAMILY_LLAMA:
    case FAMILY_MISTRAL:
    case FAMILY_QWEN2:
    case FAMILIES:
        break;
    }
    return &llama_names;
}
