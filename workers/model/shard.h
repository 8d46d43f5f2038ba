/* Which part of a model one rank of a gang holds (Shoeybi et al. 2019), with uneven parts allowed: pure functions.
 *
 * Query heads, feed-forward width and vocabulary are cut at total * rank / size. A rank holds the key/value heads that
 * its query heads read, so that neighbours may hold the same one: 3 key/value heads over 2 ranks are 0, 1 and 1, 2. */
#ifndef TUNELAW_WORKERS_MODEL_SHARD_H
#define TUNELAW_WORKERS_MODEL_SHARD_H

#include <stdbool.h>
#include <stddef.h>

#include "io/error.h"
#include "workers/model/config.h"

/* One dimension of a tensor, as one rank holds it. */
struct part {
    size_t total, first, count;
    size_t owned_first; /* first index that no rank before this one holds; up to first + count are this rank's to write
                           and to count */
    bool split;         /* cut among the ranks (also where there is one rank) */
    bool whole;         /* every rank holds all of it */
    bool shared;        /* somewhere in the gang two ranks hold the same index: gradients are partial */
};

/* y = x W^T + b with W [out][in]: cut along `out` (column-parallel: q, k, v, gate, up; the bias is cut with it) or
 * along `in` (row-parallel: o, down; the bias is whole, and added once). */
struct linear_shape {
    const char *name; /* "self_attn.q_proj"; NULL: the model has no such matrix */
    bool bias;
    struct part out, in;
};

struct shard {
    int rank, size;
    struct part heads, kv_heads, ffn, vocabulary;
    struct part query, key; /* heads and kv_heads in elements */
    struct linear_shape linears[LINEARS];
};

struct part part_whole(size_t total);

/* -1 where the gang has more ranks than the model has heads, feed-forward columns or vocabulary rows. */
int shard_of(const struct model_config *model, int rank, int size, struct shard *shard, struct error *err);

/* Global key/value head that a global query head reads. */
size_t shard_kv_head(const struct model_config *model, size_t head);

#endif
