/* What tells families of models apart, as data: the choices that the one Transformer follows, the matrices that a layer
 * has because of them, and the names of its tensors. Pure functions. */
#ifndef TUNELAW_WORKERS_MODEL_ARCHITECTURE_H
#define TUNELAW_WORKERS_MODEL_ARCHITECTURE_H

#include <stdbool.h>
#include <stdint.h>

/* Names of tensors, and "model_type" of Hugging Face's config.json. */
enum model_family { FAMILY_LLAMA, FAMILY_MISTRAL, FAMILY_QWEN2, FAMILY_OLMO2, FAMILY_NEOX, FAMILY_QWEN3, FAMILIES };
const char *family_name(enum model_family family);
int family_find(const char *name); /* enum model_family, or -1 */

enum norm_kind { NORM_RMS, NORM_LAYER, NORMS };
const char *norm_name(enum norm_kind kind); /* "rms", "layer" */
int norm_find(const char *name);

enum activation { ACTIVATION_SWIGLU, ACTIVATION_GELU, ACTIVATION_GELU_TANH, ACTIVATIONS };
const char *activation_name(enum activation activation); /* "swiglu", "gelu", "gelu_tanh" */
int activation_find(const char *name);

/* RMSNorm of queries and keys before they are turned: over all of a token's (OLMo 2), or each head by itself with one
 * gain for all heads (Qwen 3). */
enum qk_norm { QK_NORM_NONE, QK_NORM_TOKEN, QK_NORM_HEAD, QK_NORMS };
const char *qk_norm_name(enum qk_norm kind); /* "none", "token", "head" */
int qk_norm_find(const char *name);

/* All zero: Llama. */
struct architecture {
    enum model_family family;
    enum norm_kind norm; /* gain; with NORM_LAYER also a bias */
    enum activation activation;
    bool norm_after; /* a half block's output is normed, not its input (OLMo 2) */
    bool parallel;   /* attention and MLP read the same residual stream (GPT-NeoX) */
    enum qk_norm qk_norm;
    bool fused_qkv; /* one matrix [heads][3][head_width] (GPT-NeoX): as many key/value heads as heads */
    bool qkv_bias, out_bias, mlp_bias;
    uint32_t rotary_width; /* elements of a head that are turned; 0: all */
    uint32_t window;       /* tokens that attention sees; longer sequences are refused; 0: all */
};

/* What is usual in a family; rotary_width of a head so wide. */
struct architecture architecture_of(enum model_family family, uint32_t head_width);

struct model_config;
enum linear_kind { LINEAR_Q, LINEAR_K, LINEAR_V, LINEAR_QKV, LINEAR_O, LINEAR_GATE, LINEAR_UP, LINEAR_DOWN, LINEARS };
/* A matrix [out][in] of every layer; false where the model has none of this kind. */
struct linear_size {
    uint64_t out, in;
    bool bias;
};
bool model_linear(const struct model_config *model, enum linear_kind kind, struct linear_size *size);

/* Names without ".weight" and ".bias". Those after `layers` stand behind "LAYERS.NUMBER.". */
struct tensor_names {
    const char *embedding, *final_norm, *unembedding, *layers;
    const char *attention_norm, *mlp_norm, *query_norm, *key_norm;
    const char *linears[LINEARS];
};
const struct tensor_names *tensor_names_of(const struct model_config *model);

#endif
