/* `tunelaw data` as a person uses it: what it prints, what it refuses, its exit codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <sys/wait.h>

#include "orchestrator/commands/command.h"
#include "tests/io/small_dataset.h"

static char output[1 << 16], errors[1 << 16];

static void slurp(const char *name, char *text, size_t capacity)
{
    FILE *file = fopen(temporary_path(name), "r");
    text[fread(text, 1, capacity - 1, file)] = 0;
    fclose(file);
}

/* The command in a child process, as the program calls it; its exit code. Words end with NULL. */
static int run(const char *const *words)
{
    int count = 0;
    char *argv[64] = {(char *)"tunelaw data"};
    while (words[count]) {
        argv[count + 1] = (char *)words[count];
        count++;
    }
    const char *out = temporary_path("stdout"), *err = temporary_path("stderr");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen(out, "w", stdout) || !freopen(err, "w", stderr)) _exit(99);
        exit(command_data(count + 1, argv));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    slurp("stdout", output, sizeof output);
    slurp("stderr", errors, sizeof errors);
    return WEXITSTATUS(status);
}
#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static int build_with(const struct dataset_sources *sources)
{
    return RUN("--text", sources->text[0], "--pairs-train", sources->pairs[0].paths[0], "--pairs-valid",
               sources->pairs[1].paths[0], "--pairs-valid", sources->pairs[1].paths[0], "--pairs-test",
               sources->pairs[2].paths[0], "--vocabulary", "400", "--task", "made-up", "--out",
               temporary_path("out.h5"));
}

static void test_build_and_look(void **state)
{
    (void)state;
    struct error err = {0};
    struct dataset_sources sources = small_sources();
    assert_int_equal(build_with(&sources), 0);
    assert_string_equal(errors, "");
    struct dataset *dataset = dataset_open(temporary_path("out.h5"), &err);
    assert_non_null(dataset);
    const struct dataset_info *info = dataset_info(dataset);
    assert_string_equal(info->task, "made-up");
    assert_int_equal(info->examples[SPLIT_VALID], 2 * HELD_PAIRS); /* given twice */
    assert_non_null(strstr(output, info->digest.hex));

    assert_int_equal(RUN("--json", "--verify", temporary_path("out.h5")), 0);
    json_t *json = json_loads(output, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "digest")), info->digest.hex);
    assert_int_equal(json_integer_value(json_object_get(json, "vocabulary")), 400);
    assert_true(json_is_true(json_object_get(json, "verified")));
    json_t *test = json_object_get(json_object_get(json, "examples"), "test");
    assert_int_equal(json_integer_value(json_object_get(test, "count")), HELD_PAIRS);
    assert_int_equal(json_integer_value(json_object_get(test, "longest")), info->longest[SPLIT_TEST]);
    json_decref(json);
    dataset_close(dataset);
}

static void test_malformed_input(void **state)
{
    (void)state;
    struct dataset_sources sources = small_sources();
    const char *bad = temporary_write("bad.tsv", "a b\tc d\nno tab\n", 15);
    sources.pairs[SPLIT_VALID] = (struct dataset_files){&bad, 1};
    char expected[PATH_MAX];
    snprintf(expected, sizeof expected, "tunelaw: %s:2: 1 column; allowed: two columns, source TAB target\n", bad);
    assert_int_equal(build_with(&sources), 1);
    assert_string_equal(errors, expected);
    assert_int_not_equal(access(temporary_path("out.h5"), F_OK), 0);
}

/* A changed token is found by --verify, and only by it. */
static void test_verify_finds_damage(void **state)
{
    (void)state;
    struct dataset_info info;
    dataset_close(build_small(&info));
    FILE *file = fopen(temporary_path("small.h5"), "r+");
    char *bytes = malloc(1 << 20);
    size_t size = fread(bytes, 1, 1 << 20, file);
    char *model = memmem(bytes, size, "<sep>", 5);
    assert_non_null(model);
    assert_int_equal(fseek(file, model - bytes, SEEK_SET), 0);
    assert_int_equal(fputc('{', file), '{');
    fclose(file);
    free(bytes);
    assert_int_equal(RUN(temporary_path("small.h5")), 0);
    assert_int_equal(RUN(temporary_path("small.h5"), "--verify"), 1);
    assert_non_null(strstr(errors, "changed or damaged"));
}

static void test_refused_words(void **state)
{
    (void)state;
    assert_int_not_equal(RUN("--verify"), 0);
    assert_int_not_equal(RUN("a.h5", "b.h5"), 0);
    assert_int_not_equal(RUN("--text", "a.txt"), 0);
    assert_non_null(strstr(errors, "--out"));
    assert_int_not_equal(RUN("--text", "a.txt", "--out", "b.h5", "--vocabulary", "12k"), 0);
    assert_non_null(strstr(errors, "vocabulary 12k; allowed: 300..1000000"));
    assert_int_not_equal(RUN("--text", "a.txt", "--out", "b.h5", "--vocabulary", "400", "--tokenizer", "m"), 0);
    assert_int_not_equal(RUN("--no-such-option"), 0);
    assert_int_equal(RUN(temporary_path("missing.h5")), 1);
    assert_non_null(strstr(errors, "tunelaw: "));
    assert_int_equal(RUN("--help"), 0);
    assert_non_null(strstr(output, "Examples:"));
}

/* A given tokenizer: its marks are shown, its options are refused where they have no meaning. */
static void test_tokenizers_of_others(void **state)
{
    (void)state;
    struct dataset_sources sources = small_sources();
    const char *pairs = sources.pairs[0].paths[0], *out = temporary_path("out.h5");
    const char *json = TEST_SOURCE_DIR "/golden/tokenizers/llama3.json";
    assert_int_equal(RUN("--tokenizer", json, "--pairs-train", pairs, "--pairs-test", pairs, "--end-token",
                         "<|endoftext|>", "--separator", "\\t", "--out", out),
                     0);
    assert_non_null(strstr(
        output, "  marks       begin 420 \"<|begin_of_text|>\", separator 197 \"ĉ\", end 421 \"<|endoftext|>\"\n"));
    assert_non_null(strstr(errors, ": 120 of 120 test examples are training examples, too"));
    assert_int_equal(RUN("--tokenizer", json, "--pairs-train", pairs, "--end-token", "<|endoftext|>", "--separator",
                         "\n\nno piece", "--out", temporary_path("never.h5")),
                     1);
    assert_non_null(
        strstr(errors, "llama3.json: \"  no piece\" is no single piece, to stand between source and target"));
    static const char *const cases[][3] = {
        {"--separator", "x", "--separator, --end-token and --as-written go with --tokenizer"},
        {"--end-token", "x", "--separator, --end-token and --as-written go with --tokenizer"},
        {"--pair-fields", "a,b", "--pair-fields is for pairs in files that end in .jsonl"},
        {"--pair-fields", "a", "pair fields \"a\"; allowed: SOURCE,TARGET"},
        {"--text-field", "a", "--text-field is for texts in files that end in .jsonl"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_not_equal(RUN("--pairs-train", pairs, cases[i][0], cases[i][1], "--out", temporary_path("never.h5")),
                             0);
        if (!strstr(errors, cases[i][2])) fail_msg("\"%s\" is not in: %s", cases[i][2], errors);
    }
    assert_int_equal(access(temporary_path("never.h5"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_build_and_look, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_malformed_input, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_verify_finds_damage, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_refused_words, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_tokenizers_of_others, temporary_create, temporary_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
