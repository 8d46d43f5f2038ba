/* A model over several devices must be the same model: losses and gradients of every degree, with uneven parts, equal
 * those of one device. And the bytes that the plan predicts are those that are allocated. */
#include <unistd.h>

#include "model_fixture.h"
#include "workers/stage/gang.h"

#define BOUND 2e-5 /* of fp32 sums in another order */

struct shape {
    const char *what;
    uint32_t heads, kv_heads, ffn, vocabulary;
    int degree;
};
static const struct shape shapes[] = {
    {"even", 4, 2, 12, 24, 2},
    {"multi-query over 4", 4, 1, 12, 24, 4},
    {"5 heads, odd widths over 2", 5, 5, 11, 23, 2},
    {"5 heads, multi-query over 3", 5, 1, 11, 23, 3},
    {"middle of 3 KV heads shared by 2", 6, 3, 7, 23, 2},
    {"one of 3 holds both KV heads", 8, 2, 10, 25, 3},
    {"3 heads over 2", 3, 3, 5, 9, 2},
    {"KV heads shared in pairs", 4, 2, 9, 22, 4},
    {"20 heads, multi-query over 8", 20, 1, 18, 29, 8},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static struct model_config config_of(const struct shape *shape, bool tied)
{
    struct model_config config = small_model(shape->heads, shape->kv_heads, tied);
    config.ffn = shape->ffn;
    config.vocabulary = shape->vocabulary;
    return config;
}

static void check_degrees(const char *backend, const struct method_config *method, bool tied)
{
    for (int i = 0; i < SHAPES; i++) {
        struct model_config config = config_of(&shapes[i], tied);
        struct sample *s = sample_default(method, config.vocabulary);
        struct gathered *one = gang_train(backend, 1, &config, method, &s->batch, false);
        struct gathered *many = gang_train(backend, shapes[i].degree, &config, method, &s->batch, false);
        assert_true(one->norm > 1e-3);
        assert_same_gradients(many, one, BOUND, shapes[i].what);
        gathered_destroy(one);
        gathered_destroy(many);
        free(s);
    }
}

static void full_tied(void **state)
{
    (void)state;
    struct method_config method = method_full_config();
    check_degrees("reference", &method, true);
}

static void full_untied(void **state)
{
    (void)state;
    struct method_config method = method_full_config();
    check_degrees("reference", &method, false);
}

static void lora(void **state)
{
    (void)state;
    struct method_config method = method_lora_config();
    check_degrees("reference", &method, true);
}

static void prompt(void **state)
{
    (void)state;
    struct method_config method = method_prompt_config();
    check_degrees("reference", &method, true);
    check_degrees("reference", &method, false);
}

/* Each architecture over 2, 3 and 4 devices: biases of row-parallel layers are added once, rows of queries and keys are
 * normed as a whole, also where devices share key/value heads. */
static void check_variants(const char *backend, const struct method_config *method, double bound)
{
    static const struct shape cuts[] = {
        {"even", 4, 2, 12, 24, 2}, {"over 4", 4, 1, 12, 24, 4}, {"uneven", 6, 3, 7, 23, 2}, {"odd", 5, 5, 11, 23, 3}};
    for (int i = 0; i < VARIANTS; i++) {
        for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
            struct model_config config = variant_model(i, cuts[c].heads, cuts[c].kv_heads, i % 2);
            config.ffn = cuts[c].ffn;
            config.vocabulary = cuts[c].vocabulary;
            if (!method_fits(method, &config)) continue;
            struct sample *s = sample_default(method, config.vocabulary);
            struct gathered *one = gang_train("reference", 1, &config, method, &s->batch, false);
            struct gathered *many = gang_train(backend, cuts[c].degree, &config, method, &s->batch, false);
            assert_same_gradients(many, one, bound, variants[i].what);
            gathered_destroy(one);
            gathered_destroy(many);
            free(s);
        }
    }
}

static void variants_of_the_architecture(void **state)
{
    (void)state;
    for (int m = 1; m < METHOD_CASES; m++) {
        check_variants("reference", &method_cases[m], BOUND);
        check_variants("cpu", &method_cases[m], 5 * BOUND);
    }
}

static const char *fast = "cpu"; /* --backend NAME: this one's tests alone */

/* A fast backend against the oracle, and its degrees against one device. */
static void fast_backend(void **state)
{
    (void)state;
    struct error err = {""};
    if (!kernels_find(fast, &err)) {
        if (strcmp(fast, "cpu")) fail_msg("%s", err.text);
        print_message("skipped: %s\n", err.text);
        skip();
    }
    for (int m = 1; m < METHOD_CASES; m++) {
        const struct method_config *method = &method_cases[m];
        for (int i = 0; i < SHAPES; i++) {
            struct model_config config = config_of(&shapes[i], i % 2);
            if (!method_fits(method, &config)) continue;
            struct sample *s = sample_default(method, config.vocabulary);
            struct gathered *oracle = gang_train("reference", 1, &config, method, &s->batch, false);
            struct gathered *one = gang_train(fast, 1, &config, method, &s->batch, false);
            struct gathered *many = gang_train(fast, shapes[i].degree, &config, method, &s->batch, false);
            assert_same_gradients(one, oracle, 5 * BOUND, shapes[i].what);
            assert_same_gradients(many, oracle, 5 * BOUND, shapes[i].what);
            assert_same_gradients(many, one, 5 * BOUND, shapes[i].what);
            gathered_destroy(oracle);
            gathered_destroy(one);
            gathered_destroy(many);
            free(s);
        }
    }
}

/* Two runs of a gang give the same bytes, whoever comes first. */
static void deterministic(void **state)
{
    (void)state;
    struct method_config method = method_full_config();
    struct model_config config = config_of(&shapes[4], true);
    struct sample *s = sample_default(&method, config.vocabulary);
    struct gathered *a = gang_train("reference", 2, &config, &method, &s->batch, false);
    for (int repeat = 0; repeat < 5; repeat++) {
        struct gathered *b = gang_train("reference", 2, &config, &method, &s->batch, false);
        assert_true(a->loss == b->loss && a->norm == b->norm);
        for (size_t i = 0; i < a->count; i++) {
            struct tensor *x = &a->list[i], *y = gathered_find(b, x->name);
            assert_memory_equal(x->gradient, y->gradient, x->rows * x->columns * sizeof(float));
        }
        gathered_destroy(b);
    }
    gathered_destroy(a);
    free(s);
}

/* Masks do not depend on the degree: gradients of every degree are those of one device, under dropout everywhere. */
static void dropout(void **state)
{
    (void)state;
    static const struct shape cuts[] = {
        {"even", 4, 2, 12, 24, 2}, {"odd", 5, 5, 11, 23, 3}, {"over 4", 4, 1, 13, 24, 4}};
    for (int i = 0; i < 3 * (METHOD_CASES - 1) * (VARIANTS + 1); i++) {
        const struct shape *cut = &cuts[i % 3];
        int variant = i / 3 / (METHOD_CASES - 1);
        struct method_config tried = method_cases[1 + i / 3 % (METHOD_CASES - 1)], *method = &tried;
        if (tried.kind == METHOD_LORA) tried.dropout = 0.3;
        struct model_config config =
            variant < VARIANTS ? variant_model(variant, cut->heads, cut->kv_heads, i % 2) : config_of(cut, i % 2);
        config.ffn = cut->ffn;
        struct sample *s = sample_default(method, config.vocabulary);
        s->batch.draws = (struct draws){11, 5, 1000};
        struct gang as = {.config = &config, .method = method, .batch = &s->batch};
        struct gathered *none = gang_train_as("reference", 1, as);
        as.dropout = 0.2;
        struct gathered *one = gang_train_as("reference", 1, as), *many = gang_train_as("cpu", cut->degree, as);
        assert_true(none->loss < one->loss || none->loss > one->loss);
        assert_same_gradients(many, one, 5 * BOUND, variant < VARIANTS ? variants[variant].what : cut->what);
        gathered_destroy(none);
        gathered_destroy(one);
        gathered_destroy(many);
        free(s);
    }
}

/* Blocks that are computed again, gradients that lie where activations were, and both, give the same bytes, for every
 * architecture, method, backend and degree. */
static void check_less_memory(const char *backend, int degree, const struct model_config *config,
                              const struct method_config *method, const char *what)
{
    struct sample *s = sample_default(method, config->vocabulary);
    struct gang as = {.config = config, .method = method, .batch = &s->batch, .dropout = config->layers == 3 ? 0.1 : 0};
    struct gathered *kept = gang_train_as(backend, degree, as);
    assert_true(kept->norm > 1e-3);
    for (int less = 1; less < 4; less++) {
        as.recompute = less & 1;
        as.one_pass = less & 2;
        struct gathered *again = gang_train_as(backend, degree, as);
        assert_same_bytes(again, kept, what);
        gathered_destroy(again);
    }
    gathered_destroy(kept);
    free(s);
}

static void less_memory(void **state)
{
    (void)state;
    for (int i = 0; i < (METHOD_CASES - 1) * (VARIANTS + 1); i++) {
        int variant = i / (METHOD_CASES - 1), degree = 1 + i % 2;
        const struct method_config *method = &method_cases[1 + i % (METHOD_CASES - 1)];
        struct model_config config =
            variant < VARIANTS ? variant_model(variant, 6, 3, i % 2) : small_model(6, 2, i % 2);
        const char *what = variant < VARIANTS ? variants[variant].what : "Llama";
        if (!method_fits(method, &config)) continue;
        config.layers = 3;
        check_less_memory("reference", degree, &config, method, what);
        check_less_memory("cpu", 3 - degree, &config, method, what);
        config.layers = 1;
        check_less_memory("cpu", degree, &config, method, what);
    }
}

/* One of two ranks fails before the step: the other gets an error instead of waiting. */
struct survivor {
    struct rank rank;
    const struct batch *batch;
    int rc;
    struct error err;
};

static void *survivor_main(void *argument)
{
    struct survivor *s = argument;
    double loss;
    s->rc = model_train(s->rank.model, s->batch, 1, &loss, &s->err);
    return NULL;
}

/* Rank 1 breaks, rank 0 fails with it, and first. */
static int broken_rank(void *context, const struct collective *collective, struct error *err)
{
    (void)context;
    float x = 1;
    if (collective->rank == 1) {
        gang_tell(collective, -1);
        usleep(50000);
        return error_set(err, "it is broken");
    }
    assert_int_equal(collective_sum(collective, 1, &x), -1);
    return error_set(err, "device 0: " GANG_FAILED);
}

static void the_rank_that_failed_is_told(void **state)
{
    (void)state;
    struct error err = {""};
    assert_int_equal(gang_run(3, broken_rank, NULL, &err), -1);
    assert_string_equal(err.text, "it is broken");
}

static void failed_peer(void **state)
{
    (void)state;
    struct error err = {""};
    struct method_config method = method_full_config();
    struct model_config config = config_of(&shapes[0], true);
    struct sample *s = sample_default(&method, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct collective_group *group = collective_group_create(2, &err);
    struct survivor survivor = {.batch = &s->batch};
    assert_int_equal(rank_create(&survivor.rank, kernels_find("reference", &err), &(struct collective){group, 0, 2},
                                 &config, &method, &capacity, true, &err),
                     0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, survivor_main, &survivor), 0);
    collective_abort(group);
    pthread_join(thread, NULL);
    assert_int_equal(survivor.rc, -1);
    assert_non_null(strstr(survivor.err.text, "another device"));
    rank_destroy(&survivor.rank);
    collective_group_destroy(group);
    free(s);
}

/* Device memory as the backend is asked for it. */
static size_t allocated;
static const struct kernels *counted;

static void *allocate_counting(struct device *device, size_t bytes, struct error *err)
{
    allocated += bytes;
    return counted->allocate(device, bytes, err);
}

static size_t allocated_by(int rank, int size, const struct model_config *config, const struct method_config *method,
                           const struct batch_capacity *capacity, const struct recipe *recipe)
{
    struct error err = {""};
    counted = kernels_find("reference", &err);
    struct kernels kernels = *counted;
    kernels.allocate = allocate_counting;
    struct collective_group *group = collective_group_create(size, &err);
    struct rank r;
    allocated = 0;
    if (rank_create_with(&r, &kernels, &(struct collective){group, rank, size}, config, method, capacity, recipe, &err))
        fail_msg("%s", err.text);
    size_t bytes = allocated;
    rank_destroy(&r);
    collective_group_destroy(group);
    return bytes;
}

static void check_bytes(const struct model_config *config, const struct method_config *method,
                        const struct batch_capacity *capacity, const struct recipe *recipe, int degree)
{
    if (!method_fits(method, config)) return;
    struct memory memory;
    struct error err = {""};
    if (model_memory(config, method, capacity, recipe, kernels_storage("cpu", PRECISION_FP32), degree, &memory, &err))
        fail_msg("%s", err.text);
    size_t fullest = 0;
    for (int rank = 0; rank < degree; rank++) {
        size_t bytes = allocated_by(rank, degree, config, method, capacity, recipe);
        if (bytes > fullest) fullest = bytes;
    }
    assert_int_equal(memory_total(&memory), fullest);
    bool trains = recipe && method->kind != METHOD_NONE;
    assert_int_equal(memory.gradients > 0, trains);
    bool keeps = trains && !(recipe->optimiser == OPTIMISER_SGD && recipe->momentum <= 0);
    assert_int_equal(memory.optimiser > 0, keeps);
}

static void predicted_bytes_are_allocated(void **state)
{
    (void)state;
    static const struct recipe recipes[] = {{.optimiser = OPTIMISER_ADAMW},
                                            {.optimiser = OPTIMISER_ADAFACTOR},
                                            {.optimiser = OPTIMISER_SGD, .momentum = 0.9},
                                            {.optimiser = OPTIMISER_SGD}};
    const int each = 2 * METHOD_CASES;
    for (int i = 0; i < SHAPES * each; i++) {
        const struct shape *shape = &shapes[i / each];
        struct batch_capacity capacity = {1700, 9, i % 5 ? 1500 : 600, 300, i % 7 < 3, i % 11 < 4, i % 2};
        struct model_config config = config_of(shape, i % 3 == 0);
        check_bytes(&config, &method_cases[i % METHOD_CASES], &capacity, i / METHOD_CASES % 2 ? &recipes[i % 3] : NULL,
                    shape->degree);
    }
    for (int i = 0; i < VARIANTS * each; i++) {
        struct batch_capacity capacity = {1700, 9, i % 5 ? 1500 : 600, 300, i % 7 < 3, i % 11 < 4, i % 2};
        struct model_config config = variant_model(i / each, 6, 3, i % 3 == 0);
        check_bytes(&config, &method_cases[i % METHOD_CASES], &capacity,
                    i / METHOD_CASES % 2 ? &recipes[i % 7 % 4] : NULL, 1 + i % 3);
    }
}

/* What is counted is what there is: parameters of the plan's columns, and of each method. */
static void counted_parameters_are_there(void **state)
{
    (void)state;
    struct error err = {""};
    for (int i = 0; i < VARIANTS * METHOD_CASES; i++) {
        const struct method_config *method = &method_cases[i % METHOD_CASES];
        struct model_config config = variant_model(i / METHOD_CASES, 6, 3, i % 2);
        if (!method_fits(method, &config)) continue;
        uint64_t base = 0, trained = 0;
        struct batch_capacity capacity = {.tokens = 10, .sequences = 1, .targets = 10, .longest = 10};
        struct rank r;
        if (rank_create(&r, kernels_find("reference", &err), &(struct collective){NULL, 0, 1}, &config, method,
                        &capacity, true, &err))
            fail_msg("%s", err.text);
        for (size_t p = 0; p < r.parameters->count; p++) {
            const struct parameter *parameter = &r.parameters->list[p];
            base += parameter->adapter ? 0 : parameter->rows * parameter->columns;
            trained += parameter->trainable ? parameter->rows * parameter->columns : 0;
        }
        rank_destroy(&r);
        assert_int_equal(base, model_parameters(&config));
        assert_int_equal(trained, method_parameters(&config, method));
    }
}

/* What makes the methods worth having: adapters need no optimiser state for the base. More devices need less each. */
static void memory_makes_sense(void **state)
{
    (void)state;
    struct error err = {""};
    struct model_config config = {"16b", 48, 5120, 40, 8, 128, 13824, 32000, true, 10000, 1e-5, {.factor = 0}, {0}};
    struct batch_capacity capacity = {8192, 8, 8192, 1024, false, false, false};
    struct method_config full = method_full_config(), lora_method = {.kind = METHOD_LORA, .size = 16, .alpha = 16},
                         prompt_method = {.kind = METHOD_PROMPT, .size = 100};
    struct memory f1, f8, l, p, e;
    assert_int_equal(
        model_memory(&config, &full, &capacity, &fixture_adamw, kernels_storage("cpu", PRECISION_FP32), 1, &f1, &err),
        0);
    assert_int_equal(
        model_memory(&config, &full, &capacity, &fixture_adamw, kernels_storage("cpu", PRECISION_FP32), 8, &f8, &err),
        0);
    assert_int_equal(model_memory(&config, &lora_method, &capacity, &fixture_adamw,
                                  kernels_storage("cpu", PRECISION_FP32), 1, &l, &err),
                     0);
    assert_int_equal(model_memory(&config, &prompt_method, &capacity, &fixture_adamw,
                                  kernels_storage("cpu", PRECISION_FP32), 1, &p, &err),
                     0);
    assert_int_equal(
        model_memory(&config, &prompt_method, &capacity, NULL, kernels_storage("cpu", PRECISION_FP32), 1, &e, &err), 0);
    double weights = (double)model_parameters(&config) * sizeof(float);
    assert_true(fabs((double)f1.parameters / weights - 1) < 1e-3);
    assert_true(fabs((double)f1.optimiser / weights - 2) < 1e-3);
    struct recipe adafactor = {.optimiser = OPTIMISER_ADAFACTOR}, sgd = {.optimiser = OPTIMISER_SGD};
    struct memory a, g;
    assert_int_equal(
        model_memory(&config, &full, &capacity, &adafactor, kernels_storage("cpu", PRECISION_FP32), 1, &a, &err), 0);
    assert_int_equal(model_memory(&config, &full, &capacity, &sgd, kernels_storage("cpu", PRECISION_FP32), 1, &g, &err),
                     0);
    assert_true(a.optimiser > 0 && (double)a.optimiser < 2e-3 * weights && g.optimiser == 0);
    assert_true(fabs((double)f8.parameters * 8 / weights - 1) < 1e-2);
    capacity.recompute = true;
    struct memory again;
    assert_int_equal(model_memory(&config, &full, &capacity, &fixture_adamw, kernels_storage("cpu", PRECISION_FP32), 8,
                                  &again, &err),
                     0);
    assert_true(again.workspace == f8.workspace && again.activations < f8.activations / 5 * 2);
    size_t input = capacity.tokens * config.width * sizeof(float); /* a block keeps its input alone */
    struct model_config deeper = config;
    deeper.layers++;
    struct memory more;
    assert_int_equal(
        model_memory(&deeper, &full, &capacity, &fixture_adamw, kernels_storage("cpu", PRECISION_FP32), 8, &more, &err),
        0);
    assert_int_equal(more.activations - again.activations, input);
    capacity.recompute = false;
    /* gradients of the blocks lie where activations were: these are the larger ones here */
    struct memory single;
    capacity.one_pass = true;
    assert_int_equal(model_memory(&config, &full, &capacity, &fixture_adamw, kernels_storage("cpu", PRECISION_FP32), 1,
                                  &single, &err),
                     0);
    assert_int_equal(single.gradients, f1.gradients);
    assert_int_equal(single.workspace, f1.workspace);
    assert_true(f1.activations - single.activations > f1.gradients / 10 * 9);
    capacity.one_pass = false;
    /* masks take no memory, but for their keys: rooms of one gradient and one input, whatever the layers */
    struct memory drops;
    capacity.dropout = true;
    lora_method.dropout = 0.1;
    assert_int_equal(model_memory(&config, &lora_method, &capacity, &fixture_adamw,
                                  kernels_storage("cpu", PRECISION_FP32), 1, &drops, &err),
                     0);
    assert_int_equal(drops.activations, l.activations);
    size_t keys = (config.layers * DROPOUT_SITES * sizeof(struct dropout_key) + 63) / 64 * 64;
    assert_int_equal(drops.workspace - l.workspace,
                     capacity.tokens * (config.width + config.ffn) * sizeof(float) + keys);
    capacity.dropout = false;
    assert_true(l.optimiser < f1.optimiser / 50 && p.optimiser < l.optimiser);
    assert_true(p.activations < l.activations && e.activations < p.activations / 20);
    assert_true(memory_total(&f8) < memory_total(&f1) / 4);
    assert_int_equal(
        model_memory(&config, &full, &capacity, &fixture_adamw, kernels_storage("cpu", PRECISION_FP32), 41, &f1, &err),
        -1);
    assert_non_null(strstr(err.text, "1..40"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_tied),
        cmocka_unit_test(full_untied),
        cmocka_unit_test(lora),
        cmocka_unit_test(prompt),
        cmocka_unit_test(variants_of_the_architecture),
        cmocka_unit_test(fast_backend),
        cmocka_unit_test(deterministic),
        cmocka_unit_test(less_memory),
        cmocka_unit_test(dropout),
        cmocka_unit_test(failed_peer),
        cmocka_unit_test(the_rank_that_failed_is_told),
        cmocka_unit_test(predicted_bytes_are_allocated),
        cmocka_unit_test(counted_parameters_are_there),
        cmocka_unit_test(memory_makes_sense),
    };
    const struct CMUnitTest of_backend[] = {cmocka_unit_test(fast_backend)};
    if (argc > 2 && !strcmp(argv[1], "--backend")) fast = argv[2];
    return strcmp(fast, "cpu") ? cmocka_run_group_tests(of_backend, NULL, NULL)
                               : cmocka_run_group_tests(tests, NULL, NULL);
}
