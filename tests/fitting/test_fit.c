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

#include "fitting/fit.h"
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

/* Hoffmann et al.'s points as read from their figure: the true minimum is known to nine digits. */
static void published_points_give_the_published_minimum(void **state)
{
    (void)state;
    static double rows[256][3];
    FILE *file = synthetic_shared("data/chinchilla_points.csv");
    if (!file) {
        print_message("skipped: no chinchilla_points.csv (set TUNELAW_SHARED to the folder that has "
                      "data/chinchilla_points.csv)\n");
        skip();
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
    count -= 5; /* the five highest losses */
    struct fit_data data = grid_alloc(count);
    for (size_t i = 0; i < count; i++) {
        data.log_x[i][LAW_X] = log(rows[i][0]);
        data.log_x[i][LAW_D] = log(rows[i][1]);
        data.loss[i] = rows[i][2];
    }
    const struct fit_options options = {.delta = 1e-3, .log_residuals = true};
    struct fit fit;
    clock_t began = clock();
    assert_int_equal(fit_law(law_find("additive", NULL), &data, &options, &fit, NULL), 0);
    print_message("%zu starts, %.2f s, objective %.14g, A %.4f B %.4f E %.6f alpha %.6f beta %.6f, %zu of %zu agree, "
                  "gradient %g\n",
                  fit.starts, (double)(clock() - began) / CLOCKS_PER_SEC, fit.objective, exp(fit.theta[0]),
                  exp(fit.theta[2]), exp(fit.theta[4]), fit.theta[1], fit.theta[3], fit.agreeing, fit.polished,
                  fit.gradient);
    assert_true(fit.objective <= .00101827403);
    assert_true(fit.converged);
    assert_true(fabs(exp(fit.theta[4]) - 1.817218) < 1e-4);
    assert_true(fabs(fit.theta[1] - .347311) < 1e-4);
    assert_true(fabs(fit.theta[3] - .367172) < 1e-4);
    grid_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_points_give_exact_parameters),
        cmocka_unit_test(noisy_points_give_near_parameters),
        cmocka_unit_test(an_outlier_does_not_move_a_robust_fit),
        cmocka_unit_test(the_same_points_give_the_same_bits),
        cmocka_unit_test(too_few_cells_are_refused),
        cmocka_unit_test(published_points_give_the_published_minimum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
