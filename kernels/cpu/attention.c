/* Causal attention of the cpu backend: the threads of the device take a (sequence, key/value head) each, in scratch of
 * their own.
 *
 * The head's rows are packed (padded to whole vectors), those of a prefix first, then the scores of QUERIES queries are
 * made, turned into probabilities and used, as in FlashAttention: the whole matrix of scores never exists. They lie
 * transposed, a row a key: maxima and sums over keys are then sums of vectors. The backward pass makes the scores again
 * from the saved log-sum-exp (Dao et al. 2022). Of the block on the diagonal, GROUP rows at a time stop where none of
 * them sees more.
 */
#include <float.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"

enum { QUERIES = 2 * LANES, GROUP = 8 };

/* Where things lie in the scratch of a thread, for the longest sequence. L: padded length, D: padded head width. */
struct space {
    size_t width;                           /* D */
    float *q, *dout, *out;                  /* [QUERIES][D] */
    float *q_t, *dout_t;                    /* [D][QUERIES] */
    float *scores, *dscores;                /* [L][QUERIES] */
    float *keys, *values, *dkeys, *dvalues; /* [L][D] */
    float *maxima, *sums, *delta, *lse;     /* [QUERIES] */
};

static size_t space_length(const struct attention *a)
{
    return round_up(a->longest_prefix + round_up(a->sequences.longest));
}

static size_t space_floats(const struct attention *a)
{
    size_t length = space_length(a), width = round_up(a->head_width);
    return 5 * QUERIES * width + 2 * length * QUERIES + 4 * length * width + 4 * QUERIES;
}

static struct space space_at(const struct attention *a, float *scratch, size_t thread)
{
    size_t length = space_length(a), width = round_up(a->head_width);
    float *at = scratch + thread * space_floats(a);
    struct space s = {.width = width};
    float **blocks[] = {&s.q, &s.dout, &s.out, &s.q_t, &s.dout_t}, **scores[] = {&s.scores, &s.dscores};
    float **all[] = {&s.keys, &s.values, &s.dkeys, &s.dvalues}, **rows[] = {&s.maxima, &s.sums, &s.delta, &s.lse};
    for (size_t i = 0; i < 5; i++, at += QUERIES * width)
        *blocks[i] = at;
    for (size_t i = 0; i < 2; i++, at += length * QUERIES)
        *scores[i] = at;
    for (size_t i = 0; i < 4; i++, at += length * width)
        *all[i] = at;
    for (size_t i = 0; i < 4; i++, at += QUERIES)
        *rows[i] = at;
    return s;
}

/* Threads worth having, and their scratch; NULL where there is no memory. */
static float *spaces(struct device *device, const struct attention *a, size_t *threads)
{
    size_t units = a->sequences.count * a->kv_heads;
    *threads = (size_t)device->threads < units ? (size_t)device->threads : units ? units : 1;
    return cpu_scratch(device, *threads * space_floats(a));
}

/* to[rows][padded] = from[n][width], rows `stride` apart, times factor; zeros around it */
INLINE void pack(size_t n, size_t rows, size_t width, size_t padded, size_t stride, float factor, const float *from,
                 float *to)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < width; d++)
            to[i * padded + d] = from[i * stride + d] * factor;
        for (size_t d = width; d < padded; d++)
            to[i * padded + d] = 0;
    }
    if (rows > n) memset(to + n * padded, 0, (rows - n) * padded * sizeof *to);
}

INLINE void unpack(size_t n, size_t width, size_t padded, size_t stride, float factor, const float *from, float *to)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < width; d++)
            to[i * stride + d] = from[i * padded + d] * factor;
    }
}

/* What sequence s sees before its own tokens, at key/value head g. */
INLINE struct attention_prefix prefix_of(const struct attention *a, size_t s, size_t g)
{
    struct attention_prefix prefix = {.length = 0};
    size_t at = g * a->head_width;
    if (!a->prefixes || !a->prefixes[s].length) return prefix;
    prefix = a->prefixes[s];
    prefix.k += at;
    prefix.v += at;
    if (prefix.dk) prefix.dk += at;
    if (prefix.dv) prefix.dv += at;
    return prefix;
}

/* Gradients of a prefix's keys or values. */
INLINE void unpack_add(size_t n, size_t width, size_t padded, size_t stride, const float *from, float *to)
{
    for (size_t i = 0; to && i < n; i++) {
        for (size_t d = 0; d < width; d++)
            to[i * stride + d] += from[i * padded + d];
    }
}

INLINE size_t whole_groups(size_t n)
{
    return (n + GROUP - 1) / GROUP * GROUP;
}

/* n queries and the keys up to the last of them: `first` that all of them see, then their own. */
struct block {
    size_t first, n;
    size_t columns; /* n in whole vectors */
    size_t keys;    /* in whole groups */
};

/* From query `first` of a sequence of `length` on, behind a prefix. */
INLINE struct block block_at(size_t prefix, size_t first, size_t length)
{
    size_t n = length - first < QUERIES ? length - first : QUERIES;
    return (struct block){prefix + first, n, round_up(n), prefix + first + whole_groups(n)};
}

/* out[keys][QUERIES] = keys or values [keys][D] times transposed[D][QUERIES] */
INLINE void with_keys(int lanes, const struct space *s, const struct block *b, size_t width, const float *keys,
                      const float *transposed, float *out)
{
    size_t half = b->first + LANES < b->keys ? b->first + LANES : b->keys, D = s->width;
    small_matmul(lanes, half, b->columns, width, keys, D, 1, transposed, QUERIES, out, QUERIES, false);
    if (half < b->keys)
        small_matmul(lanes, b->keys - half, LANES, width, keys + half * D, D, 1, transposed + LANES, QUERIES,
                     out + half * QUERIES + LANES, QUERIES, false);
}

/* out[n][D] = transposed weights[keys][QUERIES] times keys or values */
INLINE void over_keys(int lanes, const struct space *s, const struct block *b, const float *weights,
                      const float *values, float *out)
{
    for (size_t i = 0; i < b->n; i += GROUP)
        small_matmul(lanes, GROUP, s->width, b->first + i + GROUP, weights + i, 1, QUERIES, values, s->width,
                     out + i * s->width, s->width, false);
}

/* out[keys][D] += weights[keys][QUERIES] times rows[n][D] */
INLINE void to_keys(int lanes, const struct space *s, const struct block *b, const float *weights, const float *rows,
                    float *out)
{
    size_t D = s->width, first = b->first;
    small_matmul(lanes, first, D, b->n, weights, QUERIES, 1, rows, D, out, D, true);
    for (size_t i = 0; i < b->n; i += GROUP)
        small_matmul(lanes, GROUP, D, b->n - i, weights + (first + i) * QUERIES + i, QUERIES, 1, rows + i * D, D,
                     out + (first + i) * D, D, true);
}

/* Scores become exp(score - maximum), zero where a query does not see a key; maxima and sums of each query. Loops of
 * exactly LANES steps become one vector each. */
INLINE void softmax(const struct space *s, const struct block *b)
{
    for (size_t v = 0; v < b->columns; v += LANES) {
        float maxima[LANES], sums[LANES], *scores = s->scores + v;
        int seen = (int)b->first + (int)v; /* keys up to this one are seen by all of the vector */
        int keys = (int)(b->first + v + LANES < b->keys ? b->first + v + LANES : b->keys);
        for (int l = 0; l < LANES; l++) {
            maxima[l] = -FLT_MAX;
            sums[l] = 0;
        }
        for (int j = 0; j < keys; j++) {
            for (int l = 0; l < LANES; l++) {
                float x = scores[j * QUERIES + l];
                x = l < j - seen ? -FLT_MAX : x;
                maxima[l] = x > maxima[l] ? x : maxima[l];
            }
        }
        for (int j = 0; j < keys; j++) {
            for (int l = 0; l < LANES; l++) {
                float e = vector_exp(scores[j * QUERIES + l] - maxima[l]);
                e = l < j - seen ? 0.0f : e;
                scores[j * QUERIES + l] = e;
                sums[l] += e;
            }
        }
        memcpy(s->maxima + v, maxima, sizeof maxima);
        memcpy(s->sums + v, sums, sizeof sums);
    }
}

/* q, out and lse point to the first query of the block */
INLINE void forward_block(int lanes, const struct attention *a, const struct space *s, const struct block *b,
                          const float *q, float *out, float *lse)
{
    size_t D = s->width, stride = a->heads * a->head_width;
    pack(b->n, b->columns, a->head_width, D, stride, 1.0f / sqrtf((float)a->head_width), q, s->q);
    transpose(lanes, b->columns, D, s->q, D, s->q_t, QUERIES);
    with_keys(lanes, s, b, a->head_width, s->keys, s->q_t, s->scores);
    softmax(s, b);
    over_keys(lanes, s, b, s->scores, s->values, s->out);
    for (size_t i = 0; i < b->n; i++) {
        lse[i * a->heads] = s->maxima[i] + logf(s->sums[i]);
        unpack(1, a->head_width, D, stride, 1.0f / s->sums[i], s->out + i * D, out + i * stride);
    }
}

CLONES static void forward_sequence(int lanes, const struct attention *a, const struct space *s, size_t sequence,
                                    size_t g, const float *q, const float *k, const float *v, float *out, float *lse)
{
    size_t begin = a->sequences.offsets[sequence], n = a->sequences.offsets[sequence + 1] - begin;
    size_t width = a->head_width, D = s->width, stride = a->kv_heads * width, kv = begin * stride + g * width;
    struct attention_prefix prefix = prefix_of(a, sequence, g);
    size_t before = prefix.length;
    if (before) pack(before, before, width, D, prefix.stride, 1, prefix.k, s->keys);
    if (before) pack(before, before, width, D, prefix.stride, 1, prefix.v, s->values);
    pack(n, round_up(n), width, D, stride, 1, k + kv, s->keys + before * D);
    pack(n, round_up(n), width, D, stride, 1, v + kv, s->values + before * D);
    for (size_t h = 0; h < a->heads; h++) {
        if (a->kv_head_of[h] != g) continue;
        for (size_t first = 0; first < n; first += QUERIES) {
            struct block block = block_at(before, first, n);
            size_t at = (begin + first) * a->heads + h;
            forward_block(lanes, a, s, &block, q + at * width, out + at * width, lse + at);
        }
    }
}

void cpu_attention_forward(struct device *device, const struct attention *shape, const float *q, const float *k,
                           const float *v, float *out, float *lse)
{
    size_t threads, units = shape->sequences.count * shape->kv_heads;
    float *scratch = spaces(device, shape, &threads);
    if (!scratch) return;
#pragma omp parallel for schedule(dynamic) num_threads((int)threads) if (threads > 1)
    for (size_t unit = 0; unit < units; unit++) {
        size_t sequence = unit / shape->kv_heads, g = unit % shape->kv_heads;
        struct space space = space_at(shape, scratch, threads > 1 ? (size_t)omp_get_thread_num() : 0);
        forward_sequence(device->lanes, shape, &space, sequence, g, q, k, v, out, lse);
    }
}

/* scores become probabilities, dscores the gradient of the scaled scores */
INLINE void backward_scores(const struct space *s, const struct block *b)
{
    for (size_t v = 0; v < b->columns; v += LANES) {
        float lse[LANES], delta[LANES], *p = s->scores + v, *dp = s->dscores + v;
        int seen = (int)b->first + (int)v;
        int keys = (int)(b->first + v + LANES < b->keys ? b->first + v + LANES : b->keys);
        memcpy(lse, s->lse + v, sizeof lse);
        memcpy(delta, s->delta + v, sizeof delta);
        for (int j = 0; j < keys; j++) {
            for (int l = 0; l < LANES; l++) {
                float e = vector_exp(p[j * QUERIES + l] - lse[l]);
                e = l < j - seen ? 0.0f : e;
                p[j * QUERIES + l] = e;
                dp[j * QUERIES + l] = e * (dp[j * QUERIES + l] - delta[l]);
            }
        }
    }
}

INLINE void backward_block(int lanes, const struct attention *a, const struct space *s, const struct block *b,
                           const float *q, const float *out, const float *lse, const float *dout, float *dq)
{
    size_t D = s->width, width = a->head_width, stride = a->heads * width;
    float scale = 1.0f / sqrtf((float)width);
    pack(b->n, b->columns, width, D, stride, scale, q, s->q);
    pack(b->n, b->columns, width, D, stride, 1, dout, s->dout);
    transpose(lanes, b->columns, D, s->q, D, s->q_t, QUERIES);
    transpose(lanes, b->columns, D, s->dout, D, s->dout_t, QUERIES);
    for (size_t i = 0; i < b->columns; i++)
        s->delta[i] = s->lse[i] = 0;
    for (size_t i = 0; i < b->n; i++) {
        float delta = 0;
#pragma omp simd reduction(+ : delta)
        for (size_t d = 0; d < width; d++)
            delta += dout[i * stride + d] * out[i * stride + d];
        s->delta[i] = delta;
        s->lse[i] = lse[i * a->heads];
    }
    with_keys(lanes, s, b, width, s->keys, s->q_t, s->scores);
    with_keys(lanes, s, b, width, s->values, s->dout_t, s->dscores);
    backward_scores(s, b);
    over_keys(lanes, s, b, s->dscores, s->keys, s->out);
    unpack(b->n, width, D, stride, scale, s->out, dq);
    to_keys(lanes, s, b, s->dscores, s->q, s->dkeys);
    to_keys(lanes, s, b, s->scores, s->dout, s->dvalues);
}

struct gradients {
    const float *q, *k, *v, *out, *lse, *dout;
    float *dq, *dk, *dv;
};

CLONES static void backward_sequence(int lanes, const struct attention *a, const struct space *s, size_t sequence,
                                     size_t g, const struct gradients *x)
{
    size_t begin = a->sequences.offsets[sequence], n = a->sequences.offsets[sequence + 1] - begin;
    size_t width = a->head_width, D = s->width, stride = a->kv_heads * width;
    size_t kv = begin * stride + g * width, rows = round_up(n);
    struct attention_prefix prefix = prefix_of(a, sequence, g);
    size_t before = prefix.length;
    if (before) pack(before, before, width, D, prefix.stride, 1, prefix.k, s->keys);
    if (before) pack(before, before, width, D, prefix.stride, 1, prefix.v, s->values);
    pack(n, rows, width, D, stride, 1, x->k + kv, s->keys + before * D);
    pack(n, rows, width, D, stride, 1, x->v + kv, s->values + before * D);
    memset(s->dkeys, 0, (before + rows) * D * sizeof(float));
    memset(s->dvalues, 0, (before + rows) * D * sizeof(float));
    for (size_t h = 0; h < a->heads; h++) {
        if (a->kv_head_of[h] != g) continue;
        for (size_t first = 0; first < n; first += QUERIES) {
            struct block block = block_at(before, first, n);
            size_t row = (begin + first) * a->heads + h, at = row * width;
            backward_block(lanes, a, s, &block, x->q + at, x->out + at, x->lse + row, x->dout + at, x->dq + at);
        }
    }
    unpack_add(before, width, D, prefix.stride, s->dkeys, prefix.dk);
    unpack_add(before, width, D, prefix.stride, s->dvalues, prefix.dv);
    unpack(n, width, D, stride, 1, s->dkeys + before * D, x->dk + kv);
    unpack(n, width, D, stride, 1, s->dvalues + before * D, x->dv + kv);
}

/* Sequences may share a prefix, whose gradient is added to in their order: then a thread takes a key/value head. */
void cpu_attention_backward(struct device *device, const struct attention *shape, const float *q, const float *k,
                            const float *v, const float *out, const float *lse, const float *dout, float *dq, float *dk,
                            float *dv)
{
    size_t threads, count = shape->sequences.count, each = shape->prefixes ? count : 1;
    size_t units = count * shape->kv_heads / (each ? each : 1);
    float *scratch = spaces(device, shape, &threads);
    if (!scratch) return;
    struct gradients gradients = {q, k, v, out, lse, dout, dq, dk, dv};
#pragma omp parallel for schedule(dynamic) num_threads((int)threads) if (threads > 1)
    for (size_t unit = 0; unit < units; unit++) {
        size_t first = each > 1 ? 0 : unit / shape->kv_heads, g = unit % shape->kv_heads;
        struct space space = space_at(shape, scratch, threads > 1 ? (size_t)omp_get_thread_num() : 0);
        for (size_t sequence = first; sequence < first + each; sequence++)
            backward_sequence(device->lanes, shape, &space, sequence, g, &gradients);
    }
}
