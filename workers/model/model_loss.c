/* From the last layer's output to the loss, and back: final norm, vocabulary-parallel logits and cross-entropy, for
 * rows with a loss alone, and some of those at a time, so that the logits' memory does not grow with the batch. */
#include "workers/model/gang_failed.h"
#include "workers/model/model_parts.h"

/* Logits -> losses of a piece's targets in model->loss_values; scales: logits become their gradients. */
static int cross_entropy(const struct model *model, const struct segment *piece, const float *scales, struct error *err)
{
    const struct kernels *k = model->kernels;
    const struct part *vocabulary = &model->shard.vocabulary;
    size_t ranks = (size_t)model->collective.size, count = piece->rows;
    const float *partials = model->partial;
    const int32_t *labels = model->labels + piece->first_target;
    real *logits = at(model, model->logits, piece->first * vocabulary->count);
    k->cross_entropy_partial(model->device, count, vocabulary->count, vocabulary->first, logits, labels,
                             model->partial);
    if (ranks > 1) {
        if (k->gather_ranks(model->device, &model->collective, 4 * count, model->partial, model->partials))
            return gang_failed(k, model->device, err);
        partials = model->partials;
    }
    float scale = scales ? scales[piece->lane] : 0;
    float smoothing = scale != 0 ? model->lanes[piece->lane].label_smoothing : 0;
    k->cross_entropy_finish(model->device, count, vocabulary->count, vocabulary->first, ranks, partials, labels,
                            vocabulary->total, smoothing, scale, logits, model->loss_values + piece->first_target);
    return 0;
}

/* What is worked on at a time: pieces of lanes' targets, side by side. */
struct chunk {
    size_t segment, done; /* where the next one goes on */
    size_t pieces, rows;
};

/* Pieces of model->loss_room targets of a lane, the last one shorter, whatever the other lanes have: as many as there
 * is room for. */
static bool next_chunk(const struct model *model, struct chunk *chunk)
{
    chunk->pieces = chunk->rows = 0;
    while (chunk->segment < model->segment_count) {
        const struct segment *s = &model->segments[chunk->segment];
        size_t left = s->targets - chunk->done, rows = left < model->loss_room ? left : model->loss_room;
        size_t padded = s == &model->whole ? rows : segment_padded(rows);
        if (chunk->rows + padded > model->loss_rows || chunk->done > 0) {
            if (chunk->pieces > 0) break; /* a lane has one piece in a chunk */
        }
        if (rows)
            model->pieces[chunk->pieces++] = (struct segment){.lane = s->lane,
                                                              .first = chunk->rows,
                                                              .rows = rows,
                                                              .padded = padded,
                                                              .first_target = s->first_target + chunk->done,
                                                              .targets = rows};
        chunk->rows += padded;
        chunk->done += rows;
        if (chunk->done < s->targets) continue;
        chunk->segment++;
        chunk->done = 0;
    }
    return chunk->pieces > 0;
}

/* model->final -> model->logits */
static void chunk_logits(const struct model *model, const struct chunk *chunk)
{
    const struct kernels *k = model->kernels;
    size_t width = model->config.width, vocabulary = model->shard.vocabulary.count;
    for (size_t i = 0; i < chunk->pieces; i++) {
        const struct segment *piece = &model->pieces[i];
        k->gather_rows(model->device, piece->rows, width, model->rows + piece->first_target, model->final,
                       at(model, model->loss_hidden, piece->first * width));
    }
    norm_forward(model, &model->final_norm, chunk->rows, NULL, model->loss_hidden, model->loss_normed);
    const struct layer_product product = {.weight = model->unembedding->matrix, .n = vocabulary, .k = width};
    segments_multiply(model, model->pieces, chunk->pieces, &product, model->loss_normed, NULL, model->logits);
}

void model_logits(const struct model *model, size_t first, size_t count)
{
    const struct chunk chunk = {.pieces = 1, .rows = count};
    model->pieces[0] = (struct segment){.rows = count, .padded = count, .first_target = first, .targets = count};
    chunk_logits(model, &chunk);
}

static int chunk_forward(const struct model *model, const struct chunk *chunk, const float *scales, struct error *err)
{
    chunk_logits(model, chunk);
    for (size_t i = 0; i < chunk->pieces; i++)
        if (cross_entropy(model, &model->pieces[i], scales, err)) return -1;
    return 0;
}

/* model->logits hold gradients; ends in model->dx. */
static int chunk_backward(const struct model *model, const struct chunk *chunk, struct error *err)
{
    const struct kernels *k = model->kernels;
    size_t width = model->config.width, vocabulary = model->shard.vocabulary.count;
    struct parameter *matrix = model->unembedding;
    if (matrix->gradient)
        k->matmul_floats(model->device, true, false, vocabulary, width, chunk->rows, 1, model->logits, vocabulary,
                         model->loss_normed, width, parameter_gradient_beta(matrix), matrix->gradient, width);
    const struct layer_product product = {.weight = matrix->matrix, .n = width, .k = vocabulary, .back = true};
    segments_multiply(model, model->pieces, chunk->pieces, &product, model->logits, NULL, model->loss_dnormed);
    if (model_sum(model, chunk->rows * width, model->loss_dnormed, err)) return -1;
    k->zero(model->device, chunk->rows * width * model->element, model->loss_dhidden);
    norm_backward(model, &model->final_norm, chunk->rows, model->loss_hidden, model->loss_dnormed, model->loss_dhidden);
    for (size_t i = 0; i < chunk->pieces; i++) {
        const struct segment *piece = &model->pieces[i];
        k->scatter_rows(model->device, piece->rows, width, model->rows + piece->first_target,
                        at(model, model->loss_dhidden, piece->first * width), model->dx);
    }
    return 0;
}

int model_loss(const struct model *model, size_t tokens, const float *scales, struct error *err)
{
    struct chunk chunk = {0};
    if (scales) model->kernels->zero(model->device, tokens * model->config.width * model->element, model->dx);
    while (next_chunk(model, &chunk)) {
        if (chunk_forward(model, &chunk, scales, err)) return -1;
        if (scales && chunk_backward(model, &chunk, err)) return -1;
    }
    return 0;
}

void model_losses(const struct model *model, struct begun_pass *begun)
{
    struct span spans[PACK_LIMIT];
    begun->awaited = true;
    for (size_t i = 0; i < begun->count; i++)
        spans[i] = (struct span){model->segments[i].targets, model->loss_values + model->segments[i].first_target};
    model->kernels->sums(model->device, begun->count, spans, false, begun->losses);
}
