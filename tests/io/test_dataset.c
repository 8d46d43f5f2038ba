/* What a sweep trains on must be what the person wrote, whole or refused: building, reading, refusing bad input and bad
 * files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <omp.h>

#include "io/tokenizer/tokenizer.h"
#include "tests/io/small_dataset.h"

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

/* Equal input, equal files; the description does not count, every other thing does. */
static void test_digest(void **state)
{
    (void)state;
    struct error err = {0};
    struct dataset_info first, second;
    struct dataset_sources sources = small_sources();
    assert_int_equal(dataset_build(temporary_path("a.h5"), &sources, &first, &err), 0);
    assert_int_equal(dataset_build(temporary_path("b.h5"), &sources, &second, &err), 0);
    struct digest files[2];
    assert_int_equal(digest_of_file(temporary_path("a.h5"), &files[0], &err), 0);
    assert_int_equal(digest_of_file(temporary_path("b.h5"), &files[1], &err), 0);
    assert_string_equal(files[0].hex, files[1].hex);
    sources.description = "another";
    assert_int_equal(dataset_build(temporary_path("b.h5"), &sources, &second, &err), 0);
    assert_string_equal(first.digest.hex, second.digest.hex);
    sources.pairs[SPLIT_TEST] = sources.pairs[SPLIT_VALID];
    assert_int_equal(dataset_build(temporary_path("b.h5"), &sources, &second, &err), 0);
    assert_string_not_equal(first.digest.hex, second.digest.hex);
}

/* Files of a split are joined in their order. */
static void test_several_files_of_a_split(void **state)
{
    (void)state;
    struct error err = {0};
    struct dataset_info joined, whole;
    struct dataset_sources sources = small_sources();
    write_pairs("first.tsv", 0, 40);
    write_pairs("rest.tsv", 40, TRAIN_PAIRS - 40);
    char first[PATH_MAX], rest[PATH_MAX];
    snprintf(first, sizeof first, "%s", temporary_path("first.tsv"));
    snprintf(rest, sizeof rest, "%s", temporary_path("rest.tsv"));
    assert_int_equal(dataset_build(temporary_path("a.h5"), &sources, &whole, &err), 0);
    sources.pairs[SPLIT_TRAIN] = (struct dataset_files){(const char *const[]){first, rest}, 2};
    assert_int_equal(dataset_build(temporary_path("b.h5"), &sources, &joined, &err), 0);
    assert_string_equal(joined.digest.hex, whole.digest.hex);
    sources.pairs[SPLIT_TRAIN] = (struct dataset_files){(const char *const[]){rest, first}, 2};
    assert_int_equal(dataset_build(temporary_path("b.h5"), &sources, &joined, &err), 0);
    assert_int_equal(joined.examples[SPLIT_TRAIN], TRAIN_PAIRS);
    assert_string_not_equal(joined.digest.hex, whole.digest.hex);
}

/* A build that must fail with a line that begins with `expected`, and must leave the folder as it was. */
static void assert_refused(const struct dataset_sources *sources, const char *expected)
{
    struct error err = {0};
    int before = temporary_count();
    assert_int_equal(dataset_build(temporary_path("bad.h5"), sources, NULL, &err), -1);
    if (strncmp(err.text, expected, strlen(expected)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", err.text, expected);
    assert_int_equal(temporary_count(), before);
}

static const char *located(const char *name, const char *where)
{
    static char text[PATH_MAX];
    snprintf(text, sizeof text, "%s:%s", temporary_path(name), where);
    return text;
}

/* Every kind of malformed input is refused with its file and line, wherever it is used. */
static void test_malformed_input(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *pair_error, *text_error; /* NULL: good as text */
    } cases[] = {
        {"a b\tc d\nonly one\n", "2: 1 column; allowed: two columns", NULL},
        {"a b\tc d\te f\n", "1: 3 columns; allowed: two columns", NULL},
        {"a b\tc d\n\tno source\n", "2: the source (column 1) is empty", NULL},
        {"a b\tc d\na b\t  \n", "2: the target (column 2) is empty", NULL},
        {"a b\tc d\n\na b\tc d\n", "2: the line is empty", NULL},
        {"a b\tc d\nx\xff y\tz\n", "2: not UTF-8", "2: not UTF-8"},
        {"", "1: the file is empty", "1: the file is empty"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = temporary_write("bad.txt", cases[i].bytes, strlen(cases[i].bytes));
        for (int split = 0; split < SPLITS; split++) {
            struct dataset_sources sources = small_sources();
            sources.pairs[split] = (struct dataset_files){&path, 1};
            assert_refused(&sources, located("bad.txt", cases[i].pair_error));
        }
        if (!cases[i].text_error) continue;
        struct dataset_sources sources = small_sources();
        sources.valid_text = &path;
        sources.valid_text_count = 1;
        assert_refused(&sources, located("bad.txt", cases[i].text_error));
    }
}

static void test_refused_requests(void **state)
{
    (void)state;
    struct dataset_sources sources = small_sources();
    const char *missing = temporary_path("missing.txt");
    sources.pairs[SPLIT_VALID] = (struct dataset_files){&missing, 1};
    assert_refused(&sources, missing);

    sources = small_sources();
    sources.vocabulary = 299;
    assert_refused(&sources, "vocabulary 299; allowed: 300..");
    sources.vocabulary = 100000; /* more pieces than this text can give */
    assert_refused(&sources, "cannot train a tokenizer");

    sources = small_sources();
    sources.tokenizer = temporary_path("train.tsv");
    assert_refused(&sources, temporary_path("train.tsv: not a sentencepiece model"));

    sources = (struct dataset_sources){.vocabulary = 400};
    assert_refused(&sources, "nothing to build from");

    static const char *const names[] = {"", "bad name", "-x", "a\nb", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sources = small_sources();
        sources.task = names[i];
        assert_refused(&sources, "the task's name is none; allowed: letters, digits, '_', '-', '.', '+'");
    }

    const char *single = temporary_write("single.txt", "one line\n", 9);
    sources = (struct dataset_sources){.text = &single, .text_count = 1, .vocabulary = 400};
    assert_refused(&sources, located("single.txt", "1: one document"));
}

/* A failed build leaves an older dataset of the same name as it was. */
static void test_failure_keeps_the_old_file(void **state)
{
    (void)state;
    struct error err = {0};
    struct dataset_info before;
    dataset_close(build_small(&before));
    struct dataset_sources sources = small_sources();
    const char *bad = temporary_write("bad.tsv", "x\n", 2);
    sources.pairs[SPLIT_TEST] = (struct dataset_files){&bad, 1};
    assert_int_equal(dataset_build(temporary_path("small.h5"), &sources, NULL, &err), -1);
    struct dataset *dataset = dataset_open(temporary_path("small.h5"), &err);
    assert_non_null(dataset);
    assert_string_equal(dataset_info(dataset)->digest.hex, before.digest.hex);
    assert_int_equal(dataset_verify(dataset, &err), 0);
    dataset_close(dataset);
}

/* A tokenizer taken from one dataset gives the next the same vocabulary; only text, only pairs and wide tokens work. */
static void test_tokenizer_from_a_file(void **state)
{
    (void)state;
    struct error err = {0};
    struct dataset *first = build_small(NULL);
    size_t size;
    const void *model = dataset_tokenizer(first, &size);
    const char *path = temporary_write("my.model", model, size);
    struct dataset_info info;
    struct dataset_sources pairs = small_sources();
    pairs.tokenizer = path;
    pairs.vocabulary = 0;
    assert_int_equal(dataset_build(temporary_path("again.h5"), &pairs, &info, &err), 0);
    assert_string_equal(info.digest.hex, dataset_info(first)->digest.hex);
    pairs.text_count = 0;
    assert_int_equal(dataset_build(temporary_path("pairs.h5"), &pairs, &info, &err), 0);
    assert_int_equal(info.text_tokens[SPLIT_TRAIN], 0);
    assert_int_equal(info.examples[SPLIT_TRAIN], TRAIN_PAIRS);
    struct dataset_sources text = small_sources();
    text.tokenizer = path;
    memset(text.pairs, 0, sizeof text.pairs);
    assert_int_equal(dataset_build(temporary_path("text.h5"), &text, &info, &err), 0);
    assert_int_equal(info.examples[SPLIT_TRAIN], 0);
    struct dataset *dataset = dataset_open(temporary_path("pairs.h5"), &err);
    int32_t tokens[3];
    dataset_text(dataset, SPLIT_TRAIN, 5, 3, tokens); /* no text: padding, not a fault */
    assert_int_equal(tokens[2], TOKEN_PAD);
    dataset_close(dataset);
    dataset_close(first);
}

/* People read the file with h5py: the layout is what io/text/dataset.h says. */
/* Ids of another tokenizer are taken as they are, and none outside of its vocabulary. */
static void test_token_ids(void **state)
{
    (void)state;
    static const char text[] = "1 2 3\n70000 0\n", pairs[] = "5 6 7\t8 9\n4\t69999 2\n";
    const char *text_path = temporary_write("ids.txt", text, sizeof text - 1);
    const char *pairs_path = temporary_write("ids.tsv", pairs, sizeof pairs - 1);
    const char *const texts[] = {text_path};
    const struct dataset_files pairs_files = {&pairs_path, 1};
    struct dataset_sources sources = {.text = texts,
                                      .text_count = 1,
                                      .valid_text = texts,
                                      .valid_text_count = 1,
                                      .pairs = {pairs_files, pairs_files, pairs_files},
                                      .ids = true,
                                      .vocabulary = 70001};
    struct error err = {""};
    struct dataset_info info;
    const char *path = temporary_path("ids.h5");
    if (dataset_build(path, &sources, &info, &err)) fail_msg("%s", err.text);
    assert_int_equal(info.vocabulary, 70001);
    assert_int_equal(info.example_targets[SPLIT_TRAIN], 4);
    struct dataset *dataset = dataset_open(path, &err);
    assert_non_null(dataset);
    assert_int_equal(dataset_verify(dataset, &err), 0);
    static const int32_t whole[] = {1, 2, 3, 70000, 0}, first[] = {5, 6, 7, 8, 9}, second[] = {4, 69999, 2};
    int32_t ids[8];
    size_t source, size;
    dataset_text(dataset, SPLIT_TRAIN, 0, 5, ids);
    assert_memory_equal(ids, whole, sizeof whole);
    assert_int_equal(dataset_example(dataset, SPLIT_TRAIN, 0, 8, ids, &source), 5);
    assert_memory_equal(ids, first, sizeof first);
    assert_int_equal(source, 3);
    assert_int_equal(dataset_example(dataset, SPLIT_TEST, 1, 8, ids, &source), 3);
    assert_memory_equal(ids, second, sizeof second);
    assert_int_equal(source, 1);
    dataset_tokenizer(dataset, &size);
    assert_int_equal(size, 0);
    dataset_close(dataset);

    struct dataset_info reserved;
    sources.sentinels = 7;
    sources.first_reserved = 60000;
    if (dataset_build(path, &sources, &reserved, &err)) fail_msg("%s", err.text);
    assert_int_equal(reserved.reserved, 60000);
    assert_int_equal(reserved.sentinels, 7);
    assert_string_not_equal(reserved.digest.hex, info.digest.hex);
    sources.first_reserved = 69992;
    assert_int_equal(dataset_build(path, &sources, NULL, &err), -1);
    assert_non_null(strstr(err.text, "below the vocabulary of 70001"));
    sources.first_reserved = 69991;
    assert_refused(&sources, located("ids.txt", "2: token id 70000 is reserved: modes and sentinels are 69991..70000"));
    sources.first_reserved = 9;
    assert_refused(&sources, located("ids.tsv", "1: token id 9 is reserved: modes and sentinels are 9..18"));
    sources.sentinels = 0;

    sources.vocabulary = 70000;
    assert_refused(&sources, located("ids.txt", "2: token id 70000; allowed: 0..69999"));
    sources.vocabulary = 70001;
    temporary_write("ids.txt", "1 x\n", 4);
    assert_refused(&sources, located("ids.txt", "1: \"x\" is no token id; allowed: numbers and spaces"));
    temporary_write("ids.txt", "99999999999999999999999999\n", 27);
    assert_refused(&sources, located("ids.txt", "1: token id 99999999999999999999999999; allowed"));
    temporary_write("ids.txt", "1 12x4 3\n", 9);
    assert_refused(&sources, located("ids.txt", "1: \"12x4\" is no token id; allowed"));
}

/* Sentinels are pieces of a trained tokenizer that no text encodes to, also when it spells them; a data set of its own
 * that has its tokenizer has them, too. Without them nothing is another file than before. */
static void test_sentinels(void **state)
{
    (void)state;
    struct dataset_sources sources = small_sources();
    struct dataset_info plain, info, again;
    struct error err = {""};
    dataset_close(build_small(&plain));
    assert_int_equal(plain.sentinels, 0);
    sources.sentinels = 20;
    static const char spelt[] = "<R> <extra_id_0> <extra_id_19> <sep>\nand more\n";
    temporary_write("spelt.txt", spelt, sizeof spelt - 1);
    const char *const texts[] = {sources.text[0], temporary_path("spelt.txt")};
    sources.text = texts;
    sources.text_count = 2;
    const char *path = temporary_path("sentinels.h5");
    if (dataset_build(path, &sources, &info, &err)) fail_msg("%s", err.text);
    assert_int_equal(info.sentinels, 20);
    assert_int_equal(info.vocabulary, VOCABULARY);
    assert_int_equal(info.reserved, info.separator + 1);
    struct dataset *dataset = dataset_open(path, &err);
    if (!dataset) fail_msg("%s", err.text);
    assert_memory_equal(dataset_info(dataset), &info, sizeof info);
    assert_int_equal(dataset_verify(dataset, &err), 0);
    int32_t *ids = calloc(info.text_tokens[SPLIT_TRAIN], sizeof *ids);
    dataset_text(dataset, SPLIT_TRAIN, 0, info.text_tokens[SPLIT_TRAIN], ids);
    for (size_t i = 0; i < info.text_tokens[SPLIT_TRAIN]; i++)
        assert_false(ids[i] >= info.separator && ids[i] < info.reserved + 23);
    free(ids);

    size_t size;
    const void *model = dataset_tokenizer(dataset, &size);
    sources.tokenizer = temporary_write("own.model", model, size);
    sources.sentinels = 0;
    if (dataset_build(temporary_path("second.h5"), &sources, &again, &err)) fail_msg("%s", err.text);
    assert_int_equal(again.sentinels, 20);
    assert_string_equal(again.digest.hex, info.digest.hex);
    sources.sentinels = 20;
    assert_int_equal(dataset_build(temporary_path("third.h5"), &sources, NULL, &err), -1);
    assert_non_null(strstr(err.text, "when a tokenizer is trained"));
    sources.tokenizer = NULL;
    sources.sentinels = VOCABULARY;
    assert_int_equal(dataset_build(temporary_path("third.h5"), &sources, NULL, &err), -1);
    assert_non_null(strstr(err.text, "half of the vocabulary"));
    dataset_close(dataset);
}

static void test_h5py_reads_it(void **state)
{
    (void)state;
    if (system(TEST_PYTHON " -c 'import h5py' 2>/dev/null") != 0) {
        print_message("skipped: " TEST_PYTHON " has no h5py\n");
        skip();
    }
    struct dataset_info info;
    dataset_close(build_small(&info));
    char command[2 * PATH_MAX];
    snprintf(command, sizeof command,
             TEST_PYTHON
             " - <<'END'\n"
             "import h5py\n"
             "f = h5py.File('%s', 'r')\n"
             "assert f.attrs['digest'].decode() == '%s'\n"
             "assert f.attrs['version'] == 2 and f.attrs['vocabulary'] == %d and f.attrs['separator'] == %d\n"
             "assert f['text/train'].dtype == 'uint16' and len(f['text/train']) == %zu\n"
             "e = f['examples/test']; o = e['offsets'][:]; s = e['sources'][:]\n"
             "assert len(o) == %d and o[-1] == len(e['tokens']) == %zu\n"
             "x = e['tokens'][o[2]:o[3]]\n"
             "assert x[0] == 1 and x[s[2] - 1] == %d and x[-1] == 2\n"
             "END\n",
             temporary_path("small.h5"), info.digest.hex, VOCABULARY, info.separator, info.text_tokens[SPLIT_TRAIN],
             HELD_PAIRS + 1, info.example_tokens[SPLIT_TEST], info.separator);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, TEST_PYTHON " '%s/io/read_store.py' plain '%s'", TEST_SOURCE_DIR,
             temporary_path("small.h5"));
    int status = system(command);
    assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77)); /* 77: no pandas */
}

/* An example of the test that is one of training is counted, however often; another target is another example. */
static void test_repeated_examples(void **state)
{
    (void)state;
    static const char train[] = "1 2\t3 4\n5\t6\n1 2\t3 4\n5\t6 7\n", test[] = "1 2\t3 4\n7\t8\n1 2\t3 4\n1 2\t3\n",
                      valid[] = "5 6\t7\n1 2\t3 4\n";
    const char *paths[SPLITS] = {temporary_write("train.tsv", train, sizeof train - 1),
                                 temporary_write("valid.tsv", valid, sizeof valid - 1),
                                 temporary_write("test.tsv", test, sizeof test - 1)};
    struct dataset_sources sources = {.ids = true, .vocabulary = 100};
    struct dataset_info info;
    struct error err = {0};
    for (int split = 0; split < SPLITS; split++)
        sources.pairs[split] = (struct dataset_files){&paths[split], 1};
    if (dataset_build(temporary_path("repeated.h5"), &sources, &info, &err)) fail_msg("%s", err.text);
    assert_int_equal(info.repeated[SPLIT_TRAIN], 0);
    assert_int_equal(info.repeated[SPLIT_VALID], 1); /* not 5 6, 7: it is 5, 6 7 */
    assert_int_equal(info.repeated[SPLIT_TEST], 2);
}

/* More examples than a batch: the last is where it belongs, and a fault has its own line. */
static void test_batches(void **state)
{
    (void)state;
    enum { LINES = 5000 };
    char *text = malloc(LINES * 32);
    size_t used = 0, source;
    int32_t ids[64];
    struct error err = {0};
    struct dataset_info info;
    for (int i = 0; i < LINES; i++)
        used += (size_t)sprintf(text + used, "%d %d\t%d\n", i % 90, i % 89, i % 88);
    const char *path = temporary_write("many.tsv", text, used);
    struct dataset_sources sources = {.ids = true, .vocabulary = 100, .pairs[SPLIT_TRAIN] = {&path, 1}};
    if (dataset_build(temporary_path("many.h5"), &sources, &info, &err)) fail_msg("%s", err.text);
    struct dataset *dataset = dataset_open(temporary_path("many.h5"), &err);
    assert_int_equal(info.examples[SPLIT_TRAIN], LINES);
    for (size_t i = 0; i < LINES; i++) {
        assert_int_equal(dataset_example(dataset, SPLIT_TRAIN, i, 64, ids, &source), 3);
        assert_true(source == 2 && ids[0] == (int)i % 90 && ids[1] == (int)i % 89 && ids[2] == (int)i % 88);
    }
    dataset_close(dataset);
    memcpy(strstr(text, "\n45 5\t55\n") + 1, "45 x", 4); /* line 4456 */
    path = temporary_write("many.tsv", text, used);
    assert_int_equal(dataset_build(temporary_path("bad.h5"), &sources, NULL, &err), -1);
    if (!strstr(err.text, "many.tsv:4456: \"x\" is no token id")) fail_msg("%s", err.text);
    free(text);
}

/* Text and pairs of several batches, by one thread and by four, with both kinds of tokenizers: the same bytes. */
static void test_threads(void **state)
{
    (void)state;
    enum { LINES = 9000 };
    static const char *const words[] = {"the", "Größe", "of", "cells", "is", "12345", "and", "it's"};
    char *text = malloc(LINES * 64), *pairs = malloc(LINES * 64);
    size_t text_size = 0, pairs_size = 0;
    for (unsigned i = 0; i < LINES; i++) {
        const char *a = words[i % 8], *b = words[i / 3 % 8], *c = words[i / 7 % 8];
        text_size += (size_t)sprintf(text + text_size, "%s %s %s %u\n", a, b, c, i);
        pairs_size += (size_t)sprintf(pairs + pairs_size, "%s %u\t%s %s\n", c, i, b, a);
    }
    const char *text_path = temporary_write("threads.txt", text, text_size);
    const char *pairs_path = temporary_write("threads.tsv", pairs, pairs_size);
    struct dataset_sources sources = {.text = &text_path, .text_count = 1, .vocabulary = 330};
    sources.pairs[SPLIT_TRAIN] = sources.pairs[SPLIT_TEST] = (struct dataset_files){&pairs_path, 1};
    for (int json = 0; json < 2; json++) {
        struct dataset_info info[2];
        struct error err = {0};
        sources.tokenizer = json ? TEST_SOURCE_DIR "/golden/tokenizers/pythia.json" : NULL;
        sources.end_token = json ? "<|endoftext|>" : NULL;
        for (int many = 0; many < 2; many++) {
            omp_set_num_threads(many ? 4 : 1);
            if (dataset_build(temporary_path("threads.h5"), &sources, &info[many], &err)) fail_msg("%s", err.text);
        }
        omp_set_num_threads(1);
        assert_string_equal(info[0].digest.hex, info[1].digest.hex);
        assert_int_equal(info[1].repeated[SPLIT_TEST], LINES);
        /* documents 1, 201, 401, ... over all batches are held back */
        struct dataset *dataset = dataset_open(temporary_path("threads.h5"), &err);
        size_t held = 0;
        int32_t id;
        for (size_t i = 0; i < info[1].text_tokens[SPLIT_VALID]; i++) {
            dataset_text(dataset, SPLIT_VALID, i, 1, &id);
            held += id == info[1].end;
        }
        assert_int_equal(held, LINES / 200);
        dataset_close(dataset);
    }
    free(text);
    free(pairs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_text_is_held_back, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_text_wraps, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_example_is_cut, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_digest, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_several_files_of_a_split, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_malformed_input, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_refused_requests, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_failure_keeps_the_old_file, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_tokenizer_from_a_file, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_sentinels, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_token_ids, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_repeated_examples, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_threads, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_batches, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_h5py_reads_it, temporary_create, temporary_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
