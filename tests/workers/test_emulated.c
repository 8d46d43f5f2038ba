/* The engine on a device that stores less than floats: CUDA's kernels, emulated, in fp32 and in bf16, against the
 * reference. What only a GPU can show (streams, cuBLASLt, NCCL) is not here. */
#include "tests/workers/model_fixture.h"
#include "workers/stage/gang.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp32),   cmocka_unit_test(bf16),    cmocka_unit_test(steps),
        cmocka_unit_test(memory), cmocka_unit_test(degrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
