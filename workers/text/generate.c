/* The device's side of generation: the cache, the forward passes over it, and the best next tokens of the gang. */
#include "workers/text/generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "workers/model/gang_failed.h"
#include "workers/model/model_parts.h"

/* Device memory. R hypotheses, k candidates of each. */
struct generator_space {
    size_t prefix;       /* P: rows of the cache that every hypothesis sees first, the method's prefix */
    size_t rows;         /* of the cache: P, those of the prompts, then R a step */
    size_t stride;       /* longest list of rows */
    real *keys, *values; /* [layers][rows][G][D] */
    uint32_t *counts;    /* [R] */
    uint32_t *table;     /* [R][stride] */
    uint32_t *heads;     /* [P][G]: where the prefix's heads lie, counted in heads from the first of a layer's */
    float *best, *all;   /* [R (2k + 1)], [size] of it: values, ids, sums */
};

struct generator {
    struct model *model; /* borrowed */
    uint32_t lane;
    struct decoding decoding;
    size_t candidates; /* k */
    struct generator_space space;
    void *arena; /* owned */

    /* host memory */
    struct beam_search *searches; /* [prompts] */
    real **own_k, **own_v;        /* [layers]: where the model's layers keep theirs */
    int32_t *ids, *positions;     /* [R] of a step */
    uint32_t *rows, *counts;      /* [R] */
    uint32_t *table;              /* [R][stride] */
    float *best;                  /* [size][R (2k + 1)] */
};

size_t decoding_prompts(const struct decoding *decoding)
{
    return decoding->beams < GENERATE_ROWS ? GENERATE_ROWS / decoding->beams : 1;
}

static size_t open_rows(const struct decoding *decoding)
{
    return decoding_prompts(decoding) * decoding->beams;
}

static void layout(struct generator_space *space, const struct model_config *config, const struct shard *shard,
                   const struct batch_capacity *capacity, const struct method_config *method,
                   const struct decoding *decoding, struct arena *arena)
{
    size_t open = open_rows(decoding), numbers = open * (2 * decoding_candidates(decoding) + 1);
    space->prefix = method_prefix_length(method);
    space->rows = space->prefix + capacity->tokens + open * decoding->max_new_tokens;
    space->stride = space->prefix + capacity->longest + decoding->max_new_tokens;
    space->keys = arena_reals(arena, config->layers * space->rows, shard->key.count);
    space->values = arena_reals(arena, config->layers * space->rows, shard->key.count);
    space->counts = arena_take(arena, open * sizeof *space->counts);
    space->table = arena_take(arena, open * space->stride * sizeof *space->table);
    space->heads = arena_take(arena, space->prefix * shard->kv_heads.count * sizeof *space->heads);
    space->best = arena_floats(arena, numbers, 1);
    space->all = shard->size > 1 ? arena_floats(arena, (size_t)shard->size, numbers) : space->best;
}

size_t generator_bytes(const struct model_config *config, const struct shard *shard,
                       const struct batch_capacity *capacity, const struct method_config *method,
                       const struct decoding *decoding, size_t element)
{
    struct arena arena = {.element = element};
    struct generator_space space;
    layout(&space, config, shard, capacity, method, decoding, &arena);
    return arena.used;
}

int decoding_check(const struct decoding *decoding, const struct model_config *model, size_t longest, struct error *err)
{
    uint32_t window = model->architecture.window;
    if (decoding->beams > model->vocabulary / 2)
        return error_set(err, "%" PRIu32 " beams; allowed for model \"%s\": up to half of its vocabulary, %" PRIu32,
                         decoding->beams, model->name, model->vocabulary / 2);
    if (window && longest + decoding->max_new_tokens > window)
        return error_set(err,
                         "a source of %zu tokens, virtual ones among them, and %" PRIu32
                         " new ones are more than the %" PRIu32 " that attention sees in model \"%s\"",
                         longest, decoding->max_new_tokens, window, model->name);
    return 0;
}

static int create_host(struct generator *g, struct error *err)
{
    const struct model *model = g->model;
    size_t open = open_rows(&g->decoding), prompts = decoding_prompts(&g->decoding), layers = model->config.layers;
    g->searches = calloc(prompts, sizeof *g->searches);
    g->own_k = calloc(layers, sizeof *g->own_k);
    g->own_v = calloc(layers, sizeof *g->own_v);
    g->ids = calloc(open, sizeof *g->ids);
    g->positions = calloc(open, sizeof *g->positions);
    g->rows = calloc(open, sizeof *g->rows);
    g->counts = calloc(open, sizeof *g->counts);
    g->table = calloc(open * g->space.stride, sizeof *g->table);
    g->best = calloc((size_t)model->shard.size * open * (2 * g->candidates + 1), sizeof *g->best);
    if (!g->searches || !g->own_k || !g->own_v || !g->ids || !g->positions || !g->rows || !g->counts || !g->table ||
        !g->best)
        return error_set(err, "out of memory for generation");
    for (size_t i = 0; i < prompts; i++)
        if (beam_create(&g->searches[i], &g->decoding, err)) return -1;
    return 0;
}

/* Where the heads of the prefix lie in its tensor: the same in every layer, from that layer's first on. */
static int find_prefix(struct generator *g, struct error *err)
{
    const struct model *model = g->model;
    size_t heads = model->shard.kv_heads.count, count = g->space.prefix * heads;
    if (count == 0) return 0;
    size_t stride = model->lanes[g->lane].prefixes[0].stride / model->config.head_width;
    if (stride > UINT32_MAX / g->space.prefix)
        return error_set(err, "a prefix of %zu heads is too large for generation", g->space.prefix * stride);
    uint32_t *list = malloc(count * sizeof *list);
    if (!list) return error_set(err, "out of memory for generation");
    for (size_t i = 0; i < count; i++)
        list[i] = (uint32_t)(i / heads * stride + i % heads);
    model->kernels->to_device(model->device, g->space.heads, list, count * sizeof *list);
    int result = model->kernels->synchronise(model->device, err); /* before the list goes */
    free(list);
    return result;
}

struct generator *generator_create(struct model *model, uint32_t lane, const struct decoding *decoding,
                                   struct error *err)
{
    struct arena arena = {.element = model->element};
    const struct model_lane *own = &model->lanes[lane];
    struct generator *g = calloc(1, sizeof *g);
    if (!g) {
        error_set(err, "out of memory for generation");
        return NULL;
    }
    *g = (struct generator){
        .model = model, .lane = lane, .decoding = *decoding, .candidates = decoding_candidates(decoding)};
    layout(&g->space, &model->config, &model->shard, &own->capacity, &own->method_config, decoding, &arena);
    if (decoding_check(decoding, &model->config, g->space.prefix, err) || create_host(g, err) ||
        arena_allocate(&arena, model->kernels, model->device, err)) {
        generator_destroy(g);
        return NULL;
    }
    g->arena = arena.base;
    layout(&g->space, &model->config, &model->shard, &own->capacity, &own->method_config, decoding, &arena);
    if (find_prefix(g, err)) {
        generator_destroy(g);
        return NULL;
    }
    return g;
}

void generator_destroy(struct generator *g)
{
    if (!g) return;
    if (g->arena) g->model->kernels->release(g->model->device, g->arena);
    for (size_t i = 0; g->searches && i < decoding_prompts(&g->decoding); i++)
        beam_destroy(&g->searches[i]);
    free(g->searches);
    free(g->own_k);
    free(g->own_v);
    free(g->ids);
    free(g->positions);
    free(g->rows);
    free(g->counts);
    free(g->table);
    free(g->best);
    free(g);
}

/* Keys and values of the next pass go to the cache from row `first` on. */
static void write_to(struct generator *g, size_t first)
{
    size_t width = g->model->shard.key.count;
    for (uint32_t i = 0; i < g->model->config.layers; i++) {
        struct layer *layer = &g->model->layers[i];
        layer->cached_keys = at(g->model, g->space.keys, i * g->space.rows * width);
        layer->cached_values = at(g->model, g->space.values, i * g->space.rows * width);
        layer->k = at(g->model, layer->cached_keys, first * width);
        layer->v = at(g->model, layer->cached_values, first * width);
    }
}

static void borrow(struct generator *g)
{
    for (uint32_t i = 0; i < g->model->config.layers; i++) {
        g->own_k[i] = g->model->layers[i].k;
        g->own_v[i] = g->model->layers[i].v;
    }
}

/* The prefix as it is now, to the first rows of the cache. */
static void cache_prefix(struct generator *g)
{
    const struct model *model = g->model;
    size_t count = g->space.prefix * model->shard.kv_heads.count, width = model->config.head_width;
    if (count == 0) return;
    write_to(g, 0);
    for (uint32_t i = 0; i < model->config.layers; i++) {
        const struct layer *layer = &model->layers[i];
        const struct attention_prefix *prefix = &model->lanes[g->lane].prefixes[i];
        model->kernels->gather_rows(model->device, count, width, g->space.heads, prefix->k, layer->k);
        model->kernels->gather_rows(model->device, count, width, g->space.heads, prefix->v, layer->v);
    }
}

static void give_back(struct generator *g)
{
    for (uint32_t i = 0; i < g->model->config.layers; i++) {
        g->model->layers[i].k = g->own_k[i];
        g->model->layers[i].v = g->own_v[i];
        g->model->layers[i].cached_keys = g->model->layers[i].cached_values = NULL;
    }
}

/* From `count` rows of the last layer's output to the candidates of all ranks, on the host. */
static int best_tokens(struct generator *g, size_t count, struct error *err)
{
    struct model *model = g->model;
    const struct kernels *k = model->kernels;
    const struct part *vocabulary = &model->shard.vocabulary;
    size_t ranks = (size_t)model->shard.size, wanted = g->candidates, numbers = count * (2 * wanted + 1);
    float *values = g->space.best, *sums = values + 2 * count * wanted;
    k->to_device(model->device, model->rows, g->rows, count * sizeof *g->rows);
    model_logits(model, 0, count);
    k->top_k(model->device, count, vocabulary->count, vocabulary->first, wanted, model->logits, values,
             (int32_t *)(values + count * wanted), g->decoding.beams > 1 ? sums : NULL);
    if (ranks > 1 && k->gather_ranks(model->device, &model->collective, numbers, g->space.best, g->space.all))
        return gang_failed(k, model->device, err);
    k->to_host(model->device, g->best, g->space.all, ranks * numbers * sizeof *g->best);
    return k->synchronise(model->device, err);
}

/* log of the sum of exp(logit) over the whole vocabulary, of row `row` of `count`. Greedy search needs none. */
static double log_total(const struct generator *g, size_t count, size_t row)
{
    size_t ranks = (size_t)g->model->shard.size, wanted = g->candidates, numbers = count * (2 * wanted + 1);
    double maximum = -INFINITY, sum = 0;
    if (g->decoding.beams == 1) return 0;
    for (size_t rank = 0; rank < ranks; rank++)
        maximum = fmax(maximum, g->best[rank * numbers + row * wanted]);
    for (size_t rank = 0; rank < ranks; rank++) {
        const float *best = g->best + rank * numbers;
        sum += best[2 * count * wanted + row] * exp(best[row * wanted] - maximum);
    }
    return maximum + log(sum);
}

static void offer(struct generator *g, size_t count, size_t row, struct beam_search *search, uint32_t beam)
{
    size_t ranks = (size_t)g->model->shard.size, wanted = g->candidates, numbers = count * (2 * wanted + 1);
    double total = log_total(g, count, row);
    for (size_t rank = 0; rank < ranks; rank++) {
        const float *values = g->best + rank * numbers + row * wanted;
        for (size_t i = 0; i < wanted; i++) {
            int32_t id;
            memcpy(&id, values + count * wanted + i, sizeof id);
            if (id >= 0) beam_offer(search, beam, id, values[i] - total);
        }
    }
}

/* After a pass: every row's candidates, in the order in which the rows were made. */
static int choose(struct generator *g, size_t prompts, size_t count, struct error *err)
{
    size_t row = 0;
    if (best_tokens(g, count, err)) return -1;
    for (size_t s = 0; s < prompts; s++) {
        struct beam_search *search = &g->searches[s];
        if (search->done) continue;
        for (uint32_t beam = 0; beam < search->running_count; beam++)
            offer(g, count, row++, search, beam);
        if (beam_advance(search, err)) return -1;
    }
    return 0;
}

/* The prompts, as one packed batch; their last tokens predict the first new ones. */
static int read_prompts(struct generator *g, const struct batch *prompts, struct error *err)
{
    struct model *model = g->model;
    struct pass pass = model_begin_pass(model, prompts);
    for (size_t s = 0; s < prompts->sequences; s++) {
        beam_begin(&g->searches[s]);
        g->rows[s] = prompts->offsets[s + 1] - 1;
    }
    cache_prefix(g);
    write_to(g, g->space.prefix);
    if (model_forward(model, &pass, err)) return -1;
    return choose(g, prompts->sequences, prompts->sequences, err);
}

/* A row of the next pass: the newest token of a hypothesis, and the rows of the cache that it sees, its own the last.
 */
static void add_row(struct generator *g, const struct batch *prompts, size_t s, struct hypothesis *hypothesis,
                    size_t row, size_t first)
{
    uint32_t *list = g->table + row * g->space.stride, prompt = prompts->offsets[s + 1] - prompts->offsets[s];
    uint32_t newest = hypothesis->count - 1, prefix = (uint32_t)g->space.prefix;
    hypothesis->rows[newest] = (uint32_t)(first + row);
    for (uint32_t i = 0; i < prefix; i++)
        list[i] = i;
    for (uint32_t i = 0; i < prompt; i++)
        list[prefix + i] = prefix + prompts->offsets[s] + i;
    memcpy(list + prefix + prompt, hypothesis->rows, hypothesis->count * sizeof *list);
    g->ids[row] = hypothesis->ids[newest];
    g->positions[row] = prompts->positions[prompts->offsets[s + 1] - 1] + (int32_t)hypothesis->count;
    g->counts[row] = prefix + prompt + hypothesis->count;
    g->rows[row] = (uint32_t)row;
}

static size_t add_rows(struct generator *g, const struct batch *prompts, size_t first)
{
    size_t count = 0;
    for (size_t s = 0; s < prompts->sequences; s++) {
        struct beam_search *search = &g->searches[s];
        for (uint32_t beam = 0; !search->done && beam < search->running_count; beam++)
            add_row(g, prompts, s, &search->running[beam], count++, first);
    }
    return count;
}

/* One token of every open hypothesis. */
static int step(struct generator *g, const struct batch *prompts, size_t count, size_t first, struct error *err)
{
    struct model *model = g->model;
    const struct kernels *k = model->kernels;
    struct generator_space *space = &g->space;
    struct attention heads = model_heads(model);
    struct decode decode = {.queries = count,
                            .stride = space->stride,
                            .counts = space->counts,
                            .table = space->table,
                            .heads = heads.heads,
                            .kv_heads = heads.kv_heads,
                            .head_width = heads.head_width,
                            .kv_head_of = heads.kv_head_of};
    struct pass pass = {.tokens = count, .attention = heads, .decode = &decode};
    for (size_t i = 0; i < count; i++)
        decode.longest = g->counts[i] > decode.longest ? g->counts[i] : decode.longest;
    k->to_device(model->device, model->ids, g->ids, count * sizeof *g->ids);
    k->to_device(model->device, model->positions, g->positions, count * sizeof *g->positions);
    k->to_device(model->device, space->counts, g->counts, count * sizeof *g->counts);
    k->to_device(model->device, space->table, g->table, count * space->stride * sizeof *g->table);
    model->whole.rows = model->whole.padded = count;
    write_to(g, first);
    if (model_forward(model, &pass, err)) return -1;
    return choose(g, prompts->sequences, count, err);
}

static int generate(struct generator *g, const struct batch *prompts, const struct tick *tick, struct error *err)
{
    size_t first = g->space.prefix + prompts->tokens, count;
    if (read_prompts(g, prompts, err)) return -1;
    for (; (count = add_rows(g, prompts, first)) > 0; first += count) {
        if (tick && tick->call) tick->call(tick->context);
        if (step(g, prompts, count, first, err)) return -1;
    }
    return 0;
}

int generator_run(struct generator *g, const struct batch *prompts, const struct tick *tick, int32_t *ids,
                  uint32_t *counts, struct error *err)
{
    struct model *model = g->model;
    if (decoding_check(&g->decoding, &model->config, g->space.prefix + prompts->longest, err)) return -1;
    if (prompts->sequences > decoding_prompts(&g->decoding))
        return error_set(err, "%zu prompts; at most %zu fit", prompts->sequences, decoding_prompts(&g->decoding));
    if (prompts->tokens > model->lanes[g->lane].capacity.tokens ||
        prompts->longest > model->lanes[g->lane].capacity.longest)
        return error_set(err, "prompts of %zu tokens, %zu the longest, are larger than the model's room",
                         prompts->tokens, prompts->longest);
    for (size_t s = 0; s < prompts->sequences; s++)
        if (prompts->offsets[s] == prompts->offsets[s + 1]) return error_set(err, "prompt %zu is empty", s);
    if (prompts->sequences == 0) return 0;
    if (model_begin_forward(model, g->lane, prompts, err)) return -1;
    borrow(g);
    int result = generate(g, prompts, tick, err);
    give_back(g);
    model->segment_count = 0;
    for (size_t s = 0; result == 0 && s < prompts->sequences; s++)
        counts[s] = beam_result(&g->searches[s], ids + s * g->decoding.max_new_tokens);
    return result;
}
