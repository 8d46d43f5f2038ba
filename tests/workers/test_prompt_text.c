/* A prompt that begins as another text than the one in the sweep file would be another experiment: its token ids, in
 * data sets with a tokenizer and in those made of ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/tokenizer/tokenizer.h"
#include "tests/io/small_dataset.h"
#include "workers/model/prompt_text.h"

static void of_the_tokenizer(void **state)
{
    (void)state;
    struct error err = {""};
    struct dataset *dataset = build_small(NULL);
    int32_t *ids, *none;
    size_t count, size;
    if (prompt_text_ids(dataset, "The Schaltfläche opens.", &ids, &count, &err)) fail_msg("%s", err.text);
    assert_true(count > 1);
    const void *model = dataset_tokenizer(dataset, &size);
    struct tokenizer *tokenizer = tokenizer_create(model, size, &err);
    char *text;
    assert_int_equal(tokenizer_decode(tokenizer, ids, count, &text, &err), 0);
    assert_string_equal(text, "The Schaltfläche opens.");
    assert_int_equal(prompt_text_ids(dataset, "", &none, &count, &err), -1);
    assert_non_null(strstr(err.text, "no tokens"));
    assert_null(none);
    free(ids);
    free(text);
    tokenizer_destroy(tokenizer);
    dataset_close(dataset);
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(temporary_path(name), "w");
    fputs(text, file);
    fclose(file);
}

static void of_ids(void **state)
{
    (void)state;
    struct error err = {""};
    write_file("ids.tsv", "1 2 3\t4 5\n6 7\t8\n");
    const char *path = temporary_path("ids.tsv");
    const struct dataset_files pairs = {&path, 1};
    struct dataset_sources sources = {
        .pairs = {pairs, pairs, pairs}, .vocabulary = 100, .ids = true, .task = "ids", .description = "made by a test"};
    if (dataset_build(temporary_path("ids.h5"), &sources, NULL, &err)) fail_msg("%s", err.text);
    struct dataset *dataset = dataset_open(temporary_path("ids.h5"), &err);
    int32_t *ids;
    size_t count;
    if (prompt_text_ids(dataset, " 17 0  99", &ids, &count, &err)) fail_msg("%s", err.text);
    assert_int_equal(count, 3);
    assert_memory_equal(ids, ((int32_t[]){17, 0, 99}), 3 * sizeof *ids);
    free(ids);
    static const char *const wrong[] = {"17 100", "1 -2", "1 two", "1\t2", "99999999999999999999", "3.5", "  "};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (!prompt_text_ids(dataset, wrong[i], &ids, &count, &err)) fail_msg("accepted: \"%s\"", wrong[i]);
        assert_null(ids);
    }
    prompt_text_ids(dataset, "17 100", &ids, &count, &err);
    assert_string_equal(err.text, "\"100\" is no token id; the data set was made of ids, allowed: numbers between "
                                  "spaces, 0..99");
    dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_the_tokenizer),
        cmocka_unit_test(of_ids),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
