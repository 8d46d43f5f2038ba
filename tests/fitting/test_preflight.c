/* Preflight: the errors that it expects are those that fits of made points have; what a grid cannot tell is marked. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/analysis/preflight.h"
#include "tests/fitting/synthetic.h"

static const double truth[] = {4.2, 0.31, 0.12, -0.2};
enum { MODELS = 5, EXAMPLES = 8 };

static size_t plan(size_t models, struct preflight_point points[MODELS * EXAMPLES])
{
    size_t count = 0;
    for (size_t m = 0; m < models; m++)
        for (size_t d = 0; d < EXAMPLES; d++)
            points[count++] = (struct preflight_point){.x = {1e5 * pow(2.3, (double)m), 1, 1, 500 * pow(2, (double)d)},
                                                       .seconds = pow(2, (double)(m + d))};
    return count;
}

static void expected_errors_are_those_of_fits(void **state)
{
    (void)state;
    enum { TRIALS = 100 };
    const struct law *law = law_find("multiplicative", NULL);
    struct preflight_point points[MODELS * EXAMPLES];
    struct preflight expected;
    double sum[2] = {0}, squares[2] = {0};
    preflight_errors(law, truth, 2e-3, points, plan(MODELS, points), NULL, 0, &expected);
    for (size_t trial = 0; trial < TRIALS; trial++) {
        struct grid grid = {.models = MODELS, .examples = EXAMPLES, .noise = 2e-3, .seed = 1000 * trial};
        struct fit_data data = grid_make(law, truth, &grid);
        const struct fit_options options = {
            .delta = INFINITY, .log_residuals = true, .start = truth, .only_start = true};
        struct fit fit;
        assert_int_equal(fit_law(law, &data, &options, &fit, NULL), 0);
        for (size_t i = 0; i < 2; i++) {
            sum[i] += fit.theta[1 + i] / TRIALS;
            squares[i] += fit.theta[1 + i] * fit.theta[1 + i] / TRIALS;
        }
        grid_free(&data);
    }
    for (size_t i = 0; i < 2; i++) {
        double ratio = sqrt(squares[i] - sum[i] * sum[i]) / expected.error[1 + i];
        if (!(ratio > 0.75 && ratio < 1.3)) fail_msg("error of exponent %zu is %.3f times the expected one", i, ratio);
        assert_true(expected.identified[1 + i]);
    }
    assert_true(expected.centred[0] <= expected.error[0]);
}

static void one_model_size_is_marked_and_another_is_worth_most(void **state)
{
    (void)state;
    const struct law *law = law_find("multiplicative", NULL);
    struct preflight_point points[MODELS * EXAMPLES];
    struct preflight_point more[] = {{.x = {1e5, 1, 1, 1200}, .seconds = 1}, {.x = {3e5, 1, 1, 1200}, .seconds = 1}};
    struct preflight got;
    size_t count = plan(1, points);
    preflight_errors(law, truth, 2e-3, points, count, more, 2, &got);
    assert_false(got.identified[0] || got.identified[1]);
    assert_true(got.identified[2] && got.identified[3]);
    assert_true(more[1].gain > 3 * more[0].gain && more[0].gain > 0);
}

static void seconds_follow_the_plan(void **state)
{
    (void)state;
    struct preflight_point points[MODELS * EXAMPLES], more[] = {{.x = {1e5 * pow(2.3, 6), 1, 1, 500}}};
    preflight_seconds(points, plan(MODELS, points), more, 1);
    assert_true(fabs(more[0].seconds / 64 - 1) < 1e-3);
}

static void a_guess_is_a_loss_of_three_in_the_middle(void **state)
{
    (void)state;
    const struct law *law = law_find("multiplicative", NULL);
    struct preflight_point points[MODELS * EXAMPLES];
    size_t count = plan(MODELS, points);
    double theta[LAW_PARAMETERS], x[LAW_AXES] = {1e5 * pow(2.3, 2), 1, 1, 500 * pow(2, 3.5)};
    preflight_guess(law, points, count, theta);
    assert_true(fabs(law_value(law, theta, x) - 3) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expected_errors_are_those_of_fits),
        cmocka_unit_test(one_model_size_is_marked_and_another_is_worth_most),
        cmocka_unit_test(seconds_follow_the_plan),
        cmocka_unit_test(a_guess_is_a_loss_of_three_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
