/* Tensor parallelism as arithmetic: from a model and a gang to the part of every tensor that one rank holds. */
#include "workers/shard.h"

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

    struct part width = part_whole(model->width);
    struct part query = part_times(shard->heads, model->head_width);
    struct part key = part_times(shard->kv_heads, model->head_width);
    struct linear_shape *linears = shard->linears;
    linears[LINEAR_Q] = (struct linear_shape){"self_attn.q_proj", query, width};
    linears[LINEAR_K] = (struct linear_shape){"self_attn.k_proj", key, width};
    linears[LINEAR_V] = (struct linear_shape){"self_attn.v_proj", key, width};
    linears[LINEAR_O] = (struct linear_shape){"self_attn.o_proj", width, query};
    linears[LINEAR_GATE] = (struct linear_shape){"mlp.gate_proj", shard->ffn, width};
    linears[LINEAR_UP] = (struct linear_shape){"mlp.up_proj", shard->ffn, width};
    linears[LINEAR_DOWN] = (struct linear_shape){"mlp.down_proj", width, shard->ffn};
    return 0;
}
