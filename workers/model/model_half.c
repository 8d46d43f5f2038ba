/* The two halves of a block between the residual streams, forward and backward: attention, and the MLP. */
#include "workers/model/model_parts.h"

static void rotate(const struct model *model, const struct pass *pass, bool inverse, real *q, real *k)
{
    const struct kernels *kernels = model->kernels;
    const struct attention *a = &pass->attention;
    size_t turned = model->config.architecture.rotary_width;
    const struct rotary rotary = {turned ? turned : a->head_width, (float)model->config.rope_theta,
                                  model->config.rope_scaling};
    kernels->rotary(model->device, pass->tokens, a->heads, a->head_width, &rotary, model->positions, inverse, q);
    kernels->rotary(model->device, pass->tokens, a->kv_heads, a->head_width, &rotary, model->positions, inverse, k);
}

/* q, k, v of this rank's heads, from one matrix or three. */
static void project(const struct model *model, const struct layer *layer, size_t tokens)
{
    const real *x = layer->attention_in;
    bool normed = model->config.architecture.qk_norm;
    if (model->config.architecture.fused_qkv) {
        linear_forward(model, &layer->linears[LINEAR_QKV], tokens, x, model->fused);
        model->kernels->split_heads(model->device, tokens, model->shard.heads.count, model->config.head_width,
                                    model->fused, layer->q, layer->k, layer->v);
        return;
    }
    linear_forward(model, &layer->linears[LINEAR_Q], tokens, x, normed ? layer->raw_q : layer->q);
    linear_forward(model, &layer->linears[LINEAR_K], tokens, x, normed ? layer->raw_k : layer->k);
    linear_forward(model, &layer->linears[LINEAR_V], tokens, x, layer->v);
}

/* The batch's attention in a layer, with what the lanes' methods put before their sequences. */
static struct attention attention_of(const struct model *model, const struct layer *layer, const struct pass *pass)
{
    struct attention attention = pass->attention;
    if (!model->prefixes) return attention;
    attention.prefixes = model->prefixes + (size_t)(layer - model->layers) * model->capacity.sequences;
    attention.longest_prefix = model->longest_prefix;
    return attention;
}

int attention_forward(const struct model *model, const struct layer *layer, const struct pass *pass, real *out,
                      struct error *err)
{
    size_t tokens = pass->tokens;
    project(model, layer, tokens);
    if (model->config.architecture.qk_norm && head_norms_forward(model, layer, tokens, err)) return -1;
    rotate(model, pass, false, layer->q, layer->k);
    struct attention attention = attention_of(model, layer, pass);
    if (pass->decode)
        model->kernels->attention_decode(model->device, pass->decode, layer->q, layer->cached_keys,
                                         layer->cached_values, layer->attended);
    else
        model->kernels->attention_forward(model->device, &attention, layer->q, layer->k, layer->v, layer->attended,
                                          layer->lse);
    linear_forward(model, &layer->linears[LINEAR_O], tokens, layer->attended, out);
    return 0;
}

static void project_backward(const struct model *model, const struct layer *layer, size_t tokens, const real *dq,
                             const real *dk, const real *dv, real *dinput)
{
    const real *x = layer->attention_in;
    if (model->config.architecture.fused_qkv) {
        model->kernels->merge_heads(model->device, tokens, model->shard.heads.count, model->config.head_width, dq, dk,
                                    dv, model->fused);
        linear_backward(model, &layer->linears[LINEAR_QKV], tokens, x, model->fused, dinput, false);
        return;
    }
    linear_backward(model, &layer->linears[LINEAR_Q], tokens, x, dq, dinput, false);
    linear_backward(model, &layer->linears[LINEAR_K], tokens, x, dk, dinput, true);
    linear_backward(model, &layer->linears[LINEAR_V], tokens, x, dv, dinput, true);
}

static void project_backward_weights(const struct model *model, const struct layer *layer, size_t tokens,
                                     const real *dq, const real *dk, const real *dv)
{
    const real *x = layer->attention_in;
    if (model->config.architecture.fused_qkv) {
        linear_backward_weights(model, &layer->linears[LINEAR_QKV], tokens, x, model->fused);
        return;
    }
    linear_backward_weights(model, &layer->linears[LINEAR_Q], tokens, x, dq);
    linear_backward_weights(model, &layer->linears[LINEAR_K], tokens, x, dk);
    linear_backward_weights(model, &layer->linears[LINEAR_V], tokens, x, dv);
}

/* The gradient that goes on is summed over ranks while those of the weights are computed. */
static int begin_sum(const struct model *model, size_t tokens, real *dinput, struct error *err)
{
    return dinput ? model_sum_begin(model, tokens * model->config.width, dinput, err) : 0;
}

int attention_backward(const struct model *model, const struct layer *layer, const struct pass *pass, const real *dout,
                       real *dinput, struct error *err)
{
    size_t tokens = pass->tokens, query = model->shard.query.count, key = model->shard.key.count;
    real *dattended = model->dinner, *dq = at(model, dattended, tokens * query), *dk = at(model, dq, tokens * query),
         *dv = at(model, dk, tokens * key);
    linear_backward(model, &layer->linears[LINEAR_O], tokens, layer->attended, dout, dattended, false);
    struct attention attention = attention_of(model, layer, pass);
    model->kernels->attention_backward(model->device, &attention, layer->q, layer->k, layer->v, layer->attended,
                                       layer->lse, dattended, dq, dk, dv);
    rotate(model, pass, true, dq, dk);
    if (model->config.architecture.qk_norm && head_norms_backward(model, layer, tokens, dq, dk, err)) return -1;
    project_backward(model, layer, tokens, dq, dk, dv, dinput);
    if (begin_sum(model, tokens, dinput, err)) return -1;
    linear_backward_weights(model, &layer->linears[LINEAR_O], tokens, layer->attended, dout);
    project_backward_weights(model, layer, tokens, dq, dk, dv);
    return 0;
}

void mlp_forward(const struct model *model, const struct layer *layer, const struct pass *pass, real *out)
{
    const struct kernels *k = model->kernels;
    size_t tokens = pass->tokens, n = tokens * model->shard.ffn.count;
    enum activation activation = model->config.architecture.activation;
    if (activation == ACTIVATION_SWIGLU) {
        linear_forward(model, &layer->linears[LINEAR_UP], tokens, layer->mlp_in, layer->up);
        linear_forward(model, &layer->linears[LINEAR_GATE], tokens, layer->mlp_in, layer->gate);
        k->swiglu_forward(model->device, n, layer->gate, layer->up, layer->activated);
    } else {
        linear_gelu_forward(model, &layer->linears[LINEAR_UP], tokens, activation == ACTIVATION_GELU_TANH,
                            layer->mlp_in, layer->up, layer->activated);
    }
    linear_forward(model, &layer->linears[LINEAR_DOWN], tokens, layer->activated, out);
}

int mlp_backward(const struct model *model, const struct layer *layer, const struct pass *pass, const real *dout,
                 real *dinput, struct error *err)
{
    const struct kernels *k = model->kernels;
    const struct linear *gate = &layer->linears[LINEAR_GATE], *up = &layer->linears[LINEAR_UP],
                        *down = &layer->linears[LINEAR_DOWN];
    size_t tokens = pass->tokens, n = tokens * model->shard.ffn.count;
    enum activation activation = model->config.architecture.activation;
    bool gated = activation == ACTIVATION_SWIGLU;
    real *dactivated = model->dinner, *dgate = layer->gate, *dup = layer->up;
    if (inputs_are_gone(model, layer) && gated)
        k->swiglu_forward(model->device, n, layer->gate, layer->up, layer->activated);
    else if (inputs_are_gone(model, layer))
        k->gelu_forward(model->device, n, activation == ACTIVATION_GELU_TANH, layer->up, layer->activated);
    linear_backward(model, down, tokens, layer->activated, dout, dactivated, false);
    if (gated) {
        k->swiglu_backward(model->device, n, layer->gate, layer->up, dactivated, dgate, dup);
        linear_backward(model, gate, tokens, layer->mlp_in, dgate, dinput, false);
    } else {
        k->gelu_backward(model->device, n, activation == ACTIVATION_GELU_TANH, layer->up, dactivated, dup);
    }
    linear_backward(model, up, tokens, layer->mlp_in, dup, dinput, gated);
    if (begin_sum(model, tokens, dinput, err)) return -1;
    linear_backward_weights(model, down, tokens, layer->activated, dout);
    if (gated) linear_backward_weights(model, gate, tokens, layer->mlp_in, dgate);
    linear_backward_weights(model, up, tokens, layer->mlp_in, dup);
    return 0;
}
