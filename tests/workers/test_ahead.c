/* The host goes on while the device works: over a device whose streams lag behind (tests/emulation), steps of several
 * micro-batches and evaluations of several are those of one that is waited for at every turn, byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/workers/trained.h"
#include "workers/train/trainer.h"

enum { STEPS = 4, ROWS = 80 };

extern const struct kernels kernels_emulated; /* tests/emulation */
static struct fixture fixture;
static size_t waits; /* for all that the device has been given */

static int count_wait(struct device *device, struct error *err)
{
    waits++;
    return kernels_emulated.synchronise(device, err);
}

static void sums_waited_for(struct device *device, size_t count, const struct span *spans, bool squares, double *out)
{
    kernels_emulated.sums(device, count, spans, squares, out);
    assert_int_equal(kernels_emulated.synchronise(device, NULL), 0);
}

struct trained {
    struct trainer_step steps[STEPS];
    double evaluations[STEPS];
    uint64_t targets;
    size_t count;
    float *values;
};

/* STEPS steps of the method, an evaluation after each. */
static struct trained train(const struct kernels *kernels, enum method_kind method, enum optimiser_kind optimiser)
{
    struct error err = {""};
    const struct stage trunk = stage_pretrain(&fixture, 0, 1);
    struct stage stage = stage_finetune(&fixture, &trunk, method, STEPS);
    stage.recipe.optimiser = optimiser;
    stage.recipe.batch = 10;
    const struct collective one = {NULL, 0, 1};
    struct batch_capacity capacity = batch_capacity_of(&stage.recipe, &stage.model, &stage.method);
    struct trained trained = {.count = 0};
    struct batch_buffer buffer;
    capacity.tokens = ROWS; /* of some 200 in a step */
    capacity.one_pass = false;
    struct dataset *dataset = dataset_open(fixture.dataset, &err);
    const struct feed_spec spec = {.dataset = dataset, .split = SPLIT_TRAIN, .length = 40, .shuffle = true},
                           held = {.dataset = dataset, .split = SPLIT_VALID, .length = 40, .limit = 14};
    struct feed *feed = feed_create(&spec, &err), *valid = feed_create(&held, &err);
    struct device *device = kernels->device_create(0, 1, &err);
    struct parameters *parameters =
        parameters_create(&stage.model, &stage.method, &stage.recipe, &one, kernels, device, &err);
    if (!feed || !valid || !parameters || batch_buffer_create(&buffer, &capacity, &err)) fail_msg("%s", err.text);
    parameters_initialise_base(parameters, &stage.model, 1);
    if (parameters_initialise_adapter(parameters, &stage.model, &stage.method, 2, &err)) fail_msg("%s", err.text);
    struct model *model = model_create(&stage.model, &stage.method, parameters, &capacity, true, &err);
    if (!model) fail_msg("%s", err.text);
    struct trainer trainer = {
        .recipe = &stage.recipe, .parameters = parameters, .model = model, .feed = feed, .buffer = &buffer};
    for (size_t step = 0; step < STEPS; step++) {
        if (trainer_step(&trainer, step + 1, &trained.steps[step], &err) ||
            evaluate(model, valid, &buffer, NULL, &trained.evaluations[step], &trained.targets, &err))
            fail_msg("%s", err.text);
        assert_true(trained.steps[step].tokens > 2 * ROWS && trained.steps[step].finite);
    }
    for (size_t i = 0; i < parameters->count; i++)
        trained.count += parameters->list[i].row_count * parameters->list[i].column_count;
    trained.values = malloc(trained.count * sizeof *trained.values);
    assert_non_null(trained.values);
    float *at = trained.values;
    for (size_t i = 0; i < parameters->count; i++) {
        size_t n = parameters->list[i].row_count * parameters->list[i].column_count;
        if (n) kernels->to_host(device, at, parameters->list[i].value, n * sizeof *at);
        at += n;
    }
    if (kernels->synchronise(device, &err)) fail_msg("%s", err.text);
    model_destroy(model);
    batch_buffer_destroy(&buffer);
    parameters_destroy(parameters);
    kernels->device_destroy(device);
    feed_destroy(valid);
    feed_destroy(feed);
    dataset_close(dataset);
    return trained;
}

static void assert_same(double a, double b, const char *what, size_t step)
{
    if (a < b || a > b) fail_msg("step %zu, %s: %.17g, not %.17g", step + 1, what, a, b);
}

static void one_after_the_other_or_ahead(enum method_kind method, enum optimiser_kind optimiser)
{
    struct kernels kernels = kernels_emulated, waiting = kernels_emulated;
    kernels.synchronise = count_wait;
    waiting.sums = sums_waited_for;
    waits = 0;
    struct trained ahead = train(&kernels, method, optimiser);
    if (waits > 2) fail_msg("the device was waited for %zu times", waits); /* as its model is made, and here */
    struct trained wanted = train(&waiting, method, optimiser);
    for (size_t i = 0; i < STEPS; i++) {
        assert_same(ahead.steps[i].loss, wanted.steps[i].loss, "loss", i);
        assert_same(ahead.steps[i].gradient_norm, wanted.steps[i].gradient_norm, "norm of the gradient", i);
        assert_same(ahead.evaluations[i], wanted.evaluations[i], "evaluation", i);
    }
    assert_int_equal(ahead.targets, wanted.targets);
    assert_int_equal(ahead.count, wanted.count);
    assert_memory_equal(ahead.values, wanted.values, wanted.count * sizeof *wanted.values);
    free(ahead.values);
    free(wanted.values);
}

static void full_tuning(void **state)
{
    (void)state;
    one_after_the_other_or_ahead(METHOD_FULL, OPTIMISER_ADAMW);
}

static void lora_with_adafactor(void **state)
{
    (void)state;
    one_after_the_other_or_ahead(METHOD_LORA, OPTIMISER_ADAFACTOR);
}

static int set_up(void **state)
{
    (void)state;
    return fixture_create(&fixture);
}

static int tear_down(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_tuning), cmocka_unit_test(lora_with_adafactor)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
