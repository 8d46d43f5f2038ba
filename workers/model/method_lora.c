/* LoRA (Hu et al. 2021) beside linear layers of attention and MLP, all or chosen ones: y += scale (x A^T) B^T,
 * A [rank][in], B [out][rank], scale alpha / rank, or alpha / sqrt(rank) (Kalajdzievski 2023).
 *
 * Tensor parallelism adds no collective: beside a column-parallel layer B is cut with the output and A is whole, its
 * gradient partial; beside a row-parallel one A is cut with the input, so that x A^T and y are partial sums like the
 * layer's own, and B's gradient is partial. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/random.h"
#include "workers/model/method.h"
#include "workers/model/model.h"

static void lora_parameters(struct tensor_walk *walk)
{
    struct part rank = part_whole(walk->method->size);
    const char *layers = tensor_names_of(walk->model)->layers;
    for (uint32_t layer = 0; layer < walk->model->layers; layer++) {
        for (int kind = 0; kind < LINEARS; kind++) {
            const struct linear_shape *shape = &walk->shard.linears[kind];
            char name[sizeof walk->list->name];
            if (!shape->name || !method_module(walk->method, (enum linear_kind)kind)) continue;
            snprintf(name, sizeof name, "%s.%u.%s.lora_A.weight", layers, layer, shape->name);
            tensor_add(walk, name, rank, shape->in, true, !shape->in.split);
            snprintf(name, sizeof name, "%s.%u.%s.lora_B.weight", layers, layer, shape->name);
            tensor_add(walk, name, shape->out, rank, true, !shape->out.split || shape->out.shared);
        }
    }
}

/* A uniform in +-1/sqrt(in) (Kaiming with a = sqrt(5)), B zero: the model begins as the base. */
static int lora_initialise(struct parameters *parameters, const struct model_config *model,
                           const struct method_config *config, uint64_t seed, struct error *err)
{
    (void)model, (void)config;
    (void)err;
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        if (!p->adapter) continue;
        if (strstr(p->name, ".lora_A."))
            parameter_fill(parameters, p, INITIAL_UNIFORM, 1 / sqrt((double)p->columns), seed);
        else
            parameter_fill(parameters, p, INITIAL_CONSTANT, 0, seed);
    }
    return 0;
}

static void lora_attach(struct linear *linear, const struct parameters *parameters, const char *module)
{
    linear->adapter[0] = parameters_find(parameters, "%s.lora_A.weight", module);
    linear->adapter[1] = parameters_find(parameters, "%s.lora_B.weight", module);
}

static size_t lora_kept(const struct method_config *config, enum linear_kind kind, const struct linear_shape *shape)
{
    (void)shape;
    return method_module(config, kind) ? config->size : 0; /* x A^T */
}

static size_t lora_scratch(const struct method_config *config, const struct shard *shard)
{
    (void)shard;
    return config->size; /* its gradient */
}

static float lora_scale(const struct method_config *config)
{
    return (float)(config->alpha / (config->rank_stabilised ? sqrt(config->size) : config->size));
}

static bool lora_drops(const struct method_config *config)
{
    return config->dropout > 0;
}

/* Each adapter has masks of its own, as in PEFT. */
static struct dropout lora_dropout(const struct linear_rows *lane)
{
    const struct method_context *context = &lane->context;
    return dropout_at(context->keys, context->config->dropout, DROPOUT_INPUTS + (unsigned)lane->linear->kind,
                      lane->linear->layer, &lane->linear->input);
}

/* What A multiplies: x, in training behind dropout, in context->input. */
static const real *lora_input(const struct linear_rows *lane)
{
    const struct method_context *context = &lane->context;
    if (!context->keys || !lora_drops(context->config)) return lane->x;
    struct dropout how = lora_dropout(lane);
    context->kernels->dropout(context->device, &how, lane->tokens, lane->linear->in, lane->x, false, context->input);
    return context->input;
}

/* A product over a lane's rows: C [m][n] of A, B, and of how much of each. */
struct operand {
    const real *x;
    size_t stride;
};

static struct matmul_arguments times(bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                                     struct operand a, struct operand b)
{
    return (struct matmul_arguments){.trans_a = trans_a,
                                     .trans_b = trans_b,
                                     .m = m,
                                     .n = n,
                                     .k = k,
                                     .alpha = alpha,
                                     .a = a.x,
                                     .lda = a.stride,
                                     .b = b.x,
                                     .ldb = b.stride,
                                     .ldc = n};
}

static struct operand a_of(const struct linear_rows *lane)
{
    return (struct operand){lane->linear->adapter[0]->matrix, lane->linear->in};
}

static struct operand b_of(const struct linear_rows *lane)
{
    return (struct operand){lane->linear->adapter[1]->matrix, lane->context.config->size};
}

static struct matmul_arguments product_u(const struct linear_rows *l) /* u = x A^T */
{
    size_t rank = l->context.config->size, in = l->linear->in;
    struct matmul_arguments p =
        times(false, true, l->tokens, rank, in, 1, (struct operand){lora_input(l), in}, a_of(l));
    p.c = l->linear->kept;
    return p;
}

static struct matmul_arguments product_y(const struct linear_rows *l) /* y += scale u B^T */
{
    size_t rank = l->context.config->size;
    struct matmul_arguments p = times(false, true, l->tokens, l->linear->out, rank, lora_scale(l->context.config),
                                      (struct operand){l->linear->kept, rank}, b_of(l));
    p.beta = 1;
    p.c = l->y;
    return p;
}

static struct matmul_arguments product_db(const struct linear_rows *l) /* dB += scale dy^T u */
{
    size_t rank = l->context.config->size, out = l->linear->out;
    struct matmul_arguments p = times(true, false, out, rank, l->tokens, lora_scale(l->context.config),
                                      (struct operand){l->dy, out}, (struct operand){l->linear->kept, rank});
    p.beta = 1;
    p.c_floats = l->linear->adapter[1]->gradient;
    return p;
}

static struct matmul_arguments product_du(const struct linear_rows *l) /* du = scale dy B */
{
    size_t rank = l->context.config->size, out = l->linear->out;
    struct matmul_arguments p =
        times(false, false, l->tokens, rank, out, lora_scale(l->context.config), (struct operand){l->dy, out}, b_of(l));
    p.c = l->context.scratch;
    return p;
}

static struct matmul_arguments product_da(const struct linear_rows *l) /* dA += du^T x */
{
    size_t rank = l->context.config->size, in = l->linear->in;
    struct matmul_arguments p = times(true, false, rank, in, l->tokens, 1, (struct operand){l->context.scratch, rank},
                                      (struct operand){lora_input(l), in});
    p.beta = 1;
    p.c_floats = l->linear->adapter[0]->gradient;
    return p;
}

static struct matmul_arguments product_dx(const struct linear_rows *l) /* dx += du A, or what dropout adds to dx */
{
    size_t rank = l->context.config->size, in = l->linear->in;
    bool drops = lora_drops(l->context.config);
    struct matmul_arguments p =
        times(false, false, l->tokens, in, rank, 1, (struct operand){l->context.scratch, rank}, a_of(l));
    p.beta = drops ? 0 : 1;
    p.c = drops ? l->context.input : l->dx;
    return p;
}

/* One product of every lane, at once. */
static void multiply(const struct linear_rows *lanes, size_t count,
                     struct matmul_arguments (*product)(const struct linear_rows *))
{
    struct matmul_arguments products[PACK_LIMIT];
    assert(count > 0 && count <= PACK_LIMIT);
    for (size_t i = 0; i < count; i++)
        products[i] = product(&lanes[i]);
    lanes->context.kernels->matmul_group(lanes->context.device, count, products);
}

static void forward(const struct linear_rows *lanes, size_t count)
{
    multiply(lanes, count, product_u);
    multiply(lanes, count, product_y);
}

static void backward(const struct linear_rows *lanes, size_t count)
{
    multiply(lanes, count, product_db);
    multiply(lanes, count, product_du);
    multiply(lanes, count, product_da);
    if (!lanes->dx) return;
    multiply(lanes, count, product_dx);
    if (!lora_drops(lanes->context.config)) return;
    struct dropout how = lora_dropout(lanes);
    lanes->context.kernels->dropout(lanes->context.device, &how, lanes->tokens, lanes->linear->in, lanes->context.input,
                                    true, lanes->dx);
}

/* What lies behind dropout has one place for all lanes: they then come one after the other. */
static void in_turn(const struct linear_rows *lanes, size_t count, void (*hook)(const struct linear_rows *, size_t))
{
    bool drops = false;
    for (size_t i = 0; i < count; i++)
        drops |= lora_drops(lanes[i].context.config);
    if (!drops) {
        hook(lanes, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        hook(&lanes[i], 1);
}

static void lora_forward(const struct linear_rows *lanes, size_t count)
{
    in_turn(lanes, count, forward);
}

static void lora_backward(const struct linear_rows *lanes, size_t count)
{
    in_turn(lanes, count, backward);
}

static int lora_merge(const struct method_context *context, const struct linear *linear, struct error *err)
{
    (void)err;
    size_t rank = context->config->size, in = linear->in, out = linear->out;
    const real *a = linear->adapter[0]->matrix, *b = linear->adapter[1]->matrix;
    context->kernels->matmul(context->device, false, false, out, in, rank, lora_scale(context->config), b, rank, a, in,
                             1, linear->weight->matrix, in);
    return 0;
}

const struct method method_lora = {
    .reads_linear_inputs = true,
    .parameters = lora_parameters,
    .initialise = lora_initialise,
    .scratch = lora_scratch,
    .linear_attach = lora_attach,
    .linear_kept = lora_kept,
    .drops_inputs = lora_drops,
    .linear_forward = lora_forward,
    .linear_backward = lora_backward,
    .linear_merge = lora_merge,
};
