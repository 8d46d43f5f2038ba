/* Learning rates that are tuned once: which points there are, what makes them the same points, what waits for what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/plan/plan.h"
#include "orchestrator/plan/shard.h"
#include "orchestrator/plan/simulate.h"
#include "orchestrator/sweep/grid.h"
#include "tests/orchestrator/plan_fixture.h"

static const char tuned[] = "methods = ( { name = \"none\"; },\n"
                            " { name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3, 1e-2 ];\n"
                            "   reference = { model = \"m\"; pretrain_tokens = 2000; examples = 20; }; },\n"
                            " { name = \"lora\"; ranks = [ 2, 4 ]; learning_rates = [ 1e-2, 1e-3 ]; } );";

static struct sweep_text with(const char *methods)
{
    struct sweep_text t = sweep_right;
    t.methods = methods;
    return t;
}

static bool is(const char *field, const char *text)
{
    return !strncmp(field, text, STORE_NAME);
}

static void the_other_cells_have_one_point(void **state)
{
    (void)state;
    struct sweep_text t = with(tuned);
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    size_t full = 0, lora = 0, rates = 0;
    assert_int_equal(plan->reference_count, 1);
    const struct plan_reference *reference = &plan->references[0];
    assert_int_equal(reference->count, 3);
    for (size_t i = 0; i < plan->point_count; i++) {
        const struct store_point *point = &plan->points[i];
        const struct plan_stage *stage = &plan->stages[plan->stage_of_point[i]];
        full += is(point->method, "full");
        lora += is(point->method, "lora");
        if (!is(point->method, "full")) {
            assert_int_equal(stage->reference, PLAN_NONE);
            continue;
        }
        bool cell = is(point->model, "m") && point->pretrain_tokens == 2048 && point->finetune_examples == 20 &&
                    point->seed == 1;
        assert_int_equal(cell, point->learning_rate > 0);
        assert_int_equal(cell, !plan_is_tuned(stage));
        assert_int_equal(stage->reference, 0);
        rates += cell;
    }
    assert_int_equal(rates, 3);
    assert_int_equal(full, 2 * 3 * 2 * 2 - 1 + 3);
    assert_int_equal(lora, 2 * 3 * 2 * 2 * 2 * 2); /* each cell has its own */
    assert_int_equal(plan->point_count, grid_size(sweep));
    for (size_t i = 0; i < reference->count; i++) { /* ascending, and before what waits for them */
        static const double wanted[] = {1e-3, 3e-3, 1e-2};
        assert_true(plan_stage_rate(plan, &plan->stages[reference->candidates[i]]) == wanted[i]);
        for (size_t k = 0; k < reference->candidates[i]; k++)
            assert_false(plan_is_tuned(&plan->stages[k]));
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
}

/* Points of `b` that `a` has, too; of full tuning alone. */
static size_t common(const char *methods, const char *others, size_t *count)
{
    struct sweep_text x = with(methods), y = with(others);
    struct sweep *a = sweep_make(&x), *b = sweep_make(&y);
    struct plan *before = plan_make(a), *after = plan_make(b);
    size_t n = 0;
    *count = 0;
    for (size_t i = 0; i < before->point_count; i++) {
        if (!is(before->points[i].method, "full")) continue;
        (*count)++;
        for (size_t j = 0; j < after->point_count; j++)
            n += !memcmp(before->points[i].identity, after->points[j].identity, DIGEST_HEX);
    }
    plan_destroy(before);
    plan_destroy(after);
    sweep_destroy(a);
    sweep_destroy(b);
    return n;
}

static void candidates_and_cell_are_in_the_identity(void **state)
{
    (void)state;
    static const struct {
        const char *others;
        long kept; /* -1: all */
    } cases[] = {
        /* the order of the file is not in it */
        {"methods = ( { name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-2, 1e-3, 3e-3 ];\n"
         "  reference = { model = \"m\"; pretrain_tokens = 2000; examples = 20; seed = 1; }; } );",
         -1},
        /* one candidate more: the candidates that there were stay what they are */
        {"methods = ( { name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3, 1e-2, 3e-2 ];\n"
         "  reference = { model = \"m\"; pretrain_tokens = 2000; examples = 20; }; } );",
         3},
        /* another cell */
        {"methods = ( { name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3, 1e-2 ];\n"
         "  reference = { model = \"m\"; pretrain_tokens = 2000; examples = 20; seed = 2; }; } );",
         0},
        /* a candidate is the point that a grid of all rates has */
        {"methods = ( { name = \"full\"; learning_rates = [ 1e-3, 3e-3, 1e-2 ]; } );", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t count, kept = common(tuned, cases[i].others, &count);
        assert_int_equal(kept, cases[i].kept < 0 ? count : (size_t)cases[i].kept);
    }
}

static void what_waits_is_on_the_chain(void **state)
{
    (void)state;
    struct sweep_text t = with(tuned);
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    struct error err;
    double longest = 0, candidate = 0;
    for (size_t i = 0; i < plan->stage_count; i++)
        if (plan_is_tuned(&plan->stages[i]) && plan->stages[i].path_seconds > longest)
            longest = plan->stages[i].path_seconds;
    for (size_t i = 0; i < 3; i++) {
        const struct plan_stage *stage = &plan->stages[plan->references[0].candidates[i]];
        assert_true(stage->path_seconds == stage->seconds + longest);
        candidate = stage->path_seconds;
    }
    struct simulate_options cluster = {.nodes = 1000, .devices = 1};
    struct simulate_result result;
    if (simulate(plan, &cluster, &result, &err)) fail_msg("%s", err.text);
    assert_int_equal(result.placed, plan->stage_count);
    assert_true(result.makespan_seconds >= candidate);
    assert_true(result.makespan_seconds >= result.lower_bound_seconds * (1 - 1e-12));
    cluster.nodes = 1;
    if (simulate(plan, &cluster, &result, &err)) fail_msg("%s", err.text);
    assert_int_equal(result.placed, plan->stage_count);
    assert_true(result.makespan_seconds <= result.lower_bound_seconds * (1 + 1e-9)); /* always something to do */
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void the_cell_is_the_centre_unless_it_is_named(void **state)
{
    (void)state;
    struct sweep_text t = with("methods = ( { name = \"lora\"; ranks = [ 2, 4 ]; learning_rates = [ 1e-2, 1e-3 ];\n"
                               "  rates = \"reference\"; reference = { examples = 40; }; } );");
    t.tail = "one_at_a_time = { model = \"m\"; pretrain_tokens = 1000; lora = 4; };";
    struct sweep *sweep = sweep_make(&t);
    const struct sweep_reference *cell = &sweep->methods[0].references[0];
    assert_string_equal(sweep->models[cell->model].name, "m");
    assert_int_equal(sweep->pretrain_tokens[cell->tokens], 1000);
    assert_int_equal(sweep->methods[0].sizes[cell->size], 4);
    assert_int_equal(sweep->examples[cell->examples], 40);
    assert_int_equal(sweep->seeds[cell->seed], 1);
    sweep_destroy(sweep);
}

static void tasks_may_share_a_cell(void **state)
{
    (void)state;
    static const char data[] = "data = ( { name = \"a\"; dataset = \"small.h5\"; valid_examples = 10; },\n"
                               "  { name = \"b\"; dataset = \"small.h5\"; valid_examples = 9; } );";
    static const char format[] =
        "methods = ( { name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3 ];\n"
        "  reference = { %s model = \"m\"; pretrain_tokens = 2000; examples = 20; }; } );";
    char methods[512];
    for (int shared = 0; shared < 2; shared++) {
        snprintf(methods, sizeof methods, format, shared ? "task = \"b\";" : "");
        struct sweep_text t = with(methods);
        t.data = data;
        struct sweep *sweep = sweep_make(&t);
        struct plan *plan = plan_make(sweep);
        size_t candidates[2] = {0, 0}, cells = 2 * 3 * 2 * 2;
        assert_int_equal(plan->reference_count, shared ? 1 : 2);
        for (size_t i = 0; i < plan->point_count; i++)
            candidates[is(plan->points[i].task, "b")] += plan->points[i].learning_rate > 0;
        assert_int_equal(candidates[0], shared ? 0 : 2);
        assert_int_equal(candidates[1], 2);
        assert_int_equal(plan->point_count, 2 * cells + (shared ? 1 : 2));
        plan_destroy(plan);
        sweep_destroy(sweep);
    }
}

static void refused(const char *method, const char *wanted)
{
    char methods[512];
    snprintf(methods, sizeof methods, "methods = (\n%s );", method);
    struct sweep_text t = with(methods);
    sweep_refused(&t, wanted);
}

static void mistakes_in_references(void **state)
{
    (void)state;
    refused("{ name = \"full\"; rates = \"once\"; learning_rates = [ 1e-3, 3e-3 ]; }",
            ":8: methods[0].rates: \"once\" is unknown; allowed: per_cell, reference");
    refused(
        "{ name = \"full\"; rates = \"reference\"; learning_rates = 1e-3; }",
        ":8: methods[0].learning_rates: one, which leaves nothing to be tuned; allowed with rates = \"reference\": two "
        "or more");
    refused("{ name = \"full\"; learning_rates = [ 1e-3, 3e-3 ]; reference = { examples = 20; }; }",
            ":8: methods[0].reference: rates is \"per_cell\"; allowed with rates = \"reference\"");
    refused("{ name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3 ];\n reference = { model = \"m\"; "
            "pretrain_tokens = 2000; }; }",
            ":9: methods[0].reference: key \"examples\" is missing");
    refused("{ name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3 ];\n reference = { model = \"m\"; "
            "pretrain_tokens = 2001; examples = 20; }; }",
            ":9: methods[0].reference.pretrain_tokens: 2001 is not a value of that axis");
    refused("{ name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3 ];\n reference = { model = \"x\"; "
            "pretrain_tokens = 2000; examples = 20; }; }",
            ":9: methods[0].reference.model: \"x\" is no model of this sweep");
    refused("{ name = \"lora\"; ranks = [ 2, 4 ]; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3 ];\n"
            " reference = { model = \"m\"; pretrain_tokens = 2000; examples = 20; size = 3; }; }",
            ":9: methods[0].reference.size: 3 is not a size of method lora; allowed: one that it has");
    refused("{ name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3 ];\n reference = { model = \"m\"; "
            "pretrain_tokens = 2000; examples = 20; size = 3; }; }",
            ":9: methods[0].reference.size: method full has no PET size");
    struct sweep_text alone =
        with("methods = (\n{ name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3 ]; } );");
    alone.models = "models = ( { name = \"m\"; layers = 2; width = 16; heads = 2; ffn = 32; } );\n";
    alone.pretrain = "pretrain = { tokens = [ 1000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; };";
    sweep_refused(&alone, ":8: methods[0].reference: key \"examples\" is missing");
    struct sweep_text t =
        with("methods = (\n{ name = \"full\"; rates = \"reference\"; learning_rates = [ 1e-3, 3e-3 ];\n"
             " reference = { model = \"m\"; pretrain_tokens = 2000; examples = 20; }; } );");
    t.tail = "exclude = ( { model = \"m\"; examples = 20; } );";
    sweep_refused(
        &t, ":9: methods[0].reference: the reference cell (translation, m, 2000 tokens, size 0, 20 examples, seed "
            "1) is not in the grid");
}

static void no_shards(void **state)
{
    (void)state;
    struct error err = {""};
    struct sweep_text t = with(tuned);
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    struct shard shard = {.index = 1, .count = 2};
    assert_int_equal(shard_select(plan, &shard, &err), -1);
    assert_non_null(strstr(err.text, "a.cfg: methods[1].rates: a learning rate that is tuned at a reference cell needs "
                                     "the whole sweep in one run, or an array; allowed with shards: \"per_cell\""));
    plan_destroy(plan);
    sweep_destroy(sweep);
}

/* Of an array task 0 has the candidates, with the trunks that they build on; the others have every other point once,
 * with the identities of the whole sweep, and no candidate is left to wait for. */
static void task_0_has_the_candidates(void **state)
{
    (void)state;
    struct error err = {""};
    struct sweep_text t = with(tuned);
    struct sweep *sweep = sweep_make(&t);
    struct plan *whole = plan_make(sweep);
    for (uint32_t count = 1; count <= whole->point_count - 3; count++) {
        struct shard_array array;
        size_t points = 0;
        if (shard_array_deal(whole, count, &array, &err) != 0) fail_msg("%s", err.text);
        for (size_t i = 0; i < whole->stage_count; i++) {
            const struct plan_stage *stage = &whole->stages[i];
            if (stage->point != PLAN_NONE) assert_int_equal(array.shared[i], plan_is_candidate(stage));
            if (array.shared[i] && stage->parent != PLAN_NONE) assert_true(array.shared[stage->parent]);
        }
        for (uint32_t index = 0; index <= count; index++) {
            struct plan *task = shard_array_plan(whole, &array, index, &err);
            if (!task) fail_msg("%s", err.text);
            assert_int_equal(task->reference_count, 1);
            assert_int_equal(task->references[0].count, index ? 0 : 3);
            assert_string_equal(task->references[0].identity.hex, whole->references[0].identity.hex);
            for (size_t k = 0; k < task->references[0].count; k++)
                assert_true(plan_is_candidate(&task->stages[task->references[0].candidates[k]]));
            for (size_t p = 0; p < task->point_count; p++)
                assert_int_equal(plan_is_candidate(&task->stages[task->stage_of_point[p]]), index == 0);
            assert_true(task->point_count > 0);
            points += task->point_count;
            plan_destroy(task);
            /* as a run of that task selects them */
            struct plan *selected = plan_make(sweep);
            struct shard shard = {.index = index, .count = count, .array = true};
            if (shard_select(selected, &shard, &err) != 0) fail_msg("%s", err.text);
            assert_int_equal(selected->references[0].count, index ? 0 : 3);
            plan_destroy(selected);
        }
        assert_int_equal(points, whole->point_count);
        shard_array_free(&array);
    }
    struct shard_array array;
    assert_int_equal(shard_array_deal(whole, (uint32_t)whole->point_count - 2, &array, &err), -1);
    assert_non_null(strstr(err.text, "beside the candidates of reference cells: some would have none"));
    plan_destroy(whole);
    sweep_destroy(sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_other_cells_have_one_point),
        cmocka_unit_test(candidates_and_cell_are_in_the_identity),
        cmocka_unit_test(what_waits_is_on_the_chain),
        cmocka_unit_test(the_cell_is_the_centre_unless_it_is_named),
        cmocka_unit_test(tasks_may_share_a_cell),
        cmocka_unit_test(mistakes_in_references),
        cmocka_unit_test(no_shards),
        cmocka_unit_test(task_0_has_the_candidates),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
