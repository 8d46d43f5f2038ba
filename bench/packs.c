/* Points of one base, packed and one by one: training steps of N LoRA adapters in one pass (workers/model/model.h)
 * beside those of N models with one adapter each, in turn, in one process.
 *
 *   bench_packs LAYERS WIDTH HEADS FFN VOCABULARY  POINTS RANK  SEQUENCES LENGTH [ROUNDS [BACKEND PRECISION]]
 *
 * Each point has SEQUENCES sequences of LENGTH tokens a step, a loss on every token but the last; AdamW. On the host
 * CPU time, since machines are shared; on GPUs the clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/random.h"
#include "workers/train/batch.h"
#include "workers/train/optimiser.h"

enum { NUMBERS = 9 };

struct setting {
    struct model_config model;
    struct method_config method;
    size_t points, sequences, length;
    const char *backend;
    enum precision precision;
    clockid_t clock;
};

/* Some points in one model. */
struct group {
    size_t count;
    struct parameters *parameters[PACK_LIMIT];
    struct model *model;
    struct batch_buffer single, joined;
};

static const struct recipe recipe = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .clip_norm = 1};

static double seconds(const struct setting *s)
{
    struct timespec t;
    clock_gettime(s->clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fill_batch(const struct setting *s, struct batch_buffer *buffer)
{
    struct batch *b = &buffer->batch;
    struct random_key key = {.seed = 1, .stream = random_stream("bench")};
    b->longest = s->length;
    for (size_t i = 0; i < s->sequences * s->length; i++) {
        buffer->ids[i] = (int32_t)random_below(key, i, s->model.vocabulary);
        buffer->positions[i] = (int32_t)(i % s->length);
        if (i % s->length == 0) continue;
        buffer->rows[b->targets] = (uint32_t)i - 1;
        buffer->labels[b->targets++] = buffer->ids[i];
    }
    b->tokens = s->sequences * s->length;
    for (b->sequences = 0; b->sequences < s->sequences; b->sequences++)
        buffer->offsets[b->sequences + 1] = (uint32_t)((b->sequences + 1) * s->length);
}

static int group_create(struct group *g, const struct setting *s, const struct kernels *kernels, struct device *device,
                        size_t count, struct error *err)
{
    const struct collective alone = {NULL, 0, 1};
    struct lane lanes[PACK_LIMIT];
    struct batch_capacity capacities[PACK_LIMIT];
    size_t tokens = s->sequences * s->length;
    g->count = count;
    for (size_t i = 0; i < count; i++) {
        g->parameters[i] = i ? parameters_create_beside(g->parameters[0], &s->model, &s->method, &recipe, err)
                             : parameters_create(&s->model, &s->method, &recipe, &alone, kernels, device, err);
        if (!g->parameters[i]) return -1;
        if (i == 0) parameters_initialise_base(g->parameters[0], &s->model, 1);
        if (parameters_initialise_adapter(g->parameters[i], &s->model, &s->method, 2 + i, err)) return -1;
        capacities[i] = (struct batch_capacity){
            .tokens = tokens, .sequences = s->sequences, .targets = tokens, .longest = s->length};
        lanes[i] = (struct lane){s->method, g->parameters[i], capacities[i]};
    }
    struct batch_capacity all = batch_capacity_join(capacities, count);
    g->model = model_create_pack(&s->model, lanes, count, true, err);
    if (!g->model || batch_buffer_create(&g->single, &capacities[0], err) || batch_buffer_create(&g->joined, &all, err))
        return -1;
    fill_batch(s, &g->single);
    return 0;
}

static int group_step(struct group *g, uint64_t step, struct error *err)
{
    float scales[PACK_LIMIT];
    double losses[PACK_LIMIT], norm;
    const struct batch *batch = &g->single.batch;
    batch_join_begin(&g->joined);
    for (size_t i = 0; i < g->count; i++) {
        parameters_zero_gradients(g->parameters[i]);
        scales[i] = 1.0f / (float)batch->targets;
        if (g->count > 1 && batch_join(&g->joined, (uint32_t)i, batch, err)) return -1;
    }
    if (model_pass(g->model, g->count > 1 ? &g->joined.batch : batch, scales, losses, err)) return -1;
    for (size_t i = 0; i < g->count; i++)
        if (parameters_gradient_norm(g->parameters[i], &norm, err) ||
            optimiser_step(g->parameters[i], &recipe, step, 1e-4, optimiser_clip(&recipe, norm), err))
            return -1;
    return g->parameters[0]->kernels->synchronise(g->parameters[0]->device, err);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(const struct setting *s, size_t rounds, struct error *err)
{
    static struct group pack, alone[PACK_LIMIT];
    double packed[99], single[99];
    const struct kernels *kernels = kernels_find(s->backend, err);
    struct device *device = kernels ? kernels->device_create(0, 1, err) : NULL;
    if (device) kernels->set_precision(device, s->precision);
    if (!device || group_create(&pack, s, kernels, device, s->points, err)) return -1;
    for (size_t i = 0; i < s->points; i++)
        if (group_create(&alone[i], s, kernels, device, 1, err)) return -1;
    for (size_t r = 0; r <= rounds; r++) { /* the first one warms up */
        double start = seconds(s);
        if (group_step(&pack, r + 1, err)) return -1;
        double middle = seconds(s);
        for (size_t i = 0; i < s->points; i++)
            if (group_step(&alone[i], r + 1, err)) return -1;
        if (r == 0) continue;
        packed[r - 1] = middle - start;
        single[r - 1] = seconds(s) - middle;
    }
    qsort(packed, rounds, sizeof *packed, ascending);
    qsort(single, rounds, sizeof *single, ascending);
    printf("bench packs: ours %.4g s a step of %zu points, one by one %.4g s, ratio %.2f\n", packed[rounds / 2],
           s->points, single[rounds / 2], single[rounds / 2] / packed[rounds / 2]);
    return 0; /* the process ends: nothing is freed */
}

int main(int argc, char **argv)
{
    uint32_t n[NUMBERS];
    struct error err = {""};
    if (argc < NUMBERS + 1) {
        fprintf(
            stderr,
            "usage: %s LAYERS WIDTH HEADS FFN VOCABULARY POINTS RANK SEQUENCES LENGTH [ROUNDS [BACKEND PRECISION]]\n",
            argv[0]);
        return 1;
    }
    for (int i = 0; i < NUMBERS; i++)
        n[i] = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    unsigned long rounds = argc > NUMBERS + 1 ? strtoul(argv[NUMBERS + 1], NULL, 10) : 9;
    struct setting s = {.model = {.name = "bench",
                                  .layers = n[0],
                                  .width = n[1],
                                  .heads = n[2],
                                  .kv_heads = n[2],
                                  .head_width = n[2] ? n[1] / n[2] : 0,
                                  .ffn = n[3],
                                  .vocabulary = n[4],
                                  .rope_theta = 10000,
                                  .norm_epsilon = 1e-5},
                        .method = {.kind = METHOD_LORA, .size = n[6], .alpha = 16},
                        .points = n[5],
                        .sequences = n[7],
                        .length = n[8],
                        .backend = argc > NUMBERS + 2 ? argv[NUMBERS + 2] : "cpu",
                        .clock = CLOCK_PROCESS_CPUTIME_ID};
    int precision = argc > NUMBERS + 3 ? precision_find(argv[NUMBERS + 3]) : PRECISION_FP32;
    s.precision = (enum precision)precision;
    if (!strcmp(s.backend, "cuda")) s.clock = CLOCK_MONOTONIC;
    bool wrong = s.points < 1 || s.points > PACK_LIMIT || s.sequences < 1 || s.length < 2 || rounds < 1 ||
                 rounds > 99 || precision < 0;
    if (wrong) error_set(&err, "a number is out of range");
    if (wrong || model_config_check(&s.model, &err) || method_config_check(&s.method, &s.model, &err) ||
        measure(&s, rounds, &err)) {
        fprintf(stderr, "bench_packs: %s\n", err.text);
        return 1;
    }
    return 0;
}
