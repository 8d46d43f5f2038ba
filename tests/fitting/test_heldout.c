/* Held-out error must tell a law that predicts from one that only follows: shuffled losses make it clearly worse. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/fit/heldout.h"
#include "tests/fitting/synthetic.h"

static const double truth[] = {4.2, 0.31, 0.12, -0.2};
static const double additive_truth[] = {5.1, 0.42, 1.9, 0.3, -0.5};
static const struct fit_options robust = {.delta = 1e-3};

static void shuffle(struct fit_data *data, uint64_t seed)
{
    for (size_t i = data->count - 1; i > 0; i--) {
        size_t j = (size_t)(synthetic_uniform(&seed) * (double)(i + 1));
        double kept = data->loss[i];
        data->loss[i] = data->loss[j];
        data->loss[j] = kept;
    }
}

static struct heldout levels_of(const char *name, const struct fit_data *data)
{
    struct heldout out;
    assert_int_equal(heldout_levels(law_find(name, NULL), data, &robust, 3, &out, NULL), 0);
    return out;
}

static void shuffled_losses_are_clearly_worse(void **state)
{
    (void)state;
    struct grid grid = {.models = 4, .examples = 6, .noise = 3e-3};
    struct fit_data data = grid_make(law_find("multiplicative", NULL), truth, &grid);
    struct heldout real = levels_of("multiplicative", &data);
    assert_int_equal(real.kind, HELDOUT_LEVELS);
    assert_int_equal(real.folds, 10);
    assert_int_equal(real.points, 2 * 24);
    assert_true(real.error < real.constant_error / 5);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        shuffle(&data, seed);
        struct heldout shuffled = levels_of("multiplicative", &data);
        assert_true(shuffled.error > 5 * real.error);
        assert_true(shuffled.error > 0.6 * shuffled.constant_error);
    }
    grid_free(&data);
}

static void the_law_that_made_the_points_predicts_better(void **state)
{
    (void)state;
    struct grid grid = {.models = 5, .examples = 6, .noise = 1e-3};
    struct fit_data data = grid_make(law_find("additive", NULL), additive_truth, &grid);
    assert_true(levels_of("additive", &data).error < levels_of("multiplicative", &data).error);
    grid_free(&data);
    data = grid_make(law_find("multiplicative", NULL), truth, &grid);
    assert_true(levels_of("multiplicative", &data).error < levels_of("additive", &data).error);
    grid_free(&data);
}

static void cells_set_aside_are_predicted(void **state)
{
    (void)state;
    struct grid grid = {.models = 4, .examples = 6, .noise = 1e-3};
    struct fit_data all = grid_make(law_find("multiplicative", NULL), truth, &grid), fitted = all, unseen = all;
    fitted.count = 18; /* the largest model is unseen */
    unseen.log_x += 18;
    unseen.loss += 18;
    unseen.count = 6;
    struct fit fit;
    struct heldout out;
    assert_int_equal(fit_law(law_find("multiplicative", NULL), &fitted, &robust, &fit, NULL), 0);
    heldout_cells(&fit, &fitted, &unseen, &out);
    assert_int_equal(out.kind, HELDOUT_CELLS);
    assert_int_equal(out.points, 6);
    assert_true(out.error < 0.01 && out.constant_error > 10 * out.error);
    unseen.count = 0;
    heldout_cells(&fit, &fitted, &unseen, &out);
    assert_int_equal(out.kind, HELDOUT_NONE);
    assert_true(isnan(out.error));
    grid_free(&all);
}

static void an_axis_of_many_levels_gives_ten_folds(void **state)
{
    (void)state;
    struct grid grid = {.models = 2, .examples = 23, .noise = 1e-3};
    struct fit_data data = grid_make(law_find("multiplicative", NULL), truth, &grid);
    struct heldout out = levels_of("multiplicative", &data);
    assert_int_equal(out.folds, HELDOUT_FOLDS);
    assert_int_equal(out.points, 46);
    grid_free(&data);
}

/* Of three levels two are left: a power over two cannot be told from a constant. */
static void a_fold_that_does_not_tell_an_exponent_is_marked(void **state)
{
    (void)state;
    struct grid grid = {.models = 3, .examples = 6, .noise = 1e-3};
    struct fit_data data = grid_make(law_find("additive", NULL), additive_truth, &grid);
    struct heldout out;
    assert_int_equal(heldout_levels(law_find("additive", NULL), &data, &robust, 2, &out, NULL), 0);
    assert_true(out.kind == HELDOUT_LEVELS && out.guessed);
    assert_false(levels_of("additive", &data).guessed || levels_of("multiplicative", &data).guessed);
    grid_free(&data);
}

static void an_error_is_told_up_to_ten_times_the_constants(void **state)
{
    (void)state;
    struct heldout heldout = {.kind = HELDOUT_LEVELS, .error = 3, .constant_error = 0.3};
    bool beyond = true;
    assert_true(heldout_told(&heldout, &beyond) == 3 && !beyond);
    heldout.error = 4.1e9;
    assert_true(heldout_told(&heldout, &beyond) == 3 && beyond);
    heldout.error = INFINITY;
    assert_true(heldout_told(&heldout, &beyond) == 3 && beyond);
    heldout.error = heldout.constant_error = NAN;
    assert_true(isnan(heldout_told(&heldout, &beyond)) && !beyond);
    heldout = (struct heldout){.error = 0.1}; /* all losses are the same */
    assert_true(heldout_told(&heldout, &beyond) == 0.1 && !beyond);
}

static void too_few_levels_give_no_fold(void **state)
{
    (void)state;
    struct grid grid = {.models = 2, .examples = 3};
    struct fit_data data = grid_make(law_find("multiplicative", NULL), truth, &grid);
    assert_int_equal(levels_of("multiplicative", &data).kind, HELDOUT_NONE);
    grid_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shuffled_losses_are_clearly_worse),
        cmocka_unit_test(the_law_that_made_the_points_predicts_better),
        cmocka_unit_test(cells_set_aside_are_predicted),
        cmocka_unit_test(an_axis_of_many_levels_gives_ten_folds),
        cmocka_unit_test(a_fold_that_does_not_tell_an_exponent_is_marked),
        cmocka_unit_test(an_error_is_told_up_to_ten_times_the_constants),
        cmocka_unit_test(too_few_levels_give_no_fold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
