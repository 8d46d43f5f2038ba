/* Lanes of a pack: what they share, and where their rows lie. */
#include <string.h>

#include "workers/model/model_parts.h"

bool method_leaves_base(enum method_kind kind)
{
    return !method_of(kind)->trains_base && !method_of(kind)->trains_biases;
}

bool method_packs(enum method_kind kind)
{
    return method_of(kind)->parameters && method_leaves_base(kind);
}

bool method_packs_apart(enum method_kind kind, const struct model_config *model, uint32_t degree)
{
    return degree > 1 && model->architecture.parallel && method_of(kind)->half_forward;
}

size_t segment_padded(size_t rows)
{
    return (rows + SEGMENT_ROWS - 1) / SEGMENT_ROWS * SEGMENT_ROWS;
}

struct batch_capacity batch_capacity_join(const struct batch_capacity *capacities, size_t count)
{
    struct batch_capacity all = {.recompute = capacities[0].recompute};
    for (size_t i = 0; i < count; i++) {
        const struct batch_capacity *one = &capacities[i];
        all.tokens += segment_padded(one->tokens);
        all.sequences += one->sequences + 1; /* the padding is one, too */
        all.targets += segment_padded(one->targets);
        if (one->longest > all.longest) all.longest = one->longest;
        all.dropout = all.dropout || one->dropout;
    }
    if (all.longest < SEGMENT_ROWS) all.longest = SEGMENT_ROWS;
    return all;
}

struct linear *lane_linear(const struct model *model, size_t lane, const struct linear *linear)
{
    if (lane) return &model->lanes[lane].linears[linear->layer * LINEARS + (uint32_t)linear->kind];
    return &model->layers[linear->layer].linears[linear->kind];
}

struct half *lane_half(const struct model *model, size_t lane, const struct layer *layer, enum half_place place)
{
    return &model->lanes[lane].halves[(size_t)(layer - model->layers) * HALVES + place];
}

size_t segments_of(const struct model *model, size_t tokens, struct segment *all, const struct segment **segments)
{
    *all = (struct segment){.rows = tokens, .padded = tokens};
    *segments = model->segment_count ? model->segments : all;
    return model->segment_count ? model->segment_count : 1;
}

/* From segment `from` on, as many as one product takes; *rows: how many rows. */
static size_t join(const struct model *model, const struct segment *segments, size_t count, size_t from,
                   const struct layer_product *product, size_t *rows)
{
    size_t to = from + 1;
    bool joined = count > 1 && product_joins(model, product, segments[from].padded);
    *rows = segments[from].padded;
    for (; to < count && joined && product_joins(model, product, segments[to].padded); to++)
        *rows += segments[to].padded;
    return to;
}

void segments_multiply(const struct model *model, const struct segment *segments, size_t count,
                       const struct layer_product *product, const real *x, real *before, real *y)
{
    for (size_t from = 0, to, rows; from < count; from = to) {
        size_t first = segments[from].first;
        to = join(model, segments, count, from, product, &rows);
        product_rows(model, product, rows, at(model, x, first * product->k), at(model, before, first * product->n),
                     at(model, y, first * product->n));
    }
}
