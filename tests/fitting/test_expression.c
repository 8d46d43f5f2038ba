/* Laws that users write: read whole or refused with a place, differentiated exactly, fitted like those of the table. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/analysis/crossing.h"
#include "fitting/analysis/preflight.h"
#include "fitting/fit/interval.h"
#include "fitting/laws/law_user.h"
#include "tests/fitting/gradient.h"
#include "tests/fitting/synthetic.h"

static struct user_law *make(const char *text)
{
    struct error err = {""};
    struct user_law *law = user_law_create("mine", text, &err);
    if (!law) fail_msg("%s: %s", text, err.text);
    return law;
}

static double value(const char *text, double a, double b)
{
    const double x[LAW_AXES] = {3, 5, 7, 11}, parameters[EXPRESSION_PARAMETERS] = {a, b};
    double logs[LAW_AXES];
    struct expression expression;
    struct error err = {""};
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        logs[axis] = log(x[axis]);
    if (expression_parse(text, &expression, &err)) fail_msg("%s: %s", text, err.text);
    return expression_value(&expression, parameters, logs, NULL, NULL);
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 * fabs(want))) fail_msg("%.17g, wanted %.17g", got, want);
}

static void arithmetic_has_its_usual_order(void **state)
{
    (void)state;
    near(value("a + b * D", 2, 3), 35);
    near(value("(a + b) * D", 2, 3), 55);
    near(value("a - b - D", 2, 3), -12);
    near(value("a / b / D", 2, 3), 2.0 / 33);
    near(value("-a^2 + 0*D", 3, 0), -9);
    near(value("a^b^2 * D^0", 2, 3), 512);
    near(value("N^-a * X1 * D^0", 2, 3), 3.0 / 9);
    near(value("a*P^-b", 2, 3), 2.0 / 125);
    near(value("a*T^(-b/2) + 1e1*.5", 2, 3), 2 * pow(7, -1.5) + 5);
    near(value("exp(-a*log(D)) + sqrt(b)", 2, 3), 1.0 / 121 + sqrt(3));
    near(value("\ta *\t- - D", 2, 0), 22);
    near(value("2*3^2*a*X/(1+1)", 1, 0), 27);
}

static void refuses(const char *text, const char *says)
{
    struct expression expression;
    struct error err = {""};
    assert_int_equal(expression_parse(text, &expression, &err), -1);
    if (!strstr(err.text, says) || strchr(err.text, '\n'))
        fail_msg("%s: \"%s\" does not say \"%s\"", text, err.text, says);
}

static void what_is_not_an_expression_is_refused_at_its_place(void **state)
{
    (void)state;
    char deep[EXPRESSION_TEXT + 1] = "", wide[EXPRESSION_TEXT + 1] = "", text[EXPRESSION_TEXT + 10];
    refuses("", "character 1: something is missing");
    refuses("A * ", "character 5: something is missing");
    refuses("A ** D", "character 4: '*' cannot stand here; allowed: a number");
    refuses("A * D^-beta + é", "character 15: byte 195 cannot stand here");
    refuses("A * D^-beta) + E", "character 12: an operator is expected");
    refuses("A * (D^-beta", "character 13: \")\" is missing");
    refuses("2A * D", "character 2: an operator is missing; allowed: + - * / ^");
    refuses("A * sin(D)", "character 5: no function is called sin; allowed: exp, log, sqrt");
    refuses("A * log D", "character 9: a function without");
    refuses("L + A*D", "character 1: L cannot be a parameter: it is the loss");
    refuses("nan + A*D", "character 1: nan cannot be a parameter");
    refuses("A*N + B*X", "character 9: N and X are the same axis");
    refuses("A*D + 1/0", "character 8: not a finite number");
    refuses("A*D + 1e999", "character 7: not a finite number");
    refuses("A*D + 0x10", "character 8: an operator is missing");
    refuses("A*D, B", "character 4: an operator is expected");
    refuses("2 * D", "no parameter");
    refuses("A + B", "no axis");
    refuses("abcdefghijklmnopqrstuvwxyz * D", "a name of 26 characters; allowed: up to 24");
    refuses("a*b*c*d*e*f*g*h*i*j*k*l*m*n*o*p*q*D", "character 33: too many parameters; allowed: 16");
    memset(deep, '(', 200);
    refuses(deep, "too deep; allowed: 48 levels");
    memset(deep, '-', 200);
    refuses(deep, "too deep");
    for (size_t i = 0; i + 2 < sizeof wide; i += 2)
        strcat(wide, "a+");
    wide[strlen(wide) - 1] = 'D';
    refuses(wide, "too long; allowed: 192 numbers, names and operators");
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    refuses(text, "an expression of 409 bytes; allowed: up to 400");
}

static const char *const expressions[] = {
    "A * N^-alpha * D^-beta + E",
    "A * N^-alpha * D^-beta + E + c*log(P)",
    "A*N^-alpha + G*P^-gamma + F*T^-tau + B*D^-beta + E",
    "B / (S + D^beta) + E",
    "E + exp(a - b*log(D)) / sqrt(1 + (N/k)^2)",
    "(A/N)^alpha - c*D/(N + D) + 4",
    "A * (1 + m*T^-tau) * D^(-beta*(1 + k*log(N))) + A/7",
};

static void check_gradient(const char *text)
{
    struct user_law *user = make(text);
    const struct law *law = &user->law;
    const double log_x[LAW_AXES] = {1.3, 0.7, 0.4, 2.1};
    double theta[LAW_PARAMETERS];
    for (size_t i = 0; i < law->parameter_count; i++)
        theta[i] = 0.3 + 0.07 * (double)i;
    gradient_check(law, text, theta, log_x, 1e-8);
    user_law_destroy(user);
}

static void gradients_agree_with_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++)
        check_gradient(expressions[i]);
}

static void parameters_are_what_their_places_say(void **state)
{
    (void)state;
    struct user_law *law = make("A * N^-alpha + B/(S + D^beta) + E + c*log(P) + exp(a)");
    static const char *const names[] = {"A", "alpha", "B", "S", "beta", "E", "c", "a"};
    static const enum law_role roles[] = {LAW_COEFFICIENT, LAW_EXPONENT, LAW_COEFFICIENT, LAW_KNEE,
                                          LAW_EXPONENT,    LAW_OFFSET,   LAW_COEFFICIENT, LAW_EXPONENT};
    struct error err = {""};
    assert_int_equal(law->law.parameter_count, 8);
    for (size_t i = 0; i < 8; i++) {
        assert_string_equal(law->law.parameters[i].name, names[i]);
        assert_int_equal(law->law.parameters[i].role, roles[i]);
    }
    assert_int_equal(user_law_mark(law, "c", false, &err), 0);
    assert_int_equal(user_law_mark(law, "alpha", true, &err), 0);
    assert_false(law_is_log(&law->law, 6));
    assert_true(law_is_log(&law->law, 1));
    assert_int_equal(user_law_mark(law, "c", true, &err), -1);
    assert_non_null(strstr(err.text, "c is named twice"));
    assert_int_equal(user_law_mark(law, "d", true, &err), -1);
    assert_non_null(strstr(err.text, "no parameter \"d\"; allowed: A, alpha, B, S, beta, E, c, a"));
    assert_int_equal(user_law_start(law, "alpha", (double[]){0.1, -1}, 2, &err), -1);
    assert_non_null(strstr(err.text, "allowed: above 0"));
    assert_int_equal(user_law_start(law, "c", (double[]){NAN}, 1, &err), -1);
    assert_int_equal(user_law_start(law, "c", (double[]){-1, 0, 1}, 3, &err), 0);
    user_law_destroy(law);
    assert_null(user_law_create("additive", "A*D", &err));
    assert_non_null(strstr(err.text, "is a law of the table"));
}

/* What an optimiser meets on its way: never a NaN, and a slope that leads back. */
static void wild_parameters_give_numbers(void **state)
{
    (void)state;
    struct user_law *law = make("A * N^-alpha - c*D^beta + sqrt(k - 2)");
    const double log_x[LAW_AXES] = {14, 0, 0, 9};
    const double wild[] = {0, 1, -1, 40, -40, 800, -800, 1e300, -1e300};
    double gradient[LAW_PARAMETERS];
    for (size_t i = 0; i < 9 * 9 * 9; i++) {
        double theta[LAW_PARAMETERS] = {wild[i % 9], wild[i / 9 % 9], wild[i / 81], wild[i % 9], wild[i / 9 % 9]};
        double got = law_log_value(&law->law, theta, log_x, gradient);
        assert_false(isnan(got));
        for (size_t p = 0; p < law->law.parameter_count; p++)
            assert_true(isfinite(gradient[p]));
    }
    user_law_destroy(law);
}

/* The same law as text and from the table: the same minimum. */
static void compare_with_table(const char *name, const char *text, const double *truth,
                               const struct fit_options *options)
{
    const struct law *law = law_find(name, NULL);
    struct user_law *user = make(text);
    struct grid grid = {.models = 5, .examples = 6, .noise = 1e-3};
    struct fit_data data = grid_make(law, truth, &grid);
    struct fit a, b;
    struct error err = {""};
    if (fit_law(law, &data, options, &a, &err) || fit_law(&user->law, &data, options, &b, &err))
        fail_msg("%s", err.text);
    assert_true(a.converged && b.converged);
    if (!(fabs(a.objective / b.objective - 1) < 1e-6))
        fail_msg("%s: %.12g, as text %.12g", name, a.objective, b.objective);
    for (size_t i = 0; i < law->parameter_count; i++)
        if (!(fabs(law_parameter_value(law, a.theta, i) / law_parameter_value(&user->law, b.theta, i) - 1) < 1e-2))
            fail_msg("%s: %s %g, as text %g", name, law->parameters[i].name, law_parameter_value(law, a.theta, i),
                     law_parameter_value(&user->law, b.theta, i));
    assert_true(fabs(a.akaike - b.akaike) < 1e-2);
    grid_free(&data);
    user_law_destroy(user);
}

static const double multiplicative_truth[] = {4.2, 0.31, 0.12, -0.2}, additive_truth[] = {5.1, 0.42, 1.9, 0.3, -0.5};

static void a_law_of_the_table_written_as_text_has_the_same_fit(void **state)
{
    (void)state;
    const struct fit_options how[] = {{.delta = 1e-3},
                                      {.delta = 1e-3, .log_residuals = true},
                                      {.delta = INFINITY},
                                      {.absolute = true, .log_residuals = true}};
    const double rectified_truth[] = {4.1, 2.3, 0.45, -0.2};
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        compare_with_table("multiplicative", "A * N^-alpha * D^-beta + E", multiplicative_truth, &how[i]);
        compare_with_table("additive", "A*X^-alpha + B*D^-beta + E", additive_truth, &how[i]);
    }
    compare_with_table("rectified", "B / (S + D^beta) + E", rectified_truth, &how[2]);
}

static void an_expression_beyond_the_table_comes_back(void **state)
{
    (void)state;
    struct user_law *law = make("A * N^-(alpha + k*log(D)) * D^-beta + E");
    struct error err = {""};
    assert_int_equal(user_law_start(law, "k", (double[]){0, 0.01}, 2, &err), 0);
    const double truth[] = {4.2, 0.21, 0.008, 0.05, -0.6}; /* log A, alpha, k, beta, log E */
    struct grid grid = {.models = 6, .examples = 8};
    struct fit_data data = grid_make(&law->law, truth, &grid);
    const struct fit_options options = {.delta = 1e-3};
    struct fit fit;
    if (fit_law(&law->law, &data, &options, &fit, &err)) fail_msg("%s", err.text);
    assert_true(fit.converged);
    for (size_t i = 0; i < 5; i++)
        if (!(fabs(fit.theta[i] - truth[i]) < 1e-2 * fabs(truth[i])))
            fail_msg("%s %g, made with %g", law->law.parameters[i].name, fit.theta[i], truth[i]);
    grid_free(&data);
    user_law_destroy(law);
}

static void intervals_say_what_the_grid_cannot_tell(void **state)
{
    (void)state;
    struct user_law *law = make("A * N^-alpha * D^-beta + E");
    const struct law *table = law_find("multiplicative", NULL);
    const struct fit_options options = {.delta = INFINITY, .log_residuals = true};
    const struct interval_options how = {100, 0.9, 1, false};
    struct intervals text, known;
    struct fit fit;
    struct grid grid = {.models = 4, .examples = 6, .noise = 2e-3};
    struct fit_data data = grid_make(table, multiplicative_truth, &grid);
    assert_int_equal(fit_law(table, &data, &options, &fit, NULL), 0);
    assert_int_equal(interval_bootstrap(&fit, &data, &options, &how, &known, NULL), 0);
    assert_int_equal(fit_law(&law->law, &data, &options, &fit, NULL), 0);
    assert_int_equal(interval_bootstrap(&fit, &data, &options, &how, &text, NULL), 0);
    for (size_t i = 0; i < 4; i++) { /* the same resamples */
        assert_true(text.raw[i].identified == known.raw[i].identified);
        if (!(fabs(text.raw[i].low / known.raw[i].low - 1) < 0.02) ||
            !(fabs(text.raw[i].high / known.raw[i].high - 1) < 0.02))
            fail_msg("%s: %g to %g, of the table %g to %g", table->parameters[i].name, text.raw[i].low,
                     text.raw[i].high, known.raw[i].low, known.raw[i].high);
    }
    grid_free(&data);
    grid.models = 1;
    data = grid_make(table, multiplicative_truth, &grid);
    assert_int_equal(fit_law(&law->law, &data, &options, &fit, NULL), 0);
    assert_int_equal(interval_bootstrap(&fit, &data, &options, &how, &text, NULL), 0);
    assert_false(text.raw[1].identified);
    assert_string_equal(text.raw[1].reason, "the grid cannot tell it from the other parameters");
    assert_true(text.singular && text.vague);
    grid_free(&data);
    user_law_destroy(law);
}

static void crossings_and_preflight_take_it(void **state)
{
    (void)state;
    struct user_law *law = make("A * N^-alpha * D^-beta + E");
    const struct law *table = law_find("multiplicative", NULL);
    const double other[] = {3.1, 0.31, 0.05, -0.25}, x[LAW_AXES] = {1e6, 0, 0, 0};
    double roots[CROSSING_LARGEST], expected[CROSSING_LARGEST];
    size_t count = crossing_find(table, multiplicative_truth, x, table, other, x, 1, 1e12, expected);
    assert_true(count > 0);
    assert_int_equal(crossing_find(&law->law, multiplicative_truth, x, table, other, x, 1, 1e12, roots), count);
    for (size_t i = 0; i < count; i++)
        assert_true(fabs(roots[i] / expected[i] - 1) < 1e-9);
    struct preflight_point points[24];
    struct preflight got, want;
    double guess[LAW_PARAMETERS];
    for (size_t i = 0; i < 24; i++)
        points[i] = (struct preflight_point){.x = {1e6 * (double)(1 + i % 4), 1, 1, 1e3 * (double)(1 + i / 4)}};
    preflight_errors(table, multiplicative_truth, 5e-3, points, 24, NULL, 0, &want);
    preflight_errors(&law->law, multiplicative_truth, 5e-3, points, 24, NULL, 0, &got);
    for (size_t i = 0; i < 4; i++)
        assert_true(got.identified[i] && fabs(got.error[i] / want.error[i] - 1) < 1e-4);
    preflight_guess(&law->law, points, 24, guess);
    double middle = law_value(&law->law, guess, points[9].x);
    assert_true(middle > 1 && middle < 9); /* a loss of about 3 in the middle of the grid */
    user_law_destroy(law);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic_has_its_usual_order),
        cmocka_unit_test(what_is_not_an_expression_is_refused_at_its_place),
        cmocka_unit_test(gradients_agree_with_differences),
        cmocka_unit_test(parameters_are_what_their_places_say),
        cmocka_unit_test(wild_parameters_give_numbers),
        cmocka_unit_test(a_law_of_the_table_written_as_text_has_the_same_fit),
        cmocka_unit_test(an_expression_beyond_the_table_comes_back),
        cmocka_unit_test(intervals_say_what_the_grid_cannot_tell),
        cmocka_unit_test(crossings_and_preflight_take_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
