/* The analysis: from a store to the laws that `tunelaw fit` prints and keeps. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_json.h"
#include "tests/fitting/synthetic_store.h"
#include "tests/io/temporary.h"

static struct analysis analyse(const struct sweep_shape *shape, const char *law)
{
    struct analysis out;
    struct error err = {""};
    struct analysis_options options = analysis_defaults();
    options.resamples = 20;
    options.law = law;
    remove(temporary_path("results.h5"));
    if (synthetic_store(temporary_folder, shape, &err)) fail_msg("%s", err.text);
    if (fitting_fit_store(temporary_folder, &options, &out, &err)) fail_msg("%s", err.text);
    return out;
}

static const struct analysis_fit *find(const struct analysis *analysis, const char *group, enum view_kind view,
                                       const char *law)
{
    for (size_t i = 0; i < analysis->fit_count; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        if (!strcmp(fit->group, group) && fit->view == view && !strcmp(fit->law.name, law)) return fit;
    }
    fail_msg("no fit of %s, %s, %s", group, view_name(view), law);
    return NULL;
}

static double value_of(const struct analysis_fit *fit, const char *name)
{
    for (size_t i = 0; i < fit->law.parameter_count; i++)
        if (!strcmp(fit->law.parameters[i].name, name)) return law_parameter_value(&fit->law, fit->fit.theta, i);
    return NAN;
}

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got / want - 1) < tolerance)) fail_msg("%.10g, made with %.10g", got, want);
}

static void the_law_of_the_store_comes_back(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 3, .pretrains = 3, .examples = 5, .held_out = true};
    const double *truth = synthetic_joint_truth;
    struct analysis got = analyse(&shape, NULL);
    assert_true(got.options.delta == 2e-3);
    const struct analysis_fit *joint = find(&got, "full", VIEW_JOINT, "joint");
    assert_true(joint->fitted && joint->fit.converged);
    assert_int_equal(joint->fitted_count, 3 * 3 * 5 - 3);
    assert_int_equal(joint->heldout_count, 3);
    near(value_of(joint, "alpha"), truth[1], 1e-3);
    near(value_of(joint, "gamma"), truth[2], 1e-3);
    near(value_of(joint, "beta"), truth[3], 1e-3);
    near(value_of(joint, "E"), exp(truth[4]), 1e-3);
    assert_true(joint->heldout.kind == HELDOUT_CELLS && joint->heldout.error < 1e-4);
    const struct analysis_fit *model = find(&got, "lora rank 8", VIEW_MODEL, "multiplicative");
    assert_true(model->pretrain_tokens == 1e6);
    near(value_of(model, "alpha"), truth[1], 1e-2);
    const struct analysis_fit *pretrain = find(&got, "lora rank 8", VIEW_PRETRAIN, "multiplicative");
    near(value_of(pretrain, "alpha"), truth[2], 1e-2);
    const struct analysis_fit *sizes = find(&got, "lora, all sizes", VIEW_JOINT, "joint");
    near(value_of(sizes, "tau"), 0.02 / log(4), 0.05); /* exp(-0.02) from rank 2 to rank 8 */
    size_t best = analysis_best(&got, (size_t)(model - got.fits));
    assert_true(best != SIZE_MAX && !strcmp(got.fits[best].law.name, "multiplicative"));
    near(analysis_predict(joint, &got.observations.rows[joint->rows[0]]), got.observations.rows[joint->rows[0]].loss,
         1e-4);
    analysis_destroy(&got);
}

static void a_sweep_of_one_model_is_told_what_it_cannot_tell(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 1, .pretrains = 1, .examples = 6, .noise = 1e-4};
    struct analysis got = analyse(&shape, NULL);
    assert_true(find(&got, "full", VIEW_EXAMPLES, "single")->fitted);
    analysis_destroy(&got);
    got = analyse(&shape, "multiplicative");
    const struct analysis_fit *fit = find(&got, "full", VIEW_MODEL, "multiplicative");
    assert_false(fit->intervals.raw[1].identified);
    assert_string_equal(fit->intervals.raw[1].reason, "1 level of X cannot tell it");
    analysis_destroy(&got);
}

static void a_law_that_two_levels_cannot_tell_is_not_called_the_better_one(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 6, .noise = 1e-2};
    struct analysis got = analyse(&shape, NULL);
    const struct analysis_fit *additive = find(&got, "full", VIEW_MODEL, "additive");
    assert_true(additive->fitted && additive->intervals.singular);
    for (size_t i = 0; i < got.fit_count; i++)
        assert_true(got.fits[i].view != VIEW_MODEL || analysis_best(&got, i) == SIZE_MAX);
    double mean;
    assert_non_null(analysis_error(additive, false));
    assert_int_equal(analysis_mean_error(&got, VIEW_MODEL, "additive", false, &mean, NULL), 0); /* nor part of a mean */
    assert_true(isnan(mean));
    analysis_destroy(&got);
}

/* Of three levels two are left in a fold, and a power that they do not tell misses by millions of nats. */
static void an_error_without_end_is_told_as_that(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 3, .pretrains = 1, .examples = 3, .noise = 1e-2};
    struct analysis got = analyse(&shape, NULL);
    const struct analysis_fit *fit = find(&got, "prompt length 4", VIEW_MODEL, "additive");
    assert_true(fit->heldout.kind == HELDOUT_LEVELS && fit->heldout.error > 1e5);
    double bound = 10 * fit->heldout.constant_error;
    char text[1 << 15] = "", number[64];
    FILE *file = tmpfile();
    analysis_print(&got, true, file);
    rewind(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    snprintf(number, sizeof number, "deviation %.4g", fit->heldout.error);
    assert_null(strstr(text, number));
    snprintf(number, sizeof number, "deviation more than %.4g over ", bound);
    assert_non_null(strstr(text, number));
    assert_non_null(strstr(text, ": the law does not extrapolate\n"));
    snprintf(number, sizeof number, " >%.3g\n", bound); /* the table of laws, and that of which law holds */
    assert_non_null(strstr(text, number));
    snprintf(number, sizeof number, " >%.3g ", bound);
    assert_non_null(strstr(text, number));
    assert_non_null(strstr(text, "\n>: over 10 times the deviation of the best constant"));
    for (size_t i = 0; i < got.warning_count; i++)
        assert_null(strstr(got.warnings[i].text, "e+0"));
    json_t *json = as_heldout(&fit->heldout); /* the number stays in the file */
    assert_true(json_is_false(json_object_get(json, "extrapolates")));
    assert_true(json_number_value(json_object_get(json, "mean_absolute_deviation")) == fit->heldout.error);
    json_decref(json);
    analysis_destroy(&got);
}

static void a_young_sweep_says_that_there_is_too_little(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 2};
    struct analysis got = analyse(&shape, NULL);
    const struct analysis_fit *fit = find(&got, "full", VIEW_MODEL, "multiplicative");
    assert_false(fit->fitted);
    assert_non_null(strstr(fit->why, "too few points"));
    FILE *file = tmpfile();
    analysis_print(&got, true, file);
    rewind(file);
    char text[8192] = "";
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    assert_non_null(strstr(text, "not fitted: too few points: 4 different cells"));
    fclose(file);
    analysis_destroy(&got);
}

/* Characters of the widest line of the table. */
static size_t widest(FILE *file)
{
    size_t widest = 0, count = 0;
    for (int c; (c = fgetc(file)) != EOF;) {
        count = c == '\n' ? 0 : count + ((c & 0xc0) != 0x80);
        widest = count > widest ? count : widest;
    }
    return widest;
}

static void the_table_is_narrow_and_without_numbers_that_mean_nothing(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 2, .examples = 6, .noise = 1e-2, .held_out = true};
    struct analysis got = analyse(&shape, NULL);
    snprintf(got.observations.source, sizeof got.observations.source, "run");
    FILE *file = tmpfile();
    analysis_print(&got, false, file);
    rewind(file);
    size_t width = widest(file);
    assert_true(width > 60 && width <= 100);
    rewind(file);
    char text[16384] = "";
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    assert_null(strstr(text, "inf"));
    assert_null(strstr(text, "nan"));
    assert_non_null(strstr(text, "not identified"));
    assert_non_null(strstr(text, "lora 8       additive"));
    fclose(file);
    analysis_destroy(&got);
}

static void of_several_tasks_each_line_names_its_own(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2,
                                      .pretrains = 1,
                                      .examples = 4,
                                      .seeds = 2,
                                      .tasks = 2,
                                      .noise = 1e-2,
                                      .failures = true,
                                      .tuned = true};
    struct analysis got = analyse(&shape, NULL);
    FILE *file = tmpfile();
    analysis_print(&got, false, file);
    rewind(file);
    char text[16384] = "";
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    assert_non_null(strstr(text, "seeds differ by (standard deviation of the loss): copy: full "));
    assert_non_null(strstr(text, ", sort: full "));
    assert_non_null(strstr(text,
                           " copy: full, model model-a, 250000 pretraining tokens, 500 examples, learning rate of its "
                           "reference cell: crashed: signal 9"));
    assert_string_equal(got.observations.dataset_digest,
                        "copy 00112233445566778899aabbccddeeff, sort ffeeddccbbaa99887766554433221100");
    fclose(file);
    analysis_destroy(&got);
}

static void the_file_holds_every_digit(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 3, .pretrains = 1, .examples = 4, .noise = 1e-3, .failures = true};
    struct analysis got = analyse(&shape, NULL);
    struct error err = {""};
    if (analysis_write(&got, temporary_folder, &err)) fail_msg("%s", err.text);
    json_error_t where;
    json_t *json = json_load_file(temporary_path("fit.json"), 0, &where);
    assert_non_null(json);
    json_t *fits = json_object_get(json, "fits");
    assert_int_equal(json_array_size(fits), got.fit_count);
    for (size_t i = 0; i < got.fit_count; i++) {
        json_t *parameters = json_object_get(json_array_get(fits, i), "parameters");
        const struct analysis_fit *fit = &got.fits[i];
        for (size_t p = 0; fit->fitted && p < fit->law.parameter_count; p++) {
            double kept =
                json_real_value(json_object_get(json_object_get(parameters, fit->law.parameters[p].name), "value"));
            assert_true(kept == law_parameter_value(&fit->law, fit->fit.theta, p));
        }
    }
    json_t *staged = json_array_get(json_object_get(json, "two_stages"), 0);
    json_t *alpha = json_object_get(json_object_get(staged, "model"), "alpha");
    assert_true(json_is_true(json_object_get(alpha, "identified")));
    assert_true(json_is_boolean(json_object_get(json_object_get(staged, "E"), "identified")));
    assert_int_equal(json_array_size(json_object_get(json, "left_out")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "source"), "generation")), 1);
    json_decref(json);
    assert_int_equal(access(temporary_path("fit.json.tmp"), F_OK), -1);
    assert_int_equal(analysis_write(&got, "/nonexistent", &err), -1);
    analysis_destroy(&got);
}

static const char mine[] = "name = \"synthetic\";\nfit = { laws = ( { name = \"mine\"; expression = "
                           "\"A * N^-alpha * D^-beta + E\"; } ); };\n";

static size_t warnings_of(const struct analysis *analysis, enum warning_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < analysis->warning_count; i++)
        count += analysis->warnings[i].kind == kind;
    return count;
}

static void a_law_of_the_sweep_file_is_fitted_beside_those_of_the_table(void **state)
{
    (void)state;
    struct sweep_shape shape = {.models = 3, .pretrains = 1, .examples = 5, .noise = 1e-3, .held_out = true};
    shape.config = mine;
    struct analysis got = analyse(&shape, NULL);
    const struct analysis_fit *text = find(&got, "full", VIEW_MODEL, "mine"),
                              *table = find(&got, "full", VIEW_MODEL, "multiplicative");
    assert_true(text->fitted && text->fit.converged);
    near(text->fit.objective, table->fit.objective, 1e-5);
    near(text->heldout.error, table->heldout.error, 0.01);
    near(text->levels.error, table->levels.error, 0.01);
    near(value_of(text, "alpha"), value_of(table, "alpha"), 0.01);
    near(analysis_predict(text, &got.observations.rows[0]), analysis_predict(table, &got.observations.rows[0]), 1e-3);
    struct analysis_choice choice;
    size_t first = (size_t)(table - got.fits);
    assert_int_equal(analysis_choose(&got, first, &choice), first + 3);
    assert_true(choice.akaike[1] > 0 && fabs(choice.akaike[0] - choice.akaike[2]) < 0.1);
    assert_true(text->heldout.kind == HELDOUT_CELLS && text->levels.kind == HELDOUT_LEVELS);
    double mean, sum = 0;
    assert_int_equal(analysis_mean_error(&got, VIEW_MODEL, "mine", true, &mean, NULL), 4);
    for (size_t i = 0; i < got.fit_count; i++)
        sum += got.fits[i].view == VIEW_MODEL && got.fits[i].law.user ? got.fits[i].heldout.error / 4 : 0;
    near(mean, sum, 1e-12);
    FILE *file = tmpfile();
    analysis_print(&got, true, file);
    rewind(file);
    char page[1 << 16] = "";
    assert_true(fread(page, 1, sizeof page - 1, file) > 0);
    assert_non_null(strstr(page, "mine: L = A * N^-alpha * D^-beta + E"));
    assert_non_null(strstr(page, "which law"));
    fclose(file);
    analysis_destroy(&got);
    got = analyse(&shape, "mine");
    for (size_t i = 0; i < got.fit_count; i++)
        assert_string_equal(got.fits[i].law.name, "mine");
    assert_int_equal(got.fit_count, 4);
    analysis_destroy(&got);
}

static void the_axis_of_pet_sizes_has_a_view(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 2, .examples = 5};
    struct analysis got = analyse(&shape, NULL);
    const struct analysis_fit *fit = find(&got, "lora, all sizes", VIEW_PET, "multiplicative");
    assert_true(fit->fitted && fit->pretrain_tokens == 5e5 && fit->parameters == 2.5e5);
    assert_int_equal(fit->fitted_count, 2 * 5);
    near(value_of(fit, "alpha"), 0.02 / log(4), 0.1);
    analysis_destroy(&got);
}

static void shared_trunks_and_other_classes_are_said(void **state)
{
    (void)state;
    struct sweep_shape shape = {.models = 3, .pretrains = 1, .examples = 5, .noise = 1e-3};
    struct analysis got = analyse(&shape, NULL);
    size_t fits = warnings_of(&got, WARN_TRUNKS);
    assert_true(fits > 0 && warnings_of(&got, WARN_CLASSES) == 0);
    const struct analysis_fit *fit = find(&got, "full", VIEW_MODEL, "multiplicative");
    assert_int_equal(fit->trunks, 3);
    assert_int_equal(fit->classes, 1);
    analysis_destroy(&got);
    shape.classes = true;
    got = analyse(&shape, NULL);
    assert_int_equal(warnings_of(&got, WARN_CLASSES), fits);
    FILE *file = tmpfile();
    analysis_print(&got, false, file);
    rewind(file);
    char page[1 << 15] = "";
    assert_true(fread(page, 1, sizeof page - 1, file) > 0);
    assert_non_null(strstr(page, "share trunks"));
    assert_non_null(strstr(page, "are of several execution classes (2 a fit)"));
    fclose(file);
    analysis_destroy(&got);
}

static void what_is_asked_wrongly_is_refused(void **state)
{
    (void)state;
    struct analysis got;
    struct error err = {""};
    struct analysis_options options = analysis_defaults();
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 3, .config = mine};
    options.law = "cubic";
    remove(temporary_path("results.h5"));
    assert_int_equal(synthetic_store(temporary_folder, &shape, &err), 0);
    assert_int_equal(fitting_fit_store(temporary_folder, &options, &got, &err), -1);
    assert_non_null(strstr(err.text, "no law is called \"cubic\""));
    assert_non_null(strstr(err.text, "rectified, mine"));
    options.law = "mine";
    options.no_offset = true;
    assert_int_equal(fitting_fit_store(temporary_folder, &options, &got, &err), -1);
    assert_non_null(strstr(err.text, "no-offset: the law mine is an expression"));
    options = analysis_defaults();
    assert_int_equal(fitting_fit_store("/nonexistent", &options, &got, &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent"));
}

static char *printed(const struct analysis *analysis)
{
    static char page[1 << 15];
    FILE *file = fmemopen(page, sizeof page, "w");
    assert_non_null(file);
    analysis_print(analysis, false, file);
    fclose(file);
    return page;
}

static void losses_of_other_text_are_said(void **state)
{
    (void)state;
    struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 3, .tasks = 2};
    struct analysis got = analyse(&shape, NULL);
    assert_int_equal(warnings_of(&got, WARN_TARGETS), 0);
    analysis_destroy(&got);
    shape.short_lora = true;
    got = analyse(&shape, NULL);
    assert_int_equal(warnings_of(&got, WARN_TARGETS), 2);
    const char *page = printed(&got);
    assert_non_null(strstr(page,
                           "\nwarning: task \"copy\": points were tested on different numbers of target tokens (full "
                           "6566, lora 2572, prompt 6566, none 6566): their losses are not of the same text\n"));
    assert_non_null(strstr(page, "\nwarning: task \"sort\": points were tested"));
    analysis_destroy(&got);
    const struct {
        const char *metric, *said;
    } others[] = {{"valid_loss",
                   "task \"copy\": points were validated on different numbers of target tokens (full 640, "
                   "lora 252 to 258, prompt 640, none 640)"},
                  {"pretrain_loss", NULL}};
    shape.run = true;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct analysis_options options = analysis_defaults();
        struct error err = {""};
        options.resamples = 0;
        options.metric = others[i].metric;
        remove(temporary_path("results.h5"));
        assert_int_equal(synthetic_store(temporary_folder, &shape, &err), 0);
        if (fitting_fit_store(temporary_folder, &options, &got, &err)) fail_msg("%s", err.text);
        assert_int_equal(warnings_of(&got, WARN_TARGETS), others[i].said ? 2 : 0);
        if (others[i].said) assert_non_null(strstr(printed(&got), others[i].said));
        analysis_destroy(&got);
    }
}

static void a_metric_that_was_not_measured_is_said(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 3};
    struct analysis_options options = analysis_defaults();
    struct analysis got;
    struct error err = {""};
    char wanted[128];
    options.metric = "pretrain_loss";
    remove(temporary_path("results.h5"));
    assert_int_equal(synthetic_store(temporary_folder, &shape, &err), 0);
    if (fitting_fit_store(temporary_folder, &options, &got, &err)) fail_msg("%s", err.text);
    const char *page = printed(&got);
    snprintf(wanted, sizeof wanted, "\nleft out: %d whose pretrain_loss was not measured\n", 2 * (4 * 3 + 1));
    assert_non_null(strstr(page, wanted));
    assert_non_null(strstr(page, "\npretrain_loss was not measured for 26 points, so there is nothing to fit\n"));
    assert_null(strstr(page, "positive"));
    analysis_destroy(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_law_of_the_store_comes_back),
        cmocka_unit_test(a_sweep_of_one_model_is_told_what_it_cannot_tell),
        cmocka_unit_test(a_law_that_two_levels_cannot_tell_is_not_called_the_better_one),
        cmocka_unit_test(an_error_without_end_is_told_as_that),
        cmocka_unit_test(a_young_sweep_says_that_there_is_too_little),
        cmocka_unit_test(the_table_is_narrow_and_without_numbers_that_mean_nothing),
        cmocka_unit_test(of_several_tasks_each_line_names_its_own),
        cmocka_unit_test(the_file_holds_every_digit),
        cmocka_unit_test(a_law_of_the_sweep_file_is_fitted_beside_those_of_the_table),
        cmocka_unit_test(the_axis_of_pet_sizes_has_a_view),
        cmocka_unit_test(shared_trunks_and_other_classes_are_said),
        cmocka_unit_test(losses_of_other_text_are_said),
        cmocka_unit_test(a_metric_that_was_not_measured_is_said),
        cmocka_unit_test(what_is_asked_wrongly_is_refused),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
