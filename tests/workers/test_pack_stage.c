/* Stages in a pack leave the rows that they leave alone, byte for byte: whatever else is in the pack, wherever a drain
 * cuts it and whoever goes on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "io/checkpoint/checkpoint.h"
#include "io/log.h"
#include "tests/workers/trained.h"
#include "workers/files/huggingface.h"

enum { POINTS = 6 };

static struct fixture fixture;
static struct stage trunk, points[POINTS];
static struct stage_outcome alone[POINTS]; /* each run by itself */

static void expect(const struct stage_outcome *outcome, enum store_status status)
{
    if (outcome->status != status) fail_msg("%s: %s", store_status_name(outcome->status), outcome->message);
}

/* Points that differ in all that a pack allows. */
static void make_points(void)
{
    static const enum method_kind methods[POINTS] = {METHOD_LORA,    METHOD_LORA, METHOD_PROMPT,
                                                     METHOD_ADAPTER, METHOD_IA3,  METHOD_PREFIX};
    for (int i = 0; i < POINTS; i++) {
        char name[32];
        enum method_kind method = methods[i];
        struct stage *p = &points[i];
        *p = stage_finetune(&fixture, &trunk, method, (uint64_t)(10 + 3 * i));
        snprintf(name, sizeof name, "lane %d", i);
        p->identity = digest_of(name, strlen(name));
        p->aligned = true;
        if (method != METHOD_IA3) p->method.size = (uint32_t)(1 + 2 * i);
        p->recipe.learning_rate *= 1 + i;
        p->recipe.batch = (uint32_t)(4 + 3 * i);
        p->recipe.evaluations = (uint32_t)(2 + i);
        p->recipe.schedule = i % 2 ? SCHEDULE_LINEAR : SCHEDULE_COSINE;
        p->recipe.label_smoothing = i == 1 ? 0.1 : 0;
        p->recipe.optimiser = i == 3 ? OPTIMISER_ADAFACTOR : OPTIMISER_ADAMW;
        p->recipe.sequence_length = (uint32_t)(24 + 4 * i);
        p->examples = (uint64_t)(40 + 20 * i);
        p->seed = (uint64_t)(100 + i);
        p->checkpoint_steps = (uint64_t)(3 + i);
    }
    points[0].recipe.patience = 1;
    points[0].recipe.evaluations = 10;
    points[0].recipe.learning_rate = 0.2; /* stops early */
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
    struct stage_outcome outcome;
    trunk = stage_pretrain(&fixture, 0, 20);
    stage_run(&trunk, NULL, &outcome);
    expect(&outcome, STORE_DONE);
    make_points();
    for (int i = 0; i < POINTS; i++) {
        stage_run(&points[i], NULL, &alone[i]);
        expect(&alone[i], STORE_DONE);
        assert_true(alone[i].row.result.best_step > 0);
        forget(&points[i]);
    }
    assert_true(alone[0].row.result.steps < points[0].recipe.steps); /* it did stop early */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

static void same_row(const struct stage_outcome *packed, int point)
{
    const struct store_row *a = &packed->row, *b = &alone[point].row;
    expect(packed, STORE_DONE);
    assert_string_equal(packed->identity.hex, points[point].identity.hex);
    if (memcmp(&a->result, &b->result, sizeof a->result))
        fail_msg("point %d: test loss %.17g, alone %.17g", point, a->result.test_loss, b->result.test_loss);
    assert_memory_equal(&a->curve, &b->curve, sizeof a->curve);
    assert_string_equal(a->execution.execution_class, b->execution.execution_class);
    assert_non_null(strstr(a->execution.execution_class, ":pack"));
}

/* What the hooks saw. */
struct seen {
    int outcomes, order[POINTS];
    uint64_t drain_at; /* progress of the stage `watched`; 0: never */
    const struct stage *watched;
    volatile int stop;
    const struct stage *stages;
};

static void on_outcome(void *context, const struct stage_outcome *outcome)
{
    struct seen *seen = context;
    for (int i = 0; i < POINTS; i++)
        if (!strcmp(points[i].identity.hex, outcome->identity.hex)) seen->order[seen->outcomes] = i;
    seen->outcomes++;
}

static void on_progress(void *context, const struct stage_progress *progress)
{
    struct seen *seen = context;
    if (seen->drain_at && !strcmp(progress->identity.hex, seen->watched->identity.hex) &&
        progress->step >= seen->drain_at)
        seen->stop = 1;
}

static void run_pack(struct seen *seen, const int *members, size_t count, struct stage_outcome *outcomes)
{
    struct stage stages[POINTS];
    const struct stage_hooks hooks = {
        .progress = on_progress, .outcome = on_outcome, .context = seen, .stop = &seen->stop};
    for (size_t i = 0; i < count; i++)
        stages[i] = points[members[i]];
    stage_run_pack(stages, count, &hooks, outcomes);
    assert_int_equal(seen->outcomes, count); /* each told once */
}

static void a_pack_leaves_the_rows_of_its_points(void **state)
{
    (void)state;
    static const int orders[2][POINTS] = {{0, 1, 2, 3, 4, 5}, {4, 2, 1}};
    static struct stage_outcome outcomes[POINTS];
    for (int o = 0; o < 2; o++) {
        struct seen seen = {.outcomes = 0};
        size_t count = o ? 3 : POINTS;
        double seconds = clock_elapsed(), shares = 0;
        run_pack(&seen, orders[o], count, outcomes);
        seconds = clock_elapsed() - seconds;
        for (size_t i = 0; i < count; i++) {
            same_row(&outcomes[i], orders[o][i]);
            assert_int_equal(outcomes[i].packed, count);
            shares += outcomes[i].seconds;
            forget(&points[orders[o][i]]);
        }
        assert_true(shares > 0.7 * seconds && shares <= 1.001 * seconds);
        if (o == 0) assert_int_equal(seen.order[0], 0); /* ended first, told first */
    }
}

/* Cut in the middle; gone on in two other packs and alone. */
static void a_cut_pack_goes_on_in_others(void **state)
{
    (void)state;
    static struct stage_outcome outcomes[POINTS];
    static const int all[] = {5, 3, 1, 2, 4}, some[] = {1, 3}, others[] = {4, 5};
    struct seen cut = {.drain_at = 4, .watched = &points[4]}, first = {.outcomes = 0}, second = {.outcomes = 0};
    run_pack(&cut, all, 5, outcomes);
    for (int i = 0; i < 5; i++) {
        expect(&outcomes[i], STORE_CUT);
        assert_true(outcomes[i].end_step >= 4 && outcomes[i].end_step < points[all[i]].last_step);
    }
    run_pack(&first, some, 2, outcomes);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(outcomes[i].recomputed_steps, 0);
        assert_true(outcomes[i].resumed_step >= 4);
        same_row(&outcomes[i], some[i]);
    }
    run_pack(&second, others, 2, outcomes);
    for (int i = 0; i < 2; i++)
        same_row(&outcomes[i], others[i]);
    stage_run(&points[2], NULL, &outcomes[0]);
    same_row(&outcomes[0], 2);
    for (int i = 0; i < POINTS; i++)
        forget(&points[i]);
}

static void one_that_diverges_leaves_the_others(void **state)
{
    (void)state;
    static struct stage_outcome outcomes[POINTS];
    static const int all[POINTS] = {0, 1, 2, 3, 4, 5};
    struct seen seen = {.outcomes = 0};
    struct stage calm = points[1];
    points[1].recipe.learning_rate = 1e25;
    points[1].recipe.clip_norm = 0;
    run_pack(&seen, all, POINTS, outcomes);
    expect(&outcomes[1], STORE_DIVERGED);
    assert_true(isinf(outcomes[1].row.result.test_loss));
    for (int i = 0; i < POINTS; i++) {
        if (i != 1) same_row(&outcomes[i], i);
        forget(&points[i]);
    }
    points[1] = calm;
}

/* The first, which would hold the data set, cannot begin; another one's weights have gone. */
static void one_that_cannot_begin_leaves_the_others(void **state)
{
    (void)state;
    static struct stage_outcome outcomes[POINTS];
    static const int all[3] = {0, 1, 2};
    struct seen seen = {.outcomes = 0};
    struct stage good = points[0];
    points[0].dataset_digest = digest_of("another", 7);
    run_pack(&seen, all, 3, outcomes);
    expect(&outcomes[0], STORE_CRASHED);
    assert_true(outcomes[0].data_unusable);
    same_row(&outcomes[1], 1);
    same_row(&outcomes[2], 2);
    points[0] = good;
    for (int i = 0; i < 3; i++)
        forget(&points[i]);
}

static void what_cannot_be_packed_fails(void **state)
{
    (void)state;
    static struct stage_outcome outcomes[2];
    struct stage stages[2] = {points[0], points[1]};
    stages[1].aligned = false;
    stage_run_pack(stages, 2, NULL, outcomes);
    same_row(&outcomes[0], 0);
    expect(&outcomes[1], STORE_CRASHED);
    assert_non_null(strstr(outcomes[1].message, "cannot be packed"));
    forget(&points[0]);
}

/* The base in a folder of Hugging Face's: its rows, and none where the folder is not what was planned, or is gone. */
static void an_imported_base(void **state)
{
    (void)state;
    static struct stage_outcome outcomes[2];
    static const int both[2] = {1, 3};
    char dir[PATH_MAX];
    struct error err = {""};
    struct seen first = {.outcomes = 0}, second = {.outcomes = 0}, third = {.outcomes = 0};
    struct stage before[2] = {points[1], points[3]}, none = stage_finetune(&fixture, &trunk, METHOD_NONE, 0);
    struct digest weights;
    stage_run(&none, NULL, &outcomes[0]);
    expect(&outcomes[0], STORE_DONE);
    snprintf(dir, sizeof dir, "%.200s/base", fixture.dir);
    if (stage_export(&none, &outcomes[0].row.result, dir, &err) ||
        huggingface_identify(dir, &none.model, &weights, &err))
        fail_msg("%s", err.text);
    forget(&none);
    for (int i = 0; i < 2; i++) {
        struct stage *p = &points[both[i]];
        p->parent = (struct digest){""};
        p->base = weights;
        strcpy(p->import, dir);
    }
    run_pack(&first, both, 2, outcomes);
    for (int i = 0; i < 2; i++) {
        same_row(&outcomes[i], both[i]);
        forget(&points[both[i]]);
        points[both[i]].base = trunk.identity;
    }
    run_pack(&second, both, 2, outcomes);
    for (int i = 0; i < 2; i++) {
        expect(&outcomes[i], STORE_CRASHED);
        assert_non_null(strstr(outcomes[i].message, "the weights have changed"));
        strcpy(points[both[i]].import, "/nowhere");
    }
    run_pack(&third, both, 2, outcomes);
    for (int i = 0; i < 2; i++) {
        expect(&outcomes[i], STORE_CRASHED);
        assert_non_null(strstr(outcomes[i].message, "/nowhere"));
        points[both[i]] = before[i];
    }
}

/* Over two devices, and evaluated again from what is on disk. */
static void a_gang_and_a_reevaluation(void **state)
{
    (void)state;
    static struct stage_outcome outcomes[2], one;
    struct error err = {""};
    struct stage stages[2] = {points[3], points[5]};
    double loss;
    for (int i = 0; i < 2; i++)
        stages[i].degree = 2;
    stage_run_pack(stages, 2, NULL, outcomes);
    for (int i = 0; i < 2; i++) {
        expect(&outcomes[i], STORE_DONE);
        if (stage_reevaluate(&stages[i], &outcomes[i].row.result, &loss, &err)) fail_msg("%s", err.text);
        assert_true(loss == outcomes[i].row.result.test_loss);
        forget(&stages[i]);
        stage_run(&stages[i], NULL, &one);
        assert_memory_equal(&one.row.result, &outcomes[i].row.result, sizeof one.row.result);
        forget(&stages[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pack_leaves_the_rows_of_its_points),
        cmocka_unit_test(a_cut_pack_goes_on_in_others),
        cmocka_unit_test(one_that_diverges_leaves_the_others),
        cmocka_unit_test(one_that_cannot_begin_leaves_the_others),
        cmocka_unit_test(what_cannot_be_packed_fails),
        cmocka_unit_test(an_imported_base),
        cmocka_unit_test(a_gang_and_a_reevaluation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
