/* Training steps of this engine, timed on request, for bench/train_step.py, which times its peer in between.
 *
 * Reads lines "train N" and "matmul N" and answers each with "seconds cpu_seconds loss": N whole steps (gradients to
 * zero, forward, backward, norm, clip, AdamW) over one batch of equal sequences in which every token but the last
 * predicts the next; or N times the matrix products of such a step with the model's weights and nothing else. "memory
 * N" trains N steps and answers with the peak of resident bytes above what the process had before there was a model,
 * without parameters, gradients and moments; these bytes; and the loss. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/random.h"
#include "workers/model/model.h"
#include "workers/model/shard.h"
#include "workers/stage/gang.h"
#include "workers/train/optimiser.h"

struct setting {
    const char *backend;
    struct model_config model;
    struct method_config method;
    struct recipe recipe;
    struct batch batch;
    int degree, threads;
    double before; /* resident bytes */
};

/* One rank. */
struct member {
    const struct setting *setting;
    struct collective collective;
    const struct kernels *kernels;
    struct device *device;
    struct parameters *parameters;
    struct model *model;
    struct shard shard;
    real *products[2]; /* room for the matrix products: inputs, outputs */
    float *product_gradient;
    uint64_t step;
};

enum request { REQUEST_END, REQUEST_TRAIN, REQUEST_MATMUL, REQUEST_MEMORY };

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A line of /proc/self/status, in bytes. */
static double resident(const char *key)
{
    char line[256];
    unsigned long kib = 0;
    size_t length = strlen(key);
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == ':') kib = strtoul(line + length + 1, NULL, 10);
    if (file) fclose(file);
    return 1024.0 * (double)kib;
}

static int train(struct member *m, double *loss, struct error *err)
{
    const struct setting *s = m->setting;
    double norm;
    parameters_zero_gradients(m->parameters);
    if (model_train(m->model, &s->batch, (float)(1.0 / (double)s->batch.targets), loss, err) ||
        parameters_reduce_gradients(m->parameters, err) || parameters_gradient_norm(m->parameters, &norm, err))
        return -1;
    *loss /= (double)s->batch.targets;
    m->step++;
    if (optimiser_step(m->parameters, &s->recipe, m->step, recipe_rate(&s->recipe, m->step),
                       optimiser_clip(&s->recipe, norm), err))
        return -1;
    return m->kernels->synchronise(m->device, err);
}

/* Forward, gradient of the input, and of the weights where they are trained: y[rows][out] = x[rows][in] w[out][in]^T.
 */
static void products(const struct member *m, size_t rows, size_t out, size_t in, const real *w, bool weights)
{
    const struct kernels *k = m->kernels;
    real *x = m->products[0], *y = m->products[1];
    float *gradient = m->product_gradient;
    k->matmul(m->device, false, true, rows, out, in, 1, x, in, w, in, 0, y, out);
    k->matmul(m->device, false, false, rows, in, out, 1, y, out, w, in, 0, x, in);
    if (weights) k->matmul_floats(m->device, true, false, out, in, rows, 1, y, out, x, in, 0, gradient, in);
}

/* The products with weights and adapters; attention's own are not among them. */
static void matmuls(const struct member *m)
{
    const struct setting *s = m->setting;
    size_t tokens = s->batch.tokens, rank = s->method.size;
    bool full = s->method.kind == METHOD_FULL;
    for (uint32_t layer = 0; layer < s->model.layers; layer++) {
        for (int kind = 0; kind < LINEARS; kind++) {
            const struct linear_shape *l = &m->shard.linears[kind];
            if (!l->name) continue;
            const struct parameter *w = parameters_find(m->parameters, "model.layers.%u.%s.weight", layer, l->name);
            products(m, tokens, l->out.count, l->in.count, w->matrix, full);
            if (s->method.kind != METHOD_LORA) continue;
            products(m, tokens, rank, l->in.count, w->matrix, true);
            products(m, tokens, l->out.count, rank, w->matrix, true);
        }
    }
    const struct parameter *head = parameters_find(m->parameters, "lm_head.weight");
    if (!head) head = parameters_find(m->parameters, "model.embed_tokens.weight");
    products(m, s->batch.targets, m->shard.vocabulary.count, s->model.width, head->matrix, full);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* On the first request: it is no part of the engine's memory. */
static int prepare_products(struct member *m, struct error *err)
{
    if (m->products[0]) return 0;
    const struct model_config *c = &m->setting->model;
    size_t wide = larger(larger(c->ffn, c->width), (size_t)c->heads * c->head_width);
    size_t sizes[3] = {m->setting->batch.tokens * wide, m->setting->batch.tokens * larger(wide, c->vocabulary),
                       c->width * larger(wide, c->vocabulary)};
    for (int i = 0; i < 2; i++) {
        m->products[i] = m->kernels->allocate(m->device, sizes[i] * m->kernels->element_bytes(m->device), err);
        if (!m->products[i]) return -1;
    }
    m->product_gradient = m->kernels->allocate(m->device, sizes[2] * sizeof(float), err);
    return m->product_gradient ? 0 : -1;
}

static int prepare(struct member *m, struct error *err)
{
    const struct setting *s = m->setting;
    struct batch_capacity capacity = {.tokens = s->batch.tokens,
                                      .sequences = s->batch.sequences,
                                      .targets = s->batch.targets,
                                      .longest = s->batch.longest,
                                      .one_pass = true};
    m->kernels = kernels_find(s->backend, err);
    if (!m->kernels || shard_of(&s->model, m->collective.rank, m->collective.size, &m->shard, err)) return -1;
    m->device = m->kernels->device_create(m->collective.rank, s->threads, err);
    if (!m->device) return -1;
    m->kernels->set_precision(m->device, s->recipe.precision);
    m->parameters =
        parameters_create_one_pass(&s->model, &s->method, &s->recipe, &m->collective, m->kernels, m->device, err);
    if (!m->parameters) return -1;
    parameters_initialise_base(m->parameters, &s->model, 1);
    if (parameters_initialise_adapter(m->parameters, &s->model, &s->method, 2, err)) return -1;
    m->model = model_create(&s->model, &s->method, m->parameters, &capacity, true, err);
    return m->model ? 0 : -1;
}

static void dismantle(struct member *m)
{
    for (int i = 0; i < 2; i++)
        if (m->products[i]) m->kernels->release(m->device, m->products[i]);
    if (m->product_gradient) m->kernels->release(m->device, m->product_gradient);
    model_destroy(m->model);
    parameters_destroy(m->parameters);
    if (m->device) m->kernels->device_destroy(m->device);
}

/* The first rank reads, the others hear of it through a sum. */
static int next_request(const struct member *m, enum request *request, int *count, struct error *err)
{
    char line[64], word[16] = "";
    double kind = REQUEST_END, n = 0;
    if (m->collective.rank == 0 && fgets(line, sizeof line, stdin) && sscanf(line, "%15s %lf", word, &n) == 2)
        kind = !strcmp(word, "train") ? REQUEST_TRAIN : !strcmp(word, "memory") ? REQUEST_MEMORY : REQUEST_MATMUL;
    if (collective_sum_double(&m->collective, &kind) || collective_sum_double(&m->collective, &n))
        return error_set(err, "another device failed");
    *request = (enum request)kind;
    *count = (int)n;
    return 0;
}

/* Parameters, gradients and moments of all ranks. */
static double state_bytes(const struct setting *s, struct error *err)
{
    struct memory sum = {0};
    for (int rank = 0; rank < s->degree; rank++)
        if (parameters_memory(&s->model, &s->method, &s->recipe, PARAMETERS_ALONE, sizeof(float), rank, s->degree, &sum,
                              err))
            return 0;
    return (double)(sum.parameters + sum.gradients + sum.optimiser);
}

static void answer(const struct member *m, enum request request, double start, double cpu, double loss)
{
    struct error err;
    double state = state_bytes(m->setting, &err);
    if (request == REQUEST_MEMORY)
        printf("%.9g %.9g %.9g\n", resident("VmHWM") - m->setting->before - state, state, loss);
    else
        printf("%.9g %.9g %.9g\n", now(CLOCK_MONOTONIC) - start, now(CLOCK_PROCESS_CPUTIME_ID) - cpu, loss);
    fflush(stdout);
}

static int serve(struct member *m, struct error *err)
{
    for (;;) {
        enum request request = REQUEST_END;
        int count = 0;
        double loss = 0;
        if (next_request(m, &request, &count, err)) return -1;
        if (request == REQUEST_END) return 0;
        if (request == REQUEST_MATMUL && prepare_products(m, err)) return -1;
        double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        for (int i = 0; i < count; i++) {
            if (request == REQUEST_MATMUL)
                matmuls(m);
            else if (train(m, &loss, err))
                return -1;
        }
        if (collective_barrier(&m->collective)) return error_set(err, "another device failed");
        if (m->collective.rank == 0) answer(m, request, start, cpu, loss);
    }
}

static int run(void *context, const struct collective *collective, struct error *err)
{
    struct member m = {.setting = context, .collective = *collective};
    int result = prepare(&m, err);
    if (!result) result = serve(&m, err);
    dismantle(&m);
    return result;
}

/* `sequences` of `length` random tokens, each behind the prompt. */
static int make_batch(struct setting *s, size_t sequences, size_t length, struct error *err)
{
    size_t prompt = s->method.kind == METHOD_PROMPT ? s->method.size : 0, whole = length + prompt, targets = 0;
    size_t tokens = sequences * whole;
    int32_t *ids = calloc(3 * tokens, sizeof *ids), *positions = ids + tokens, *labels = ids + 2 * tokens;
    uint32_t *rows = calloc(tokens + sequences + 1, sizeof *rows), *offsets = rows + tokens;
    struct random_key key = {.seed = 1, .stream = random_stream("bench")};
    if (!ids || !rows) return error_set(err, "out of memory");
    for (size_t i = 0; i < tokens; i++) {
        size_t t = i % whole;
        positions[i] = (int32_t)t;
        ids[i] = t < prompt ? -(int32_t)t - 1 : (int32_t)random_below(key, i, s->model.vocabulary);
    }
    for (size_t i = 0; i < tokens; i++) {
        if (i % whole < prompt || i % whole == whole - 1) continue;
        rows[targets] = (uint32_t)i;
        labels[targets++] = ids[i + 1];
    }
    for (size_t i = 0; i <= sequences; i++)
        offsets[i] = (uint32_t)(i * whole);
    s->batch = (struct batch){.tokens = tokens,
                              .sequences = sequences,
                              .longest = whole,
                              .ids = ids,
                              .positions = positions,
                              .offsets = offsets,
                              .rows = rows,
                              .labels = labels,
                              .targets = targets};
    return 0;
}

static int parse(char **words, struct setting *s, struct error *err)
{
    uint32_t n[13];
    int method = method_find(words[8]);
    for (int i = 0; i < 13; i++)
        n[i] = (uint32_t)strtoul(words[i], NULL, 10);
    s->model = (struct model_config){"bench", n[0],      n[1],  n[2], n[3],          n[4], n[5],
                                     n[6],    n[7] != 0, 10000, 1e-5, {.factor = 0}, {0}};
    if (method < 0) return error_set(err, "no method \"%s\"", words[8]);
    s->method = (struct method_config){.kind = (enum method_kind)method, .size = n[9], .alpha = 16};
    s->recipe = (struct recipe){.learning_rate = 1e-4,
                                .beta1 = 0.9,
                                .beta2 = 0.999,
                                .epsilon = 1e-8,
                                .weight_decay = 0.01,
                                .clip_norm = 1,
                                .schedule = SCHEDULE_CONSTANT};
    if (model_config_check(&s->model, err) || method_config_check(&s->method, &s->model, err)) return -1;
    s->degree = (int)n[12];
    s->threads = (int)strtoul(words[13], NULL, 10);
    int precision = precision_find(words[14]);
    if (precision < 0) return error_set(err, "no precision \"%s\"", words[14]);
    s->recipe.precision = (enum precision)precision;
    if (n[10] < 1 || n[11] < 2 || s->degree < 1 || s->threads < 1) return error_set(err, "a size is too small");
    return make_batch(s, n[10], n[11], err);
}

/* What the libraries keep is no part of a model's memory: they are loaded and warm before it is counted. */
static int warm(const struct setting *s, struct error *err)
{
    enum { N = 64 };
    const struct kernels *k = kernels_find(s->backend, err);
    struct device *device = k ? k->device_create(0, s->threads, err) : NULL;
    if (!device) return -1;
    k->set_precision(device, s->recipe.precision);
    size_t element = k->element_bytes(device);
    real *x = k->allocate(device, 3 * N * N * element, err);
    if (!x) return -1;
    for (int kind = 0; kind < 3; kind++)
        k->matmul(device, kind == 2, kind == 0, N, N, N, 1, x, N, real_at(x, element, N * N), N, 0,
                  real_at(x, element, 2 * N * N), N);
    k->release(device, x);
    k->device_destroy(device);
    return 0;
}

int main(int argc, char **argv)
{
    struct error err = {""};
    struct setting setting = {0};
    if (argc != 16 && argc != 17) {
        fprintf(stderr,
                "usage: %s LAYERS WIDTH HEADS KV_HEADS HEAD_WIDTH FFN VOCABULARY TIED METHOD SIZE SEQUENCES "
                "LENGTH DEGREE THREADS PRECISION [BACKEND]\n",
                argv[0]);
        return 1;
    }
    setting.backend = argc > 16 ? argv[16] : "cpu";
    int result = parse(argv + 1, &setting, &err);
    if (!result) result = warm(&setting, &err);
    setting.before = resident("VmRSS");
    if (!result) result = gang_run(setting.degree, run, &setting, &err);
    if (result) fprintf(stderr, "bench_train_step: %s\n", err.text);
    free((void *)setting.batch.ids);
    free((void *)setting.batch.rows);
    return result ? 1 : 0;
}
