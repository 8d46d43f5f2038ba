/* Which points a sweep has: the product of its axes, minus what is excluded, with what only judges the fit marked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/grid.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(axes_are_multiplied_out),
        cmocka_unit_test(cells_are_excluded),
        cmocka_unit_test(cells_are_held_out),
        cmocka_unit_test(conditions_on_the_base_hold_for_the_untuned_model),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
