/* Advice: the law that a store was made with knows which method is best, and what its loss will be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/analysis/advise.h"
#include "tests/fitting/synthetic_store.h"
#include "tests/io/temporary.h"

static struct analysis analyse(void)
{
    struct analysis out;
    struct error err = {""};
    struct analysis_options options = analysis_defaults();
    const struct sweep_shape shape = {.models = 3, .pretrains = 1, .examples = 6, .noise = 1e-3};
    options.resamples = 20;
    remove(temporary_path("results.h5"));
    if (synthetic_store(temporary_folder, &shape, &err)) fail_msg("%s", err.text);
    if (fitting_fit_store(temporary_folder, &options, &out, &err)) fail_msg("%s", err.text);
    return out;
}

static void the_best_method_at_a_size_in_the_grid_is_named(void **state)
{
    (void)state;
    struct analysis analysis = analyse();
    const struct advise_question question = {.parameters = NAN, .examples = 4000, .budget = INFINITY};
    struct advice got;
    struct error err = {""};
    if (advise(&analysis, &question, &got, &err)) fail_msg("%s", err.text);
    assert_int_equal(got.count, 4 * 3); /* methods and PET sizes, model sizes */
    const struct store_point point = {.parameters = 625000, .pretrain_tokens = 250000, .finetune_examples = 4000};
    assert_string_equal(got.options[0].group, "full"); /* the lowest coefficient */
    assert_true(got.options[0].parameters == 625000);
    assert_true(fabs(got.options[0].loss / synthetic_loss(&point, 0) - 1) < 3e-3);
    assert_true(got.options[0].low <= got.options[0].high && got.options[0].best > 0.9);
    assert_false(got.options[0].beyond_size || got.options[0].beyond_examples);
    for (size_t i = 1; i < got.count; i++)
        assert_true(got.options[i].loss >= got.options[i - 1].loss);
    advice_destroy(&got);
    analysis_destroy(&analysis);
}

/* Losses of two tasks are not compared. */
static void of_several_tasks_one_is_asked_for(void **state)
{
    (void)state;
    struct analysis analysis = analyse();
    struct advise_question question = {.parameters = NAN, .examples = 4000, .budget = INFINITY};
    struct advice got;
    struct error err = {""};
    for (size_t f = 0; f < analysis.fit_count; f++) {
        struct analysis_fit *fit = &analysis.fits[f];
        fit->several_tasks = true;
        snprintf(fit->task, sizeof fit->task, "%s", strcmp(fit->method, "full") ? "b" : "a");
    }
    assert_int_equal(advise(&analysis, &question, &got, &err), -1);
    assert_non_null(strstr(err.text, "the sweep has several tasks: give --task; allowed: "));
    question.task = "c";
    assert_int_equal(advise(&analysis, &question, &got, &err), -1);
    assert_non_null(strstr(err.text, "--task \"c\" is not in the sweep; allowed: "));
    question.task = "b";
    if (advise(&analysis, &question, &got, &err)) fail_msg("%s", err.text);
    assert_int_equal(got.count, 3 * 3); /* all but full tuning */
    for (size_t i = 0; i < got.count; i++)
        assert_memory_equal(got.options[i].group, "b: ", 3);
    advice_destroy(&got);
    analysis_destroy(&analysis);
}

static void what_lies_beyond_the_grid_is_said(void **state)
{
    (void)state;
    struct analysis analysis = analyse();
    const struct advise_question question = {.parameters = 8e9, .examples = 1e6, .budget = INFINITY};
    struct advice got;
    assert_int_equal(advise(&analysis, &question, &got, NULL), 0);
    assert_int_equal(got.count, 4);
    for (size_t i = 0; i < got.count; i++)
        assert_true(got.options[i].beyond_size && got.options[i].beyond_examples);
    advice_destroy(&got);
    analysis_destroy(&analysis);
}

static void a_budget_rules_out_what_takes_longer(void **state)
{
    (void)state;
    struct analysis analysis = analyse();
    for (size_t i = 0; i < analysis.observations.count; i++) {
        struct observation *row = &analysis.observations.rows[i];
        row->seconds = 1e-6 * row->parameters * (row->examples / 1000);
    }
    const struct advise_question question = {.parameters = NAN, .examples = 2000, .budget = 0.6};
    struct advice got;
    assert_int_equal(advise(&analysis, &question, &got, NULL), 0);
    assert_true(got.options[0].within_budget && got.options[0].parameters == 250000);
    assert_true(fabs(got.options[0].seconds - 0.5) < 1e-3);
    assert_false(got.options[got.count - 1].within_budget);
    assert_true(got.options[got.count - 1].best == 0);
    advice_destroy(&got);
    analysis_destroy(&analysis);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_method_at_a_size_in_the_grid_is_named),
        cmocka_unit_test(of_several_tasks_one_is_asked_for),
        cmocka_unit_test(what_lies_beyond_the_grid_is_said),
        cmocka_unit_test(a_budget_rules_out_what_takes_longer),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
