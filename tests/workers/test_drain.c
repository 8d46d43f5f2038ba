/* A drain costs no step and waits for no evaluation: what it meets begins again in the next attempt, and the row is
 * that of a stage left alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "io/checkpoint/checkpoint.h"
#include "io/log.h"
#include "tests/workers/trained.h"

static struct fixture fixture;
static struct stage trunk; /* pretrained once, the parent of every finetuning stage here */

static void expect(const struct stage_outcome *outcome, enum store_status status)
{
    if (outcome->status != status) fail_msg("%s: %s", store_status_name(outcome->status), outcome->message);
}

static struct stage_outcome run_to_the_end(const struct stage *stage)
{
    struct stage_outcome outcome;
    stage_run(stage, NULL, &outcome);
    expect(&outcome, STORE_DONE);
    return outcome;
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
    trunk = stage_pretrain(&fixture, 0, 20);
    run_to_the_end(&trunk);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

struct drain {
    uint64_t at; /* when the progress shows this step */
    volatile int stop;
};

static void drain_at(void *context, const struct stage_progress *progress)
{
    struct drain *drain = context;
    if (progress->step >= drain->at) drain->stop = 1;
}

/* Run the stage until its progress shows step `at`, drain, expect a cut. */
static struct stage_outcome cut(const struct stage *stage, uint64_t at)
{
    struct stage_outcome outcome;
    struct drain drain = {.at = at};
    const struct stage_hooks hooks = {.progress = drain_at, .context = &drain, .stop = &drain.stop};
    stage_run(stage, &hooks, &outcome);
    expect(&outcome, STORE_CUT);
    assert_int_equal(outcome.recomputed_steps, 0);
    return outcome;
}

/* What the newest state of a stage holds: its step, its last validation, all tensors. */
struct seen {
    uint64_t step, validated;
    struct digest digest;
};

static struct seen look(const struct stage *stage)
{
    char path[PATH_MAX];
    const struct store_curve_entry *curve;
    struct error err = {""};
    stage_state_path(stage, path);
    struct checkpoint *checkpoint = checkpoint_open(path, &err);
    if (!checkpoint) fail_msg("%s", err.text);
    size_t count = checkpoint_curve(checkpoint, &curve);
    struct seen seen = {.step = checkpoint_header(checkpoint)->step,
                        .validated = count ? (uint64_t)curve[count - 1].step : 0,
                        .digest = checkpoint_digest(checkpoint)};
    checkpoint_close(checkpoint);
    return seen;
}

static void validations_and_the_test_are_cut(struct stage stage)
{
    struct stage_outcome whole = run_to_the_end(&stage), outcome;
    forget(&stage);
    static const uint64_t asked_at[] = {5, 9, 30}; /* validations follow steps 6 and 10, the test follows 30 */
    for (size_t i = 0; i < sizeof asked_at / sizeof *asked_at; i++) {
        uint64_t at = asked_at[i];
        cut(&stage, at);
        struct seen seen = look(&stage);
        assert_int_equal(seen.step, at < 30 ? at + 1 : 30);
        assert_int_equal(seen.validated, at < 30 ? at - 1 : 30);
    }
    outcome = run_to_the_end(&stage);
    assert_int_equal(outcome.resumed_step, 30);
    assert_int_equal(outcome.row.result.generated, 24);
    assert_true(outcome.row.result.chrf > 0 && isnan(outcome.row.result.rouge1));
    assert_memory_equal(&outcome.row.result, &whole.row.result, sizeof whole.row.result);
    assert_memory_equal(&outcome.row.curve, &whole.row.curve, sizeof whole.row.curve);
    forget(&stage);
}

static void test_finetuning(void **state)
{
    (void)state;
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_LORA, 30);
    stage.recipe.evaluations = 15;
    stage.generate =
        (struct generation_config){.metrics = 3, .beams = 2, .max_new_tokens = 6, .length_penalty = 1, .save = true};
    stage.checkpoint_steps = 1;
    validations_and_the_test_are_cut(stage);
    stage.degree = 2;
    validations_and_the_test_are_cut(stage);
}

/* The only validation of pretraining comes after its last step. */
static void test_pretraining(void **state)
{
    (void)state;
    struct stage stage = stage_pretrain(&fixture, 0, 15);
    stage.checkpoint_steps = 1;
    run_to_the_end(&stage);
    struct seen whole = look(&stage);
    forget(&stage);
    assert_int_equal(cut(&stage, 14).end_step, 15);
    assert_int_equal(look(&stage).validated, 0);
    assert_int_equal(run_to_the_end(&stage).resumed_step, 15);
    assert_string_equal(look(&stage).digest.hex, whole.digest.hex);
    assert_int_equal(look(&stage).validated, 15);
    forget(&stage);
}

/* Not even the weights are loaded. */
static void test_before_the_first_step(void **state)
{
    (void)state;
    char path[PATH_MAX];
    for (int method = METHOD_NONE; method < METHODS; method++) {
        struct stage stage = stage_finetune(&fixture, &trunk, (enum method_kind)method, 20);
        assert_int_equal(cut(&stage, 0).end_step, 0);
        stage_state_path(&stage, path);
        assert_int_not_equal(access(path, F_OK), 0);
        forget(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finetuning),
        cmocka_unit_test(test_pretraining),
        cmocka_unit_test(test_before_the_first_step),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
