/* Observations: what is fitted is what was measured, and what is not fitted is listed with its reason. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/observations/observations_internal.h"
#include "tests/fitting/synthetic_store.h"
#include "tests/io/temporary.h"

static struct observations read_store(const struct sweep_shape *shape, const char *x)
{
    struct observations out;
    struct error err = {""};
    remove(temporary_path("results.h5"));
    if (synthetic_store(temporary_folder, shape, &err)) fail_msg("%s", err.text);
    const struct observation_options options = {.x = x};
    if (observations_from_store(temporary_folder, &options, &out, &err)) fail_msg("%s", err.text);
    return out;
}

static void every_point_is_a_row_or_is_listed(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 2, .examples = 3, .held_out = true, .failures = true};
    struct observations got = read_store(&shape, NULL);
    assert_int_equal(got.points, 4 * (1 + 4 * 3));
    assert_int_equal(got.count + got.base_count + got.omitted_count, got.points);
    assert_int_equal(got.base_count, 4);
    assert_int_equal(got.omitted_count, 3);
    assert_int_equal(got.omitted_by[OMITTED_FAILED], 1);
    assert_int_equal(got.omitted_by[OMITTED_DIVERGED], 1);
    assert_int_equal(got.omitted_by[OMITTED_UNFINISHED], 1);
    assert_int_equal(got.trunks, 2);
    assert_int_equal(got.epoch, 1);
    assert_string_equal(got.name, "synthetic");
    assert_true(got.settings.huber_delta == 2e-3);
    size_t held_out = 0;
    for (size_t i = 0; i < got.count; i++) {
        held_out += got.rows[i].held_out;
        assert_true(got.rows[i].loss > 0 && got.rows[i].examples > 0);
        assert_int_equal(got.rows[i].trunk, !strcmp(got.rows[i].model, "model-a") ? 0 : 1);
    }
    assert_int_equal(held_out, 2 * 4);
    for (size_t i = 0; i < got.omitted_count; i++)
        if (got.omitted[i].why == OMITTED_FAILED) assert_string_equal(got.omitted[i].message, "signal 9");
    observations_destroy(&got);
}

static void the_best_learning_rate_of_a_cell_is_kept_with_all_its_seeds(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 2, .seeds = 3, .rates = 2};
    struct observations got = read_store(&shape, NULL);
    assert_int_equal(got.count, 2 * 4 * 2 * 3);
    assert_int_equal(got.omitted_by[OMITTED_RATE], 2 * 4 * 2 * 3);
    for (size_t i = 0; i < got.count; i++)
        assert_true(got.rows[i].learning_rate == 1e-3); /* the store gives the other a higher loss */
    observations_destroy(&got);
}

static void x_is_what_the_user_or_the_sweep_file_says(void **state)
{
    (void)state;
    struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 2};
    struct observations got = read_store(&shape, "non_embedding_parameters");
    assert_true(got.rows[0].parameters == 5e4);
    observations_destroy(&got);
    shape.config = "fit = { x = \"non_embedding_parameters\"; };";
    got = read_store(&shape, NULL);
    assert_true(got.rows[0].parameters == 5e4);
    assert_true(got.settings.huber_delta == 1e-3);
    observations_destroy(&got);
    struct error err = {""};
    const struct observation_options options = {.x = "layers"};
    assert_int_equal(observations_from_store(temporary_folder, &options, &got, &err), -1);
    assert_non_null(strstr(err.text, "allowed: parameters, non_embedding_parameters"));
}

static struct observations read_as(const struct sweep_shape *shape, struct observation_options options)
{
    struct observations out;
    struct error err = {""};
    remove(temporary_path("results.h5"));
    if (synthetic_store(temporary_folder, shape, &err)) fail_msg("%s", err.text);
    if (observations_from_store(temporary_folder, &options, &out, &err)) fail_msg("%s", err.text);
    return out;
}

static void seeds_are_replicates_or_their_mean(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 8, .seeds = 3, .noise = 0.01};
    struct observations each = read_as(&shape, (struct observation_options){0});
    struct observations mean = read_as(&shape, (struct observation_options){.seeds = "mean"});
    assert_int_equal(each.count, 2 * 4 * 8 * 3);
    assert_int_equal(mean.count, 2 * 4 * 8);
    for (size_t i = 0; i < mean.count; i++) {
        double sum = each.rows[3 * i].loss + each.rows[3 * i + 1].loss + each.rows[3 * i + 2].loss;
        assert_true(observations_same_cell(&mean.rows[i], &each.rows[3 * i]));
        assert_true(fabs(mean.rows[i].loss - sum / 3) < 1e-12);
        assert_int_equal(mean.rows[i].replicates, 3);
        assert_int_equal(each.rows[3 * i].replicates, 1);
    }
    assert_int_equal(each.noise_count, 3); /* full, lora, prompt */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(each.noise[i].degrees, 2 * each.noise[i].cells);
        assert_true(each.noise[i].deviation > 0.006 && each.noise[i].deviation < 0.014); /* the store has 0.01 */
        assert_true(each.noise[i].deviation == mean.noise[i].deviation);
    }
    observations_destroy(&each);
    observations_destroy(&mean);
}

static void the_loss_is_the_metric_that_was_asked_for(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 2};
    struct observations test = read_as(&shape, (struct observation_options){.x = "trainable_parameters"});
    struct observations valid = read_as(&shape, (struct observation_options){.metric = "valid_loss"});
    struct observations forgotten = read_as(&shape, (struct observation_options){.metric = "pretrain_loss"});
    struct error err = {""};
    const struct observation_options wrong = {.metric = "meteor"}, absent = {.metric = "bleu"};
    assert_true(test.rows[0].parameters == 25000);
    assert_true(fabs(valid.rows[0].loss - test.rows[0].loss - 0.01) < 1e-9);
    assert_int_equal(forgotten.count, 0); /* the store has none: every point is listed */
    assert_int_equal(forgotten.omitted_by[OMITTED_METRIC], forgotten.points);
    observations_destroy(&test);
    observations_destroy(&valid);
    observations_destroy(&forgotten);
    assert_int_equal(observations_from_store(temporary_folder, &wrong, &test, &err), -1);
    assert_non_null(strstr(err.text, "metric is \"meteor\"; allowed: test_loss, valid_loss, pretrain_loss, bleu, chrf, "
                                     "rouge1, rouge2, rougeL"));
    assert_int_equal(observations_from_store(temporary_folder, &absent, &test, &err), -1);
    assert_non_null(strstr(err.text, "no point has BLEU; it is measured where finetune.generate.metrics asks for it"));
}

/* Less is better in every L: of metrics of texts it is what they are short of their best. */
static void a_metric_of_texts_is_turned_round(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 2, .run = true, .seeds = 2};
    struct observations test = read_as(&shape, (struct observation_options){.seeds = "mean"});
    struct observations bleu = read_as(&shape, (struct observation_options){.metric = "bleu"});
    struct observations rouge = read_as(&shape, (struct observation_options){.metric = "rougeL", .seeds = "mean"});
    assert_true(test.count > 0 && bleu.count == 2 * test.count && rouge.count == test.count);
    for (size_t i = 0; i < test.count; i++) {
        double mean = (bleu.rows[2 * i].loss + bleu.rows[2 * i + 1].loss) / 2;
        assert_true(fabs(mean - 10 * test.rows[i].loss) < 1e-9);
        assert_true(fabs(rouge.rows[i].loss - 0.1 * test.rows[i].loss) < 1e-12);
        assert_true(fabs(test.rows[i].scores[0] - (100 - mean)) < 1e-9 && isnan(test.rows[i].scores[1]));
    }
    observations_destroy(&test);
    observations_destroy(&bleu);
    observations_destroy(&rouge);
}

static void a_cut_point_is_not_one_that_never_ran(void **state)
{
    (void)state;
    const struct sweep_shape shape = {
        .models = 2, .pretrains = 1, .examples = 3, .failures = true, .cut = true, .classes = true};
    struct observations got = read_as(&shape, (struct observation_options){0});
    assert_int_equal(got.omitted_by[OMITTED_CUT], 1);
    assert_int_equal(got.omitted_by[OMITTED_UNFINISHED], 0);
    assert_int_equal(got.class_count, 2);
    observations_destroy(&got);
}

static void a_word_on_fitting_that_cannot_be_read_is_not_silent(void **state)
{
    (void)state;
    const struct sweep_shape shape = {
        .models = 2, .pretrains = 1, .examples = 2, .config = "fit = { huber_delta = 5e-3; laws = 3; };"};
    struct observations got = read_as(&shape, (struct observation_options){0});
    assert_true(got.settings.huber_delta == 1e-3);
    assert_non_null(strstr(got.settings_lost.text, "fit.laws"));
    observations_destroy(&got);
}

/* Two models that differ in depth alone train as many prompt weights. */
static void models_with_one_x_keep_their_own_learning_rates(void **state)
{
    (void)state;
    struct observation rows[4] = {0};
    struct observation_omitted omitted[4];
    struct observations got = {.rows = rows, .count = 4, .omitted = omitted};
    for (size_t i = 0; i < 4; i++) {
        rows[i] = (struct observation){.parameters = 64, .examples = 10, .learning_rate = i % 2 ? 2 : 1, .loss = 1};
        rows[i].valid_loss = i == 0 || i == 3 ? 1 : 2;
        snprintf(rows[i].model, sizeof rows[i].model, "%s", i < 2 ? "a" : "b");
    }
    observations_reduce_rates(&got);
    assert_int_equal(got.count, 2);
    assert_true(rows[0].learning_rate == 1 && rows[1].learning_rate == 2);
    assert_int_equal(got.rate_cells, 2);
    assert_int_equal(got.rate_edges, 2);
}

static const char *table(const char *text)
{
    return temporary_write("table.csv", text, strlen(text));
}

static void a_table_is_read_by_its_columns(void **state)
{
    (void)state;
    struct observations got;
    struct error err = {""};
    const char *path = table("\"model, size\",tokens,loss,held\r\n1e6,2000,2.5,0\r\n\"2e6\",4000,2.25,1\r\n");
    if (observations_from_table(path, "D=tokens,L=loss,H=held", &got, &err)) fail_msg("%s", err.text);
    assert_int_equal(got.count, 2);
    assert_true(got.rows[1].examples == 4000 && got.rows[1].loss == 2.25 && got.rows[1].held_out &&
                !got.rows[0].held_out);
    observations_destroy(&got);
}

static void refuses(const char *text, const char *columns, const char *says)
{
    struct observations got;
    struct error err = {""};
    assert_int_equal(observations_from_table(table(text), columns, &got, &err), -1);
    if (!strstr(err.text, says)) fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static void a_malformed_table_is_refused_with_its_line(void **state)
{
    (void)state;
    refuses("", "L=loss", "empty");
    refuses("n,loss\n", "N=n,L=loss", "no rows");
    refuses("n,loss\n1,2\n1,x\n", "N=n,L=loss", "table.csv:3: loss is \"x\"");
    refuses("n,loss\n1,2,3\n", "N=n,L=loss", "table.csv:2: another number of fields");
    refuses("n,loss\n\"1,2\n", "N=n,L=loss", "table.csv:2: not CSV");
    refuses("n,loss\n0x10,2\n", "N=n,L=loss", "table.csv:2: n is \"0x10\"");
    refuses("n,loss,why\n1,2,\"a\n\nb\"\n1,x,\n", "N=n,L=loss", "table.csv:5: loss is \"x\"");
    refuses("n,loss\n1,0\n", "N=n,L=loss", "table.csv:2: loss is 0");
    refuses("n,loss\n1,2\n", "N=m,L=loss", "no column is called \"m\"");
    refuses("n,loss\n1,2\n", "Q=n,L=loss", "allowed: LETTER=NAME");
    refuses("n,loss\n1,2\n", "N=n", "no L=NAME");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_point_is_a_row_or_is_listed),
        cmocka_unit_test(the_best_learning_rate_of_a_cell_is_kept_with_all_its_seeds),
        cmocka_unit_test(x_is_what_the_user_or_the_sweep_file_says),
        cmocka_unit_test(seeds_are_replicates_or_their_mean),
        cmocka_unit_test(the_loss_is_the_metric_that_was_asked_for),
        cmocka_unit_test(a_metric_of_texts_is_turned_round),
        cmocka_unit_test(a_cut_point_is_not_one_that_never_ran),
        cmocka_unit_test(a_word_on_fitting_that_cannot_be_read_is_not_silent),
        cmocka_unit_test(models_with_one_x_keep_their_own_learning_rates),
        cmocka_unit_test(a_table_is_read_by_its_columns),
        cmocka_unit_test(a_malformed_table_is_refused_with_its_line),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
