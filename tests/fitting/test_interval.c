/* Intervals and "not identified": a number that the grid cannot tell must not be printed as if it could. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/fit/eigen.h"
#include "fitting/fit/interval.h"
#include "tests/fitting/synthetic.h"

static const double multiplicative_truth[] = {4.2, 0.31, 0.12, -0.2};
static const double additive_truth[] = {5.1, 0.42, 1.9, 0.3, -0.5};
static const struct fit_options robust = {.delta = 1e-3};

static struct intervals intervals_of(const char *name, const struct fit_data *data, size_t resamples)
{
    const struct interval_options options = {resamples, 0.9, 1, false};
    struct fit fit;
    struct intervals out;
    struct error err = {""};
    if (fit_law(law_find(name, NULL), data, &robust, &fit, &err)) fail_msg("%s", err.text);
    assert_int_equal(interval_bootstrap(&fit, data, &robust, &options, &out, &err), 0);
    return out;
}

static void a_grid_that_can_tell_identifies_everything(void **state)
{
    (void)state;
    struct grid grid = {.models = 4, .examples = 6, .noise = 1e-3};
    struct fit_data data = grid_make(law_find("multiplicative", NULL), multiplicative_truth, &grid);
    struct intervals got = intervals_of("multiplicative", &data, 200);
    assert_int_equal(got.resamples, 200);
    assert_int_equal(got.clusters, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(got.raw[i].identified && got.centred[i].identified);
        assert_string_equal(got.raw[i].reason, "");
        assert_true(got.raw[i].low < got.raw[i].high);
    }
    grid_free(&data);
}

static void one_model_size_does_not_identify_alpha(void **state)
{
    (void)state;
    struct grid grid = {.models = 1, .examples = 8, .noise = 1e-3};
    struct fit_data data = grid_make(law_find("multiplicative", NULL), multiplicative_truth, &grid);
    struct intervals got = intervals_of("multiplicative", &data, 50);
    assert_false(got.raw[0].identified);
    assert_false(got.raw[1].identified);
    assert_string_equal(got.raw[1].reason, "1 level of X cannot tell it");
    assert_true(got.raw[2].identified);
    assert_true(got.raw[3].identified);
    assert_true(got.centred[0].identified); /* in the middle of the grid the coefficient is known */
    grid_free(&data);
}

static void two_sizes_do_for_the_multiplicative_law_and_not_for_the_additive(void **state)
{
    (void)state;
    struct grid grid = {.models = 2, .examples = 8, .noise = 1e-4};
    struct fit_data data = grid_make(law_find("multiplicative", NULL), multiplicative_truth, &grid);
    assert_true(intervals_of("multiplicative", &data, 50).raw[1].identified);
    grid_free(&data);
    data = grid_make(law_find("additive", NULL), additive_truth, &grid);
    struct intervals got = intervals_of("additive", &data, 50);
    assert_false(got.raw[1].identified);
    assert_string_equal(got.raw[1].reason, "2 levels of X cannot tell it");
    assert_false(got.raw[4].identified); /* E cannot be told from the model's constant */
    assert_true(got.raw[3].identified);
    grid_free(&data);
}

static void noise_as_large_as_the_signal_identifies_no_offset(void **state)
{
    (void)state;
    const double flat[] = {-3, 0.02, 0.02, 0.5};
    for (uint64_t seed = 0; seed < 4; seed++) {
        struct grid grid = {.models = 3, .examples = 5, .noise = 0.05, .seed = 77 * seed};
        struct fit_data data = grid_make(law_find("multiplicative", NULL), flat, &grid);
        struct intervals got = intervals_of("multiplicative", &data, 200);
        assert_false(got.raw[0].identified);
        assert_false(got.raw[3].identified);
        for (size_t i = 1; i < 3; i++) /* an exponent is unknown, or may be 0 */
            assert_true(!got.raw[i].identified || (got.raw[i].low < 0 && got.raw[i].high > 0));
        grid_free(&data);
    }
}

static void a_power_law_without_an_offset_does_not_identify_e(void **state)
{
    (void)state;
    const double no_offset[] = {1.5, 0.1, 0.1, -40};
    struct grid grid = {.models = 4, .examples = 6, .noise = 1e-3};
    struct fit_data data = grid_make(law_find("multiplicative", NULL), no_offset, &grid);
    struct intervals got = intervals_of("multiplicative", &data, 100);
    assert_false(got.raw[3].identified);
    grid_free(&data);
}

/* A refit from the fit alone must end where a fit from the whole grid of starts ends, to a small part of the spread. */
static void resamples_are_minima(void **state)
{
    (void)state;
    enum { RESAMPLES = 20 };
    const struct law *law = law_find("additive", NULL);
    struct grid grid = {.models = 5, .examples = 8, .noise = 3e-3};
    struct fit_data data = grid_make(law, additive_truth, &grid);
    const struct interval_options options = {RESAMPLES, 0.9, 1, true};
    double weight[40];
    struct fit fit, again;
    struct intervals got;
    assert_int_equal(fit_law(law, &data, &robust, &fit, NULL), 0);
    assert_int_equal(interval_bootstrap(&fit, &data, &robust, &options, &got, NULL), 0);
    assert_int_equal(got.resamples, RESAMPLES);
    data.weight = weight;
    for (size_t r = 0; r < RESAMPLES; r++) {
        interval_draw(&data, r, options.seed, weight);
        assert_int_equal(fit_law(law, &data, &robust, &again, NULL), 0);
        for (size_t p = 1; p < 4; p += 2) {
            double off = fabs(got.samples[r * 5 + p] - again.theta[p]) / got.raw[p].error;
            if (off > 0.01) fail_msg("resample %zu: parameter %zu is %.3g standard errors off", r, p, off);
        }
    }
    free(got.samples);
    grid_free(&data);
}

static void any_number_of_threads_gives_the_same_bits(void **state)
{
    (void)state;
    struct grid grid = {.models = 4, .examples = 6, .noise = 1e-3};
    struct fit_data data = grid_make(law_find("multiplicative", NULL), multiplicative_truth, &grid);
    const int before = omp_get_max_threads();
    omp_set_num_threads(1);
    const struct intervals alone = intervals_of("multiplicative", &data, 100);
    for (int threads = 2; threads <= 5; threads += 3) {
        omp_set_num_threads(threads);
        const struct intervals got = intervals_of("multiplicative", &data, 100);
        assert_memory_equal(got.correlation, alone.correlation, sizeof got.correlation);
        for (size_t i = 0; i < 4; i++)
            assert_true(got.raw[i].low == alone.raw[i].low && got.raw[i].high == alone.raw[i].high &&
                        got.raw[i].error == alone.raw[i].error);
    }
    omp_set_num_threads(before);
    grid_free(&data);
}

/* Nominal 90 % with 5 trunks whose points share noise: points alone would cover about 60 %. */
static void intervals_cover_what_the_points_were_made_with(void **state)
{
    (void)state;
    enum { TRIALS = 60 };
    size_t inside = 0;
    for (size_t trial = 0; trial < TRIALS; trial++) {
        struct grid grid = {.models = 5, .examples = 6, .noise = 3e-3, .trunk_noise = 1e-2, .seed = 1000 * trial};
        struct fit_data data = grid_make(law_find("multiplicative", NULL), multiplicative_truth, &grid);
        struct intervals got = intervals_of("multiplicative", &data, 100);
        inside += got.raw[1].low <= multiplicative_truth[1] && multiplicative_truth[1] <= got.raw[1].high;
        grid_free(&data);
    }
    if (inside < TRIALS * 3 / 4) fail_msg("%zu of %d intervals hold the true exponent", inside, TRIALS);
}

static void eigenvalues_of_a_known_matrix(void **state)
{
    (void)state;
    double m[EIGEN_LARGEST][EIGEN_LARGEST] = {{2, 1, 0}, {1, 2, 0}, {0, 0, 7}}, v[EIGEN_LARGEST][EIGEN_LARGEST],
           values[EIGEN_LARGEST];
    eigen_symmetric(3, m, values, v);
    double low = fmin(values[0], values[1]), high = fmax(values[0], values[1]);
    assert_true(fabs(low - 1) < 1e-12 && fabs(high - 3) < 1e-12 && fabs(values[2] - 7) < 1e-12);
    size_t k = values[0] < values[1] ? 0 : 1;
    assert_true(fabs(v[k][0] + v[k][1]) < 1e-12 && fabs(v[k][2]) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_grid_that_can_tell_identifies_everything),
        cmocka_unit_test(one_model_size_does_not_identify_alpha),
        cmocka_unit_test(two_sizes_do_for_the_multiplicative_law_and_not_for_the_additive),
        cmocka_unit_test(noise_as_large_as_the_signal_identifies_no_offset),
        cmocka_unit_test(a_power_law_without_an_offset_does_not_identify_e),
        cmocka_unit_test(resamples_are_minima),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(intervals_cover_what_the_points_were_made_with),
        cmocka_unit_test(eigenvalues_of_a_known_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
