/* What a model is made of: parameter counts, its text, and the checks that it can be built. The planner asks before
 * anything is launched; the worker allocates by the same counts. */
#include "workers/model/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

uint64_t model_non_embedding_parameters(const struct model_config *model)
{
    const struct architecture *a = &model->architecture;
    uint64_t norm = (uint64_t)model->width * (a->norm == NORM_LAYER ? 2 : 1), layer = 2 * norm;
    struct linear_size size;
    for (int kind = 0; kind < LINEARS; kind++)
        if (model_linear(model, (enum linear_kind)kind, &size)) layer += size.out * (size.in + size.bias);
    if (a->qk_norm == QK_NORM_TOKEN) layer += (uint64_t)(model->heads + model->kv_heads) * model->head_width;
    if (a->qk_norm == QK_NORM_HEAD) layer += (uint64_t)2 * model->head_width;
    return model->layers * layer + norm;
}

uint64_t model_parameters(const struct model_config *model)
{
    uint64_t table = (uint64_t)model->vocabulary * model->width;
    return model_non_embedding_parameters(model) + (model->tied ? table : 2 * table);
}

static bool is_llama(const struct architecture *a)
{
    return a->family == FAMILY_LLAMA && a->norm == NORM_RMS && a->activation == ACTIVATION_SWIGLU && !a->norm_after &&
           !a->parallel && !a->qk_norm && !a->fused_qkv && !a->qkv_bias && !a->out_bias && !a->mlp_bias &&
           !a->rotary_width && !a->window;
}

int model_text(const struct model_config *model, char *out, size_t size)
{
    const struct architecture *a = &model->architecture;
    int used =
        snprintf(out, size,
                 "layers=%" PRIu32 " width=%" PRIu32 " heads=%" PRIu32 " kv_heads=%" PRIu32 " head_width=%" PRIu32
                 " ffn=%" PRIu32 " vocabulary=%" PRIu32 " tied=%d rope_theta=%.17g norm_epsilon=%.17g",
                 model->layers, model->width, model->heads, model->kv_heads, model->head_width, model->ffn,
                 model->vocabulary, model->tied, model->rope_theta, model->norm_epsilon);
    const struct rotary_scaling *s = &model->rope_scaling;
    if (s->factor > 0 && used >= 0 && (size_t)used < size)
        used += snprintf(out + used, size - (size_t)used,
                         " rope_factor=%.17g rope_low=%.17g rope_high=%.17g rope_original=%" PRIu32, s->factor, s->low,
                         s->high, s->original);
    if (used < 0 || (size_t)used >= size || is_llama(a)) return used;
    return used + snprintf(out + used, size - (size_t)used,
                           " family=%s norm=%s activation=%s norm_after=%d parallel=%d qk_norm=%d fused_qkv=%d "
                           "qkv_bias=%d out_bias=%d mlp_bias=%d rotary_width=%" PRIu32 " window=%" PRIu32,
                           family_name(a->family), norm_name(a->norm), activation_name(a->activation), a->norm_after,
                           a->parallel, a->qk_norm, a->fused_qkv, a->qkv_bias, a->out_bias, a->mlp_bias,
                           a->rotary_width, a->window);
}

static int check_range(const char *key, uint32_t value, uint32_t limit, struct error *err)
{
    if (value >= 1 && value <= limit) return 0;
    return error_set(err, "%s %u is out of range; allowed: 1..%u", key, value, limit);
}

static int check_heads(const struct model_config *model, struct error *err)
{
    if (model->heads % model->kv_heads)
        return error_set(err,
                         "kv_heads %u does not divide heads %u; allowed: a divisor of heads "
                         "(1: multi-query, heads: one key/value head a query head)",
                         model->kv_heads, model->heads);
    uint32_t turned = model->architecture.rotary_width;
    if (!turned && model->head_width % 2)
        return error_set(err, "head_width %u is odd, rotary positions turn pairs; allowed: even numbers",
                         model->head_width);
    if (turned % 2 || turned > model->head_width)
        return error_set(err, "rotary_width %u is odd or above head_width %u; allowed: even numbers up to it", turned,
                         model->head_width);
    return 0;
}

/* Choices that exclude each other. */
static int check_architecture(const struct model_config *model, struct error *err)
{
    const struct architecture *a = &model->architecture;
    const struct tensor_names *names = tensor_names_of(model);
    if (a->fused_qkv && model->kv_heads != model->heads)
        return error_set(err, "kv_heads %u differs from heads %u; one matrix of queries, keys and values has as many",
                         model->kv_heads, model->heads);
    if (a->parallel && a->norm_after) return error_set(err, "a parallel residual with norms after the blocks");
    if (a->qk_norm && a->fused_qkv) return error_set(err, "norms of queries and keys that come from one matrix");
    for (int kind = 0; kind < LINEARS; kind++) {
        struct linear_size size;
        if (model_linear(model, (enum linear_kind)kind, &size) && !names->linears[kind])
            return error_set(err, "the family %s has no such matrices", family_name(a->family));
    }
    if (a->qk_norm != QK_NORM_NONE && !names->query_norm)
        return error_set(err, "the family %s has no norms of queries and keys", family_name(a->family));
    return 0;
}

static int check_scaling(const struct rotary_scaling *s, struct error *err)
{
    bool off = s->factor == 0 && s->low == 0 && s->high == 0 && !s->original;
    bool linear = s->low == 0 && s->high == 0 && !s->original, blend = s->low > 0 && s->high > s->low && s->original;
    bool finite = isfinite(s->factor) && isfinite(s->low) && isfinite(s->high);
    if (finite && (off || (s->factor >= 1 && (linear || blend)))) return 0;
    return error_set(
        err,
        "rotary positions are scaled by factor %g, from %g and to %g waves in %u tokens; allowed: a factor of "
        "at least 1, waves 0 < from < to",
        s->factor, s->low, s->high, s->original);
}

int model_config_check(const struct model_config *model, struct error *err)
{
    if (check_range("layers", model->layers, LAYERS_LIMIT, err) ||
        check_range("width", model->width, WIDTH_LIMIT, err) || check_range("heads", model->heads, HEADS_LIMIT, err) ||
        check_range("kv_heads", model->kv_heads, HEADS_LIMIT, err) ||
        check_range("head_width", model->head_width, WIDTH_LIMIT, err) ||
        check_range("ffn", model->ffn, FFN_LIMIT, err) ||
        check_range("vocabulary", model->vocabulary, VOCABULARY_LIMIT, err))
        return -1;
    if (check_heads(model, err) || check_architecture(model, err) || check_scaling(&model->rope_scaling, err))
        return -1;
    if (!isfinite(model->rope_theta) || model->rope_theta <= 1.0)
        return error_set(err, "rope_theta %g is out of range; allowed: above 1", model->rope_theta);
    if (!isfinite(model->norm_epsilon) || model->norm_epsilon <= 0.0 || model->norm_epsilon > 1.0)
        return error_set(err, "norm_epsilon %g is out of range; allowed: above 0, at most 1", model->norm_epsilon);
    return 0;
}
