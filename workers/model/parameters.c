/* The list of tensors that one rank holds, and the arenas behind them: one walk counts and assigns. */
#include "workers/model/parameters.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/model/arena.h"
#include "workers/model/method.h"

bool parameter_is_bias(const char *name)
{
    static const char end[] = ".bias";
    size_t length = strlen(name);
    return length >= sizeof end && !strcmp(name + length - (sizeof end - 1), end);
}

void tensor_add(struct tensor_walk *walk, const char *name, struct part rows, struct part columns, bool decay,
                bool partial)
{
    if (!walk->list) {
        walk->count++;
        return;
    }
    struct parameter *p = &walk->list[walk->count++];
    *p = (struct parameter){.rows = rows.total,
                            .columns = columns.total,
                            .row_first = rows.first,
                            .row_count = rows.count,
                            .column_first = columns.first,
                            .column_count = columns.count,
                            .owned_first = rows.owned_first,
                            .owned_count = rows.first + rows.count - rows.owned_first,
                            .whole = rows.whole && columns.whole,
                            .rows_cut = rows.split && !rows.whole && walk->shard.size > 1,
                            .columns_cut = columns.split && !columns.whole && walk->shard.size > 1,
                            .trainable = walk->trainable || (method_of(walk->method->kind)->trains_biases &&
                                                             !walk->adapter && parameter_is_bias(name)),
                            .thaw = walk->thaw,
                            .decay = decay,
                            .partial_gradient = partial && walk->shard.size > 1,
                            .adapter = walk->adapter,
                            .block = walk->block};
    snprintf(p->name, sizeof p->name, "%s", name);
    if (!rows.split && !columns.split && walk->shard.rank > 0) { /* whole everywhere: the first rank's */
        p->owned_first = rows.total;
        p->owned_count = 0;
    }
}

/* The last tensor's gradient begins with a matrix product; those that one sum over ranks completes are zeroed all the
 * same. */
static void mark_product(struct tensor_walk *walk)
{
    struct parameter *p = walk->list ? &walk->list[walk->count - 1] : NULL;
    if (p) p->product = !(p->partial_gradient && p->whole);
}

/* LAYER NAME.KIND; weights decay in matrices alone. */
static void add_tensor(struct tensor_walk *walk, const char *layer, const char *name, const char *kind,
                       struct part rows, struct part columns, bool matrix, bool partial)
{
    char full[sizeof walk->list->name];
    snprintf(full, sizeof full, "%s%s.%s", layer, name, kind);
    tensor_add(walk, full, rows, columns, matrix, partial);
}

static void walk_norm(struct tensor_walk *walk, const char *layer, const char *name)
{
    struct part one = part_whole(1), width = part_whole(walk->model->width);
    add_tensor(walk, layer, name, "weight", one, width, false, false);
    if (walk->model->architecture.norm == NORM_LAYER) add_tensor(walk, layer, name, "bias", one, width, false, false);
}

/* A vector that is cut with a matrix's rows is [n][1]: rows are what ranks own. */
static void walk_linear(struct tensor_walk *walk, const char *layer, const struct linear_shape *shape)
{
    struct part one = part_whole(1);
    add_tensor(walk, layer, shape->name, "weight", shape->out, shape->in, true, shape->out.shared);
    mark_product(walk);
    if (!shape->bias) return;
    if (shape->out.split)
        add_tensor(walk, layer, shape->name, "bias", shape->out, one, false, shape->out.shared);
    else
        add_tensor(walk, layer, shape->name, "bias", one, shape->out, false, false);
}

static void walk_head_norms(struct tensor_walk *walk, const char *layer, const struct tensor_names *names)
{
    const struct shard *shard = &walk->shard;
    struct part one = part_whole(1), head = part_whole(walk->model->head_width);
    switch (walk->model->architecture.qk_norm) {
    case QK_NORM_TOKEN:
        add_tensor(walk, layer, names->query_norm, "weight", shard->query, one, false, false);
        add_tensor(walk, layer, names->key_norm, "weight", shard->key, one, false, shard->key.shared);
        break;
    case QK_NORM_HEAD: /* every rank has them, and the gradient of its own heads */
        add_tensor(walk, layer, names->query_norm, "weight", one, head, false, true);
        add_tensor(walk, layer, names->key_norm, "weight", one, head, false, true);
        break;
    case QK_NORM_NONE:
    case QK_NORMS:
        break;
    }
}

static void walk_layer(struct tensor_walk *walk, uint32_t index)
{
    const struct tensor_names *names = tensor_names_of(walk->model);
    const struct shard *shard = &walk->shard;
    char layer[64];
    snprintf(layer, sizeof layer, "%s.%u.", names->layers, index);
    walk_norm(walk, layer, names->attention_norm);
    for (int kind = 0; kind < LINEARS; kind++) {
        if (kind == LINEAR_GATE) walk_norm(walk, layer, names->mlp_norm);
        if (kind == LINEAR_O) walk_head_norms(walk, layer, names);
        if (shard->linears[kind].name) walk_linear(walk, layer, &shard->linears[kind]);
    }
}

/* Every tensor of the rank's shard, base first, then the method's. */
static void walk_tensors(struct tensor_walk *walk)
{
    const struct method *method = method_of(walk->method->kind);
    const struct tensor_names *names = tensor_names_of(walk->model);
    struct part vocabulary = walk->shard.vocabulary, width = part_whole(walk->model->width);
    walk->count = 0;
    walk->block = -1;
    walk->adapter = false;
    walk->trainable = method->trains_base;
    walk->thaw = method_thaw(walk->method, walk->model, 0);
    add_tensor(walk, "", names->embedding, "weight", vocabulary, width, true, false);
    if (walk->model->tied) mark_product(walk);
    for (uint32_t layer = 0; layer < walk->model->layers; layer++) {
        walk->thaw = method_thaw(walk->method, walk->model, layer);
        walk->block = (int32_t)layer;
        walk_layer(walk, layer);
    }
    walk->block = -1;
    walk_norm(walk, "", names->final_norm);
    if (!walk->model->tied) {
        add_tensor(walk, "", names->unembedding, "weight", vocabulary, width, true, false);
        mark_product(walk);
    }
    walk->adapter = walk->trainable = true;
    if (method->parameters) method->parameters(walk);
}

static int list_tensors(const struct model_config *model, const struct method_config *method, int rank, int size,
                        struct parameter **list, size_t *count, struct error *err)
{
    struct tensor_walk walk = {.model = model, .method = method};
    if (shard_of(model, rank, size, &walk.shard, err)) return -1;
    walk_tensors(&walk);
    walk.list = calloc(walk.count, sizeof *walk.list);
    if (!walk.list) return error_set(err, "out of memory: the list of %zu tensors", walk.count);
    walk_tensors(&walk);
    *list = walk.list;
    *count = walk.count;
    return 0;
}

int parameters_list(const struct model_config *model, const struct method_config *method, struct parameter **list,
                    size_t *count, struct error *err)
{
    return list_tensors(model, method, 0, 1, list, count, err);
}

/* Where everything lies. */
struct layout {
    struct arena base, adapter, train;
    float *gradients, *shared, *sums;
    bool one_pass, lent;                                /* gradients are lent; some are */
    size_t partial_sums;                                /* floats */
    size_t partial_count, zeroed_count, gradient_count; /* floats */
    size_t gradient_bytes;                              /* gradients and `shared`: the first part of `train` */
};

static struct layout layout_of(size_t element, enum parameters_form form)
{
    return (struct layout){.base.element = element,
                           .adapter.element = element,
                           .train.element = element,
                           .one_pass = form == PARAMETERS_ONE_PASS};
}

/* Whether its gradient can lie in a model's memory: nothing of it is there before its block's backward pass. */
static bool lendable(const struct parameter *p)
{
    return p->trainable && p->product && p->block >= 0;
}

static size_t held(const struct parameter *p)
{
    return p->row_count * p->column_count;
}

/* base: whose tensors of the base are used, NULL: own ones. trains: some are trained. */
static void layout_values(struct layout *layout, struct parameter *list, size_t count, const struct parameters *base,
                          bool trains)
{
    for (size_t i = 0; i < count; i++) {
        struct parameter *p = &list[i];
        struct arena *arena = p->adapter ? &layout->adapter : &layout->base;
        bool floats = arena->element == sizeof(float);
        if (base && !p->adapter) {
            p->value = base->list[i].value;
            p->matrix = base->list[i].matrix;
            continue;
        }
        p->value = NULL;
        if (floats || !p->decay || (trains && p->trainable))
            p->value = arena_floats(arena, p->row_count, p->column_count);
        p->matrix = !p->decay ? NULL : floats ? (real *)p->value : arena_reals(arena, p->row_count, p->column_count);
    }
}

/* Gradients that one sum over ranks can complete come first, in one piece; those that are not zeroed last. */
static void layout_gradients(struct layout *layout, struct parameter *list, size_t count)
{
    struct arena *train = &layout->train;
    layout->gradients = (float *)(void *)train->base;
    for (int turn = 0; turn < 3; turn++) {
        if (turn == 1) layout->partial_count = train->used / sizeof(float);
        if (turn == 2) layout->zeroed_count = train->used / sizeof(float);
        for (size_t i = 0; i < count; i++) {
            struct parameter *p = &list[i];
            if (layout->one_pass && lendable(p))
                layout->lent = true;
            else if (p->trainable && turn == (p->product ? 2 : !(p->partial_gradient && p->whole)))
                p->gradient = p->gradient_room = arena_floats(train, p->row_count, p->column_count);
        }
    }

    layout->gradient_count = train->used / sizeof(float);

    size_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        const struct parameter *p = &list[i];
        if (p->trainable && p->partial_gradient && !p->whole && p->rows * p->columns > largest)
            largest = p->rows * p->columns;
    }
    layout->shared = arena_floats(train, 1, largest);
    layout->gradient_bytes = train->used;
}

static float *layout_moment(struct layout *layout, const struct parameter *p, enum moment_form form)
{
    size_t n = form == MOMENT_ROWS ? p->row_count : form == MOMENT_COLUMNS ? p->column_count : held(p);
    return form == MOMENT_NONE ? NULL : arena_floats(&layout->train, 1, n);
}

/* What the optimiser keeps beside a tensor (workers/train/optimiser.h). */
static void choose_moments(const struct recipe *recipe, struct parameter *p)
{
    bool factored = p->rows > 1 && p->columns > 1;
    switch (recipe->optimiser) {
    case OPTIMISER_ADAFACTOR:
        p->form1 = factored ? MOMENT_ROWS : MOMENT_NONE;
        p->form2 = factored ? MOMENT_COLUMNS : MOMENT_FULL;
        return;
    case OPTIMISER_SGD:
        p->form1 = recipe->momentum > 0 ? MOMENT_FULL : MOMENT_NONE;
        p->form2 = MOMENT_NONE;
        return;
    case OPTIMISER_ADAMW:
    case OPTIMISERS:
        break;
    }
    p->form1 = p->form2 = MOMENT_FULL;
}

static void layout_moments(struct layout *layout, struct parameter *list, size_t count, const struct recipe *recipe)
{
    for (size_t i = 0; i < count; i++) {
        struct parameter *p = &list[i];
        if (!p->trainable) continue;
        choose_moments(recipe, p);
        p->moment1 = layout_moment(layout, p, p->form1);
        p->moment2 = layout_moment(layout, p, p->form2);
    }
}

/* Sums of a row go over ranks where columns are cut, and the other way round. */
static void layout_sums(struct layout *layout, struct parameter *list, size_t count)
{
    struct arena *train = &layout->train;
    size_t begin = train->used;
    layout->sums = (float *)(void *)(train->base ? train->base + begin : NULL);
    for (int rest = 0; rest <= 1; rest++) {
        for (size_t i = 0; i < count; i++) {
            struct parameter *p = &list[i];
            if (!p->trainable) continue;
            if ((p->form1 == MOMENT_ROWS && p->columns_cut) == !rest) p->sums1 = layout_moment(layout, p, p->form1);
            if ((p->form2 == MOMENT_COLUMNS && p->rows_cut) == !rest) p->sums2 = layout_moment(layout, p, p->form2);
        }
        if (!rest) layout->partial_sums = (train->used - begin) / sizeof(float);
    }
}

static void layout_walk(struct layout *layout, struct parameter *list, size_t count, const struct parameters *base,
                        const struct recipe *recipe)
{
    layout_values(layout, list, count, base, recipe != NULL);
    if (!recipe) return;
    layout_gradients(layout, list, count);
    layout_moments(layout, list, count, recipe);
    if (recipe->optimiser == OPTIMISER_ADAFACTOR) layout_sums(layout, list, count);
}

int parameters_memory(const struct model_config *model, const struct method_config *method, const struct recipe *recipe,
                      enum parameters_form form, size_t element, int rank, int size, struct memory *memory,
                      struct error *err)
{
    struct parameter *list;
    size_t count;
    if (list_tensors(model, method, rank, size, &list, &count, err)) return -1;
    struct layout layout = layout_of(element, form);
    layout_walk(&layout, list, count, NULL, recipe);
    memory->parameters += (form == PARAMETERS_BESIDE ? 0 : layout.base.used) + layout.adapter.used;
    memory->gradients += layout.gradient_bytes;
    memory->optimiser += layout.train.used - layout.gradient_bytes;
    free(list);
    return 0;
}

int parameters_lent_bytes(const struct model_config *model, const struct method_config *method, int rank, int size,
                          size_t *bytes, struct error *err)
{
    struct parameter *list;
    size_t count;
    if (list_tensors(model, method, rank, size, &list, &count, err)) return -1;
    for (uint32_t i = 0; i < model->layers; i++)
        bytes[i] = 0;
    for (size_t i = 0; i < count; i++) {
        struct arena arena = {.base = NULL};
        if (!lendable(&list[i])) continue;
        arena_floats(&arena, list[i].row_count, list[i].column_count);
        bytes[list[i].block] += arena.used;
    }
    free(list);
    return 0;
}

void parameters_lend(struct parameters *parameters, uint32_t block, float *room)
{
    struct arena arena = {.base = (void *)room};
    for (size_t i = 0; parameters->lent && i < parameters->count; i++) {
        struct parameter *p = &parameters->list[i];
        if (!lendable(p) || p->block != (int32_t)block) continue;
        assert(!room || !p->gradient_room); /* one model's */
        p->gradient = p->gradient_room = arena_floats(&arena, p->row_count, p->column_count);
    }
}

static int allocate_arenas(struct parameters *p, struct layout *layout, struct error *err)
{
    if (arena_allocate(&layout->base, p->kernels, p->device, err)) return -1;
    p->base_arena = layout->base.base;
    if (arena_allocate(&layout->adapter, p->kernels, p->device, err)) return -1;
    p->adapter_arena = layout->adapter.base;
    if (arena_allocate(&layout->train, p->kernels, p->device, err)) return -1;
    p->train_arena = layout->train.base;
    return 0;
}

static struct parameters *create(const struct model_config *model, const struct method_config *method,
                                 const struct recipe *recipe, const struct collective *collective,
                                 const struct kernels *kernels, struct device *device, enum parameters_form form,
                                 const struct parameters *base, struct error *err)
{
    struct parameters *p = calloc(1, sizeof *p);
    if (!p) {
        error_set(err, "out of memory");
        return NULL;
    }
    p->collective = *collective;
    p->kernels = kernels;
    p->device = device;
    p->element = kernels->element_bytes(device);
    struct layout layout = layout_of(p->element, form);
    if (list_tensors(model, method, collective->rank, collective->size, &p->list, &p->count, err)) goto fail;
    layout_walk(&layout, p->list, p->count, base, recipe);
    if (allocate_arenas(p, &layout, err)) goto fail;
    p->squares = calloc(3 * p->count, sizeof *p->squares);
    p->spans = calloc(p->count, sizeof *p->spans);
    p->updates = calloc(p->count, sizeof *p->updates);
    p->factored = calloc(p->count, sizeof *p->factored);
    if (!p->squares || !p->spans || !p->updates || !p->factored) {
        error_set(err, "out of memory");
        goto fail;
    }
    layout_walk(&layout, p->list, p->count, base, recipe);
    p->gradients = layout.gradients;
    p->zeroed_count = layout.zeroed_count;
    p->gradient_count = layout.gradient_count;
    p->partial_count = layout.partial_count;
    p->shared = layout.shared;
    p->sums = layout.sums;
    p->partial_sums = layout.partial_sums;
    p->lent = layout.lent;
    return p;
fail:
    parameters_destroy(p);
    return NULL;
}

struct parameters *parameters_create(const struct model_config *model, const struct method_config *method,
                                     const struct recipe *recipe, const struct collective *collective,
                                     const struct kernels *kernels, struct device *device, struct error *err)
{
    return create(model, method, recipe, collective, kernels, device, PARAMETERS_ALONE, NULL, err);
}

struct parameters *parameters_create_one_pass(const struct model_config *model, const struct method_config *method,
                                              const struct recipe *recipe, const struct collective *collective,
                                              const struct kernels *kernels, struct device *device, struct error *err)
{
    return create(model, method, recipe, collective, kernels, device, PARAMETERS_ONE_PASS, NULL, err);
}

struct parameters *parameters_create_beside(const struct parameters *base, const struct model_config *model,
                                            const struct method_config *method, const struct recipe *recipe,
                                            struct error *err)
{
    if (method_of(method->kind)->trains_base) {
        error_set(err, "%s changes the base, which others use", method_name(method->kind));
        return NULL;
    }
    return create(model, method, recipe, &base->collective, base->kernels, base->device, PARAMETERS_BESIDE, base, err);
}

void parameters_thaw(struct parameters *p, uint64_t step)
{
    for (size_t i = 0; i < p->count; i++)
        p->list[i].gradient = step > p->list[i].thaw ? p->list[i].gradient_room : NULL;
}

void parameters_destroy(struct parameters *p)
{
    if (!p) return;
    if (p->device && p->train_arena) p->kernels->release(p->device, p->train_arena);
    if (p->device && p->adapter_arena) p->kernels->release(p->device, p->adapter_arena);
    if (p->device && p->base_arena) p->kernels->release(p->device, p->base_arena);
    free(p->squares);
    free(p->spans);
    free(p->updates);
    free(p->factored);
    free(p->list);
    free(p);
}

struct parameter *parameters_find(const struct parameters *parameters, const char *format, ...)
{
    char name[sizeof parameters->list->name];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    for (size_t i = 0; i < parameters->count; i++)
        if (!strcmp(parameters->list[i].name, name)) return &parameters->list[i];
    return NULL;
}
