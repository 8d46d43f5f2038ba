/* One block of the Transformer, forward and backward: two halves, attention and MLP, each with a norm, around a
 * residual. The architecture says where the norms stand and whether the halves follow each other or stand side by side.
 * Over several ranks: one sum after each half, forward (of the output) and backward (of the input's gradient); halves
 * side by side share the forward one. */
#include "workers/model/model_parts.h"

static int sum_residual(const struct model *model, const struct pass *pass, real *x, struct error *err)
{
    return model_sum(model, pass->tokens * model->config.width, x, err);
}

static void add_residual(const struct model *model, const struct pass *pass, const real *x, real *y)
{
    model->kernels->add(model->device, pass->tokens * model->config.width, x, y);
}

static uint32_t index_of(const struct model *model, const struct layer *layer)
{
    return (uint32_t)(layer - model->layers);
}

/* What a half adds to the residual stream, in place, behind the recipe's dropout. */
static void drop_half(const struct model *model, const struct layer *layer, const struct pass *pass, unsigned site,
                      real *x)
{
    if (model->drops) drop(model, site, index_of(model, layer), pass->tokens, x, x);
}

/* The gradient of that, from the gradient of the residual stream, which stays. */
static const real *dropped(const struct model *model, const struct layer *layer, const struct pass *pass, unsigned site,
                           const real *dx)
{
    if (!model->drops) return dx;
    drop(model, site, index_of(model, layer), pass->tokens, dx, model->dropped);
    return model->dropped;
}

bool inputs_are_gone(const struct model *model, const struct layer *layer)
{
    bool top = index_of(model, layer) + 1 == model->config.layers;
    return model->reads_linear_inputs && !model->capacity.recompute && !top;
}

/* layer->attention_in, or mlp_in, once more: the same norm of the same x. */
static void norm_again(const struct model *model, const struct layer *layer, const struct norm *norm,
                       const struct pass *pass, real *x, real *y)
{
    if (inputs_are_gone(model, layer)) norm_forward(model, norm, pass->tokens, NULL, x, y);
}

/* out = in + half(norm(in)) */
static int forward_norm_before(const struct model *model, const struct layer *layer, const struct pass *pass,
                               struct error *err)
{
    norm_forward(model, &layer->attention_norm, pass->tokens, NULL, layer->input, layer->attention_in);
    if (attention_forward(model, layer, pass, layer->middle, err) || sum_residual(model, pass, layer->middle, err))
        return -1;
    halves_forward(model, layer, HALF_ATTENTION, pass->tokens, layer->middle);
    drop_half(model, layer, pass, DROPOUT_ATTENTION, layer->middle);
    norm_forward(model, &layer->mlp_norm, pass->tokens, layer->input, layer->middle, layer->mlp_in);
    mlp_forward(model, layer, pass, layer->output);
    if (sum_residual(model, pass, layer->output, err)) return -1;
    halves_forward(model, layer, HALF_MLP, pass->tokens, layer->output);
    drop_half(model, layer, pass, DROPOUT_MLP, layer->output);
    add_residual(model, pass, layer->middle, layer->output);
    return 0;
}

/* out = in + norm(half(in)) */
static int forward_norm_after(const struct model *model, const struct layer *layer, const struct pass *pass,
                              struct error *err)
{
    if (attention_forward(model, layer, pass, layer->attention_out, err) ||
        sum_residual(model, pass, layer->attention_out, err))
        return -1;
    halves_forward(model, layer, HALF_ATTENTION, pass->tokens, layer->attention_out);
    norm_forward(model, &layer->attention_norm, pass->tokens, NULL, layer->attention_out, layer->middle);
    drop_half(model, layer, pass, DROPOUT_ATTENTION, layer->middle);
    add_residual(model, pass, layer->input, layer->middle);
    mlp_forward(model, layer, pass, layer->mlp_out);
    if (sum_residual(model, pass, layer->mlp_out, err)) return -1;
    halves_forward(model, layer, HALF_MLP, pass->tokens, layer->mlp_out);
    norm_forward(model, &layer->mlp_norm, pass->tokens, NULL, layer->mlp_out, layer->output);
    drop_half(model, layer, pass, DROPOUT_MLP, layer->output);
    add_residual(model, pass, layer->middle, layer->output);
    return 0;
}

/* out = in + attention(norm(in)) + mlp(norm(in)) */
static int forward_parallel(const struct model *model, const struct layer *layer, const struct pass *pass,
                            struct error *err)
{
    norm_forward(model, &layer->attention_norm, pass->tokens, NULL, layer->input, layer->attention_in);
    norm_forward(model, &layer->mlp_norm, pass->tokens, NULL, layer->input, layer->mlp_in);
    if (attention_forward(model, layer, pass, layer->middle, err)) return -1;
    mlp_forward(model, layer, pass, model->branch);
    if (model->changes_halves) { /* each half's sum by itself */
        if (sum_residual(model, pass, layer->middle, err) || sum_residual(model, pass, model->branch, err)) return -1;
        halves_forward(model, layer, HALF_ATTENTION, pass->tokens, layer->middle);
        halves_forward(model, layer, HALF_MLP, pass->tokens, model->branch);
    }
    /* of partial sums, too: the same masks on every rank */
    drop_half(model, layer, pass, DROPOUT_ATTENTION, layer->middle);
    drop_half(model, layer, pass, DROPOUT_MLP, model->branch);
    add_residual(model, pass, model->branch, layer->middle);
    if (!model->changes_halves && sum_residual(model, pass, layer->middle, err)) return -1;
    if (layer->output != layer->input)
        model->kernels->copy(model->device, pass->tokens * model->config.width * model->element, layer->input,
                             layer->output);
    add_residual(model, pass, layer->middle, layer->output);
    return 0;
}

int block_forward(const struct model *model, const struct layer *layer, const struct pass *pass, struct error *err)
{
    const struct architecture *a = &model->config.architecture;
    if (a->parallel) return forward_parallel(model, layer, pass, err);
    return a->norm_after ? forward_norm_after(model, layer, pass, err) : forward_norm_before(model, layer, pass, err);
}

/* model->dinput, whose sum has begun: gradient of a norm's output -> dx +=, through the norm of `x`. */
static int through_norm(const struct model *model, const struct norm *norm, const struct pass *pass, const real *x,
                        struct error *err)
{
    if (model_sum_end(model, err)) return -1;
    norm_backward(model, norm, pass->tokens, x, model->dinput, model->dx);
    return 0;
}

static int backward_norm_before(const struct model *model, const struct layer *layer, const struct pass *pass,
                                bool last, struct error *err)
{
    const real *dout =
        halves_backward(model, layer, HALF_MLP, pass->tokens, dropped(model, layer, pass, DROPOUT_MLP, model->dx));
    norm_again(model, layer, &layer->mlp_norm, pass, layer->middle, layer->mlp_in);
    if (mlp_backward(model, layer, pass, dout, model->dinput, err) ||
        through_norm(model, &layer->mlp_norm, pass, layer->middle, err))
        return -1;
    dout = halves_backward(model, layer, HALF_ATTENTION, pass->tokens,
                           dropped(model, layer, pass, DROPOUT_ATTENTION, model->dx));
    norm_again(model, layer, &layer->attention_norm, pass, layer->input, layer->attention_in);
    if (attention_backward(model, layer, pass, dout, last ? NULL : model->dinput, err)) return -1;
    return last ? 0 : through_norm(model, &layer->attention_norm, pass, layer->input, err);
}

/* model->branch = gradient of a half's output, from `dnormed`, that of its norm's output. */
static void branch_of(const struct model *model, const struct norm *norm, const struct pass *pass, const real *out,
                      const real *dnormed)
{
    model->kernels->zero(model->device, pass->tokens * model->config.width * model->element, model->branch);
    norm_backward(model, norm, pass->tokens, out, dnormed, model->branch);
}

static int add_dinput(const struct model *model, const struct pass *pass, struct error *err)
{
    if (model_sum_end(model, err)) return -1;
    add_residual(model, pass, model->dinput, model->dx);
    return 0;
}

static int backward_norm_after(const struct model *model, const struct layer *layer, const struct pass *pass, bool last,
                               struct error *err)
{
    branch_of(model, &layer->mlp_norm, pass, layer->mlp_out, dropped(model, layer, pass, DROPOUT_MLP, model->dx));
    if (mlp_backward(model, layer, pass, halves_backward(model, layer, HALF_MLP, pass->tokens, model->branch),
                     model->dinput, err) ||
        add_dinput(model, pass, err))
        return -1;
    branch_of(model, &layer->attention_norm, pass, layer->attention_out,
              dropped(model, layer, pass, DROPOUT_ATTENTION, model->dx));
    if (attention_backward(model, layer, pass,
                           halves_backward(model, layer, HALF_ATTENTION, pass->tokens, model->branch),
                           last ? NULL : model->dinput, err))
        return -1;
    return last ? 0 : add_dinput(model, pass, err);
}

static int backward_parallel(const struct model *model, const struct layer *layer, const struct pass *pass, bool last,
                             struct error *err)
{
    size_t bytes = pass->tokens * model->config.width * model->element;
    model->kernels->copy(model->device, bytes, model->dx, model->branch);
    const real *dout =
        halves_backward(model, layer, HALF_MLP, pass->tokens, dropped(model, layer, pass, DROPOUT_MLP, model->branch));
    norm_again(model, layer, &layer->mlp_norm, pass, layer->input, layer->mlp_in);
    if (mlp_backward(model, layer, pass, dout, last ? NULL : model->dinput, err) ||
        (!last && through_norm(model, &layer->mlp_norm, pass, layer->input, err)))
        return -1;
    dout = halves_backward(model, layer, HALF_ATTENTION, pass->tokens,
                           dropped(model, layer, pass, DROPOUT_ATTENTION, model->branch));
    norm_again(model, layer, &layer->attention_norm, pass, layer->input, layer->attention_in);
    if (attention_backward(model, layer, pass, dout, last ? NULL : model->dinput, err)) return -1;
    return last ? 0 : through_norm(model, &layer->attention_norm, pass, layer->input, err);
}

int block_backward(const struct model *model, const struct layer *layer, const struct pass *pass, bool last,
                   struct error *err)
{
    const struct architecture *a = &model->config.architecture;
    if (a->parallel) return backward_parallel(model, layer, pass, last, err);
    return a->norm_after ? backward_norm_after(model, layer, pass, last, err)
                         : backward_norm_before(model, layer, pass, last, err);
}
