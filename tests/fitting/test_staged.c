/* The two stages: axes that were made with one β and one E give them back, each with its own A and α. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/fit/staged.h"
#include "tests/fitting/synthetic.h"

static const double truth[STAGED_AXES][4] = {{4.2, 0.31, 0.12, -0.2}, {3.1, 0.20, 0.12, -0.2}, {0.4, 0.01, 0.12, -0.2}};

static void make(struct fit_data axes[STAGED_AXES], double noise)
{
    for (size_t k = 0; k < STAGED_AXES; k++) {
        struct grid grid = {.models = 4, .examples = 6, .noise = noise, .seed = 100 * k};
        axes[k] = grid_make(law_find("multiplicative", NULL), truth[k], &grid);
    }
}

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) < tolerance)) fail_msg("%.6g, made with %.6g", got, want);
}

static void exact_axes_come_back(void **state)
{
    (void)state;
    struct fit_data axes[STAGED_AXES];
    const struct fit_options options = {.delta = 1e-3};
    const struct interval_options interval = {.resamples = 0, .level = 0.9, .seed = 1};
    struct staged got;
    struct error err = {""};
    make(axes, 0);
    if (staged_fit(axes, &options, &interval, &got, &err)) fail_msg("%s", err.text);
    near(got.beta.value, 0.12, 1e-4);
    near(got.offset.value, exp(-0.2), 1e-3);
    for (size_t k = 0; k < STAGED_AXES; k++) {
        assert_true(got.has[k] && got.alpha[k].identified && got.a[k].identified);
        near(got.alpha[k].value, truth[k][1], 1e-4);
        near(log(got.a[k].value), truth[k][0], 2e-3);
    }
    assert_true(isnan(got.beta.low) && got.offset.identified);
    for (size_t k = 0; k < STAGED_AXES; k++)
        grid_free(&axes[k]);
}

static void intervals_hold_the_values_and_one_axis_is_enough(void **state)
{
    (void)state;
    struct fit_data axes[STAGED_AXES];
    const struct fit_options options = {.delta = 1e-3};
    const struct interval_options interval = {.resamples = 50, .level = 0.9, .seed = 1};
    struct staged got;
    make(axes, 1e-3);
    assert_int_equal(staged_fit(axes, &options, &interval, &got, NULL), 0);
    assert_int_equal(got.resamples, 50);
    assert_true(got.beta.low < got.beta.value && got.beta.value < got.beta.high && got.beta.high - got.beta.low < 0.1);
    size_t counts[] = {axes[1].count, axes[2].count};
    axes[1].count = axes[2].count = 0;
    assert_int_equal(staged_fit(axes, &options, &interval, &got, NULL), 0);
    assert_true(got.has[STAGED_MODEL] && !got.has[STAGED_PRETRAIN] && !got.has[STAGED_PET]);
    assert_true(isnan(got.alpha[STAGED_PET].value));
    struct error err = {""};
    size_t count = axes[0].count;
    axes[0].count = 0;
    assert_int_equal(staged_fit(axes, &options, &interval, &got, &err), -1);
    assert_non_null(strstr(err.text, "two levels"));
    axes[0].count = count;
    axes[1].count = counts[0];
    axes[2].count = counts[1];
    for (size_t k = 0; k < STAGED_AXES; k++)
        grid_free(&axes[k]);
}

/* Losses that noise alone moves: no exponent, and no number of one that means anything. */
static void what_the_points_do_not_tell_is_not_identified(void **state)
{
    (void)state;
    struct fit_data axes[STAGED_AXES];
    const struct fit_options options = {.delta = 1e-3};
    struct interval_options interval = {.resamples = 50, .level = 0.9, .seed = 1};
    struct staged got;
    make(axes, 1);
    assert_int_equal(staged_fit(axes, &options, &interval, &got, NULL), 0);
    assert_false(got.alpha[STAGED_MODEL].identified || got.a[STAGED_MODEL].identified);
    assert_true(strlen(got.alpha[STAGED_MODEL].reason) > 0);
    for (size_t i = 0; i < axes[STAGED_MODEL].count; i++)
        axes[STAGED_MODEL].log_x[i][LAW_D] = axes[STAGED_PRETRAIN].log_x[i][LAW_D] = 7; /* one level */
    for (interval.resamples = 0; interval.resamples < 40; interval.resamples += 30) {
        assert_int_equal(staged_fit(axes, &options, &interval, &got, NULL), 0);
        assert_false(got.beta.identified);
        assert_false(got.a[STAGED_MODEL].identified);
    }
    for (size_t k = 0; k < STAGED_AXES; k++)
        grid_free(&axes[k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_axes_come_back),
        cmocka_unit_test(intervals_hold_the_values_and_one_axis_is_enough),
        cmocka_unit_test(what_the_points_do_not_tell_is_not_identified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
