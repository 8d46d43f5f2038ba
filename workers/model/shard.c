/* Tensor parallelism as arithmetic: from a model and a gang to the part of every tensor that one rank holds. */
#include "workers/model/shard.h"

struct part part_whole(size_t total)
{
    return (struct part){.total = total, .count = total, .whole = true};
}

static struct part part_cut(size_t total, int rank, int size)
{
    size_t first = total * (size_t)rank / (size_t)size, end = total * ((size_t)rank + 1) / (size_t)size;
    return (struct part){.total = total, .first = first, .count = end - first, .owned_first = first, .split = true};
}

/* The same part in units of `width` elements a head. */
static struct part part_times(struct part part, size_t width)
{
    part.total *= width;
    part.first *= width;
    part.count *= width;
    part.owned_first *= width;
    return part;
}

size_t shard_kv_head(const struct model_config *model, size_t head)
{
    return head * model->kv_heads / model->heads;
}

/* Do two ranks of the gang read the same key/value head? */
static bool kv_heads_shared(const struct model_config *model, int size)
{
    for (int rank = 1; rank < size; rank++) {
        size_t first = part_cut(model->heads, rank, size).first;
        if (shard_kv_head(model, first - 1) == shard_kv_head(model, first)) return true;
    }
    return false;
}

static struct part part_kv_heads(const struct model_config *model, struct part heads, int size)
{
    size_t first = shard_kv_head(model, heads.first);
    size_t end = shard_kv_head(model, heads.first + heads.count - 1) + 1;
    size_t held = heads.first ? shard_kv_head(model, heads.first - 1) + 1 : 0; /* by the ranks before */
    return (struct part){.total = model->kv_heads,
                         .first = first,
                         .count = end - first,
                         .owned_first = held > first ? held : first,
                         .split = true,
                         .whole = model->kv_heads == 1,
                         .shared = kv_heads_shared(model, size)};
}

static void linear_shapes(const struct model_config *model, struct shard *shard)
{
    struct part width = part_whole(model->width);
    const struct part outs[LINEARS] = {[LINEAR_Q] = shard->query, [LINEAR_K] = shard->key,
                                       [LINEAR_V] = shard->key,   [LINEAR_QKV] = part_times(shard->query, 3),
                                       [LINEAR_O] = width,        [LINEAR_GATE] = shard->ffn,
                                       [LINEAR_UP] = shard->ffn,  [LINEAR_DOWN] = width};
    for (int kind = 0; kind < LINEARS; kind++) {
        struct linear_size size;
        struct part in = kind == LINEAR_O ? shard->query : kind == LINEAR_DOWN ? shard->ffn : width;
        shard->linears[kind] = (struct linear_shape){.name = NULL};
        if (model_linear(model, (enum linear_kind)kind, &size))
            shard->linears[kind] =
                (struct linear_shape){tensor_names_of(model)->linears[kind], size.bias, outs[kind], in};
    }
}

int shard_of(const struct model_config *model, int rank, int size, struct shard *shard, struct error *err)
{
    size_t most = model->heads;
    if (model->ffn < most) most = model->ffn;
    if (model->vocabulary < most) most = model->vocabulary;
    if (size < 1 || (size_t)size > most)
        return error_set(err, "tensor parallelism over %d devices is not possible for model \"%s\"; allowed: 1..%zu",
                         size, model->name, most);
    shard->rank = rank;
    shard->size = size;
    shard->heads = part_cut(model->heads, rank, size);
    shard->kv_heads = part_kv_heads(model, shard->heads, size);
    shard->ffn = part_cut(model->ffn, rank, size);
    shard->vocabulary = part_cut(model->vocabulary, rank, size);

    shard->query = part_times(shard->heads, model->head_width);
    shard->key = part_times(shard->kv_heads, model->head_width);
    linear_shapes(model, shard);
    return 0;
}
