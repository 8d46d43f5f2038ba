/* The vectorised objective: a wrong exp, sum or gradient would move every fit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/fit/columns.h"
#include "fitting/fit/vector_math.h"
#include "tests/fitting/synthetic.h"

/* Distance of `got` from `want` in units in the last place of `want`. */
static double ulps(double got, long double want)
{
    double rounded = (double)want;
    return (double)fabsl((long double)got - want) / (nextafter(fabs(rounded), INFINITY) - fabs(rounded));
}

static void exp_and_log_are_within_one_unit(void **state)
{
    (void)state;
    uint64_t random = 5;
    double worst[2] = {0, 0};
    for (size_t i = 0; i < 400000; i++) {
        double x = (i % 2 ? 1.0 : 700.0) * (2 * synthetic_uniform(&random) - 1);
        double y = i % 2 ? 1 + 0.5 * (2 * synthetic_uniform(&random) - 1) : exp(x);
        double e = vector_exp((vector){0} + x)[3], l = vector_log((vector){0} + y)[5];
        worst[0] = fmax(worst[0], ulps(e, expl((long double)x)));
        worst[1] = fmax(worst[1], ulps(l, logl((long double)y)));
    }
    print_message("worst error of exp %.3f, of log %.3f units in the last place\n", worst[0], worst[1]);
    assert_true(worst[0] < 1 && worst[1] < 1);
}

static void exp_and_log_hold_at_the_ends(void **state)
{
    (void)state;
    const vector x = {0, -0.0, -709, -1e300, 1e300, NAN, -INFINITY, 1}, e = vector_exp(x);
    assert_true(e[0] == 1 && e[1] == 1 && e[2] == 0 && e[3] == 0 && e[6] == 0 && isnan(e[5]));
    assert_true(isfinite(e[4]) && e[4] > 8e307 && fabs(e[7] / M_E - 1) < 3e-16);
    const vector l = vector_log((vector){1, 2, 0x1p-1022, NAN, 1e308, 0.5, 4, M_E});
    assert_true(l[0] == 0 && l[1] == M_LN2 && isnan(l[3]) && l[5] == -M_LN2 && l[6] == 2 * M_LN2 && l[7] == 1);
    assert_true(fabs(l[2] / log(0x1p-1022) - 1) < 1e-15 && fabs(l[4] / log(1e308) - 1) < 1e-15);
}

/* What the columns compute, point by point. */
static double plain(const struct law *law, const struct fit_data *data, const double *weight, double delta, bool logs,
                    const double *theta, double *gradient)
{
    double sum = 0, point[LAW_PARAMETERS];
    memset(gradient, 0, LAW_PARAMETERS * sizeof *gradient);
    for (size_t i = 0; i < data->count; i++) {
        double predicted = law_log_value(law, theta, data->log_x[i], point), scale = logs ? 1 : exp(predicted);
        double r = logs ? predicted - log(data->loss[i]) : scale - data->loss[i], size = fabs(r);
        sum += weight[i] * (size <= delta ? r * r / 2 : delta * (size - delta / 2));
        for (size_t p = 0; p < law->parameter_count; p++)
            gradient[p] += weight[i] * (size <= delta ? r : copysign(delta, r)) * scale * point[p];
    }
    return sum;
}

static void check_law(const char *name, size_t count, double delta, bool logs)
{
    const struct law *law = law_find(name, NULL);
    struct fit_data data = grid_alloc(count);
    double theta[LAW_PARAMETERS], got[LAW_PARAMETERS], want[LAW_PARAMETERS], weight[64];
    uint64_t random = count;
    for (size_t p = 0; p < law->parameter_count; p++)
        theta[p] = 0.2 + synthetic_uniform(&random);
    for (size_t i = 0; i < count; i++) {
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            data.log_x[i][axis] = 4 * synthetic_uniform(&random) - 2;
        if (i == 3 && law_allows_zero(law, LAW_D)) data.log_x[i][LAW_D] = -INFINITY;
        weight[i] = synthetic_uniform(&random);
        data.loss[i] = exp(law_log_value(law, theta, data.log_x[i], NULL) + 0.02 * synthetic_normal(&random));
    }
    struct columns columns;
    assert_int_equal(columns_create(law, &data, (double[LAW_AXES]){0}, &columns), 0);
    double *column = columns_weights(&columns, weight);
    double value = columns_objective(&columns, column, delta, logs, theta, got);
    double expected = plain(law, &data, weight, delta, logs, theta, want), largest = 0;
    assert_true(fabs(value / expected - 1) < 1e-12);
    for (size_t p = 0; p < law->parameter_count; p++)
        largest = fmax(largest, fabs(want[p]));
    for (size_t p = 0; p < law->parameter_count; p++)
        if (!(fabs(got[p] - want[p]) < 1e-12 * largest))
            fail_msg("%s: gradient %zu is %g, not %g", name, p, got[p], want[p]);
    free(column);
    columns_destroy(&columns);
    grid_free(&data);
}

static void columns_agree_with_points(void **state)
{
    (void)state;
    static const char *const names[] = {"single", "multiplicative", "additive", "joint", "joint_additive", "rectified"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t count = 5; count <= 64; count += 11) { /* also with a last block that is not full */
            check_law(names[i], count, 1e-2, true);
            check_law(names[i], count, 1e-2, false);
            check_law(names[i], count, INFINITY, false);
        }
}

/* Second derivatives against differences of the gradient, where no residual is near the threshold. */
static void check_curvature(const char *name, double delta, bool logs)
{
    enum { COUNT = 21 };
    const struct law *law = law_find(name, NULL);
    struct fit_data data = grid_alloc(COUNT);
    double theta[LAW_PARAMETERS], gradient[LAW_PARAMETERS], sides[2][LAW_PARAMETERS], measure[LAW_PARAMETERS];
    double hessian[LAW_PARAMETERS][LAW_PARAMETERS], largest = 0;
    uint64_t random = 9;
    for (size_t p = 0; p < law->parameter_count; p++)
        theta[p] = 0.2 + synthetic_uniform(&random);
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            data.log_x[i][axis] = 2 * synthetic_uniform(&random) - 1;
        data.loss[i] = exp(law_log_value(law, theta, data.log_x[i], NULL) + (i % 2 ? 0.003 : 0.05) * (i % 3 ? 1 : -1));
    }
    struct columns columns;
    assert_int_equal(columns_create(law, &data, (double[LAW_AXES]){0}, &columns), 0);
    double *column = columns_weights(&columns, NULL);
    double value = columns_curvature(&columns, column, delta, logs, theta, gradient, hessian, measure);
    assert_true(value == columns_objective(&columns, column, delta, logs, theta, sides[0]));
    for (size_t p = 0; p < law->parameter_count; p++) {
        assert_true(fabs(gradient[p] - sides[0][p]) <= 1e-13 * fabs(sides[0][p]) && measure[p] > 0);
        largest = fmax(largest, fabs(hessian[p][p]));
    }
    for (size_t p = 0; p < law->parameter_count; p++) {
        double middle = theta[p];
        for (int side = 0; side < 2; side++) {
            theta[p] = middle + (side ? 1e-5 : -1e-5);
            columns_objective(&columns, column, delta, logs, theta, sides[side]);
        }
        theta[p] = middle;
        for (size_t q = 0; q < law->parameter_count; q++)
            if (!(fabs((sides[1][q] - sides[0][q]) / 2e-5 - hessian[p][q]) < 1e-6 * largest))
                fail_msg("%s: second derivative %zu, %zu is %g, not %g", name, p, q, hessian[p][q],
                         (sides[1][q] - sides[0][q]) / 2e-5);
    }
    free(column);
    columns_destroy(&columns);
    grid_free(&data);
}

static void second_derivatives_agree_with_differences(void **state)
{
    (void)state;
    static const char *const names[] = {"single", "multiplicative", "additive", "joint", "joint_additive"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        check_curvature(names[i], 0.02, true);
        check_curvature(names[i], INFINITY, true);
        check_curvature(names[i], INFINITY, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_and_log_are_within_one_unit),
        cmocka_unit_test(exp_and_log_hold_at_the_ends),
        cmocka_unit_test(columns_agree_with_points),
        cmocka_unit_test(second_derivatives_agree_with_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
