/* A pack of adapters over one base computes what each of them computes alone: the same bytes of losses, gradients and
 * weights, whoever else is in it. */
#include "model_fixture.h"

#include "workers/train/batch.h"
#include "workers/train/optimiser.h"

enum { LANES = 11 };

/* What the lanes are: methods, PET sizes and batches of their own. */
struct world {
    struct model_config config;
    struct method_config methods[LANES];
    struct sample *samples[LANES];
    struct batch_capacity capacities[LANES];
};

static const struct method_config lane_methods[LANES] = {
    {.kind = METHOD_LORA, .size = 3, .alpha = 4.5},
    {.kind = METHOD_PROMPT, .size = 2},
    {.kind = METHOD_LORA, .size = 1, .alpha = 2, .dropout = 0.2},
    {.kind = METHOD_LORA, .size = 8, .alpha = 16, .rank_stabilised = true},
    {.kind = METHOD_PROMPT, .size = 5},
    {.kind = METHOD_ADAPTER, .size = 3},
    {.kind = METHOD_IA3},
    {.kind = METHOD_IA3,
     .modules = 1 << LINEAR_Q | 1 << LINEAR_QKV | 1 << LINEAR_O | 1 << LINEAR_GATE | 1 << LINEAR_UP},
    {.kind = METHOD_ADAPTER, .size = 6, .mlp_only = true},
    {.kind = METHOD_PREFIX, .size = 3},
    {.kind = METHOD_PREFIX, .size = 1},
};

static const double dropouts[LANES] = {0, 0.3, 0, 0.1, 0, 0, 0.2, 0, 0, 0, 0.1}; /* of the recipes */

/* `scale` times as many tokens a sequence. */
static struct world world_create(const struct model_config *config, size_t scale)
{
    struct world w = {.config = *config};
    for (size_t i = 0; i < LANES; i++) {
        w.methods[i] = lane_methods[i];
        if (w.methods[i].kind == METHOD_LORA && w.methods[i].size > config->width) w.methods[i].size = config->width;
        size_t prompt = w.methods[i].kind == METHOD_PROMPT ? w.methods[i].size : 0;
        size_t lengths[4] = {scale * (3 + i), scale * 7 + 1, 2, scale * 5 + i};
        w.samples[i] = sample_create(2 + i % 3, lengths, prompt, config->vocabulary, 40 + i);
        w.capacities[i] = capacity_of(&w.samples[i]->batch);
    }
    return w;
}

static void world_destroy(struct world *w)
{
    for (size_t i = 0; i < LANES; i++)
        free(w->samples[i]);
}

static bool recompute; /* every block in the backward pass */

/* Backends of the test: the reference's, of which nothing is known to the engine, so that it tries its products; and
 * one whose larger products have other bits. */
static size_t products; /* with the base's matrices */

static void counted_linear(struct device *device, size_t rows, size_t n, size_t k, const real *x, const real *w,
                           const float *bias, enum linear_gelu gelu, real *before, real *y)
{
    products++;
    kernels_find("reference", NULL)->linear(device, rows, n, k, x, w, bias, gelu, before, y);
}

static void uneven_linear(struct device *device, size_t rows, size_t n, size_t k, const real *x, const real *w,
                          const float *bias, enum linear_gelu gelu, real *before, real *y)
{
    counted_linear(device, rows, n, k, x, w, bias, gelu, before, y);
    if (rows > 4 * JOIN_ROWS) {
        float *last = (float *)(void *)y + rows * n - 1;
        *last = nextafterf(*last, INFINITY);
    }
}

#ifdef EMULATED
extern const struct kernels kernels_emulated, kernels_emulated_bf16; /* tests/emulation */
#endif

/* A backend, or "BACKEND in bf16". NULL: this machine has none, with *err. */
static const struct kernels *find(const char *name, enum precision *precision, struct error *err)
{
    static struct kernels unknown;
    char backend[32];
    size_t length = strcspn(name, " ");
    snprintf(backend, sizeof backend, "%.*s", (int)length, name);
    *precision = name[length] ? PRECISION_BF16 : PRECISION_FP32;
#ifdef EMULATED
    if (!strcmp(backend, "emulated")) return name[length] ? &kernels_emulated_bf16 : &kernels_emulated;
#endif
    if (strcmp(backend, "tried") && strcmp(backend, "uneven")) return kernels_find(backend, err);
    unknown = *kernels_find("reference", err);
    unknown.name = "unknown";
    unknown.linear = strcmp(backend, "tried") ? uneven_linear : counted_linear;
    return &unknown;
}

/* Some of the lanes, in one model, on one rank. */
struct pack {
    const struct world *world;
    size_t count, members[LANES];
    const struct kernels *kernels;
    struct device *device;
    struct parameters *parameters[LANES];
    struct model *model;
    struct batch_buffer joined;
    double losses[LANES];
};

static int pack_create(struct pack *p, const struct world *w, const char *backend, const struct collective *collective,
                       size_t count, const size_t *members, struct error *err)
{
    struct lane lanes[LANES];
    struct batch_capacity capacities[LANES];
    enum precision precision;
    *p = (struct pack){.world = w, .count = count, .kernels = find(backend, &precision, err)};
    p->device = p->kernels->device_create(collective->rank, 1, err);
    p->kernels->set_precision(p->device, precision);
    for (size_t i = 0; i < count; i++) {
        size_t m = p->members[i] = members[i];
        const struct method_config *method = &w->methods[m];
        p->parameters[i] =
            i ? parameters_create_beside(p->parameters[0], &w->config, method, &fixture_adamw, err)
              : parameters_create(&w->config, method, &fixture_adamw, collective, p->kernels, p->device, err);
        if (!p->parameters[i]) return -1;
        capacities[i] = w->capacities[m];
        capacities[i].dropout = dropouts[m] > 0;
        capacities[i].recompute = recompute;
        lanes[i] = (struct lane){*method, p->parameters[i], capacities[i]};
    }
    struct batch_capacity all = batch_capacity_join(capacities, count);
    if (count == 1) lanes[0].capacity = all; /* padded, as in a pack */
    p->model = model_create_pack(&w->config, lanes, count, true, err);
    if (!p->model || batch_buffer_create(&p->joined, &all, err)) return -1;
    for (size_t i = 0; i < count; i++) {
        model_lane_dropout(p->model, i, dropouts[members[i]]);
        model_smooth_lane(p->model, i, 0.02 * (double)members[i]);
    }
    for (size_t i = 0; i < count; i++) /* of each tensor by its name: the same base for all */
        for (size_t t = 0; t < p->parameters[i]->count; t++) {
            const struct parameter *q = &p->parameters[i]->list[t];
            if (i == 0 || q->adapter)
                parameter_fill(p->parameters[i], q, INITIAL_NORMAL, q->rows == 1 ? 0.8 : 0.3,
                               q->adapter ? 100 + members[i] : 11);
        }
    return 0;
}

static void pack_destroy(struct pack *p)
{
    batch_buffer_destroy(&p->joined);
    model_destroy(p->model);
    for (size_t i = p->count; i-- > 0;)
        parameters_destroy(p->parameters[i]);
    p->kernels->device_destroy(p->device);
}

/* A step of each lane whose bit is set in `at_work`. */
static int pack_step(struct pack *p, unsigned at_work, uint64_t step, struct error *err)
{
    float scales[LANES] = {0};
    batch_join_begin(&p->joined);
    for (uint32_t i = 0; i < p->count; i++) {
        struct batch *batch = &p->world->samples[p->members[i]]->batch;
        batch->draws = (struct draws){.seed = 7 + p->members[i], .step = step};
        if (!(at_work >> p->members[i] & 1)) continue;
        scales[i] = 1.0f / (float)batch->targets;
        parameters_zero_gradients(p->parameters[i]);
        if (batch_join(&p->joined, i, batch, err)) return -1;
    }
    if (model_pass(p->model, &p->joined.batch, scales, p->losses, err)) return -1;
    for (size_t i = 0; i < p->count; i++) {
        const struct recipe recipe = {.optimiser = OPTIMISER_ADAMW, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8};
        double rate = 0.01 * (double)(1 + p->members[i]);
        if (!(at_work >> p->members[i] & 1)) continue;
        if (parameters_reduce_gradients(p->parameters[i], err) ||
            optimiser_step(p->parameters[i], &recipe, step, rate, 1, err))
            return -1;
    }
    return 0;
}

/* Of device memory; the caller frees. */
static float *floats_of(const struct pack *p, size_t n, const float *from)
{
    float *to = calloc(n + 1, sizeof *to);
    assert_non_null(to);
    p->kernels->to_host(p->device, to, from, n * sizeof *to);
    return to;
}

static bool same_floats(const struct pack *p, const float *x, const struct pack *q, const float *y, size_t n)
{
    float *a = floats_of(p, n, x), *b = floats_of(q, n, y);
    bool same = !memcmp(a, b, n * sizeof *a);
    free(a);
    free(b);
    return same;
}

static void compare_lane(const struct pack *pack, size_t at, const struct pack *alone)
{
    const struct parameters *a = pack->parameters[at], *b = alone->parameters[0];
    if (pack->losses[at] != alone->losses[0])
        fail_msg("lane %zu: loss %.17g, alone %.17g", pack->members[at], pack->losses[at], alone->losses[0]);
    assert_true(isfinite(alone->losses[0]) && alone->losses[0] > 0);
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct parameter *x = &a->list[i], *y = &b->list[i];
        size_t n = x->row_count * x->column_count;
        if (!x->trainable) continue;
        if (!same_floats(pack, x->gradient, alone, y->gradient, n))
            fail_msg("lane %zu: gradient of %s", pack->members[at], x->name);
        if (!same_floats(pack, x->value, alone, y->value, n))
            fail_msg("lane %zu: value of %s", pack->members[at], x->name);
    }
}

/* Three steps; in the second one lane 3 has already ended, in the third lanes 0, 8 and 9. */
static const unsigned at_work[] = {0x7ff, 0x7f7, 0x4f6};

static int run_steps(struct pack *p, struct error *err)
{
    for (size_t step = 0; step < sizeof at_work / sizeof *at_work; step++)
        if (pack_step(p, at_work[step], step + 1, err)) return -1;
    return 0;
}

static void check_alone(const struct pack *pack, size_t at, const char *backend, const struct collective *one)
{
    struct error err = {""};
    struct pack alone;
    if (pack_create(&alone, pack->world, backend, one, 1, &pack->members[at], &err)) fail_msg("%s", err.text);
    for (size_t step = 0; step < sizeof at_work / sizeof *at_work; step++)
        if (at_work[step] >> pack->members[at] & 1 && pack_step(&alone, at_work[step], step + 1, &err))
            fail_msg("%s", err.text);
    compare_lane(pack, at, &alone);
    pack_destroy(&alone);
}

static void check(const char *backend, const struct model_config *config, size_t scale)
{
    static const size_t orders[3][LANES] = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {6, 9, 2}, {5, 0, 7}};
    const struct collective one = {NULL, 0, 1};
    struct error err = {""};
    enum precision precision;
    if (!find(backend, &precision, &err)) {
        print_message("skipped: %s\n", err.text);
        return;
    }
    struct world w = world_create(config, scale);
    for (int o = 0; o < 3; o++) {
        struct pack pack;
        if (pack_create(&pack, &w, backend, &one, o ? 3 : LANES, orders[o], &err) || run_steps(&pack, &err))
            fail_msg("%s", err.text);
        for (size_t i = 0; i < pack.count; i++)
            check_alone(&pack, i, backend, &one);
        pack_destroy(&pack);
    }
    world_destroy(&w);
}

static void lanes_are_as_if_alone(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    check("reference", &config, 1);
    check("cpu", &config, 1);
    config.tied = false;
    check("cpu", &config, 5);
}

static void every_architecture(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++) {
        struct model_config config = variant_model(i, 4, 2, i % 2);
        print_message("%s\n", variants[i].what);
        check("cpu", &config, 1);
        check("reference", &config, 1);
    }
}

static void blocks_again(void **state)
{
    (void)state;
    recompute = true;
    for (int i = 0; i < VARIANTS; i++) {
        struct model_config config = variant_model(i, 4, 2, i % 2);
        check("cpu", &config, 1);
    }
    recompute = false;
}

/* Products large enough for the kernels of large matrices, some of them not. */
static void large_and_small_products(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 1, false);
    config.width = 120; /* no multiple of a vector */
    config.head_width = 24;
    config.ffn = 250;
    config.vocabulary = 701;
    check("cpu", &config, 12);
    check("cpu", &config, 1);
}

/* In bf16 the host's products are not joined. */
static void bf16(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    check("cpu in bf16", &config, 5);
    check("reference in bf16", &config, 1);
}

/* Rows are joined where the device itself was seen to keep their bytes. */
static void what_is_tried(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    products = 0;
    check("tried", &config, 5);
    size_t joined = products;
    products = 0;
    check("uneven", &config, 5);
    if (joined >= products) fail_msg("%zu products, %zu where rows cannot be joined", joined, products);
}

/* A lane that has diverged leaves the others alone. */
static void a_lane_of_nan(void **state)
{
    (void)state;
    const struct collective one = {NULL, 0, 1};
    struct error err = {""};
    struct model_config config = small_model(4, 2, true);
    struct world w = world_create(&config, 1);
    struct pack pack;
    static const size_t members[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    if (pack_create(&pack, &w, "cpu", &one, LANES, members, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; i < pack.parameters[2]->count; i++)
        if (pack.parameters[2]->list[i].adapter)
            parameter_write(pack.parameters[2], &pack.parameters[2]->list[i], 0, 1, &(float){NAN});
    if (run_steps(&pack, &err)) fail_msg("%s", err.text);
    assert_true(isnan(pack.losses[2]));
    for (size_t i = 0; i < LANES; i++)
        if (i != 2) check_alone(&pack, i, "cpu", &one);
    pack_destroy(&pack);
    world_destroy(&w);
}

/* Two ranks of a gang, with several lanes or with one. */
struct couple {
    struct collective collective;
    const struct world *world;
    struct pack pack;
    size_t count, members[LANES];
    int failed;
};

static void *couple_main(void *argument)
{
    struct couple *c = argument;
    struct error err = {""};
    c->failed = pack_create(&c->pack, c->world, "cpu", &c->collective, c->count, c->members, &err);
    for (size_t step = 0; !c->failed && step < sizeof at_work / sizeof *at_work; step++)
        if (c->count > 1 || at_work[step] >> c->members[0] & 1)
            c->failed = pack_step(&c->pack, at_work[step], step + 1, &err);
    if (c->failed) fprintf(stderr, "%s\n", err.text);
    if (c->failed) collective_abort(c->collective.group);
    return NULL;
}

static void couple_run(struct couple couple[2], const struct world *w, size_t count, const size_t *members)
{
    struct error err = {""};
    pthread_t threads[2];
    struct collective_group *group = collective_group_create(2, &err);
    for (int rank = 0; rank < 2; rank++) {
        couple[rank] = (struct couple){.collective = {group, rank, 2}, .world = w, .count = count};
        memcpy(couple[rank].members, members, count * sizeof *members);
        assert_int_equal(pthread_create(&threads[rank], NULL, couple_main, &couple[rank]), 0);
    }
    for (int rank = 0; rank < 2; rank++)
        pthread_join(threads[rank], NULL);
    collective_group_destroy(group);
    assert_false(couple[0].failed || couple[1].failed);
}

static void check_gang(const struct model_config *config)
{
    struct world w = world_create(config, 1);
    struct couple pack[2], alone[2];
    size_t members[LANES], count = 0;
    for (size_t i = 0; i < LANES; i++)
        if (!method_packs_apart(w.methods[i].kind, config, 2)) members[count++] = i;
    couple_run(pack, &w, count, members);
    for (size_t i = 0; i < count; i++) {
        couple_run(alone, &w, 1, &members[i]);
        for (int rank = 0; rank < 2; rank++) {
            compare_lane(&pack[rank].pack, i, &alone[rank].pack);
            pack_destroy(&alone[rank].pack);
        }
    }
    pack_destroy(&pack[0].pack);
    pack_destroy(&pack[1].pack);
    world_destroy(&w);
}

static void a_gang(void **state)
{
    (void)state;
    struct model_config small = small_model(4, 2, true);
    check_gang(&small);
    for (int i = 0; i < VARIANTS; i++) {
        struct model_config config = variant_model(i, 4, 2, i % 2);
        check_gang(&config);
    }
}

static void what_is_no_pack_is_refused(void **state)
{
    (void)state;
    struct error err = {""};
    struct model_config config = small_model(4, 2, true);
    struct world w = world_create(&config, 1);
    struct method_config full = method_full_config();
    struct memory memory;
    struct lane lanes[2] = {{w.methods[0], NULL, w.capacities[0]}, {full, NULL, w.capacities[1]}};
    struct recipe recipes[2] = {fixture_adamw, fixture_adamw};
    assert_int_equal(
        model_pack_memory(&config, lanes, recipes, 2, kernels_storage("cpu", PRECISION_FP32), 1, &memory, &err), -1);
    assert_non_null(strstr(err.text, "full"));
    struct pack pack;
    static const size_t members[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    if (pack_create(&pack, &w, "cpu", &(struct collective){NULL, 0, 1}, LANES, members, &err)) fail_msg("%s", err.text);
    assert_null(parameters_create_beside(pack.parameters[0], &config, &full, NULL, &err));
    double losses[LANES];
    batch_join_begin(&pack.joined);
    assert_int_equal(batch_join(&pack.joined, 1, &w.samples[1]->batch, &err), 0);
    assert_int_equal(batch_join(&pack.joined, 0, &w.samples[0]->batch, &err), 0);
    assert_int_equal(model_pass(pack.model, &pack.joined.batch, NULL, losses, &err), -1); /* lanes not in order */
    batch_join_begin(&pack.joined);
    assert_int_equal(batch_join(&pack.joined, 0, &w.samples[1]->batch, &err), 0); /* a prompt, which lane 0 has not */
    assert_int_equal(model_pass(pack.model, &pack.joined.batch, NULL, losses, &err), -1);
    pack.joined.segments[0].rows = 4096; /* more than the lane has room for */
    assert_int_equal(model_pass(pack.model, &pack.joined.batch, NULL, losses, &err), -1);
    pack_destroy(&pack);
    world_destroy(&w);
}

#ifdef EMULATED
static void emulated(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true), gpt_neox = variant_model(5, 4, 2, false);
    check("emulated", &config, 1);
    check("emulated in bf16", &config, 1);
    check("emulated in bf16", &gpt_neox, 1);
}
#endif

static const char *backend; /* --backend */

static void on_a_device(void **state)
{
    (void)state;
    char half[32];
    snprintf(half, sizeof half, "%s in bf16", backend);
    struct model_config small = small_model(4, 2, true), large = small;
    large.width = 512;
    large.head_width = 128;
    large.ffn = 1376;
    large.vocabulary = 8192;
    for (int i = 0; i < 2; i++) {
        check(i ? half : backend, &small, 5);
        check(i ? half : backend, &large, 12);
        for (int v = 0; v < VARIANTS; v++) {
            struct model_config config = variant_model(v, 4, 2, v % 2);
            check(i ? half : backend, &config, 1);
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest of_backend[] = {cmocka_unit_test(on_a_device)};
    struct error err = {""};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_are_as_if_alone),
        cmocka_unit_test(bf16),
        cmocka_unit_test(what_is_tried),
        cmocka_unit_test(every_architecture),
        cmocka_unit_test(blocks_again),
        cmocka_unit_test(large_and_small_products),
        cmocka_unit_test(a_lane_of_nan),
        cmocka_unit_test(a_gang),
        cmocka_unit_test(what_is_no_pack_is_refused),
#ifdef EMULATED
        cmocka_unit_test(emulated),
#endif
    };
    if (argc != 3 || strcmp(argv[1], "--backend")) return cmocka_run_group_tests(tests, NULL, NULL);
    backend = argv[2];
    if (kernels_find(backend, &err)) return cmocka_run_group_tests(of_backend, NULL, NULL);
    fprintf(stderr, "skipped: %s\n", err.text);
    return 77;
}
