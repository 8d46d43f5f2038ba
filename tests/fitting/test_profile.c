/* Profile likelihood: for a law that is a straight line it is the textbook's interval, and an end that the points do
 * not give is open. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/fit/profile.h"
#include "tests/fitting/synthetic.h"

static const struct fit_options squares = {.delta = INFINITY, .log_residuals = true};
static const struct fit_options robust = {.delta = 1e-3};

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fabs(want))) fail_msg("%.8g, not %.8g", got, want);
}

static void quantiles_are_those_of_tables(void **state)
{
    (void)state;
    near(profile_student(0.90, 10), 1.812461, 1e-5);
    near(profile_student(0.95, 4), 2.776445, 1e-5);
    near(profile_student(0.95, 1), 12.7062, 1e-4);
    near(profile_student(0.90, 1e6), 1.644854, 1e-5);
}

/* log L = a - b log D with noise: a straight line. */
struct line {
    struct fit_data data;
    struct fit fit;
    struct profile profile;
    double mean, spread, variance, a, b, quantile; /* textbook: of log D, of the residuals */
};

static void line_make(struct line *line, double a, double b, uint64_t seed)
{
    enum { COUNT = 12 };
    const struct law law = law_without_offset(law_find("single", NULL));
    struct error err = {""};
    uint64_t random = seed;
    double products = 0, middle = 0;
    *line = (struct line){.data = grid_alloc(COUNT)};
    for (size_t i = 0; i < COUNT; i++) {
        line->data.log_x[i][LAW_D] = log(500 * pow(2, (double)i));
        line->data.loss[i] = exp(a - b * line->data.log_x[i][LAW_D] + 0.01 * synthetic_normal(&random));
        line->mean += line->data.log_x[i][LAW_D] / COUNT;
        middle += log(line->data.loss[i]) / COUNT;
    }
    for (size_t i = 0; i < COUNT; i++) {
        double x = line->data.log_x[i][LAW_D] - line->mean;
        line->spread += x * x;
        products += x * log(line->data.loss[i]);
    }
    line->b = -products / line->spread;
    line->a = middle + line->b * line->mean;
    for (size_t i = 0; i < COUNT; i++) {
        double r = log(line->data.loss[i]) - line->a + line->b * line->data.log_x[i][LAW_D];
        line->variance += r * r / (COUNT - 2);
    }
    line->quantile = 1.812461;
    assert_int_equal(fit_law(&law, &line->data, &squares, &line->fit, &err), 0);
    if (profile_create(&line->fit, &line->data, &squares, 0.9, &line->profile, &err)) fail_msg("%s", err.text);
}

static void line_free(struct line *line)
{
    profile_destroy(&line->profile);
    grid_free(&line->data);
}

static double line_error(const struct line *line, double log_examples)
{
    double x = log_examples - line->mean;
    return sqrt(line->variance * (1.0 / (double)line->data.count + x * x / line->spread));
}

static void a_straight_line_has_the_textbooks_intervals(void **state)
{
    (void)state;
    struct line line;
    line_make(&line, 3, 0.2, 4);
    struct span b = profile_parameter(&line.profile, 1, true), a = profile_parameter(&line.profile, 0, true);
    double half = line.quantile * sqrt(line.variance / line.spread);
    near(b.high - line.b, half, 3e-3);
    near(line.b - b.low, half, 3e-3);
    near(log(a.high) - line.a, line.quantile * line_error(&line, 0), 3e-3);
    const double far[LAW_AXES] = {0, 0, 0, log(1e8)};
    struct span predicted = profile_prediction(&line.profile, far);
    near(log(predicted.high / predicted.low), 2 * line.quantile * line_error(&line, far[LAW_D]), 3e-3);
    assert_false(a.low_open || a.high_open || b.low_open || b.high_open || predicted.low_open || predicted.high_open);
    line_free(&line);
}

/* D at which |difference of the lines| is the quantile times its error, beyond the root: Fieller's interval. */
static double fieller(const struct line lines[2], double root, double direction)
{
    double near_end = 0, far_end = 5;
    for (int i = 0; i < 60; i++) {
        double middle = (near_end + far_end) / 2, at = log(root) + direction * middle, error = 0;
        for (size_t k = 0; k < 2; k++)
            error += line_error(&lines[k], at) * line_error(&lines[k], at);
        double difference = lines[0].a - lines[1].a - (lines[0].b - lines[1].b) * at;
        if (fabs(difference) < lines[0].quantile * sqrt(error))
            near_end = middle;
        else
            far_end = middle;
    }
    return root * exp(direction * near_end);
}

static void two_lines_meet_in_fiellers_interval(void **state)
{
    (void)state;
    struct line lines[2];
    line_make(&lines[0], 3, 0.20, 4);
    line_make(&lines[1], 2.5, 0.15, 5);
    double root = exp((lines[0].a - lines[1].a) / (lines[0].b - lines[1].b));
    const double none[LAW_AXES] = {0};
    struct span got = profile_crossing(&lines[0].profile, none, &lines[1].profile, none, root, 10, 1e9);
    assert_false(got.low_open || got.high_open);
    near(log(got.high / root), log(fieller(lines, root, 1) / root), 5e-3);
    near(log(got.low / root), log(fieller(lines, root, -1) / root), 5e-3);
    got = profile_crossing(&lines[0].profile, none, &lines[1].profile, none, root, root / 1.01, root * 1.01);
    assert_true(got.low_open && got.high_open && got.low == 0 && isinf(got.high));
    for (size_t k = 0; k < 2; k++)
        line_free(&lines[k]);
}

static struct profile profile_of(const char *name, const double *truth, const struct grid *grid, struct fit_data *data)
{
    const struct law *law = law_find(name, NULL);
    struct profile out;
    struct fit fit;
    struct error err = {""};
    *data = grid_make(law, truth, grid);
    if (fit_law(law, data, &robust, &fit, &err) || profile_create(&fit, data, &robust, 0.9, &out, &err))
        fail_msg("%s", err.text);
    return out;
}

static void what_the_points_do_not_tell_is_open(void **state)
{
    (void)state;
    static const double truth[] = {4.2, 0.31, 0.12, -0.2}, no_offset[] = {1.5, 0.1, 0.1, -40};
    struct fit_data data;
    struct grid one = {.models = 1, .examples = 8, .noise = 1e-3}, full = {.models = 4, .examples = 6, .noise = 1e-3};
    struct profile profile = profile_of("multiplicative", truth, &one, &data);
    struct span alpha = profile_parameter(&profile, 1, true), a = profile_parameter(&profile, 0, true);
    struct span centred = profile_parameter(&profile, 0, false), beta = profile_parameter(&profile, 2, true);
    assert_true(alpha.low_open && alpha.high_open && a.low_open && a.high_open);
    assert_true(isinf(alpha.low) && isinf(alpha.high) && a.low == 0 && isinf(a.high));
    assert_false(centred.low_open || centred.high_open || beta.low_open || beta.high_open);
    profile_destroy(&profile);
    grid_free(&data);
    profile = profile_of("multiplicative", no_offset, &full, &data);
    struct span offset = profile_parameter(&profile, 3, true);
    assert_true(offset.low_open && offset.low == 0 && !offset.high_open && offset.high > 0);
    profile_destroy(&profile);
    grid_free(&data);
}

static void as_many_parameters_as_points_are_refused(void **state)
{
    (void)state;
    struct fit fit = {.law = *law_find("multiplicative", NULL)};
    struct fit_data data = grid_alloc(4);
    struct profile profile;
    struct error err = {""};
    assert_int_equal(profile_create(&fit, &data, &robust, 0.9, &profile, &err), -1);
    assert_string_equal(err.text, "4 points and 4 parameters leave nothing to profile");
    grid_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_those_of_tables),
        cmocka_unit_test(a_straight_line_has_the_textbooks_intervals),
        cmocka_unit_test(two_lines_meet_in_fiellers_interval),
        cmocka_unit_test(what_the_points_do_not_tell_is_open),
        cmocka_unit_test(as_many_parameters_as_points_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
