/* When a training ends, and with which weights: validations where they are announced, patience that counts those
 * without gain alone, the best weights whatever came after them, and losses that are no numbers. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "io/log.h"
#include "tests/workers/trained.h"
#include "workers/stage/stage_internal.h"

static struct fixture fixture;
static struct stage trunk;

static struct stage_outcome run(const struct stage *stage)
{
    struct stage_outcome outcome;
    stage_run(stage, NULL, &outcome);
    return outcome;
}

static void expect(const struct stage_outcome *outcome, enum store_status status)
{
    if (outcome->status != status) fail_msg("%s: %s", store_status_name(outcome->status), outcome->message);
}

static int set_up(void **state)
{
    (void)state;
    if (fixture_create(&fixture)) return -1;
    char path[128];
    snprintf(path, sizeof path, "%s/log", fixture.dir);
    FILE *log = fopen(path, "a");
    if (!log) return -1;
    log_open(fileno(log), -1);
    trunk = stage_pretrain(&fixture, 0, 60);
    return run(&trunk).status == STORE_DONE ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

/* As many validations as were asked for, the last at the last step, none closer to another than even spacing has it. */
static void validations_are_spread(void **state)
{
    (void)state;
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 1);
    for (uint64_t steps = 1; steps < 80; steps++) {
        for (uint32_t evaluations = 1; evaluations <= steps; evaluations++) {
            uint64_t count = 0, last = 0, least = steps, most = 0;
            stage.recipe.steps = stage.last_step = steps;
            stage.recipe.evaluations = evaluations;
            for (uint64_t step = 1; step <= steps; step++) {
                if (!evaluation_due(&stage, step)) continue;
                count++;
                if (step - last < least) least = step - last;
                if (step - last > most) most = step - last;
                last = step;
            }
            if (count != evaluations || last != steps || most - least > 1)
                fail_msg("%" PRIu64 " steps, %" PRIu32 " evaluations: %" PRIu64 " of them, %" PRIu64 " to %" PRIu64
                         " steps apart, the last at %" PRIu64,
                         steps, evaluations, count, least, most, last);
        }
    }
}

/* What ruins a model from its first step on, slowly enough to be measured. */
static struct stage ruinous(uint32_t evaluations, uint32_t patience)
{
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 30);
    stage.recipe.evaluations = evaluations;
    stage.recipe.patience = patience;
    stage.recipe.schedule = SCHEDULE_CONSTANT;
    stage.recipe.warmup_steps = 0;
    stage.recipe.optimiser = OPTIMISER_SGD;
    stage.recipe.momentum = 0.99;
    stage.recipe.learning_rate = 1;
    stage.recipe.clip_norm = 1;
    return stage;
}

/* The result is that of the best validation; the curve ends where patience did. */
static void check_patience(struct stage stage)
{
    struct stage_outcome outcome = run(&stage);
    expect(&outcome, STORE_DONE);
    const struct store_result *result = &outcome.row.result;
    const struct store_curve *curve = &outcome.row.curve;
    double best = INFINITY;
    uint32_t without = 0, at = 0;
    uint64_t best_step = 0;
    for (; at < curve->count && !(stage.recipe.patience && without == stage.recipe.patience); at++) {
        without = curve->entries[at].valid_loss < best ? 0 : without + 1;
        if (without) continue;
        best = curve->entries[at].valid_loss;
        best_step = (uint64_t)curve->entries[at].step;
    }
    assert_int_equal(at, curve->count); /* nothing after the end of patience */
    if (result->steps < stage.last_step) assert_int_equal(without, stage.recipe.patience);
    assert_true(result->valid_loss == best && result->best_step == best_step);
    assert_true((double)result->steps == curve->entries[curve->count - 1].step);
    double again;
    struct error err = {""};
    if (stage_reevaluate(&stage, result, &again, &err)) fail_msg("%s", err.text);
    assert_true(again == result->test_loss);
    forget(&stage);
}

static void patience_ends_a_training(void **state)
{
    (void)state;
    struct stage stage = ruinous(10, 2);
    struct stage_outcome outcome = run(&stage);
    expect(&outcome, STORE_DONE);
    assert_true(outcome.row.result.steps < 30 && outcome.row.result.best_step < outcome.row.result.steps);
    forget(&stage);
    check_patience(ruinous(10, 1));
    check_patience(ruinous(10, 2));
    check_patience(ruinous(30, 3));  /* a validation after each step */
    check_patience(ruinous(10, 11)); /* more than there are validations */
    check_patience(ruinous(1, 1));
    stage = ruinous(7, 2); /* not evenly spaced */
    stage.degree = 2;
    check_patience(stage);
}

/* A validation that is no number ends the point as diverged, whatever was good before it; what was reached is told. */
static void losses_that_are_no_numbers(void **state)
{
    (void)state;
    struct stage stage = ruinous(30, 0);
    stage.recipe.clip_norm = 0;
    stage.recipe.momentum = 0;
    stage.recipe.weight_decay = 1000; /* weights grow by so much a step, until they are too large for a float */
    struct stage_outcome late = run(&stage);
    expect(&late, STORE_DIVERGED);
    const struct store_result *result = &late.row.result;
    assert_true(result->best_step > 0 && isfinite(result->valid_loss));
    assert_true(result->test_loss == INFINITY && result->pretrain_loss == INFINITY);
    assert_true(result->steps < 30 && result->steps > result->best_step);
    forget(&stage);
    stage.recipe.learning_rate = 1e38;
    struct stage_outcome first = run(&stage);
    expect(&first, STORE_DIVERGED);
    assert_int_equal(first.row.result.best_step, 0);
    assert_true(first.row.result.valid_loss == INFINITY && first.row.result.test_loss == INFINITY);
    forget(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(validations_are_spread),
        cmocka_unit_test(patience_ends_a_training),
        cmocka_unit_test(losses_that_are_no_numbers),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
