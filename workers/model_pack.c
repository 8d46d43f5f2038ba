/* Lanes of a pack: what they share, and where their rows lie. */
#include <string.h>

#include "workers/model_parts.h"

/* Up to so many multiply-adds OpenBLAS (0.3.21, AVX-512) takes other kernels, whose sums go another way. */
#define SMALL_PRODUCT 1e6

bool method_packs(enum method_kind kind)
{
    return method_of(kind)->packs;
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

static bool is_small(const struct segment *segment, size_t n, size_t k)
{
    return (double)segment->padded * (double)n * (double)k <= SMALL_PRODUCT;
}

void segments_matmul(const struct model *model, const struct segment *segments, size_t count, bool trans_b, size_t n,
                     size_t k, const float *x, const float *w, float beta, float *y)
{
    for (size_t from = 0, to; from < count; from = to) {
        size_t first = segments[from].first, rows = segments[from].padded;
        for (to = from + 1; to < count && !is_small(&segments[from], n, k) && !is_small(&segments[to], n, k); to++)
            rows += segments[to].padded;
        model->kernels->matmul(model->device, false, trans_b, rows, n, k, 1, x + first * k, k, w, trans_b ? k : n, beta,
                               y + first * n, n);
    }
}
