/* The engine on a device that stores less than floats: CUDA's kernels, emulated, in fp32 and in bf16, against the
 * reference. What only a GPU can show (cuBLASLt, NCCL itself) is not here. */
#include <dlfcn.h>
#include <unistd.h>

#include "tests/emulation/nccl.h"
#include "tests/workers/model_fixture.h"
#include "workers/stage/gang.h"
#include "workers/train/batch.h"
#include "workers/train/optimiser.h"

extern const struct kernels kernels_emulated, kernels_emulated_bf16; /* tests/emulation */

static const int tested[] = {0, 2, 5}; /* of the variants: with biases, OLMo 2, GPT-NeoX */
enum { TESTED = sizeof tested / sizeof *tested };

static const struct collective alone = {NULL, 0, 1};
static const struct recipe recipe = {.optimiser = OPTIMISER_ADAMW, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};

static const struct kernels *emulated(enum precision precision)
{
    return precision == PRECISION_BF16 ? &kernels_emulated_bf16 : &kernels_emulated;
}

static struct rank rank_on(const struct kernels *kernels, const struct model_config *config,
                           const struct method_config *method, const struct batch_capacity *capacity)
{
    struct error err = {""};
    struct rank r;
    if (rank_create_with(&r, kernels, &alone, config, method, capacity, &recipe, &err)) fail_msg("%s", err.text);
    randomise(r.parameters);
    return r;
}

/* ||a - b||^2 / ||b||^2 over all gradients. */
static double gradient_error(const struct rank *a, const struct rank *b)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < b->parameters->count; i++) {
        const struct parameter *p = &a->parameters->list[i], *q = &b->parameters->list[i];
        for (size_t j = 0; q->gradient && j < q->row_count * q->column_count; j++) {
            difference += pow((double)p->gradient[j] - (double)q->gradient[j], 2);
            size += pow((double)q->gradient[j], 2);
        }
    }
    return size > 0 ? difference / size : difference;
}

/* body for every method that fits a variant, with a batch. */
static void each_case(void (*body)(const struct model_config *config, const struct method_config *method,
                                   const struct batch *batch, const char *what))
{
    for (int v = 0; v < TESTED; v++) {
        const struct model_config config = variant_model(tested[v], 4, 2, v == 0);
        for (int m = 0; m < METHOD_CASES; m++) {
            char what[128];
            if (!method_fits(&method_cases[m], &config)) continue;
            struct sample *s = sample_default(&method_cases[m], config.vocabulary);
            snprintf(what, sizeof what, "%s, method %d (%s)", variants[tested[v]].what, m,
                     method_name(method_cases[m].kind));
            body(&config, &method_cases[m], &s->batch, what);
            free(s);
        }
    }
}

static void compare(const struct model_config *config, const struct method_config *method, const struct batch *batch,
                    const char *what, enum precision precision, double loss_bound, double gradient_bound)
{
    struct error err = {""};
    const struct batch_capacity capacity = capacity_of(batch);
    struct rank oracle = rank_on(kernels_find("reference", &err), config, method, &capacity);
    struct rank r = rank_on(emulated(precision), config, method, &capacity);
    double expected = loss_of(&oracle, batch), loss = loss_of(&r, batch);
    if (!(fabs(loss - expected) <= loss_bound * fabs(expected)))
        fail_msg("%s: the loss is %.8g, expected %.8g", what, loss, expected);
    if (method->kind != METHOD_NONE) {
        double trained = gradients_of(&r, batch, 0.5F), error;
        gradients_of(&oracle, batch, 0.5F);
        error = gradient_error(&r, &oracle);
        if (trained != loss) fail_msg("%s: another loss in training: %.8g, %.8g", what, trained, loss);
        if (!(error <= gradient_bound)) fail_msg("%s: gradients differ by %.2g", what, sqrt(error));
    }
    rank_destroy(&oracle);
    rank_destroy(&r);
}

static void in_fp32(const struct model_config *config, const struct method_config *method, const struct batch *batch,
                    const char *what)
{
    compare(config, method, batch, what, PRECISION_FP32, 1e-6, 1e-10);
}

/* Activations and their gradients have 8 bits: some per cent of a model with so large weights. */
static void in_bf16(const struct model_config *config, const struct method_config *method, const struct batch *batch,
                    const char *what)
{
    compare(config, method, batch, what, PRECISION_BF16, 0.02, 0.01);
}

static void fp32(void **state)
{
    (void)state;
    each_case(in_fp32);
}

static void bf16(void **state)
{
    (void)state;
    each_case(in_bf16);
}

/* After a step the model reads the rounding of the values, and the values have more than that. */
static void check_roundings(const struct rank *r, const char *what)
{
    size_t finer = 0, trained = 0;
    for (size_t i = 0; i < r->parameters->count; i++) {
        const struct parameter *p = &r->parameters->list[i];
        size_t n = p->row_count * p->column_count;
        if (!p->matrix) continue;
        if (!p->trainable) {
            if (p->value) fail_msg("%s: %s is frozen and kept twice", what, p->name);
            continue;
        }
        const uint16_t *rounded = (const uint16_t *)(const void *)p->matrix;
        for (size_t j = 0; j < n; j++) {
            if (rounded[j] != bf16_of(p->value[j])) fail_msg("%s: element %zu of %s is not rounded", what, j, p->name);
            finer += bf16_value(rounded[j]) != p->value[j];
        }
        trained += n;
    }
    if (trained && finer < trained / 2) fail_msg("%s: values are no finer than what the model reads", what);
}

static void step_of(const struct model_config *config, const struct method_config *method, const struct batch *batch,
                    const char *what)
{
    static const enum optimiser_kind kinds[] = {OPTIMISER_ADAMW, OPTIMISER_SGD, OPTIMISER_ADAFACTOR};
    const struct batch_capacity capacity = capacity_of(batch);
    for (int i = 0; i < 3 && method->kind != METHOD_NONE; i++) {
        struct error err = {""};
        struct rank r;
        struct recipe own = recipe;
        own.optimiser = kinds[i];
        if (rank_create_with(&r, &kernels_emulated_bf16, &alone, config, method, &capacity, &own, &err))
            fail_msg("%s", err.text);
        randomise(r.parameters);
        double before = gradients_of(&r, batch, 0.02F), norm; /* of step 3: all layers are thawed */
        if (parameters_gradient_norm(r.parameters, &norm, &err) ||
            optimiser_step(r.parameters, &own, 3, 0.01, optimiser_clip(&own, norm), &err))
            fail_msg("%s", err.text);
        check_roundings(&r, what);
        if (loss_of(&r, batch) == before) fail_msg("%s: a step changed nothing", what);
        rank_destroy(&r);
    }
}

static void steps(void **state)
{
    (void)state;
    each_case(step_of);
}

/* Predicted bytes are allocated bytes, here too. */
static size_t allocated;

static void *count_bytes(struct device *device, size_t bytes, struct error *err)
{
    allocated += bytes;
    return kernels_emulated.allocate(device, bytes, err);
}

static void memory_of(const struct model_config *config, const struct method_config *method, const struct batch *batch,
                      const char *what)
{
    struct error err = {""};
    struct kernels kernels = kernels_emulated_bf16;
    const struct batch_capacity capacity = capacity_of(batch);
    struct memory two, four;
    kernels.allocate = count_bytes;
    allocated = 0;
    struct rank r = rank_on(&kernels, config, method, &capacity);
    if (model_memory(config, method, &capacity, &recipe, kernels_storage("cuda", PRECISION_BF16), 1, &two, &err) ||
        model_memory(config, method, &capacity, &recipe, kernels_storage("cuda", PRECISION_FP32), 1, &four, &err))
        fail_msg("%s", err.text);
    if (memory_total(&two) != allocated)
        fail_msg("%s: %zu bytes predicted, %zu allocated", what, memory_total(&two), allocated);
    assert_true(two.activations < four.activations);
    rank_destroy(&r);
}

static void memory(void **state)
{
    (void)state;
    each_case(memory_of);
}

/* Two ranks, each with its half, against one. */
struct pair {
    const struct kernels *kernels;
    const struct model_config *config;
    const struct method_config *method;
    const struct batch *batch;
    double loss, norm;
};

static int half(void *context, const struct collective *collective, struct error *err)
{
    struct pair *pair = context;
    struct rank r;
    double loss = NAN, norm = NAN;
    const struct batch_capacity capacity = capacity_of(pair->batch);
    if (rank_create_with(&r, pair->kernels, collective, pair->config, pair->method, &capacity, &recipe, err)) return -1;
    randomise(r.parameters);
    parameters_zero_gradients(r.parameters);
    int result = model_train(r.model, pair->batch, 0.5F, &loss, err);
    if (!result) result = parameters_reduce_gradients(r.parameters, err);
    if (!result) result = parameters_gradient_norm(r.parameters, &norm, err);
    if (collective->rank == 0) {
        pair->loss = loss;
        pair->norm = norm;
    }
    gang_tell(collective, result);
    if (result && collective->rank > 0) usleep(20000); /* the others tell their line first */
    rank_destroy(&r);
    return result;
}

static void two_ranks(const struct model_config *config, const struct method_config *method, const struct batch *batch,
                      const char *what)
{
    if (method->kind == METHOD_NONE) return;
    struct pair one = {&kernels_emulated_bf16, config, method, batch, NAN, NAN}, two = one;
    struct error err = {""};
    if (gang_run(1, half, &one, &err) || gang_run(2, half, &two, &err)) fail_msg("%s: %s", what, err.text);
    if (!(fabs(two.loss - one.loss) < 0.02 * one.loss) || !(fabs(two.norm - one.norm) < 0.05 * one.norm))
        fail_msg("%s: loss %.6g and norm %.6g on two ranks, %.6g and %.6g on one", what, two.loss, two.norm, one.loss,
                 one.norm);
}

static void degrees(void **state)
{
    (void)state;
    each_case(two_ranks);
}

/* The library that stands for NCCL. */
static struct emulated_nccl *find_nccl(void)
{
    void *library = dlopen(FAKE_NCCL, RTLD_NOW | RTLD_LOCAL);
    struct emulated_nccl *nccl = library ? dlsym(library, "emulated_nccl") : NULL;
    assert_non_null(nccl);
    return nccl;
}

/* The sums of two ranks by NCCL, or what stands for it, are those of the host, bit by bit: one addition each. */
static void sums_of_nccl(void **state)
{
    struct emulated_nccl *nccl = find_nccl();
    (void)state;
    for (int m = 0; m < METHOD_CASES; m += 2) {
        const struct kernels *kernels = m % 4 ? &kernels_emulated_bf16 : &kernels_emulated;
        const struct method_config *method = &method_cases[m];
        const struct model_config config = variant_model(tested[m % TESTED], 4, 2, false);
        if (!method_fits(method, &config) || method->kind == METHOD_NONE) continue;
        struct sample *s = sample_default(method, config.vocabulary);
        struct pair by_host = {kernels, &config, method, &s->batch, NAN, NAN}, by_nccl = by_host;
        struct error err = {""};
        nccl->looks = m % 3;
        nccl->joining = 0;
        if (gang_run(2, half, &by_nccl, &err)) fail_msg("method %d: %s", m, err.text);
        assert_int_equal(nccl->joining, 2);
        setenv("TUNELAW_HOST_COLLECTIVES", "1", 1);
        if (gang_run(2, half, &by_host, &err)) fail_msg("method %d: %s", m, err.text);
        unsetenv("TUNELAW_HOST_COLLECTIVES");
        assert_int_equal(nccl->joining, 2);
        assert_int_equal(nccl->communicators, 0);
        assert_memory_equal(&by_nccl.loss, &by_host.loss, sizeof by_host.loss);
        assert_memory_equal(&by_nccl.norm, &by_host.norm, sizeof by_host.norm);
        free(s);
    }
}

/* The rank on which it fails tells that, and ends the others. */
static void nccl_fails(void **state)
{
    struct emulated_nccl *nccl = find_nccl();
    const struct method_config *method = &method_cases[0];
    const struct model_config config = variant_model(tested[0], 4, 2, false);
    struct sample *s = sample_default(method, config.vocabulary);
    struct pair pair = {&kernels_emulated_bf16, &config, method, &s->batch, NAN, NAN};
    (void)state;
    nccl->rank = 1;
    nccl->trouble = NCCL_REFUSES_A_SUM;
    for (nccl->sums = 0; nccl->sums < 4; nccl->sums++) {
        struct error err = {""};
        assert_int_equal(gang_run(2, half, &pair, &err), -1);
        if (!strstr(err.text, "device 1: " GANG_FAILED ", or NCCL itself")) fail_msg("%s", err.text);
        assert_int_equal(nccl->communicators, 0);
    }
    nccl->trouble = NCCL_WELL;
    free(s);
}

/* Two devices, one of which records. */
struct twins {
    struct rank records, does;
    const char *what;
};

static void assert_twins_agree(const struct twins *t, double loss, double wanted, int step)
{
    if (loss < wanted || loss > wanted) fail_msg("%s, step %d: loss %.17g, not %.17g", t->what, step, loss, wanted);
    for (size_t i = 0; i < t->does.parameters->count; i++) {
        const struct parameter *p = &t->records.parameters->list[i], *q = &t->does.parameters->list[i];
        float a[4096], b[4096];
        size_t bytes = q->row_count * q->column_count * sizeof *a;
        assert_true(bytes <= sizeof a);
        if (!q->gradient || !bytes) continue;
        t->records.kernels->to_host(t->records.device, a, p->gradient, bytes);
        t->does.kernels->to_host(t->does.device, b, q->gradient, bytes);
        if (memcmp(a, b, bytes)) fail_msg("%s, step %d: another gradient of %s", t->what, step, q->name);
    }
}

/* A step of so many passes, and an evaluation. */
static void both_step(struct twins *t, struct batch *batch, int passes, int step)
{
    struct error err = {""};
    double loss = NAN, wanted = NAN;
    parameters_thaw(t->records.parameters, (uint64_t)step + 1);
    parameters_thaw(t->does.parameters, (uint64_t)step + 1);
    parameters_zero_gradients(t->records.parameters);
    parameters_zero_gradients(t->does.parameters);
    for (int pass = 0; pass < passes; pass++) {
        batch->draws = (struct draws){7, (uint64_t)step + 1, (uint64_t)pass * batch->tokens};
        if (model_train(t->records.model, batch, 0.5F, &loss, &err) ||
            model_train(t->does.model, batch, 0.5F, &wanted, &err))
            fail_msg("%s: %s", t->what, err.text);
    }
    assert_twins_agree(t, loss, wanted, step);
    loss = loss_of(&t->records, batch);
    assert_true(loss == loss_of(&t->does, batch));
}

static const struct kernels *tried = &kernels_emulated;
static size_t launches;

static struct device *create_bf16(int index, int threads, struct error *err)
{
    struct device *device = tried->device_create(index, threads, err);
    if (device) tried->set_precision(device, PRECISION_BF16);
    return device;
}

static int count_launch(struct device *device, struct graph *graph)
{
    int rc = tried->graph_launch(device, graph);
    launches += rc == 0;
    return rc;
}

/* As a device for which something in them cannot be recorded. */
static struct graph *refuse(struct device *device)
{
    tried->graph_destroy(device, tried->graph_end(device));
    return NULL;
}

/* Batches of one shape, and others of a larger one between, for which the device's scratch may have to grow. */
static void repeat_of(const struct model_config *config, const struct method_config *method, double dropout,
                      const struct batch *batch, const char *what)
{
    static struct kernels kernels, without;
    static int way; /* the next case has another */
    bool one_pass = way & 1, refuses = way % 7 == 1;
    struct sample *large =
        sample_create(4, (size_t[]){11, 2, 14, 5}, method_prompt_length(method), config->vocabulary, 2);
    struct batch_capacity capacity = capacity_of(&large->batch);
    capacity.one_pass = one_pass;
    capacity.recompute = way & 2;
    capacity.dropout = dropout > 0;
    kernels = *tried;
    kernels.graph_launch = count_launch;
    if (way % 3) kernels.device_create = create_bf16;
    without = kernels;
    without.graph_begin = NULL;
    if (refuses) kernels.graph_end = refuse;
    struct twins t = {rank_on(&kernels, config, method, &capacity), rank_on(&without, config, method, &capacity), what};
    model_dropout(t.records.model, dropout);
    model_dropout(t.does.model, dropout);
    launches = 0;
    for (size_t i = 0; i < large->batch.tokens; i++)
        large->positions[i] += (int32_t)method_prefix_length(method);
    for (int step = 0; step < 6; step++) {
        struct batch one = step == 3 ? large->batch : *batch;
        int32_t ids[64];
        for (size_t i = 0; i < 64 && i < one.tokens; i++) /* a shape, not its tokens */
            ids[i] = one.ids[i] < 0 ? one.ids[i] : (one.ids[i] + step) % (int32_t)config->vocabulary;
        if (one.tokens <= 64) one.ids = ids;
        model_smooth_labels(t.records.model, step < 5 ? 0 : 0.25);
        model_smooth_labels(t.does.model, step < 5 ? 0 : 0.25);
        both_step(&t, &one, one_pass ? 1 : 2, step);
    }
    bool passes = method->kind != METHOD_NONE;
    size_t least = (passes ? one_pass ? 6 : 9 : 3) - 3 * (method->kind == METHOD_UNFREEZE);
    if (refuses ? launches > 0 : launches < least) fail_msg("%s: %zu launches, not %zu", what, launches, least);
    rank_destroy(&t.records);
    rank_destroy(&t.does);
    free(large);
    way++;
}

/* Every method, and what drops: of the recipe, of LoRA, both. */
static void repeats(void **state)
{
    (void)state;
    static const double dropouts[][2] = {{0.3, 0}, {0, 0.3}, {0.2, 0.2}};
    for (int m = 0; m < METHOD_CASES + 3; m++) { /* each with one of the variants that it fits */
        struct method_config own = m < METHOD_CASES ? method_cases[m] : method_lora_config();
        const struct method_config *method = &own;
        double dropout = m < METHOD_CASES ? 0 : dropouts[m - METHOD_CASES][0];
        own.dropout = m < METHOD_CASES ? 0 : dropouts[m - METHOD_CASES][1];
        for (int v = m; v < m + TESTED; v++) {
            int variant = tested[v % TESTED];
            const struct model_config config = variant_model(variant, 4, 2, m % 2);
            if (!method_fits(method, &config)) continue;
            struct sample *s = sample_default(method, config.vocabulary);
            char what[128];
            snprintf(what, sizeof what, "%s, method %d (%s)", variants[variant].what, m, method_name(method->kind));
            repeat_of(&config, method, dropout, &s->batch, what);
            free(s);
            break;
        }
    }
}

/* Lanes of a pack, on a device of their own; with two shapes of a batch each. */
enum { PACKED = 4 };
static const struct method_config packed_methods[PACKED] = {
    {.kind = METHOD_LORA, .size = 3, .alpha = 4.5},
    {.kind = METHOD_PROMPT, .size = 2},
    {.kind = METHOD_LORA, .size = 2, .alpha = 3, .dropout = 0.3},
    {.kind = METHOD_ADAPTER, .size = 5},
};
static const double packed_dropouts[PACKED] = {0, 0.2, 0, 0.3};

struct packed {
    const struct kernels *kernels;
    struct device *device;
    struct parameters *parameters[PACKED];
    struct model *model;
    struct batch_buffer joined;
};

static struct packed packed_create(const struct kernels *kernels, const struct model_config *config,
                                   struct sample *const samples[PACKED][2])
{
    struct error err = {""};
    struct packed p = {.kernels = kernels, .device = kernels->device_create(0, 1, &err)};
    struct lane lanes[PACKED];
    struct batch_capacity capacities[PACKED];
    if (!p.device) fail_msg("%s", err.text);
    for (size_t i = 0; i < PACKED; i++) {
        const struct method_config *method = &packed_methods[i];
        p.parameters[i] = i ? parameters_create_beside(p.parameters[0], config, method, &recipe, &err)
                            : parameters_create(config, method, &recipe, &alone, kernels, p.device, &err);
        if (!p.parameters[i]) fail_msg("%s", err.text);
        capacities[i] = capacity_of(&samples[i][1]->batch);
        capacities[i].dropout = packed_dropouts[i] > 0;
        lanes[i] = (struct lane){*method, p.parameters[i], capacities[i]};
    }
    const struct batch_capacity all = batch_capacity_join(capacities, PACKED);
    p.model = model_create_pack(config, lanes, PACKED, true, &err);
    if (!p.model || batch_buffer_create(&p.joined, &all, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; i < PACKED; i++) {
        model_lane_dropout(p.model, i, packed_dropouts[i]);
        randomise(p.parameters[i]);
    }
    return p;
}

static void packed_destroy(struct packed *p)
{
    batch_buffer_destroy(&p->joined);
    model_destroy(p->model);
    for (size_t i = PACKED; i-- > 0;)
        parameters_destroy(p->parameters[i]);
    p->kernels->device_destroy(p->device);
}

/* A pass of the lanes whose bit is in `there`, each with its larger batch where it is in `large`; points are at steps
 * of their own. */
static void packed_pass(struct packed *p, struct sample *const samples[PACKED][2], unsigned there, unsigned large,
                        int step, double *losses)
{
    struct error err = {""};
    float scales[PACKED] = {0};
    batch_join_begin(&p->joined);
    for (uint32_t i = 0; i < PACKED; i++) {
        if (!(there >> i & 1)) continue;
        struct batch batch = samples[i][large >> i & 1]->batch;
        batch.draws = (struct draws){7 + i, (uint64_t)step + 10 * i, 3 * i + (uint64_t)step};
        scales[i] = 0.25F * (float)(i + 1);
        parameters_zero_gradients(p->parameters[i]);
        if (batch_join(&p->joined, i, &batch, &err)) fail_msg("%s", err.text);
    }
    if (model_pass(p->model, &p->joined.batch, scales, losses, &err)) fail_msg("%s", err.text);
}

static void assert_packs_agree(const struct packed *records, const struct packed *does, int step)
{
    for (size_t lane = 0; lane < PACKED; lane++) {
        struct twins t = {.records = {records->kernels, records->device, records->parameters[lane], records->model},
                          .does = {does->kernels, does->device, does->parameters[lane], does->model},
                          .what = method_name(packed_methods[lane].kind)};
        assert_twins_agree(&t, 0, 0, step);
    }
}

/* Shapes that come again between others, of which one has the same number of rows in other lanes. */
static void packs_repeat(void **state)
{
    (void)state;
    static const unsigned there[] = {15, 15, 15, 15, 15, 13, 15, 13, 15, 15, 15},
                          large[] = {1, 1, 1, 4, 4, 4, 1, 4, 4, 15, 1};
    enum { STEPS = sizeof there / sizeof *there, LAUNCHES = 7 };
    for (int way = 0; way < 2; way++) {
        static struct kernels kernels, without;
        const struct model_config config = variant_model(tested[way], 4, 2, way);
        struct sample *samples[PACKED][2];
        for (size_t i = 0; i < PACKED; i++)
            for (size_t j = 0; j < 2; j++)
                samples[i][j] = sample_create(2 + j, (size_t[]){3 + 2 * j, 5, 4},
                                              method_prompt_length(&packed_methods[i]), config.vocabulary, 10 * i + j);
        kernels = *tried;
        kernels.graph_launch = count_launch;
        if (way) kernels.device_create = create_bf16;
        without = kernels;
        without.graph_begin = NULL;
        struct packed records = packed_create(&kernels, &config, samples),
                      does = packed_create(&without, &config, samples);
        launches = 0;
        for (int step = 0; step < STEPS; step++) {
            double losses[PACKED] = {0}, wanted[PACKED] = {0};
            packed_pass(&records, samples, there[step], large[step], step, losses);
            packed_pass(&does, samples, there[step], large[step], step, wanted);
            for (size_t i = 0; i < PACKED; i++)
                if (losses[i] < wanted[i] || losses[i] > wanted[i])
                    fail_msg("lane %zu, step %d: loss %.17g, not %.17g", i, step, losses[i], wanted[i]);
            assert_packs_agree(&records, &does, step);
        }
        if (launches != LAUNCHES) fail_msg("%zu launches, not %d", launches, LAUNCHES);
        packed_destroy(&records);
        packed_destroy(&does);
        for (size_t i = 0; i < PACKED; i++)
            for (size_t j = 0; j < 2; j++)
                free(samples[i][j]);
    }
}

int main(int argc, char **argv)
{
    struct error err = {""};
    if (argc > 2 && !strcmp(argv[1], "--backend")) { /* a GPU: whether what is recorded does there what it is to do */
        const struct CMUnitTest of_backend[] = {cmocka_unit_test(repeats), cmocka_unit_test(packs_repeat)};
        tried = kernels_find(argv[2], &err);
        if (!tried || !tried->graph_begin) return fprintf(stderr, "%s: %s\n", argv[2], err.text), 1;
        return cmocka_run_group_tests(of_backend, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp32),       cmocka_unit_test(bf16),    cmocka_unit_test(steps),
        cmocka_unit_test(memory),     cmocka_unit_test(degrees), cmocka_unit_test(sums_of_nccl),
        cmocka_unit_test(nccl_fails), cmocka_unit_test(repeats), cmocka_unit_test(packs_repeat),
    };
    setenv("EMULATED_NCCL", FAKE_NCCL, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
