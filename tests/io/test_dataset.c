/* What a sweep trains on must be what the person wrote, whole or refused: building, reading, refusing bad input and bad
 * files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "io/dataset.h"
#include "io/tokenizer.h"
#include "tests/io/temporary.h"

enum { DOCUMENTS = 401, TRAIN_PAIRS = 120, HELD_PAIRS = 15, VOCABULARY = 400 };

static const char *const nouns[] = {"cell",        "table",    "window", "Schaltfläche",
                                    "Überschrift", "document", "chart",  "formula"};
static const char *const verbs[] = {"opens", "closes", "selects", "moves", "löscht", "ändert", "copies", "draws"};

static void sentence(char *out, size_t size, unsigned n)
{
    snprintf(out, size, "The %s %s the %s number %u.", nouns[n % 8], verbs[n / 8 % 8], nouns[n / 64 % 8], n);
}

static void write_text(const char *name, unsigned first, unsigned count)
{
    FILE *file = fopen(temporary_path(name), "w");
    char line[256];
    for (unsigned i = 0; i < count; i++) {
        sentence(line, sizeof line, first + i);
        fprintf(file, "%s\n", line);
    }
    fclose(file);
}

static void write_pairs(const char *name, unsigned first, unsigned count)
{
    FILE *file = fopen(temporary_path(name), "w");
    char source[256], target[256];
    for (unsigned i = 0; i < count; i++) {
        sentence(source, sizeof source, first + i);
        sentence(target, sizeof target, 3 * (first + i) + 1);
        fprintf(file, "%s\t%s\n", source, target);
    }
    fclose(file);
}

static const char *text_files[1];
static struct dataset_sources small_sources(void)
{
    static char text[PATH_MAX], train[PATH_MAX], valid[PATH_MAX], test[PATH_MAX];
    write_text("text.txt", 0, DOCUMENTS);
    write_pairs("train.tsv", 0, TRAIN_PAIRS);
    write_pairs("valid.tsv", 500, HELD_PAIRS);
    write_pairs("test.tsv", 600, HELD_PAIRS);
    snprintf(text, sizeof text, "%s", temporary_path("text.txt"));
    snprintf(train, sizeof train, "%s", temporary_path("train.tsv"));
    snprintf(valid, sizeof valid, "%s", temporary_path("valid.tsv"));
    snprintf(test, sizeof test, "%s", temporary_path("test.tsv"));
    text_files[0] = text;
    return (struct dataset_sources){.text = text_files,
                                    .text_count = 1,
                                    .pairs = {train, valid, test},
                                    .vocabulary = VOCABULARY,
                                    .task = "translation",
                                    .description = "made by a test"};
}

static struct dataset *build_small(struct dataset_info *info)
{
    struct dataset_sources sources = small_sources();
    struct error err = {0};
    if (dataset_build(temporary_path("small.h5"), &sources, info, &err) != 0) fail_msg("%s", err.text);
    struct dataset *dataset = dataset_open(temporary_path("small.h5"), &err);
    if (!dataset) fail_msg("%s", err.text);
    return dataset;
}

static void assert_decodes(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, const char *expected)
{
    struct error err = {0};
    char *text = NULL;
    assert_int_equal(tokenizer_decode(tokenizer, ids, count, &text, &err), 0);
    assert_string_equal(text, expected);
    free(text);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct dataset_info built;
    struct dataset *dataset = build_small(&built);
    const struct dataset_info *info = dataset_info(dataset);
    struct error err = {0};
    assert_string_equal(built.digest.hex, info->digest.hex);
    assert_string_equal(info->task, "translation");
    assert_string_equal(dataset_description(dataset), "made by a test");
    assert_int_equal(info->vocabulary, VOCABULARY);
    assert_int_equal(info->examples[SPLIT_TRAIN], TRAIN_PAIRS);
    assert_int_equal(info->examples[SPLIT_VALID], HELD_PAIRS);
    assert_int_equal(info->examples[SPLIT_TEST], HELD_PAIRS);
    assert_int_equal(temporary_count(), 5);

    size_t size;
    const void *model = dataset_tokenizer(dataset, &size);
    struct tokenizer *tokenizer = tokenizer_create(model, size, &err);
    assert_non_null(tokenizer);
    size_t total = 0, longest = 0;
    for (unsigned i = 0; i < TRAIN_PAIRS; i++) {
        int32_t ids[512];
        char expected[256];
        size_t source, length = dataset_example(dataset, SPLIT_TRAIN, i, 512, ids, &source);
        assert_int_equal(length, dataset_example_length(dataset, SPLIT_TRAIN, i));
        assert_int_equal(ids[0], TOKEN_BEGIN);
        assert_int_equal(ids[source - 1], info->separator);
        assert_int_equal(ids[length - 1], TOKEN_END);
        sentence(expected, sizeof expected, i);
        assert_decodes(tokenizer, ids + 1, source - 2, expected);
        sentence(expected, sizeof expected, 3 * i + 1);
        assert_decodes(tokenizer, ids + source, length - source - 1, expected);
        total += length;
        if (length > longest) longest = length;
    }
    assert_int_equal(total, info->example_tokens[SPLIT_TRAIN]);
    assert_int_equal(longest, info->longest[SPLIT_TRAIN]);
    assert_int_equal(dataset_verify(dataset, &err), 0);
    tokenizer_destroy(tokenizer);
    dataset_close(dataset);
}

/* Documents 1, 201 and 401 are validation text, in order; the others are training text. */
static void test_text_is_held_back(void **state)
{
    (void)state;
    struct dataset *dataset = build_small(NULL);
    const struct dataset_info *info = dataset_info(dataset);
    struct error err = {0};
    size_t size, documents = 0, begin = 0, count = info->text_tokens[SPLIT_VALID];
    const void *model = dataset_tokenizer(dataset, &size);
    struct tokenizer *tokenizer = tokenizer_create(model, size, &err);
    int32_t *ids = malloc(count * sizeof *ids);
    dataset_text(dataset, SPLIT_VALID, 0, count, ids);
    for (size_t i = 0; i < count; i++) {
        char expected[256];
        if (ids[i] != TOKEN_END) continue;
        sentence(expected, sizeof expected, (unsigned)(200 * documents++));
        assert_decodes(tokenizer, ids + begin, i - begin, expected);
        begin = i + 1;
    }
    assert_int_equal(documents, 3);
    assert_int_equal(begin, count);
    free(ids);
    count = info->text_tokens[SPLIT_TRAIN];
    ids = malloc(count * sizeof *ids);
    dataset_text(dataset, SPLIT_TRAIN, 0, count, ids);
    documents = 0;
    for (size_t i = 0; i < count; i++)
        documents += ids[i] == TOKEN_END;
    assert_int_equal(documents, DOCUMENTS - 3);
    free(ids);
    tokenizer_destroy(tokenizer);
    dataset_close(dataset);
}

static void test_text_wraps(void **state)
{
    (void)state;
    struct dataset *dataset = build_small(NULL);
    size_t count = dataset_info(dataset)->text_tokens[SPLIT_VALID];
    int32_t *once = malloc(count * sizeof *once), *twice = malloc((2 * count + 3) * sizeof *twice);
    dataset_text(dataset, SPLIT_VALID, 0, count, once);
    dataset_text(dataset, SPLIT_VALID, 7 * (uint64_t)count + 5, 2 * count + 3, twice);
    for (size_t i = 0; i < 2 * count + 3; i++)
        assert_int_equal(twice[i], once[(i + 5) % count]);
    dataset_text(dataset, SPLIT_VALID, UINT64_MAX, 1, twice);
    assert_int_equal(twice[0], once[UINT64_MAX % count]);
    free(once);
    free(twice);
    dataset_close(dataset);
}

static void test_example_is_cut(void **state)
{
    (void)state;
    struct dataset *dataset = build_small(NULL);
    int32_t whole[512], part[512];
    size_t source, cut_source, length = dataset_example(dataset, SPLIT_TEST, 3, 512, whole, &source);
    for (size_t capacity = 0; capacity <= length + 1; capacity++) {
        part[capacity] = -7;
        size_t cut = dataset_example(dataset, SPLIT_TEST, 3, capacity, part, &cut_source);
        assert_int_equal(cut, capacity < length ? capacity : length);
        assert_int_equal(cut_source, source < cut ? source : cut);
        if (cut > 0) assert_memory_equal(part, whole, cut * sizeof *part);
        assert_int_equal(part[capacity], -7);
    }
    dataset_close(dataset);
}

/* Equal input, equal bytes of content; the description does not count, every other thing does. */
static void test_digest(void **state)
{
    (void)state;
    struct error err = {0};
    struct dataset_info first, second;
    struct dataset_sources sources = small_sources();
    assert_int_equal(dataset_build(temporary_path("a.h5"), &sources, &first, &err), 0);
    sources.description = "another";
    assert_int_equal(dataset_build(temporary_path("b.h5"), &sources, &second, &err), 0);
    assert_string_equal(first.digest.hex, second.digest.hex);
    sources.pairs[SPLIT_TEST] = sources.pairs[SPLIT_VALID];
    assert_int_equal(dataset_build(temporary_path("b.h5"), &sources, &second, &err), 0);
    assert_string_not_equal(first.digest.hex, second.digest.hex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_text_is_held_back, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_text_wraps, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_example_is_cut, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_digest, temporary_create, temporary_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
