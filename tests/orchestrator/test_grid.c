/* Which points a sweep has: the product of its axes, minus what is excluded, with what only judges the fit marked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/sweep/grid.h"
#include "tests/orchestrator/sweep_fixture.h"

static struct grid build(const struct sweep *sweep)
{
    struct grid grid;
    struct error err = {""};
    if (grid_build(sweep, &grid, &err)) fail_msg("%s", err.text);
    return grid;
}

/* Points of a method kind; of these, held out. */
static size_t count(const struct sweep *sweep, const struct grid *grid, enum method_kind kind, bool held_out)
{
    size_t n = 0;
    for (size_t i = 0; i < grid->count; i++)
        n += sweep->methods[grid->points[i].method].config.kind == kind && (!held_out || grid->points[i].held_out);
    return n;
}

static void axes_are_multiplied_out(void **state)
{
    (void)state;
    struct sweep *sweep = sweep_make(&sweep_right);
    struct grid grid = build(sweep);
    size_t bases = 2 * 3, data = 2 * 2; /* models, tokens; examples, seeds */
    assert_int_equal(count(sweep, &grid, METHOD_NONE, false), bases);
    assert_int_equal(count(sweep, &grid, METHOD_FULL, false), bases * data);
    assert_int_equal(count(sweep, &grid, METHOD_LORA, false), bases * data * 2 * 2);
    assert_int_equal(count(sweep, &grid, METHOD_PROMPT, false), bases * data);
    assert_int_equal(grid.count, grid_size(sweep));
    assert_int_equal(grid.excluded, 0);
    assert_int_equal(grid.held_out, 0);
    grid_destroy(&grid);
    sweep_destroy(sweep);
}

static void cells_are_excluded(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail =
        "exclude = ( { method = \"lora\"; size = 4; model = \"m\"; }, { pretrain_tokens = 2000; method = [ \"full\", "
        "\"none\" ]; } );";
    struct sweep *sweep = sweep_make(&t);
    struct grid grid = build(sweep);
    assert_int_equal(count(sweep, &grid, METHOD_LORA, false), 6 * 4 * 4 - 3 * 4 * 2);
    assert_int_equal(count(sweep, &grid, METHOD_FULL, false), 4 * 4);
    assert_int_equal(count(sweep, &grid, METHOD_NONE, false), 4);
    assert_int_equal(grid.excluded, 24 + 8 + 2);
    for (size_t i = 0; i < grid.count; i++)
        assert_false(grid_holds(sweep, &sweep->exclude[0], &grid.points[i]));
    grid_destroy(&grid);
    sweep_destroy(sweep);
}

static void cells_are_held_out(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "held_out = ( { model = \"m\"; examples = 40; }, { seed = 2; pretrain_tokens = 4000; } );";
    struct sweep *sweep = sweep_make(&t);
    struct grid grid = build(sweep);
    /* full: m with 40: 3 tokens, 2 seeds; seed 2 at 4000: 2 models, 2 examples, of which (m, 40) counts once */
    assert_int_equal(count(sweep, &grid, METHOD_FULL, true), 6 + 4 - 1);
    assert_int_equal(count(sweep, &grid, METHOD_NONE, true), 0); /* no examples and no seed */
    assert_int_equal(count(sweep, &grid, METHOD_LORA, true), 4 * 9);
    grid_destroy(&grid);
    sweep_destroy(sweep);
}

static void conditions_on_the_base_hold_for_the_untuned_model(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "held_out = ( { model = \"m\"; } ); exclude = ( { method = \"none\"; model = \"s\"; } );";
    struct sweep *sweep = sweep_make(&t);
    struct grid grid = build(sweep);
    assert_int_equal(count(sweep, &grid, METHOD_NONE, false), 3);
    assert_int_equal(count(sweep, &grid, METHOD_NONE, true), 3);
    grid_destroy(&grid);
    sweep_destroy(sweep);
}

static void ranges_are_conditions(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "exclude = ( { method = \"prompt\"; pretrain_tokens = \"> 1000\"; }, { size = \"3..9\"; examples = \"< "
             "40\"; } );\n"
             "held_out = ( { parameters = \">= 1000\"; method = \"full\"; pretrain_tokens = \"<= 1000\"; } );";
    struct sweep *sweep = sweep_make(&t);
    struct grid grid = build(sweep);
    assert_int_equal(count(sweep, &grid, METHOD_PROMPT, false), 2 * 1 * 1 * 2); /* at 1000 tokens, size 4 with 40 */
    assert_int_equal(count(sweep, &grid, METHOD_LORA, false),
                     6 * (2 * 4 + 2 * 2)); /* two rates; rank 4 with 40 alone */
    size_t large = 0;
    for (size_t i = 0; i < sweep->model_count; i++)
        large += model_parameters(&sweep->models[i]) >= 1000;
    assert_true(large > 0);
    assert_int_equal(count(sweep, &grid, METHOD_FULL, true), large * 4);
    assert_int_equal(grid.held_out, large * 4);
    grid_destroy(&grid);
    sweep_destroy(sweep);

    t.tail = "exclude = ( { examples = \"about 30\"; } );";
    sweep_refused(&t, ":10: exclude[0].examples: \"about 30\" is no range; allowed: \"< N\", \"<= N\", \"> N\", "
                      "\">= N\", \"A..B\"");
    t.tail = "exclude = ( { examples = \"> 40\"; } );";
    sweep_refused(&t, ":10: exclude[0]: holds for no cell of the grid");
}

static void zipped_axes_go_together(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "zip = ( { axes = [ \"model\", \"examples\" ]; } );";
    struct sweep *sweep = sweep_make(&t);
    struct grid grid = build(sweep);
    for (size_t i = 0; i < grid.count; i++)
        if (sweep->methods[grid.points[i].method].config.kind != METHOD_NONE)
            assert_int_equal(grid.points[i].model, grid.points[i].examples);
    assert_int_equal(count(sweep, &grid, METHOD_FULL, false), 2 * 3 * 2);
    assert_int_equal(count(sweep, &grid, METHOD_NONE, false), 2 * 3); /* has no examples */
    grid_destroy(&grid);
    sweep_destroy(sweep);

    t.tail = "zip = ( { axes = [ \"model\", \"pretrain_tokens\" ]; } );";
    sweep_refused(&t, ":10: zip[0].axes[1]: 3 values, but model has 2; axes of a zip have equally many");
    t.tail = "zip = ( { axes = [ \"model\", \"rank\" ]; } );";
    sweep_refused(&t,
                  ":10: zip[0].axes[1]: \"rank\" is no axis; allowed: task, model, pretrain_tokens, examples, seed");
}

static void a_condition_keeps_what_it_names(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "only = ( { when = { method = \"lora\"; }; keep = { model = \"m\"; size = 2; }; } );";
    struct sweep *sweep = sweep_make(&t);
    struct grid grid = build(sweep);
    assert_int_equal(count(sweep, &grid, METHOD_LORA, false), 3 * 4 * 2);
    assert_int_equal(count(sweep, &grid, METHOD_FULL, false), 6 * 4);
    grid_destroy(&grid);
    sweep_destroy(sweep);
    t.tail = "only = ( { when = { method = \"lora\"; }; } );";
    sweep_refused(&t, ":10: only[0]: group \"keep\" is missing: keep = { ... };");
}

/* The paper's grid: each axis against finetuning data, the others at their centre. */
static void one_axis_at_a_time(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "one_at_a_time = { model = \"m\"; pretrain_tokens = 4000; lora = 2; };";
    struct sweep *sweep = sweep_make(&t);
    struct grid grid = build(sweep);
    /* (m, 4000), the other model at 4000, the two other token counts of m */
    assert_int_equal(count(sweep, &grid, METHOD_NONE, false), 4);
    assert_int_equal(count(sweep, &grid, METHOD_FULL, false), 4 * 4);
    assert_int_equal(count(sweep, &grid, METHOD_PROMPT, false), 4 * 4);
    assert_int_equal(count(sweep, &grid, METHOD_LORA, false), (4 + 1) * 4 * 2); /* rank 4 at the centre */
    grid_destroy(&grid);
    sweep_destroy(sweep);
    t.tail = "one_at_a_time = { model = \"m\"; pretrain_tokens = 4001; lora = 2; };";
    sweep_refused(&t, ":10: one_at_a_time.pretrain_tokens: 4001 is not a value of that axis");
    t.tail = "one_at_a_time = { model = \"m\"; pretrain_tokens = 4000; };";
    sweep_refused(&t, ":10: one_at_a_time: key \"lora\" is missing");
}

static void methods_have_their_own_examples(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.methods = "methods = ( { name = \"full\"; learning_rates = [ 1e-3 ]; examples = [ 16, 24, 32 ]; },\n"
                "            { name = \"prompt\"; lengths = [ 4 ]; learning_rates = [ 0.3 ]; } );";
    struct sweep *sweep = sweep_make(&t);
    struct grid grid = build(sweep);
    assert_int_equal(sweep->example_count, 5); /* 16, 20, 24, 32, 40 */
    assert_int_equal(count(sweep, &grid, METHOD_FULL, false), 6 * 3 * 2);
    assert_int_equal(count(sweep, &grid, METHOD_PROMPT, false), 6 * 2 * 2);
    assert_int_equal(grid.count, grid_size(sweep));
    for (size_t i = 0; i < grid.count; i++) {
        uint64_t examples = sweep->examples[grid.points[i].examples];
        bool full = sweep->methods[grid.points[i].method].config.kind == METHOD_FULL;
        assert_int_equal(full, examples % 8 == 0 && examples != 40);
    }
    grid_destroy(&grid);
    sweep_destroy(sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(axes_are_multiplied_out),
        cmocka_unit_test(cells_are_excluded),
        cmocka_unit_test(cells_are_held_out),
        cmocka_unit_test(conditions_on_the_base_hold_for_the_untuned_model),
        cmocka_unit_test(ranges_are_conditions),
        cmocka_unit_test(zipped_axes_go_together),
        cmocka_unit_test(a_condition_keeps_what_it_names),
        cmocka_unit_test(one_axis_at_a_time),
        cmocka_unit_test(methods_have_their_own_examples),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
