/* Observations: what is fitted is what was measured, and what is not fitted is listed with its reason. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fitting/observations.h"
#include "tests/fitting/synthetic_store.h"
#include "tests/io/temporary.h"

static struct observations read_store(const struct sweep_shape *shape, const char *x)
{
    struct observations out;
    struct error err = {""};
    remove(temporary_path("results.h5"));
    if (synthetic_store(temporary_folder, shape, &err)) fail_msg("%s", err.text);
    if (observations_from_store(temporary_folder, x, &out, &err)) fail_msg("%s", err.text);
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
    assert_true(got.huber_delta == 2e-3);
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
    assert_true(got.huber_delta == 0);
    observations_destroy(&got);
    struct error err = {""};
    assert_int_equal(observations_from_store(temporary_folder, "layers", &got, &err), -1);
    assert_non_null(strstr(err.text, "allowed: parameters, non_embedding_parameters"));
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
    refuses("n,loss\n1,0\n", "N=n,L=loss", "table.csv:2: loss 0");
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
        cmocka_unit_test(a_table_is_read_by_its_columns),
        cmocka_unit_test(a_malformed_table_is_refused_with_its_line),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
