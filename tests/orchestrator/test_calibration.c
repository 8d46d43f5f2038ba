/* What stages that have run say of those that have not: exact for their own kind, extrapolated for others. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/plan/calibration.h"

enum { SIZES = 4, KINDS = 2 };

static struct model_config models[SIZES];
static struct sweep_method methods[KINDS];
static struct sweep sweep = {.models = models, .model_count = SIZES, .methods = methods, .method_count = KINDS};

static int setup(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < SIZES; i++)
        models[i] = (struct model_config){.layers = 2,
                                          .width = 64 << i,
                                          .heads = 4,
                                          .kv_heads = 4,
                                          .head_width = 16 << i,
                                          .ffn = 128 << i,
                                          .vocabulary = 100};
    return 0;
}

static struct plan_stage stage_of(uint32_t model, int method)
{
    return (struct plan_stage){.kind = method < 0 ? STAGE_PRETRAIN : STAGE_FINETUNE,
                               .model = model,
                               .method = method < 0 ? 0 : (uint32_t)method,
                               .seconds = 10};
}

static void within(double value, double wanted, double relative)
{
    if (!(fabs(value - wanted) <= relative * wanted)) fail_msg("%g instead of %g", value, wanted);
}

static struct calibration make(void)
{
    struct calibration c;
    struct error err = {""};
    assert_int_equal(calibration_init(&c, &sweep, &err), 0);
    return c;
}

static void nothing_measured(void **state)
{
    (void)state;
    struct calibration c = make();
    struct plan_stage stage = stage_of(1, 0);
    assert_false(calibration_fit(&c));
    within(calibration_seconds(&c, &stage), 10, 1e-12);
    calibration_add(&c, &stage, 1, 10, 0); /* no time at all says nothing */
    assert_false(calibration_fit(&c));
    calibration_free(&c);
}

static void one_stage_tells_of_all(void **state)
{
    (void)state;
    struct calibration c = make();
    struct plan_stage ran = stage_of(1, -1), other = stage_of(2, 1);
    calibration_add(&c, &ran, 1, 10, 25);
    assert_true(calibration_fit(&c));
    within(c.mean, 2.5, 1e-12);
    within(calibration_seconds(&c, &ran), 25, 1e-9);
    within(calibration_seconds(&c, &other), 25, 1e-9);
    calibration_free(&c);
}

/* Ratio falls with size; LoRA takes 1.5 times longer than the plan says of it. */
static double truth(uint32_t model, int method)
{
    return 3.0 * exp(-0.3 * model) * (method == 1 ? 1.5 : 1.0);
}

static void cells_that_have_not_run_are_extrapolated(void **state)
{
    (void)state;
    struct calibration c = make();
    for (uint32_t model = 0; model < SIZES - 1; model++)
        for (int method = -1; method < KINDS; method++) {
            struct plan_stage stage = stage_of(model, method);
            for (int i = 0; i < 5; i++)
                calibration_add(&c, &stage, 1, 10, 10 * truth(model, method));
        }
    assert_true(calibration_fit(&c));
    for (uint32_t model = 0; model < SIZES; model++)
        for (int method = -1; method < KINDS; method++) {
            struct plan_stage stage = stage_of(model, method);
            within(calibration_seconds(&c, &stage), 10 * truth(model, method), model < SIZES - 1 ? 0.05 : 0.2);
        }
    struct calibration copy;
    struct error err = {""};
    assert_int_equal(calibration_copy(&copy, &c, &err), 0);
    struct plan_stage last = stage_of(SIZES - 1, 1);
    within(calibration_seconds(&copy, &last), calibration_seconds(&c, &last), 1e-12);
    calibration_free(&copy);
    calibration_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_measured),
        cmocka_unit_test(one_stage_tells_of_all),
        cmocka_unit_test(cells_that_have_not_run_are_extrapolated),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
