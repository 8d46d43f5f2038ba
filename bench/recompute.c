/* What activation recomputation saves and costs: steps of full tuning and LoRA on a model of 50M parameters, with and
 * without it, each in a process of its own whose peak of resident memory is read from /proc. The planned bytes are
 * printed beside. One argument: tokens a micro-batch, in sequences of 512. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernels/random.h"
#include "workers/model/model.h"
#include "workers/stage/monitor.h"

enum { LENGTH = 512, STEPS = 3 };

static const struct model_config model_50m = {.name = "50m",
                                              .layers = 8,
                                              .width = 512,
                                              .heads = 8,
                                              .kv_heads = 8,
                                              .head_width = 64,
                                              .ffn = 1376,
                                              .vocabulary = 24000,
                                              .rope_theta = 10000,
                                              .norm_epsilon = 1e-5};
static const struct recipe recipe = {.optimiser = OPTIMISER_ADAMW};

struct measured {
    double peak, planned, seconds, loss; /* bytes; CPU seconds a step */
};

static struct batch make_batch(size_t tokens)
{
    int32_t *ids = calloc(3 * tokens, sizeof *ids), *positions = ids + tokens, *labels = ids + 2 * tokens;
    uint32_t *rows = calloc(2 * tokens + 1, sizeof *rows), *offsets = rows + tokens;
    if (!ids || !rows) abort();
    for (size_t i = 0; i < tokens; i++) {
        ids[i] = labels[i] =
            (int32_t)random_below((struct random_key){1, random_stream("bench")}, i, model_50m.vocabulary);
        positions[i] = (int32_t)(i % LENGTH);
        rows[i] = (uint32_t)i;
    }
    for (size_t s = 0; s <= tokens / LENGTH; s++)
        offsets[s] = (uint32_t)(s * LENGTH);
    return (struct batch){.tokens = tokens,
                          .sequences = tokens / LENGTH,
                          .longest = LENGTH,
                          .ids = ids,
                          .positions = positions,
                          .offsets = offsets,
                          .rows = rows,
                          .labels = labels,
                          .targets = tokens};
}

static int train(const struct method_config *method, size_t tokens, bool recompute, struct measured *out,
                 struct error *err)
{
    struct memory memory;
    struct rusage before, after;
    struct batch batch = make_batch(tokens);
    struct batch_capacity capacity = {tokens, batch.sequences, tokens, LENGTH, recompute, false, false};
    struct collective alone = {NULL, 0, 1};
    const struct kernels *kernels = kernels_find("cpu", err);
    struct device *device = kernels ? kernels->device_create(0, 1, err) : NULL;
    if (!device ||
        model_memory(&model_50m, method, &capacity, &recipe, kernels_storage("cpu", PRECISION_FP32), 1, &memory, err))
        return -1;
    struct parameters *parameters = parameters_create(&model_50m, method, &recipe, &alone, kernels, device, err);
    if (!parameters) return -1;
    parameters_initialise_base(parameters, &model_50m, 1);
    if (parameters_initialise_adapter(parameters, &model_50m, method, 2, err)) return -1;
    struct model *model = model_create(&model_50m, method, parameters, &capacity, true, err);
    if (!model) return -1;
    parameters_zero_gradients(parameters);
    getrusage(RUSAGE_SELF, &before);
    for (int step = 0; step < STEPS; step++)
        if (model_train(model, &batch, 1.0f / (float)tokens, &out->loss, err)) return -1;
    getrusage(RUSAGE_SELF, &after);
    out->seconds = ((double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
                    1e-6 * (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec)) /
                   STEPS;
    out->planned = (double)memory_total(&memory);
    out->peak = (double)peak_bytes(NULL);
    return 0;
}

/* In a child, so that no other's memory is counted. */
static int measure(const struct method_config *method, size_t tokens, bool recompute, struct measured *out)
{
    int ends[2], status;
    if (pipe(ends)) return -1;
    pid_t child = fork();
    if (child == 0) {
        struct error err = {""};
        if (train(method, tokens, recompute, out, &err)) {
            fprintf(stderr, "bench_recompute: %s\n", err.text);
            _exit(1);
        }
        _exit(write(ends[1], out, sizeof *out) != sizeof *out);
    }
    close(ends[1]);
    ssize_t got = child < 0 ? 0 : read(ends[0], out, sizeof *out);
    close(ends[0]);
    return child < 0 || waitpid(child, &status, 0) < 0 || got != sizeof *out ? -1 : 0;
}

int main(int argc, char **argv)
{
    static const struct method_config methods[] = {{.kind = METHOD_FULL},
                                                   {.kind = METHOD_LORA, .size = 8, .alpha = 16}};
    size_t tokens = (argc > 1 ? strtoul(argv[1], NULL, 10) : 4096) / LENGTH * LENGTH;
    if (!tokens) return 1;
    for (size_t i = 0; i < 2; i++) {
        struct measured m[2];
        for (int recompute = 0; recompute < 2; recompute++) {
            if (measure(&methods[i], tokens, recompute, &m[recompute])) return 1;
            printf("%-5s %zu tokens, %s: peak %.0f MiB (planned %.0f), %.2f s of CPU a step, loss %.9g\n",
                   method_name(methods[i].kind), tokens, recompute ? "computed again" : "kept          ",
                   m[recompute].peak / 0x1p20, m[recompute].planned / 0x1p20, m[recompute].seconds, m[recompute].loss);
        }
        if (m[0].loss < m[1].loss || m[0].loss > m[1].loss) return 1;
        printf("bench recompute_%s: ours %.0f MiB, kept %.0f MiB, ratio %.2f\n", method_name(methods[i].kind),
               m[1].peak / 0x1p20, m[0].peak / 0x1p20, m[1].peak / m[0].peak);
    }
    return 0;
}
