/* Laws: a wrong gradient would send every fit to the wrong place without a sign of it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/laws/laws.h"
#include "tests/fitting/gradient.h"

static const char *const names[] = {"single", "multiplicative", "additive", "joint", "joint_additive", "rectified"};
enum { NAMES = sizeof names / sizeof *names };

static void check_gradient(const struct law *law)
{
    const double log_x[LAW_AXES] = {1.3, -0.7, 0.4, 2.1};
    double theta[LAW_PARAMETERS];
    for (size_t i = 0; i < law->parameter_count; i++)
        theta[i] = 0.3 + 0.17 * (double)i;
    gradient_check(law, law->name, theta, log_x, 1e-9);
}

static void gradients_agree_with_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < NAMES; i++) {
        struct law bare = law_without_offset(law_find(names[i], NULL));
        check_gradient(law_find(names[i], NULL));
        check_gradient(&bare);
    }
}

static void values_are_the_formulas(void **state)
{
    (void)state;
    const double x[LAW_AXES] = {1e6, 3e5, 8, 2e3};
    double m[] = {log(40), 0.3, 0.1, log(0.7)};
    assert_true(fabs(law_value(law_find("multiplicative", NULL), m, x) - (40 * pow(1e6, -0.3) * pow(2e3, -0.1) + 0.7)) <
                1e-12);
    double a[] = {log(40), 0.3, log(5), 0.2, log(0.7)};
    assert_true(fabs(law_value(law_find("additive", NULL), a, x) - (40 * pow(1e6, -0.3) + 5 * pow(2e3, -0.2) + 0.7)) <
                1e-12);
    double s[] = {log(5), 0.2, log(0.7)};
    assert_true(fabs(law_value(law_find("single", NULL), s, x) - (5 * pow(2e3, -0.2) + 0.7)) < 1e-12);
    double j[] = {log(400), 0.3, 0.1, 0.02, 0.05, log(0.7)};
    double expected = 400 * pow(1e6, -0.3) * pow(3e5, -0.1) * pow(8, -0.02) * pow(2e3, -0.05) + 0.7;
    assert_true(fabs(law_value(law_find("joint", NULL), j, x) - expected) < 1e-12);
}

static void the_rectified_law_has_a_value_at_no_examples(void **state)
{
    (void)state;
    const struct law *law = law_find("rectified", NULL);
    const double theta[] = {log(563.82), log(166.06), 0.4553, log(1.0692)}, none[LAW_AXES] = {1, 1, 1, 0},
                 some[LAW_AXES] = {1, 1, 1, 200};
    assert_true(fabs(law_value(law, theta, none) - (563.82 / 166.06 + 1.0692)) < 1e-9);
    assert_true(fabs(law_value(law, theta, some) - (563.82 / (166.06 + pow(200, 0.4553)) + 1.0692)) < 1e-9);
    char text[128];
    law_formula(law, NULL, text, sizeof text);
    assert_string_equal(text, "B/(S + D^β) + E");
    struct law bare = law_without_offset(law);
    law_formula(&bare, NULL, text, sizeof text);
    assert_string_equal(text, "B/(S + D^β)");
}

static void a_restricted_law_keeps_the_axes_that_vary(void **state)
{
    (void)state;
    const bool varies[LAW_AXES] = {[LAW_X] = true, [LAW_D] = true};
    char text[128], expected[128];
    struct law law = law_restrict(law_find("joint", NULL), varies);
    law_formula(&law, NULL, text, sizeof text);
    law_formula(law_find("multiplicative", NULL), NULL, expected, sizeof expected);
    assert_string_equal(text, expected);
    check_gradient(&law);
    law = law_restrict(law_find("joint_additive", NULL), varies);
    law_formula(&law, NULL, text, sizeof text);
    assert_string_equal(text, "A·X^-α + B·D^-β + E");
    check_gradient(&law);
}

static void a_shift_of_the_origin_keeps_the_values(void **state)
{
    (void)state;
    const double log_x[LAW_AXES] = {13, 12, 2, 8}, shift[LAW_AXES] = {12.5, 11, 1, 7};
    double moved[LAW_AXES];
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        moved[axis] = log_x[axis] - shift[axis];
    for (size_t i = 0; i < NAMES; i++) {
        const struct law *law = law_find(names[i], NULL);
        double theta[LAW_PARAMETERS];
        for (size_t p = 0; p < law->parameter_count; p++)
            theta[p] = 0.1 + 0.05 * (double)p;
        double before = law_log_value(law, theta, log_x, NULL);
        law_shift(law, theta, shift);
        assert_true(fabs(before - law_log_value(law, theta, moved, NULL)) < 1e-12);
    }
}

static void an_unknown_law_is_refused_with_the_known_ones(void **state)
{
    (void)state;
    struct error err = {""};
    assert_null(law_find("quadratic", &err));
    assert_non_null(strstr(err.text, "multiplicative, additive"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_agree_with_differences),
        cmocka_unit_test(values_are_the_formulas),
        cmocka_unit_test(the_rectified_law_has_a_value_at_no_examples),
        cmocka_unit_test(a_restricted_law_keeps_the_axes_that_vary),
        cmocka_unit_test(a_shift_of_the_origin_keeps_the_values),
        cmocka_unit_test(an_unknown_law_is_refused_with_the_known_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
