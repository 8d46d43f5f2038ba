/* A point that goes on from a beginning that it shares with others has the row that it has when it is trained alone:
 * wherever its best weights lie, interrupted or not, also where the training diverges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "io/checkpoint/checkpoint.h"
#include "tests/workers/trained.h"

static struct fixture fixture;
static struct stage trunk;

enum { STEPS = 40, FIRST = 21, SECOND = 30 };

static struct stage_outcome run(const struct stage *stage, enum store_status status)
{
    struct stage_outcome outcome;
    stage_run(stage, NULL, &outcome);
    if (outcome.status != status) fail_msg("%s: %s", store_status_name(outcome.status), outcome.message);
    if (status == STORE_DONE && stage->kind != STAGE_FINETUNE) stage_cleanup(stage); /* as the master does */
    return outcome;
}

static int set_up(void **state)
{
    (void)state;
    struct stage_outcome outcome;
    if (fixture_create(&fixture)) return -1;
    trunk = stage_pretrain(&fixture, 0, 60);
    stage_run(&trunk, NULL, &outcome);
    return outcome.status == STORE_DONE ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

/* One pass over 160 examples and half of another, the last quarter with a falling rate. */
static struct stage point(enum method_kind method)
{
    struct stage stage = stage_finetune(&fixture, &trunk, method, STEPS);
    stage.recipe.schedule = SCHEDULE_WSD;
    stage.recipe.decay_share = 0.25;
    stage.recipe.order = ORDER_STREAM;
    stage.recipe.evaluation_steps = 6;
    stage.examples = 245;
    return stage;
}

/* Steps (first, last] of what the point begins with, as a stage; of another point's recipe, of more examples. */
static struct stage prefix_of(const struct stage *point, uint64_t first, uint64_t last)
{
    char name[32];
    struct stage stage = *point;
    stage.kind = STAGE_PREFIX;
    snprintf(name, sizeof name, "prefix %d", (int)last);
    stage.identity = digest_of(name, strlen(name));
    snprintf(name, sizeof name, "prefix %d", (int)first);
    if (first) stage.prefix = digest_of(name, strlen(name));
    stage.first_step = first;
    stage.last_step = last;
    stage.recipe.steps = stage.recipe.decay_steps = 90;
    stage.examples = 280;
    return stage;
}

static struct stage leaf_of(const struct stage *point, const struct stage *prefix)
{
    struct stage stage = *point;
    stage.prefix = prefix->identity;
    stage.first_step = prefix->last_step;
    return stage;
}

static int stop_now;
static void stop_at(void *context, const struct stage_progress *progress)
{
    if (progress->step >= *(uint64_t *)context) stop_now = 1;
}

/* Cut after `at` of its steps, then to the end. */
static struct stage_outcome run_cut(const struct stage *stage, uint64_t at, enum store_status status)
{
    struct stage_outcome outcome;
    struct stage cut = *stage;
    const struct stage_hooks hooks = {.progress = stop_at, .context = &at, .stop = &stop_now};
    stop_now = 0;
    cut.checkpoint_steps = 1;
    stage_run(&cut, &hooks, &outcome);
    if (outcome.status != STORE_CUT) fail_msg("%s: %s", store_status_name(outcome.status), outcome.message);
    outcome = run(&cut, status);
    assert_int_equal(outcome.recomputed_steps, 0);
    return outcome;
}

static void same_row(const struct stage_outcome *a, const struct stage_outcome *b)
{
    assert_memory_equal(&a->row.result, &b->row.result, sizeof a->row.result);
    assert_memory_equal(&a->row.curve, &b->row.curve, sizeof a->row.curve);
}

/* Alone, and over two prefixes; returns the alone one's row. */
static struct stage_outcome shared_is_same(const struct stage *stage, bool cuts)
{
    double again;
    struct error err = {""};
    struct stage first = prefix_of(stage, 0, FIRST), second = prefix_of(stage, FIRST, SECOND),
                 leaf = leaf_of(stage, &second);
    forget(stage);
    struct stage_outcome alone = run(stage, STORE_DONE);
    forget(stage);
    if (cuts) {
        run_cut(&first, 5, STORE_DONE);
        run_cut(&second, 4, STORE_DONE);
    } else {
        run(&first, STORE_DONE);
        run(&second, STORE_DONE);
    }
    stage_discard(&first); /* nothing else starts there */
    struct stage_outcome shared = cuts ? run_cut(&leaf, 4, STORE_DONE) : run(&leaf, STORE_DONE);
    if (!cuts) assert_int_equal(shared.resumed_step, SECOND);
    same_row(&shared, &alone);
    stage_discard(&second);
    assert_false(file_exists(&second, ".h5"));
    if (stage_reevaluate(&leaf, &shared.row.result, &again, &err)) fail_msg("%s", err.text);
    assert_true(again == alone.row.result.test_loss);
    struct stage_outcome repeated = run(&leaf, STORE_DONE); /* not committed yet, and its prefix is gone */
    same_row(&repeated, &alone);
    forget(&leaf);
    return alone;
}

static void test_methods(void **state)
{
    (void)state;
    for (int method = METHOD_FULL; method < METHODS; method++) {
        struct stage stage = point((enum method_kind)method);
        struct stage_outcome alone = shared_is_same(&stage, false);
        assert_int_equal(alone.row.result.evaluations, 7); /* after 6, 12, ... 36, and the last step */
        assert_true(alone.row.curve.entries[0].step == 6 && alone.row.curve.entries[6].step == STEPS);
        shared_is_same(&stage, true);
        stage.degree = 2;
        shared_is_same(&stage, false);
    }
}

static void test_best_in_the_prefix(void **state)
{
    (void)state;
    struct stage stage = point(METHOD_FULL);
    stage.recipe.learning_rate = 2; /* it soon gets worse */
    stage.recipe.schedule = SCHEDULE_CONSTANT;
    stage.recipe.warmup_steps = 29;
    stage.recipe.evaluation_steps = 1;
    for (int cuts = 0; cuts < 2; cuts++) {
        struct stage_outcome alone = shared_is_same(&stage, cuts);
        assert_true(alone.row.result.best_step <= FIRST);
    }
}

/* What is dropped depends on the step of the point, wherever its stage began. */
static void test_dropout(void **state)
{
    (void)state;
    struct stage stage = point(METHOD_LORA), plain = point(METHOD_LORA);
    stage.recipe.dropout = 0.2;
    stage.method.dropout = 0.1;
    struct stage_outcome dropped = shared_is_same(&stage, true), whole = shared_is_same(&plain, false);
    assert_true(dropped.row.result.test_loss != whole.row.result.test_loss);
}

static void test_diverged(void **state)
{
    (void)state;
    struct stage stage = point(METHOD_FULL);
    stage.recipe.learning_rate = 1e30;
    stage.recipe.clip_norm = 0;
    struct stage_outcome alone = run(&stage, STORE_DIVERGED);
    assert_true(alone.row.result.steps < FIRST);
    forget(&stage);
    struct stage first = prefix_of(&stage, 0, FIRST), second = prefix_of(&stage, FIRST, SECOND),
                 leaf = leaf_of(&stage, &second);
    struct stage_outcome outcome = run(&first, STORE_DONE);
    assert_int_equal(outcome.end_step, alone.row.result.steps);
    run(&second, STORE_DONE);
    outcome = run(&leaf, STORE_DIVERGED);
    assert_true(outcome.flops == 0);
    same_row(&outcome, &alone);
    stage_discard(&first);
    stage_discard(&second);
    forget(&leaf);
}

static void test_wrong_prefix(void **state)
{
    (void)state;
    struct stage stage = point(METHOD_LORA), first = prefix_of(&stage, 0, FIRST), leaf = leaf_of(&stage, &first);
    struct stage_outcome outcome;
    run(&first, STORE_DONE);
    leaf.first_step = FIRST - 1;
    stage_run(&leaf, NULL, &outcome);
    assert_int_equal(outcome.status, STORE_CRASHED);
    assert_non_null(strstr(outcome.message, "ends at step 21, not at 20"));
    leaf.first_step = FIRST;
    leaf.prefix = trunk.identity;
    stage_run(&leaf, NULL, &outcome);
    assert_int_equal(outcome.status, STORE_CRASHED);
    assert_non_null(strstr(outcome.message, "not the end state of its prefix"));
    stage_discard(&first);
    leaf.prefix = first.identity;
    stage_run(&leaf, NULL, &outcome);
    assert_int_equal(outcome.status, STORE_CRASHED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),  cmocka_unit_test(test_best_in_the_prefix), cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_diverged), cmocka_unit_test(test_wrong_prefix),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
