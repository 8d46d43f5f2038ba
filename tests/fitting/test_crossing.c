/* Crossings of two laws, against numbers computed from the published parameters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/crossing.h"

/* A, α, β, E of En-De over model size (Zhang et al. 2024, table 4) */
static const double published[3][4] = {{1.2e5, .52, .15, .75}, {3.9e3, .40, .051, .62}, {2.1e3, .36, .081, .62}};
enum { FULL = 0, PROMPT, LORA };

static size_t cross(size_t a, size_t b, double size, double roots[CROSSING_LARGEST])
{
    double theta[2][4], x[LAW_AXES] = {size, 1, 1, 1};
    for (size_t i = 0; i < 2; i++) {
        const double *p = published[i ? b : a];
        theta[i][0] = log(p[0]);
        theta[i][1] = p[1];
        theta[i][2] = p[2];
        theta[i][3] = log(p[3]);
    }
    const struct law *law = law_find("multiplicative", NULL);
    return crossing_find(law, theta[0], x, law, theta[1], x, 1, 1e18, roots);
}

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got / want - 1) < tolerance)) fail_msg("%.6g, not %.6g", got, want);
}

static void full_and_prompt_tuning_cross_twice_or_not_at_all(void **state)
{
    (void)state;
    double roots[CROSSING_LARGEST];
    const double want[3][3] = {{1e9, 2.413e5, 5.01e16}, {2e9, 3.590e5, 9.17e13}, {4e9, 1.966e6, 4.85e10}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(cross(FULL, PROMPT, want[i][0], roots), 2);
        near(roots[0], want[i][1], 1e-3);
        near(roots[1], want[i][2], 3e-3);
    }
    assert_int_equal(cross(FULL, PROMPT, 8e9, roots), 0);
    assert_int_equal(cross(FULL, PROMPT, 16e9, roots), 0);
}

static void prompt_tuning_and_lora_cross_once(void **state)
{
    (void)state;
    double roots[CROSSING_LARGEST];
    const double want[5][2] = {{1e9, 1093}, {2e9, 2753}, {4e9, 6938}, {8e9, 17483}, {16e9, 44054}};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(cross(PROMPT, LORA, want[i][0], roots), 1);
        near(roots[0], want[i][1], 1e-3);
        assert_int_equal(cross(FULL, LORA, want[i][0], roots), 0);
    }
}

/* Two roots closer together than the steps of the grid. */
static void curves_that_almost_touch_are_seen(void **state)
{
    (void)state;
    const struct law *law = law_find("single", NULL);
    const double x[LAW_AXES] = {1, 1, 1, 1};
    const double steep[] = {log(10), 0.5, log(2)};
    double roots[CROSSING_LARGEST], flat[] = {log(3), 0.1, 0};
    /* difference f(D) = 10·D^-.5 + 2 - 3·D^-.1 - E has one minimum, at D^.4 = 50/3 */
    double turn = pow(50.0 / 3, 2.5);
    double least = 10 * pow(turn, -0.5) + 2 - 3 * pow(turn, -0.1);
    flat[2] = log(least + 1e-7);
    assert_int_equal(crossing_find(law, steep, x, law, flat, x, 1, 1e12, roots), 2);
    assert_true(roots[0] < turn && turn < roots[1] && roots[1] / roots[0] < 1.1);
    flat[2] = log(least - 1e-7);
    assert_int_equal(crossing_find(law, steep, x, law, flat, x, 1, 1e12, roots), 0);
}

static void what_resamples_do_not_find_is_not_identified(void **state)
{
    (void)state;
    const struct {
        double root, low, high, agreement;
        bool identified;
    } cases[] = {{100, 50, 200, 0.9, true},     {100, 101.5, 200, 0.9, false}, {100, 5, 98, 0.9, false},
                 {100, 50, 200, 0.4, false},    {100, NAN, NAN, NAN, true},    {100, 100.0001, 100.0002, 1, true},
                 {100, 50, INFINITY, NAN, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct analysis_crossing crossing = {.count = 1, .agreement = cases[i].agreement};
        crossing.roots[0] = cases[i].root;
        crossing.low[0] = cases[i].low;
        crossing.high[0] = cases[i].high;
        assert_int_equal(analysis_crossing_identified(&crossing, 0), cases[i].identified);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_and_prompt_tuning_cross_twice_or_not_at_all),
        cmocka_unit_test(prompt_tuning_and_lora_cross_once),
        cmocka_unit_test(curves_that_almost_touch_are_seen),
        cmocka_unit_test(what_resamples_do_not_find_is_not_identified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
