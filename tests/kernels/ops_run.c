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

struct buffer *run_buffer(struct run *run, enum kind kind, enum role role, size_t n)
{
    if (run->count >= BUFFERS) abort();
    struct buffer *buffer = &run->b[run->count++];
    buffer->kind = kind;
    buffer->role = role;
    buffer->n = n;
    buffer->initial = calloc(n ? n : 1, sizeof(float));
    if (!buffer->initial) abort();
    return buffer;
}

void run_normal(struct run *run, enum kind kind, enum role role, size_t n, double deviation)
{
    struct buffer *buffer = run_buffer(run, kind, role, n);
    for (size_t i = 0; i < n; i++)
        buffer->initial[i] = (float)(deviation * run_draw(run));
}

void run_positive(struct run *run, enum kind kind, enum role role, size_t n, double largest)
{
    struct buffer *buffer = run_buffer(run, kind, role, n);
    for (size_t i = 0; i < n; i++)
        buffer->initial[i] = (float)(largest * random_uniform(key, run->draws++));
}

int32_t *run_integers(struct run *run, size_t n, int32_t lowest, int32_t highest)
{
    struct buffer *buffer = run_buffer(run, WORDS, IN, n);
    int32_t *x = (int32_t *)buffer->initial;
    for (size_t i = 0; i < n; i++)
        x[i] = lowest + (int32_t)run_below(run, (uint64_t)((int64_t)highest - lowest + 1));
    return x;
}

void run_order(struct run *run, int buffer)
{
    size_t n = run->b[buffer].n;
    uint32_t *order = (uint32_t *)run_buffer(run, WORDS, IN, n)->initial;
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
    uint32_t *offsets = (uint32_t *)run_buffer(run, WORDS, IN, count + 1)->initial;
    uint32_t *kv_head_of = (uint32_t *)run_buffer(run, WORDS, IN, heads)->initial;
    size_t longest = 0;
    for (size_t s = 0; s < count; s++) {
        size_t left = tokens - offsets[s], rest = count - s - 1;
        size_t length = rest ? 1 + run_below(run, 2 * (left - rest) / (rest + 1)) : left;
        if (length > left - rest) length = left - rest;
        offsets[s + 1] = offsets[s] + (uint32_t)length;
        if (length > longest) longest = length;
    }
    for (size_t h = 0; h < heads; h++) {
        size_t head = h < 1 ? 0 : (h * kv_heads + 1) / heads;
        kv_head_of[h] = (uint32_t)(head < kv_heads ? head : kv_heads - 1);
    }
    run->attention = (struct attention){.sequences = {.count = count, .longest = longest, .tokens = tokens},
                                        .heads = heads,
                                        .kv_heads = kv_heads,
                                        .head_width = head_width};
}

/* Of three sequences in turn, the first sees a whole prefix, the second half of it, the third none. */
const struct attention *run_attention(struct run *run, const struct kernels *k, struct device *d, size_t length,
                                      const real *x, float *dx)
{
    struct attention *a = &run->attention;
    size_t row = a->kv_heads * a->head_width, count = a->sequences.count;
    a->sequences.offsets = run->b[0].x;
    a->kv_head_of = run->b[1].x;
    a->prefixes = NULL;
    a->longest_prefix = length;
    if (!length) return a;
    struct attention_prefix *prefixes = calloc(count, sizeof *prefixes);
    if (!run->prefixes) run->prefixes = k->allocate(d, count * sizeof *prefixes, NULL);
    if (!run->prefixes || !prefixes) abort();
    for (size_t s = 0; s < count; s++)
        prefixes[s] = (struct attention_prefix){.length = s % 3 == 2   ? 0
                                                          : s % 3 == 1 ? length / 2
                                                                       : length,
                                                .stride = 2 * row,
                                                .k = x,
                                                .v = real_at(x, run->bytes, row),
                                                .dk = dx,
                                                .dv = dx ? dx + row : NULL};
    k->to_device(d, run->prefixes, prefixes, count * sizeof *prefixes);
    k->synchronise(d, NULL); /* the host's array goes */
    free(prefixes);
    a->prefixes = run->prefixes;
    return a;
}

void run_round(struct run *run)
{
    for (int i = 0; i < run->count; i++) {
        struct buffer *b = &run->b[i];
        for (size_t j = 0; run->precision == PRECISION_BF16 && b->kind == REALS && j < b->n; j++)
            b->initial[j] = bf16_value(bf16_of(b->initial[j]));
    }
}

void run_on_reference(struct run *run, run_call *call)
{
    const struct kernels *reference = kernels_find("reference", NULL);
    struct error err;
    struct device *d = reference->device_create(0, 1, &err);
    size_t bytes = run->bytes;
    if (!d) abort();
    run_round(run);
    run->bytes = sizeof(float);
    for (int i = 0; i < run->count; i++)
        run->b[i].x = run->b[i].initial;
    call(reference, d, run);
    reference->release(d, run->prefixes);
    run->prefixes = NULL;
    reference->device_destroy(d);
    run->bytes = bytes;
    run_round(run);
}

void run_free(struct run *run)
{
    for (int i = 0; i < run->count; i++)
        free(run->b[i].initial);
}

size_t run_bytes(const struct run *run, const struct buffer *buffer)
{
    return buffer->kind == REALS ? run->bytes : sizeof(float);
}

void run_store(const struct run *run, const struct buffer *buffer, const float *from, void *to)
{
    if (run_bytes(run, buffer) == sizeof(float)) {
        if (buffer->n) memcpy(to, from, buffer->n * sizeof(float));
        return;
    }
    for (size_t i = 0; i < buffer->n; i++)
        ((uint16_t *)to)[i] = bf16_of(from[i]);
}

void run_load(const struct run *run, const struct buffer *buffer, const void *from, float *to)
{
    if (run_bytes(run, buffer) == sizeof(float)) {
        if (buffer->n) memcpy(to, from, buffer->n * sizeof(float));
        return;
    }
    for (size_t i = 0; i < buffer->n; i++)
        to[i] = bf16_value(((const uint16_t *)from)[i]);
}
