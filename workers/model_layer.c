/* One block of the Transformer, forward and backward: attention, then the gated MLP, each behind a norm and around a
 * residual. Over several ranks: one sum after each half, forward (of the output) and backward (of the input's
 * gradient). */
#include "workers/model_parts.h"

static void norm_forward(const struct model *model, const struct parameter *gain, size_t tokens, const float *x,
                         float *y, float *rstd)
{
    model->kernels->rms_norm_forward(model->device, tokens, model->config.width, (float)model->config.norm_epsilon, x,
                                     gain->value, y, rstd);
}

/* dnormed -> dx +=, through the norm in front of a half block. */
static int norm_backward(const struct model *model, const struct parameter *gain, size_t tokens, const float *x,
                         const float *rstd, struct error *err)
{
    if (model_sum(model, tokens * model->config.width, model->dnormed, err)) return -1;
    model->kernels->rms_norm_backward(model->device, tokens, model->config.width, x, gain->value, rstd, model->dnormed,
                                      model->dx, gain->gradient);
    return 0;
}

static void rotate(const struct model *model, const struct pass *pass, bool inverse, float *q, float *k)
{
    const struct kernels *kernels = model->kernels;
    const struct attention *a = &pass->attention;
    float theta = (float)model->config.rope_theta;
    kernels->rotary(model->device, pass->tokens, a->heads, a->head_width, a->head_width, theta, model->positions,
                    inverse, q);
    kernels->rotary(model->device, pass->tokens, a->kv_heads, a->head_width, a->head_width, theta, model->positions,
                    inverse, k);
}

/* out = in + sum over ranks of out: the end of a half block. */
static int add_residual(const struct model *model, const struct pass *pass, const float *in, float *out,
                        struct error *err)
{
    size_t n = pass->tokens * model->config.width;
    if (model_sum(model, n, out, err)) return -1;
    model->kernels->add(model->device, n, in, out);
    return 0;
}

int attention_block_forward(const struct model *model, const struct layer *layer, const struct pass *pass,
                            struct error *err)
{
    size_t tokens = pass->tokens;
    norm_forward(model, layer->attention_gain, tokens, layer->input, layer->attention_normed, layer->attention_rstd);
    linear_forward(model, &layer->linears[LINEAR_Q], tokens, layer->attention_normed, layer->q);
    linear_forward(model, &layer->linears[LINEAR_K], tokens, layer->attention_normed, layer->k);
    linear_forward(model, &layer->linears[LINEAR_V], tokens, layer->attention_normed, layer->v);
    rotate(model, pass, false, layer->q, layer->k);
    model->kernels->attention_forward(model->device, &pass->attention, layer->q, layer->k, layer->v, layer->attended,
                                      layer->lse);
    linear_forward(model, &layer->linears[LINEAR_O], tokens, layer->attended, layer->middle);
    return add_residual(model, pass, layer->input, layer->middle, err);
}

int mlp_block_forward(const struct model *model, const struct layer *layer, const struct pass *pass, struct error *err)
{
    size_t tokens = pass->tokens;
    norm_forward(model, layer->mlp_gain, tokens, layer->middle, layer->mlp_normed, layer->mlp_rstd);
    linear_forward(model, &layer->linears[LINEAR_GATE], tokens, layer->mlp_normed, layer->gate);
    linear_forward(model, &layer->linears[LINEAR_UP], tokens, layer->mlp_normed, layer->up);
    model->kernels->swiglu_forward(model->device, tokens * model->shard.ffn.count, layer->gate, layer->up,
                                   layer->activated);
    linear_forward(model, &layer->linears[LINEAR_DOWN], tokens, layer->activated, layer->output);
    return add_residual(model, pass, layer->middle, layer->output, err);
}

int mlp_block_backward(const struct model *model, const struct layer *layer, const struct pass *pass, struct error *err)
{
    size_t tokens = pass->tokens;
    float *dactivated = model->dinner, *dgate = layer->gate, *dup = layer->up;
    linear_backward(model, &layer->linears[LINEAR_DOWN], tokens, layer->activated, model->dx, dactivated, false);
    model->kernels->swiglu_backward(model->device, tokens * model->shard.ffn.count, layer->gate, layer->up, dactivated,
                                    dgate, dup);
    linear_backward(model, &layer->linears[LINEAR_GATE], tokens, layer->mlp_normed, dgate, model->dnormed, false);
    linear_backward(model, &layer->linears[LINEAR_UP], tokens, layer->mlp_normed, dup, model->dnormed, true);
    return norm_backward(model, layer->mlp_gain, tokens, layer->middle, layer->mlp_rstd, err);
}

int attention_block_backward(const struct model *model, const struct layer *layer, const struct pass *pass, bool last,
                             struct error *err)
{
    size_t tokens = pass->tokens, query = pass->attention.heads * pass->attention.head_width;
    size_t key = pass->attention.kv_heads * pass->attention.head_width;
    float *dattended = model->dinner, *dq = dattended + tokens * query, *dk = dq + tokens * query,
          *dv = dk + tokens * key;
    linear_backward(model, &layer->linears[LINEAR_O], tokens, layer->attended, model->dx, dattended, false);
    model->kernels->attention_backward(model->device, &pass->attention, layer->q, layer->k, layer->v, layer->attended,
                                       layer->lse, dattended, dq, dk, dv);
    rotate(model, pass, true, dq, dk);
    float *dnormed = last ? NULL : model->dnormed;
    linear_backward(model, &layer->linears[LINEAR_Q], tokens, layer->attention_normed, dq, dnormed, false);
    linear_backward(model, &layer->linears[LINEAR_K], tokens, layer->attention_normed, dk, dnormed, true);
    linear_backward(model, &layer->linears[LINEAR_V], tokens, layer->attention_normed, dv, dnormed, true);
    if (last) return 0;
    return norm_backward(model, layer->attention_gain, tokens, layer->input, layer->attention_rstd, err);
}
