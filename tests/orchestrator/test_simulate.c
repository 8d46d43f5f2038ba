/* The simulated clock: exact where it can be worked out by hand, never below its bounds, close above them where there
 * is work enough, and jobs that end lose nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/random.h"
#include "orchestrator/plan/simulate.h"

static struct model_config model = {.name = "m"};
static struct sweep sweep = {.models = &model, .model_count = 1};

static void add(struct plan *plan, uint32_t parent, uint32_t degree, double seconds)
{
    plan->stages[plan->stage_count++] =
        (struct plan_stage){.parent = parent, .degree = degree, .seconds = seconds, .flops = seconds * degree};
}

static struct plan make(size_t capacity)
{
    struct plan plan = {.sweep = &sweep};
    plan.stages = calloc(capacity, sizeof *plan.stages);
    assert_non_null(plan.stages);
    return plan;
}

static struct simulate_result run(const struct plan *plan, const struct simulate_options *options)
{
    struct simulate_result result;
    struct error err = {""};
    if (simulate(plan, options, &result, &err)) fail_msg("%s", err.text);
    return result;
}

static void near(double value, double wanted)
{
    if (!(fabs(value - wanted) <= 1e-9 * fabs(wanted))) fail_msg("%.12g instead of %.12g", value, wanted);
}

/* A trunk of two stages, and leaves: 0 (10 s) -> 1 (20 s); leaves of 0: 5 s, 7 s; leaf of 1: 1 s. */
static struct plan trunk(void)
{
    struct plan plan = make(5);
    add(&plan, PLAN_NONE, 1, 10);
    add(&plan, 0, 1, 20);
    add(&plan, 0, 1, 5);
    add(&plan, 0, 1, 7);
    add(&plan, 1, 1, 1);
    return plan;
}

static void known_ends(void **state)
{
    (void)state;
    struct plan plan = trunk();
    struct simulate_options options = {.nodes = 1, .devices = 1};
    struct simulate_result one = run(&plan, &options);
    near(one.makespan_seconds, 43);
    near(one.lower_bound_seconds, 43);
    near(one.utilisation, 1);
    assert_int_equal(one.jobs, 1);
    options.devices = 2;
    struct simulate_result two = run(&plan, &options); /* the chain 10 + 20 + 1, the leaves beside it */
    near(two.makespan_seconds, 31);
    near(two.lower_bound_seconds, 31);
    near(two.utilisation, 43.0 / 62);
    options.fifo = true; /* the leaves are as early as the second stage, and are in front of its leaf */
    assert_true(run(&plan, &options).makespan_seconds >= 31);
    free(plan.stages);
}

static void stages_that_are_complete_cost_nothing(void **state)
{
    (void)state;
    struct plan plan = trunk();
    double seconds[] = {-1, -1, 5, -1, 0.5};
    struct simulate_options options = {.nodes = 1, .devices = 1, .seconds = seconds};
    struct simulate_result result = run(&plan, &options);
    near(result.makespan_seconds, 5.5);
    near(result.lower_bound_seconds, 5.5);
    seconds[2] = seconds[4] = -1;
    near(run(&plan, &options).makespan_seconds, 0);
    free(plan.stages);
}

static void jobs_that_end_lose_nothing(void **state)
{
    (void)state;
    struct plan plan = trunk();
    struct simulate_options options = {
        .nodes = 1, .devices = 1, .wall_seconds = 12, .grace_seconds = 2, .checkpoint_seconds = 1};
    struct simulate_result result = run(&plan, &options); /* 10 s of work in each job of 12 s: 43 s of work */
    assert_int_equal(result.jobs, 5);
    near(result.makespan_seconds, 4 * 12 + 3);
    options.checkpoint_seconds = 0; /* a stage that runs past the job's end has none to go on from */
    struct error err = {""};
    assert_int_equal(simulate(&plan, &options, &result, &err), -1);
    assert_string_equal(err.text, "no stage that is left ends or reaches a checkpoint in the 10 s that a job has");
    free(plan.stages);
}

static void a_gang_that_no_node_holds_is_refused(void **state)
{
    (void)state;
    struct plan plan = make(1);
    add(&plan, PLAN_NONE, 4, 1);
    struct simulate_options options = {.nodes = 3, .devices = 2};
    struct simulate_result result;
    struct error err = {""};
    assert_int_equal(simulate(&plan, &options, &result, &err), -1);
    assert_string_equal(err.text, "a stage of model \"m\" needs 4 devices on one node, a node has 2");
    free(plan.stages);
}

static void bounds_know_gangs_and_starts(void **state)
{
    (void)state;
    struct plan plan = make(4); /* 5 of 8 devices: one at a time */
    for (int i = 0; i < 4; i++)
        add(&plan, PLAN_NONE, 5, 10);
    struct simulate_options options = {.nodes = 1, .devices = 8};
    struct simulate_result result = run(&plan, &options);
    near(result.makespan_seconds, 40);
    near(result.tight_bound_seconds, 40);
    near(result.lower_bound_seconds, 25);
    free(plan.stages);

    plan = make(9); /* 8 leaves that wait for one root */
    add(&plan, PLAN_NONE, 1, 10);
    for (int i = 0; i < 8; i++)
        add(&plan, 0, 1, 10);
    options.devices = 4;
    result = run(&plan, &options);
    near(result.makespan_seconds, 30);
    near(result.tight_bound_seconds, 30);
    near(result.lower_bound_seconds, 22.5);
    free(plan.stages);
}

static void stages_share_devices(void **state)
{
    (void)state;
    struct plan plan = make(6); /* 4 quarters, 2 wholes */
    for (int i = 0; i < 6; i++)
        add(&plan, PLAN_NONE, 1, 10);
    struct simulate_options options = {.nodes = 1, .devices = 1};
    near(run(&plan, &options).makespan_seconds, 60);
    for (int i = 0; i < 4; i++)
        plan.stages[i].share = SHARE_WHOLE / 4;
    struct simulate_result result = run(&plan, &options);
    near(result.makespan_seconds, 30);
    near(result.lower_bound_seconds, 30);
    near(result.utilisation, 1);
    plan.stages[3].share = SHARE_WHOLE; /* three quarters and three wholes */
    result = run(&plan, &options);
    near(result.makespan_seconds, 40);
    near(result.utilisation, 37.5 / 40);
    free(plan.stages);
}

/* Trunks with leaves of random widths and lengths. */
static struct plan random_plan(struct random_key key, uint64_t *draw)
{
    size_t trunks = 1 + (size_t)random_below(key, (*draw)++, 5), depth = 1 + (size_t)random_below(key, (*draw)++, 5);
    size_t leaves = 1 + (size_t)random_below(key, (*draw)++, 60);
    struct plan plan = make(trunks * depth * (1 + leaves));
    for (size_t i = 0; i < trunks; i++) {
        uint32_t parent = PLAN_NONE, degree = 1 + (uint32_t)random_below(key, (*draw)++, 8);
        for (size_t k = 0; k < depth; k++) {
            add(&plan, parent, degree, 1 + 10 * random_uniform(key, (*draw)++));
            parent = (uint32_t)plan.stage_count - 1;
            for (size_t leaf = 0; leaf < leaves; leaf++) {
                uint32_t width = 1 + (uint32_t)random_below(key, (*draw)++, degree);
                add(&plan, parent, width, 0.1 + 10 * random_uniform(key, (*draw)++));
            }
        }
    }
    return plan;
}

static void random_plans_end_near_their_bounds(void **state)
{
    (void)state;
    struct random_key key = {3, random_stream("test simulate")};
    uint64_t draw = 0;
    double ours_sum = 0, fifo_sum = 0;
    for (int i = 0; i < 200; i++) {
        struct plan plan = random_plan(key, &draw);
        struct simulate_options options = {.nodes = 1 + (size_t)random_below(key, draw++, 6), .devices = 8};
        struct simulate_result ours;
        struct error err = {""};
        assert_int_equal(simulate_best(&plan, &options, &ours, &err), 0);
        assert_int_equal(ours.placed, plan.stage_count);
        assert_true(ours.lower_bound_seconds <= ours.tight_bound_seconds);
        assert_true(ours.tight_bound_seconds <= ours.makespan_seconds * (1 + 1e-12));
        assert_true(ours.makespan_seconds <= run(&plan, &options).makespan_seconds);
        options.fifo = true;
        struct simulate_result fifo = run(&plan, &options);
        ours_sum += ours.makespan_seconds / ours.tight_bound_seconds;
        fifo_sum += fifo.makespan_seconds / ours.tight_bound_seconds;
        free(plan.stages);
    }
    /* the bound does not know that gangs of all widths leave gaps between them */
    if (!(ours_sum / 200 < 1.06 && ours_sum < 0.95 * fifo_sum))
        fail_msg("mean ratio to the bound %.3f, of a plain queue %.3f", ours_sum / 200, fifo_sum / 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_ends),
        cmocka_unit_test(stages_that_are_complete_cost_nothing),
        cmocka_unit_test(jobs_that_end_lose_nothing),
        cmocka_unit_test(a_gang_that_no_node_holds_is_refused),
        cmocka_unit_test(bounds_know_gangs_and_starts),
        cmocka_unit_test(stages_share_devices),
        cmocka_unit_test(random_plans_end_near_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
