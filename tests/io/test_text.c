/* Text from people: what is read, and what is refused with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "io/text/text.h"
#include "tests/io/temporary.h"

static void assert_lines(const char *bytes, size_t size, const char *const *expected, size_t count)
{
    struct error err = {0};
    struct text_reader *reader = text_open(temporary_write("t.txt", bytes, size), NULL, &err);
    assert_non_null(reader);
    const char *line = NULL;
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(text_next(reader, &line, &length, &err), 1);
        assert_int_equal(length, strlen(expected[i]));
        assert_memory_equal(line, expected[i], length);
        assert_int_equal(text_line(reader), i + 1);
    }
    assert_int_equal(text_next(reader, &line, &length, &err), 0);
    assert_int_equal(text_next(reader, &line, &length, &err), 0);
    text_close(reader);
}

/* The first fault of the file is at this line and named so. */
static void assert_fault(const char *bytes, size_t size, int columns, const char *expected)
{
    struct error err = {0};
    size_t lines;
    char whole[PATH_MAX];
    const char *path = temporary_write("t.txt", bytes, size);
    assert_int_equal(text_check(path, columns, NULL, &lines, &err), -1);
    snprintf(whole, sizeof whole, "%s:%s", path, expected);
    if (strncmp(err.text, whole, strlen(whole)) != 0) fail_msg("\"%s\" does not begin with \"%s\"", err.text, whole);
}

static void test_lines(void **state)
{
    (void)state;
    const char *const two[] = {"first", "zweite Zeile – äöü 漢字 😀"};
    const char unix_text[] = "first\nzweite Zeile – äöü 漢字 😀\n", windows_text[] =
                                                                       "\xef\xbb\xbf"
                                                                       "first\r\nzweite Zeile – äöü 漢字 😀";
    assert_lines(unix_text, sizeof unix_text - 1, two, 2);
    assert_lines(windows_text, sizeof windows_text - 1, two, 2);
}

/* A line much longer than the reader's first buffer, between short ones; and lines that straddle its end. */
static void test_long_lines(void **state)
{
    (void)state;
    size_t size = 1000003;
    char *bytes = malloc(size + 16), *line = calloc(size + 1, 1);
    memset(line, 'x', size);
    int used = snprintf(bytes, 8, "a\n");
    memcpy(bytes + used, line, size);
    memcpy(bytes + used + size, "\nb\n", 3);
    const char *const three[] = {"a", line, "b"};
    assert_lines(bytes, (size_t)used + size + 3, three, 3);
    free(bytes);
    free(line);

    struct error err = {0};
    char *many = malloc(40000 * 12);
    size_t total = 0, lines = 0;
    for (int i = 0; i < 40000; i++)
        total += (size_t)sprintf(many + total, "%d\tz%d\n", i, i % 7);
    const char *path = temporary_write("many.tsv", many, total);
    struct text_reader *reader = text_open(path, NULL, &err);
    struct text_pair pair;
    for (; text_next_pair(reader, &pair, &err) > 0; lines++)
        assert_int_equal(strtoul(pair.source, NULL, 10), lines);
    assert_int_equal(lines, 40000);
    text_close(reader);
    free(many);
}

/* The longest line that is allowed, with and without its end; and one byte more. */
static void test_over_long_line(void **state)
{
    (void)state;
    struct error err = {0};
    size_t lines = 0, size = TEXT_LINE_LIMIT + 5;
    char *bytes = malloc(size);
    memset(bytes, 'x', size);
    memcpy(bytes, "ok\n", 3);
    assert_int_equal(text_check(temporary_write("t.txt", bytes, 3 + TEXT_LINE_LIMIT), 1, NULL, &lines, &err), 0);
    assert_int_equal(lines, 2);
    assert_fault(bytes, 3 + TEXT_LINE_LIMIT + 1, 1, "2: the line is longer than");
    bytes[3 + TEXT_LINE_LIMIT] = '\n';
    assert_int_equal(text_check(temporary_write("t.txt", bytes, 3 + TEXT_LINE_LIMIT + 1), 1, NULL, &lines, &err), 0);
    bytes[3 + TEXT_LINE_LIMIT] = 'x';
    bytes[3 + TEXT_LINE_LIMIT + 1] = '\n';
    assert_fault(bytes, 3 + TEXT_LINE_LIMIT + 2, 1, "2: the line is longer than");
    free(bytes);
}

static void test_not_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *expected;
    } cases[] = {
#define CASE(bytes, expected) {bytes, sizeof(bytes) - 1, expected}
        CASE("a\n\x80", "2: not UTF-8 (byte 0x80 at byte 1 "),
        CASE("\xc0\xaf", "1: not UTF-8"),                           /* overlong */
        CASE("\xe0\x80\xaf", "1: not UTF-8"),                       /* overlong */
        CASE("\xf0\x80\x80\xaf", "1: not UTF-8"),                   /* overlong */
        CASE("x\xed\xa0\x80", "1: not UTF-8 (byte 0xed at byte 2"), /* surrogate */
        CASE("\xf4\x90\x80\x80", "1: not UTF-8"),                   /* above U+10FFFF */
        CASE("\xf5\x80\x80\x80", "1: not UTF-8"),
        CASE("abc\xc3\nnext", "1: not UTF-8 (byte 0xc3 at byte 4"), /* cut by the end of the line */
        CASE("abc\xe2\x82", "1: not UTF-8"),                        /* cut by the end of the file */
        CASE("fine\nno\0t", "2: a zero byte"),
        CASE("G\xfc"
             "nther\n",
             "1: not UTF-8 (byte 0xfc at byte 2"), /* Latin-1 */
        CASE("", "1: the file is empty"),
        CASE("\n \t \r\n", "1: the file is empty"), /* nothing but empty lines */
        CASE("\xef\xbb\xbf\n", "1: the file is empty"),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_fault(cases[i].bytes, cases[i].size, 1, cases[i].expected);
}

static void test_columns(void **state)
{
    (void)state;
    assert_fault("a\tb\nc\n", 6, 2, "2: 1 column;");
    assert_fault("{\"source\": 1}\n", 14, 2,
                 "1: 1 column; allowed: two columns, source TAB target (JSON lines: in a file that ends in .jsonl)");
    assert_fault("a\tb\n\nc\td\n", 9, 2, "2: the line is empty");
    assert_fault("a\tb\n \t \r\n", 9, 2, "2: the line is empty");
    assert_fault("a\tb\tc\n", 6, 2, "1: 3 columns;");
    assert_fault("a\tb\n\tc\n", 7, 2, "2: the source");
    assert_fault("a\tb\nc\t\n", 7, 2, "2: the target");
    assert_fault("a\tb\nc\t\r\n", 8, 2, "2: the target");
    struct error err = {0};
    struct text_reader *reader = text_open(temporary_write("t.tsv", "Äpfel und\tapples and \r\n", 25), NULL, &err);
    struct text_pair pair;
    assert_int_equal(text_next_pair(reader, &pair, &err), 1);
    assert_int_equal(pair.source_size, 10);
    assert_memory_equal(pair.target, "apples and ", pair.target_size);
    text_close(reader);
}

/* What cannot be opened or read twice is refused at once, not waited for. */
static void test_no_text_file(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(text_open(temporary_path("missing"), NULL, &err));
    assert_non_null(strstr(err.text, "No such file"));
    assert_null(text_open(temporary_folder, NULL, &err));
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_int_equal(mkfifo(temporary_path("fifo"), 0600), 0);
    assert_null(text_open(temporary_path("fifo"), NULL, &err));
    assert_non_null(strstr(err.text, "not a regular file"));
}

/* Lines are counted, documents are given. */
static void test_empty_lines(void **state)
{
    (void)state;
    struct error err = {0};
    const char *line;
    size_t size, count;
    const char *path = temporary_write("t.txt", "\na\n \t\r\n\nb", 9);
    struct text_reader *reader = text_open(path, NULL, &err);
    assert_int_equal(text_next(reader, &line, &size, &err), 1);
    assert_true(text_line(reader) == 2 && size == 1 && *line == 'a');
    assert_int_equal(text_next(reader, &line, &size, &err), 1);
    assert_true(text_line(reader) == 5 && size == 1 && *line == 'b');
    assert_int_equal(text_next(reader, &line, &size, &err), 0);
    text_close(reader);
    assert_int_equal(text_check(path, 1, NULL, &count, &err), 0);
    assert_int_equal(count, 2);
}

static void assert_json_fault(const char *text, int columns, const struct text_fields *fields, const char *expected)
{
    struct error err = {0};
    size_t count;
    assert_int_equal(text_check(temporary_write("t.jsonl", text, strlen(text)), columns, fields, &count, &err), -1);
    if (!strstr(err.text, expected)) fail_msg("\"%s\" is not in: %s", expected, err.text);
    if (strpbrk(err.text, "\n\x1b")) fail_msg("not one line: %s", err.text);
}

static void test_json_lines(void **state)
{
    (void)state;
    static const char text[] = "{\"prompt\": \"a\\tb\\n\", \"completion\": \"\\u00e9\"}\r\n\n"
                               "{\"source\": \"s\", \"target\": \"t\", \"text\": \"whole\", \"q\": \"Q\", "
                               "\"n\": 1000000000000000019884624838656}\n";
    struct error err = {0};
    struct text_pair pair;
    const char *line;
    size_t size;
    const struct text_fields mine = {.source = "q", .target = "text"};
    const char *path = temporary_write("t.jsonl", text, sizeof text - 1);
    struct text_reader *reader = text_open(path, NULL, &err);
    assert_int_equal(text_next_pair(reader, &pair, &err), 1);
    assert_true(pair.source_size == 4 && !memcmp(pair.source, "a\tb\n", 4));
    assert_true(pair.target_size == 2 && !memcmp(pair.target, "\xc3\xa9", 2));
    assert_int_equal(text_next_pair(reader, &pair, &err), 1);
    assert_true(pair.source_size == 1 && *pair.source == 's' && *pair.target == 't' && text_line(reader) == 3);
    assert_int_equal(text_next_pair(reader, &pair, &err), 0);
    text_close(reader);
    reader = text_open(path, &mine, &err);
    assert_int_equal(text_next_sentence(reader, true, &line, &size, &err), -1); /* no "q" */
    assert_int_equal(text_next_pair(reader, &pair, &err), 1);
    assert_true(*pair.source == 'Q' && pair.target_size == 5);
    text_close(reader);
    reader = text_open(path, NULL, &err);
    assert_int_equal(text_next_sentence(reader, true, &line, &size, &err), 1); /* a pair as one text */
    assert_true(size == 7 && !memcmp(line, "a\tb\n\t\xc3\xa9", 7));
    assert_int_equal(text_next_sentence(reader, false, &line, &size, &err), 1);
    assert_true(size == 5 && !memcmp(line, "whole", 5));
    text_close(reader);
    assert_json_fault(text, 1, NULL, "t.jsonl:1: there is no \"text\", but: prompt, completion");
    assert_json_fault("{\"text\": \"a\"}\n{\"text\": 5}\n", 1, NULL, "t.jsonl:2: \"text\" is no text");
    assert_json_fault("{\"text\": \" \\n\"}\n", 1, NULL,
                      "t.jsonl:1: the file is empty, line by line"); /* as an empty line */
    assert_json_fault("{\"instruction\": \"a\", \"input\": \"b\", \"output\": \"c\"}\n", 2, NULL,
                      "input and output (without instruction), or those of --pair-fields; there are: instruction, ");
    assert_json_fault("{\"text\": \"\x1b\"}\n", 1, NULL, "t.jsonl:1: not JSON at column 10: control character 0x1b");
    assert_json_fault("{\"text\": \"a\"\n", 1, NULL, "t.jsonl:1: not JSON at column ");
    assert_json_fault("[1]\n", 1, NULL, "t.jsonl:1: not an object");
    assert_json_fault("{\"messages\": []}\n", 2, NULL, "or those of --pair-fields; there are: messages");
    assert_json_fault("{\"source\": \"a\", \"target\": \"\"}\n", 2, NULL, "t.jsonl:1: \"target\" is empty");
    assert_json_fault(text, 2, &mine, "t.jsonl:1: there is no \"q\"");
    assert_json_fault("", 2, NULL, "t.jsonl:1: the file is empty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_long_lines, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_over_long_line, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_not_utf8, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_columns, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_empty_lines, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_json_lines, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_no_text_file, temporary_create, temporary_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
