/* The fit: known parameters come back from noisy grids, published points give the published minimum. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "fitting/fit/interval.h"
#include "tests/fitting/synthetic.h"

static const double multiplicative_truth[] = {4.2, 0.31, 0.12, -0.2};
static const double additive_truth[] = {5.1, 0.42, 1.9, 0.3, -0.5};

static void check_recovery(const char *name, const double *truth, double noise, const struct fit_options *options,
                           double tolerance)
{
    const struct law *law = law_find(name, NULL);
    struct grid grid = {.models = 5, .examples = 8, .noise = noise};
    struct fit_data data = grid_make(law, truth, &grid);
    struct fit fit;
    struct error err = {""};
    assert_int_equal(fit_law(law, &data, options, &fit, &err), 0);
    assert_true(fit.converged);
    for (size_t i = 0; i < law->parameter_count; i++) {
        double got = law_parameter_value(law, fit.theta, i), want = law_parameter_value(law, truth, i);
        if (fabs(got / want - 1) > tolerance)
            fail_msg("%s: %s = %.10g, made with %.10g", name, law->parameters[i].name, got, want);
    }
    grid_free(&data);
}

static void exact_points_give_exact_parameters(void **state)
{
    (void)state;
    const struct fit_options raw = {.delta = 1e-3}, logs = {.delta = 1e-3, .log_residuals = true},
                             squares = {.delta = INFINITY};
    check_recovery("multiplicative", multiplicative_truth, 0, &raw, 1e-4);
    check_recovery("multiplicative", multiplicative_truth, 0, &logs, 1e-4);
    check_recovery("multiplicative", multiplicative_truth, 0, &squares, 1e-4);
    check_recovery("additive", additive_truth, 0, &raw, 1e-4);
    check_recovery("additive", additive_truth, 0, &logs, 1e-4);
}

static void noisy_points_give_near_parameters(void **state)
{
    (void)state;
    const struct fit_options raw = {.delta = 1e-3}, logs = {.delta = 1e-3, .log_residuals = true};
    check_recovery("multiplicative", multiplicative_truth, 2e-4, &raw, 0.1);
    check_recovery("additive", additive_truth, 2e-4, &logs, 0.1);
}

/* More points than the starts are followed on: the end is the minimum over all of them. */
static void many_points_are_all_fitted(void **state)
{
    (void)state;
    const struct law *law = law_find("multiplicative", NULL);
    struct grid grid = {.models = 40, .examples = 200, .noise = 1e-3};
    const struct fit_options options = {.delta = 1e-3};
    struct fit_data data = grid_make(law, multiplicative_truth, &grid);
    struct fit fit, again;
    struct error err = {""};
    assert_int_equal(fit_law(law, &data, &options, &fit, &err), 0);
    assert_true(fit.converged && fit.agreeing >= 1 && fit.agreeing <= fit.polished);
    assert_int_equal(fit.points, 8000);
    struct fit_options one = options; /* from the truth, over all points */
    one.start = multiplicative_truth;
    one.only_start = true;
    assert_int_equal(fit_law(law, &data, &one, &again, &err), 0);
    assert_true(fit.objective <= again.objective * (1 + 1e-6));
    for (size_t i = 0; i < law->parameter_count; i++) {
        double got = law_parameter_value(law, fit.theta, i), want = law_parameter_value(law, again.theta, i);
        if (fabs(got / want - 1) > 1e-3) fail_msg("%s = %.10g, not %.10g", law->parameters[i].name, got, want);
    }
    assert_int_equal(fit_cells(law, &data), 8000);
    assert_int_equal(fit_levels(&data, LAW_X), 40);
    assert_int_equal(fit_levels(&data, LAW_D), 200);
    grid_free(&data);
}

static void an_outlier_does_not_move_a_robust_fit(void **state)
{
    (void)state;
    const struct law *law = law_find("multiplicative", NULL);
    struct grid grid = {.models = 5, .examples = 8};
    struct fit_data data = grid_make(law, multiplicative_truth, &grid);
    data.loss[17] *= 1.5;
    const struct fit_options robust = {.delta = 1e-3}, squares = {.delta = INFINITY};
    struct fit fit;
    assert_int_equal(fit_law(law, &data, &robust, &fit, NULL), 0);
    assert_true(fabs(fit.theta[1] / multiplicative_truth[1] - 1) < 0.02);
    assert_int_equal(fit_law(law, &data, &squares, &fit, NULL), 0);
    assert_true(fabs(fit.theta[1] / multiplicative_truth[1] - 1) > 0.02);
    grid_free(&data);
}

/* By absolute residuals, too: the last step of that fit solves for the parameters directly. */
static void what_is_frozen_stays(void **state)
{
    (void)state;
    const struct law *law = law_find("multiplicative", NULL);
    struct grid grid = {.models = 5, .examples = 8, .noise = 3e-3};
    struct fit_data data = grid_make(law, multiplicative_truth, &grid);
    const double start[] = {4, 0.3, 0.15, -0.3};
    const bool frozen[LAW_PARAMETERS] = {false, false, true, true};
    const struct fit_options how[] = {{.delta = 1e-3, .start = start, .frozen = frozen},
                                      {.absolute = true, .start = start, .frozen = frozen}};
    for (size_t i = 0; i < 2; i++) {
        struct fit fit, free_fit;
        struct fit_options unbound = how[i];
        unbound.start = NULL;
        unbound.frozen = NULL;
        assert_int_equal(fit_law(law, &data, &how[i], &fit, NULL), 0);
        assert_int_equal(fit_law(law, &data, &unbound, &free_fit, NULL), 0);
        assert_true(fit.converged);
        assert_true(fit.theta[2] == 0.15 && fit.theta[3] == -0.3);
        assert_true(fit.objective > free_fit.objective && fit.theta[1] != 0.3);
    }
    grid_free(&data);
}

static void the_same_points_give_the_same_bits(void **state)
{
    (void)state;
    const struct law *law = law_find("additive", NULL);
    struct grid grid = {.models = 4, .examples = 5, .noise = 0.003};
    struct fit_data data = grid_make(law, additive_truth, &grid);
    const struct fit_options options = {.delta = 1e-3};
    struct fit a, b;
    assert_int_equal(fit_law(law, &data, &options, &a, NULL), 0);
    assert_int_equal(fit_law(law, &data, &options, &b, NULL), 0);
    assert_memory_equal(a.theta, b.theta, sizeof a.theta);
    grid_free(&data);
}

static void too_few_cells_are_refused(void **state)
{
    (void)state;
    const struct law *law = law_find("multiplicative", NULL);
    struct grid grid = {.models = 2, .examples = 2};
    struct fit_data data = grid_make(law, multiplicative_truth, &grid);
    const struct fit_options options = {.delta = 1e-3};
    struct fit fit;
    struct error err = {""};
    assert_int_equal(fit_law(law, &data, &options, &fit, &err), -1);
    assert_non_null(strstr(err.text, "too few points: 4 different cells"));
    data.loss[1] = -1;
    assert_int_equal(fit_law(law, &data, &options, &fit, &err), -1);
    assert_non_null(strstr(err.text, "point 2: loss -1"));
    grid_free(&data);
}

static int compare_rows(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (x[2] > y[2]) - (x[2] < y[2]);
}

/* Hoffmann et al.'s points as read from their figure, without the five highest losses; NULL data where there are none.
 */
static struct fit_data published_points(void)
{
    double rows[256][3];
    struct fit_data data = {0};
    FILE *file = synthetic_shared("data/chinchilla_points.csv");
    if (!file) {
        print_message("skipped: no chinchilla_points.csv (set TUNELAW_SHARED to the folder that has "
                      "data/chinchilla_points.csv)\n");
        return data;
    }
    size_t count = 0;
    char line[512];
    assert_non_null(fgets(line, sizeof line, file));
    while (count < 256 && fgets(line, sizeof line, file)) {
        double size, flop, loss;
        assert_int_equal(sscanf(line, "%*[^,],%*[^,],%*[^,],%lf,%lf,%*[^,],%lf", &size, &flop, &loss), 3);
        rows[count][0] = size;
        rows[count][1] = flop / (6 * size);
        rows[count++][2] = loss;
    }
    fclose(file);
    assert_int_equal(count, 245);
    qsort(rows, count, sizeof *rows, compare_rows);
    data = grid_alloc(count - 5);
    for (size_t i = 0; i < data.count; i++) {
        data.log_x[i][LAW_X] = log(rows[i][0]);
        data.log_x[i][LAW_D] = log(rows[i][1]);
        data.loss[i] = rows[i][2];
        ((size_t *)data.cluster)[i] = i;
    }
    return data;
}

static void check_published(const struct fit *fit, double a, double b, double e, double alpha, double beta,
                            double tolerance)
{
    const double want[] = {a, alpha, b, beta, e};
    for (size_t i = 0; i < 5; i++) {
        double got = law_parameter_value(&fit->law, fit->theta, i);
        if (!(fabs(got / want[i] - 1) < tolerance))
            fail_msg("%s %.8g, published %.8g", fit->law.parameters[i].name, got, want[i]);
    }
}

/* The true minimum is known to nine digits. */
static void published_points_give_the_published_minimum(void **state)
{
    (void)state;
    struct fit_data data = published_points();
    if (!data.count) skip();
    const struct fit_options options = {.delta = 1e-3, .log_residuals = true};
    struct fit fit;
    clock_t began = clock();
    assert_int_equal(fit_law(law_find("chinchilla", NULL), &data, &options, &fit, NULL), 0);
    print_message("%zu starts, %.2f s, objective %.14g\n", fit.starts, (double)(clock() - began) / CLOCKS_PER_SEC,
                  fit.objective);
    assert_true(fit.objective <= .00101827403);
    assert_true(fit.converged);
    check_published(&fit, 477.826, 2143.417, 1.817218, .347311, .367172, 1e-5);
    grid_free(&data);
}

/* What was published for these points is their least sum of absolute residuals. */
static void absolute_residuals_give_the_published_parameters(void **state)
{
    (void)state;
    struct fit_data data = published_points();
    if (!data.count) skip();
    const struct fit_options options = {.absolute = true, .log_residuals = true};
    struct fit fit;
    assert_int_equal(fit_law(law_find("chinchilla", NULL), &data, &options, &fit, NULL), 0);
    assert_true(fit.objective <= 1.12949485);
    check_published(&fit, 482.01, 2085.43, 1.8169, .3478, .3658, 1.5e-4);
    grid_free(&data);
}

/* Besiroglu et al.'s standard errors, of 4,000 draws: 124.5, 1293, .0257, .0154, .0206. */
static void the_bootstrap_gives_the_published_errors(void **state)
{
    (void)state;
    struct fit_data data = published_points();
    if (!data.count) skip();
    static const double published[] = {124.5, .0154, 1293, .0206, .0257};
    const struct fit_options options = {.delta = 1e-3, .log_residuals = true};
    const struct interval_options how = {400, 0.9, 1, false};
    struct fit fit;
    struct intervals got;
    assert_int_equal(fit_law(law_find("chinchilla", NULL), &data, &options, &fit, NULL), 0);
    assert_int_equal(interval_bootstrap(&fit, &data, &options, &how, &got, NULL), 0);
    for (size_t i = 0; i < 5; i++) {
        print_message("%s standard error %.4g, published %.4g\n", fit.law.parameters[i].name, got.raw[i].error,
                      published[i]);
        assert_true(got.raw[i].error > 0.6 * published[i] && got.raw[i].error < 1.6 * published[i]);
    }
    assert_true(got.correlation[1][1] == 1 && got.correlation[0][1] > 0.9);
    grid_free(&data);
}

/* Root mean squares of the residuals of log L that scipy.optimize.least_squares (method lm, the best of 24 starts)
 * ends with on the curves of rectified_flan.csv, in order. For the first .002701 is published (Lin et al. 2024). */
static const double flan_errors[] = {
    .00270103, .00538373, .00552940, .00957930, .01045777, .00374446, .00295053, .00725517, .01285851, .01140154,
    .00900739, .00238071, .00490898, .00777888, .00245941, .00562486, .00376388, .00747387, .00638358, .00783820,
    .00384240, .00560693, .01104425, .00875952, .01020937, .00728448, .00354496, .00202510, .00331643, .00692230};

static double rectified_error(const char *name, struct fit_data *data)
{
    const struct fit_options options = {.delta = INFINITY, .log_residuals = true};
    struct fit fit;
    assert_int_equal(fit_law(law_find("rectified", NULL), data, &options, &fit, NULL), 0);
    if (!strcmp(name, "MBZUAI/LaMini-GPT-124M")) {
        double s = exp(fit.theta[1]), e = exp(fit.theta[3]);
        assert_true(fabs(exp(fit.theta[0]) / 563.82 - 1) < 1e-3 && fabs(s / 166.06 - 1) < 1e-3);
        assert_true(fabs(fit.theta[2] / .4553 - 1) < 1e-3 && fabs(e / 1.0692 - 1) < 1e-3);
    }
    return sqrt(2 * fit.objective / (double)data->count); /* the objective is half the squares */
}

static void every_rectified_curve_reaches_the_least_error(void **state)
{
    (void)state;
    FILE *file = synthetic_shared("data/rectified_flan.csv");
    if (!file) {
        print_message("skipped: no rectified_flan.csv (set TUNELAW_SHARED to the folder that has "
                      "data/rectified_flan.csv)\n");
        skip();
    }
    char line[1024];
    size_t curves = 0;
    double sum = 0;
    assert_non_null(fgets(line, sizeof line, file));
    for (; fgets(line, sizeof line, file); curves++) {
        struct fit_data data = grid_alloc(14);
        char *rest = line;
        const char *name = strsep(&rest, ",");
        strsep(&rest, ","); /* no examples: far above the curve */
        for (size_t i = 0; i < 14; i++) {
            data.log_x[i][LAW_D] = log(200 * pow(2, (double)i));
            data.loss[i] = strtod(strsep(&rest, ","), NULL);
        }
        double error = rectified_error(name, &data);
        assert_true(curves < sizeof flan_errors / sizeof *flan_errors);
        if (error > flan_errors[curves] + 1e-8) fail_msg("%s: %.8f, not %.8f", name, error, flan_errors[curves]);
        sum += error;
        grid_free(&data);
    }
    fclose(file);
    assert_int_equal(curves, 30);
    print_message("30 curves, mean error in log L %.6f\n", sum / 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_points_give_exact_parameters),
        cmocka_unit_test(noisy_points_give_near_parameters),
        cmocka_unit_test(many_points_are_all_fitted),
        cmocka_unit_test(an_outlier_does_not_move_a_robust_fit),
        cmocka_unit_test(what_is_frozen_stays),
        cmocka_unit_test(the_same_points_give_the_same_bits),
        cmocka_unit_test(too_few_cells_are_refused),
        cmocka_unit_test(published_points_give_the_published_minimum),
        cmocka_unit_test(absolute_residuals_give_the_published_parameters),
        cmocka_unit_test(the_bootstrap_gives_the_published_errors),
        cmocka_unit_test(every_rectified_curve_reaches_the_least_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
