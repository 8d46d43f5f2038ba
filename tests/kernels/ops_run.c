/* Buffers of the cases of test_ops.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/random.h"
#include "tests/kernels/ops.h"

static const struct random_key key = {2026, 7};

double run_draw(struct run *run)
{
    return random_normal(key, run->draws++);
}

uint64_t run_below(struct run *run, uint64_t bound)
{
    return random_below(key, run->draws++, bound);
}

struct buffer *run_buffer(struct run *run, enum role role, size_t n)
{
    struct buffer *buffer = &run->b[run->count++];
    buffer->role = role;
    buffer->n = n;
    buffer->initial = calloc(n ? n : 1, sizeof(float));
    if (run->count > BUFFERS || !buffer->initial) abort();
    return buffer;
}

void run_normal(struct run *run, enum role role, size_t n, double deviation)
{
    struct buffer *buffer = run_buffer(run, role, n);
    for (size_t i = 0; i < n; i++)
        buffer->initial[i] = (float)(deviation * run_draw(run));
}

void run_positive(struct run *run, enum role role, size_t n, double largest)
{
    struct buffer *buffer = run_buffer(run, role, n);
    for (size_t i = 0; i < n; i++)
        buffer->initial[i] = (float)(largest * random_uniform(key, run->draws++));
}

int32_t *run_integers(struct run *run, size_t n, int32_t lowest, int32_t highest)
{
    struct buffer *buffer = run_buffer(run, IN, n);
    int32_t *x = (int32_t *)buffer->initial;
    for (size_t i = 0; i < n; i++)
        x[i] = lowest + (int32_t)run_below(run, (uint64_t)((int64_t)highest - lowest + 1));
    return x;
}

void run_order(struct run *run, int buffer)
{
    size_t n = run->b[buffer].n;
    uint32_t *order = (uint32_t *)run_buffer(run, IN, n)->initial;
    const int32_t *ids = (const int32_t *)run->b[buffer].initial;
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && ids[order[at - 1]] > ids[i]; at--)
            order[at] = order[at - 1];
        order[at] = (uint32_t)i;
    }
}

/* Sequences of random lengths that make up `tokens`, and an uneven map of query heads to key/value heads. */
void run_sequences(struct run *run, size_t count, size_t tokens, size_t heads, size_t kv_heads, size_t head_width)
{
    run->offsets = calloc(count + 1, sizeof *run->offsets);
    run->kv_head_of = calloc(heads, sizeof *run->kv_head_of);
    if (!run->offsets || !run->kv_head_of) abort();
    size_t longest = 0;
    for (size_t s = 0; s < count; s++) {
        size_t left = tokens - run->offsets[s], rest = count - s - 1;
        size_t length = rest ? 1 + run_below(run, 2 * (left - rest) / (rest + 1)) : left;
        if (length > left - rest) length = left - rest;
        run->offsets[s + 1] = run->offsets[s] + (uint32_t)length;
        if (length > longest) longest = length;
    }
    for (size_t h = 0; h < heads; h++)
        run->kv_head_of[h] = (uint32_t)(h < 1 ? 0 : (h * kv_heads + 1) / heads);
    for (size_t h = 0; h < heads; h++) {
        if (run->kv_head_of[h] >= kv_heads) run->kv_head_of[h] = (uint32_t)kv_heads - 1;
    }
    run->attention = (struct attention){.sequences = {count, run->offsets, longest},
                                        .heads = heads,
                                        .kv_heads = kv_heads,
                                        .head_width = head_width,
                                        .kv_head_of = run->kv_head_of};
}

/* Of three sequences in turn, the first sees a whole prefix, the second half of it, the third none. */
const struct attention *run_prefixes(struct run *run, size_t length, float *x, float *dx)
{
    struct attention *a = &run->attention;
    size_t row = a->kv_heads * a->head_width;
    if (!length) return a;
    if (!run->prefixes) run->prefixes = calloc(a->sequences.count, sizeof *run->prefixes);
    if (!run->prefixes) abort();
    for (size_t s = 0; s < a->sequences.count; s++)
        run->prefixes[s] = (struct attention_prefix){.length = s % 3 == 2   ? 0
                                                               : s % 3 == 1 ? length / 2
                                                                            : length,
                                                     .stride = 2 * row,
                                                     .k = x,
                                                     .v = x + row,
                                                     .dk = dx,
                                                     .dv = dx ? dx + row : NULL};
    a->prefixes = run->prefixes;
    a->longest_prefix = length;
    return a;
}

void run_free(struct run *run)
{
    free(run->prefixes);
    for (int i = 0; i < run->count; i++)
        free(run->b[i].initial);
    free(run->offsets);
    free(run->kv_head_of);
}
