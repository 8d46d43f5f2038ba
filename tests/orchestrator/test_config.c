/* What a user sees of a mistake in a config file: file, line, key, what is allowed. And that no text breaks the reader.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/config/config.h"
#include "io/config/config_syntax.h"
#include "tests/io/temporary.h"

/* libconfig 1.5 does not free a string that a syntax error follows; the leak sanitizer would count that as ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig";
}

static const char *const root_keys[] = {"count", "share", "on",    "name",  "kind", "list",
                                        "reals", "words", "group", "items", NULL};
static const char *const group_keys[] = {"count", "inner", NULL};

/* Reads every key of a made-up file; the error, or "". */
static struct error read_text(const char *text, size_t size, char **parameters)
{
    struct error err = {""};
    static const char *const kinds[] = {"cosine", "linear"};
    struct config_file *file = config_file_parse("a.cfg", text, size, &err);
    if (!file) return err;
    struct config_group root = config_open_root(file, root_keys);
    config_take_uint_or(&root, "count", 1, 256, 7);
    config_take_double_or(&root, "share", CONFIG_POSITIVE, 1.0, 0.5);
    config_take_bool_or(&root, "on", true);
    if (config_has(&root, "name")) config_take_name(&root, "name", 8);
    config_take_choice(&root, "kind", kinds, 2, 0);
    size_t count;
    free(config_take_uints(&root, "list", 1, UINT64_MAX, false, &count));
    free(config_take_doubles(&root, "reals", 0.0, DBL_MAX, false, &count));
    free(config_take_strings(&root, "words", 8, false, &count));
    struct config_group group = config_open_group(&root, "group", group_keys, false);
    config_take_uint_or(&group, "count", 0, 10, 3);
    size_t items = config_open_list(&root, "items", false);
    for (size_t i = 0; i < items; i++) {
        struct config_group item = config_open_element(&root, "items", i, group_keys);
        config_take_uint(&item, "count", 1, 10);
    }
    if (parameters) *parameters = strdup(config_file_parameters(file));
    if (!config_file_finish(file, &err)) err.text[0] = '\0';
    config_file_close(file);
    return err;
}

static void expect(const char *text, const char *wanted)
{
    struct error err = read_text(text, strlen(text), NULL);
    if (strcmp(err.text, wanted)) fail_msg("%s\n  gives:  %s\n  wanted: %s", text, err.text, wanted);
}

static void values_that_are_right(void **state)
{
    (void)state;
    expect("", "");
    expect("count = 256; share = 1; on = false; name = \"x-1\"; kind = \"linear\";", "");
    expect("list = [ 250000, 84000000000, 1 ];", "");           /* int and int64 in one array */
    expect("list = 5; reals = ( 1, 2.5 ); words = \"a\";", ""); /* a single value, a mixed list */
    expect("list = [ 84e9, 1e3 ]; # 84e9 is an integer\n", "");
    expect("/* a comment, { ( [ @ */ name = \"a\"; // @include\n", "");
    expect("count = 0x10;", "");
}

static void mistakes_are_named_with_their_line(void **state)
{
    (void)state;
    expect("\ncount = 257;", "a.cfg:2: count: 257 is out of range; allowed: 1..256");
    expect("count = -1;", "a.cfg:1: count: -1 is out of range; allowed: 1..256");
    expect("count = 1.5;", "a.cfg:1: count: 1.5 is not an integer; allowed: 1..256");
    expect("count = \"1\";", "a.cfg:1: count: a string where an integer is expected; allowed: 1..256");
    expect("share = 0;", "a.cfg:1: share: 0 is out of range; allowed: above 0, at most 1");
    expect("share = 1e999;", "a.cfg:1: share: inf is out of range; allowed: above 0, at most 1");
    expect("on = 1;", "a.cfg:1: on: an integer where true or false is expected");
    expect("name = \"a b\";",
           "a.cfg:1: name: not a name; allowed: letters, digits, '_', '-', '.', '+', beginning with a letter or digit");
    expect("name = \"123456789\";", "a.cfg:1: name: a string of 9 bytes; allowed: 1..8");
    expect("kind = \"cosin\";", "a.cfg:1: kind: \"cosin\" is unknown, did you mean cosine?; allowed: cosine, linear");
    expect("list = [ ];", "a.cfg:1: list: an empty list; allowed: at least one value");
    expect("list = [ 3,\n 4,\n 3 ];", "a.cfg:3: list[2]: 3 is there twice");
    expect("list = [ 3, 0 ];", "a.cfg:1: list[1]: 0 is out of range; allowed: at least 1");
    expect("group = 3;", "a.cfg:1: group: an integer where a group { ... } is expected");
    expect("items = ( { count = 1; },\n { } );", "a.cfg:2: items[1]: key \"count\" is missing");
    expect("items = ( { count = 1; },\n { count = 11; } );",
           "a.cfg:2: items[1].count: 11 is out of range; allowed: 1..10");
    expect("items = ( 3 );", "a.cfg:1: items[0]: an integer where a group { ... } is expected");
    expect("items = { };", "a.cfg:1: items: a group where a list of groups ( { ... }, ... ) is expected");
    /* the first mistake alone */
    expect("share = 2.0;\ncount = 0;", "a.cfg:2: count: 0 is out of range; allowed: 1..256");
}

static void unknown_keys_are_refused(void **state)
{
    (void)state;
    expect("cuont = 3;",
           "a.cfg:1: cuont: unknown key, did you mean count?; allowed: count, share, on, name, kind, list, "
           "reals, words, group, items");
    expect("group = {\n zzzzzz = 1; };", "a.cfg:2: group.zzzzzz: unknown key; allowed: count, inner");
    expect("count = 1;\ncount = 2;", "a.cfg:2: duplicate setting name");
}

static void numbers_are_not_misread(void **state)
{
    (void)state;
    expect("count = 99999999999999999999;", "a.cfg:1: 99999999999999999999 does not fit into 64 bits");
    expect("\ncount = 010;", "a.cfg:2: 010 begins with a zero (which would make it octal); write 10");
    expect("share = .;", "a.cfg:1: . is no number; a string stands in double quotes");
    expect("share = -.e3;", "a.cfg:1: -.e3 is no number; a string stands in double quotes");
    expect("count = 0x1234567890abcdef0;",
           "a.cfg:1: 0x1234567890abcdef0 does not fit; allowed: up to 15 hexadecimal digits");
    expect("count = 12x;", "a.cfg:1: 12x is no number; a string stands in double quotes");
    expect("count = 1.2.3;", "a.cfg:1: 1.2.3 is no number; a string stands in double quotes");
    expect("share = 1e;", "a.cfg:1: 1e is no number; a string stands in double quotes");
    expect("share = .5on = true;", "a.cfg:1: .5on is no number; a string stands in double quotes");
}

static void dangerous_text_is_refused(void **state)
{
    (void)state;
    expect("x = 1;\n@include \"/etc/passwd\"\n", "a.cfg:2: @include is not allowed: a config is one file");
    expect("group = ((((((((((((((((((", "a.cfg:1: nested deeper than 16 brackets");
    expect(
        "name = \"abc",
        "a.cfg:1: a string that begins here has no closing quote in its line (strings that follow each other are one)");
    expect(
        "count = 1;\nname = \"tiny;\nkind = \"linear\";",
        "a.cfg:2: a string that begins here has no closing quote in its line (strings that follow each other are one)");
    expect("\xef\xbb\xbf"
           "count = 3;",
           "");
    expect("/* abc", "a.cfg:1: a comment that begins here has no end");
    struct error err = read_text("count = 1;\0", 11, NULL);
    assert_string_equal(err.text, "a.cfg: holds a zero byte; a config is text");
    err = read_text("name = \"a\nb\";", 13, NULL);
    assert_null(strchr(err.text, '\n'));

    size_t size = CONFIG_TEXT_LIMIT + 1;
    char *large = malloc(size);
    memset(large, ' ', size);
    err = read_text(large, size, NULL);
    assert_non_null(strstr(err.text, "larger than a config may be"));
    free(large);

    char *many = malloc(30000 * 12), *at = many;
    for (int i = 0; i < 30000; i++)
        at += sprintf(at, "k%d=1;", i);
    err = read_text(many, (size_t)(at - many), NULL);
    assert_string_equal(err.text, "a.cfg:1: more than 20000 settings");
    free(many);
}

static void syntax_errors_are_told_in_words(void **state)
{
    (void)state;
    expect("count = ;", "a.cfg:1: count has no value");
    expect("\ncount =\n", "a.cfg:2: count has no value");
    expect("count\n", "a.cfg:1: count has no value");
    expect("count 3;", "a.cfg:1: = is missing behind count");
    expect("a = 1;\n\ncount == 3;", "a.cfg:3: = where a value is expected");
    expect("name = abc;", "a.cfg:1: abc is no value; a string stands in double quotes");
    expect("name = 'abc';", "a.cfg:1: a string stands in double quotes");
    expect("name = 4h;", "a.cfg:1: 4h is no number; a string stands in double quotes");
    expect("list = [ 1,\n 2, ];\n", "a.cfg:2: a comma before ]; allowed: commas between values");
    expect("list = [ 1,\n 2 3 ];\n", "a.cfg:2: a comma or ] is missing before 3, in the bracket that line 1 opens");
    expect("list = [ 1, 2 };", "a.cfg:1: } where ] is expected, for the bracket that line 1 opens");
    expect("# a\ngroup = {\n count = 1;\n", "a.cfg:2: a bracket that begins here has no closing }");
    expect("group = { count = 1; }; };", "a.cfg:1: } closes nothing");
    expect("items = ( { count = 1; } { count = 2; } );",
           "a.cfg:1: a comma or ) is missing before {, in the bracket that line 1 opens");
    expect("list = [ [ 1 ] ];",
           "a.cfg:1: [ inside [ ]; an array holds numbers, truth values or strings, lists are ( )");
    expect("/* a\n*/ 3 = count;", "a.cfg:2: 3 where the name of a setting is expected");
    expect("name = \"a\" \"b\"; on = TRUE, count : 0x1f", "");
}

/* What libconfig reads is never said to be wrong, and what it refuses is nearly always told in words. */
static void syntax_words_agree_with_the_parser(void **state)
{
    (void)state;
    static const char good[] =
        "# a sweep\nname = \"a\";\ncount = 3; share = .5\nkind : \"linear\", reals = [1.0, 2e-3];\n"
        "group = { count = 0x2; /* in */ };\nitems = ( { count = 1; }, { count = 2L } )\n// end\n"
        "words = [\"a\" \"b\", \"c\"]; list = [1, +2, -3]; on = true;\nx = (1, \"a\", [2], {}, ());\n";
    static const char alphabet[] = "{}[](),;=:\"'#/*\n ax19.-e";
    unsigned seed = 11;
    size_t refused = 0, told = 0;
    for (int round = 0; round < 20000; round++) {
        char text[sizeof good + 1];
        size_t size = sizeof good - 1, place = (size_t)rand_r(&seed) % size;
        memcpy(text, good, sizeof good);
        char put = alphabet[(size_t)rand_r(&seed) % (sizeof alphabet - 1)];
        if (round % 3 == 0) {
            text[place] = put;
        } else if (round % 3 == 1) {
            memmove(text + place, good + place + 1, size - place);
            size--;
        } else if (round > 2) {
            memmove(text + place + 1, good + place, size - place + 1);
            text[place] = put;
            size++;
        }
        struct error err = {""};
        char what[160];
        int line = 0;
        struct config_file *file = config_file_parse("a.cfg", text, size, &err);
        bool words = config_syntax(text, size, &line, what, sizeof what);
        if (file && words) fail_msg("said \"%d: %s\" of\n%.*s", line, what, (int)size, text);
        if (!file && !strstr(err.text, "quote") && !strstr(err.text, "comment") && !strstr(err.text, "mismatch") &&
            !strstr(err.text, "duplicate") && !strstr(err.text, "begins with a zero") &&
            !strstr(err.text, "is no number")) {
            refused++;
            told += words;
            if (words) assert_true(line >= 1 && line <= 10 && !strchr(what, '\n'));
        }
        if (file) config_file_close(file);
    }
    assert_true(refused > 3000);
    if (told * 100 < refused * 98) fail_msg("%zu of %zu told in words", told, refused);
}

static void parameters_and_defaults_are_listed(void **state)
{
    (void)state;
    char *parameters = NULL;
    struct error err = read_text("count = 9; list = [ 1, 2 ]; group = { };", 40, &parameters);
    assert_string_equal(err.text, "");
    assert_non_null(strstr(parameters, "count = 9\n"));
    assert_non_null(strstr(parameters, "share = 0.5  # default\n"));
    assert_non_null(strstr(parameters, "list = [1, 2]\n"));
    assert_non_null(strstr(parameters, "group.count = 3  # default\n"));
    free(parameters);
}

static void files_that_are_none_are_refused(void **state)
{
    (void)state;
    char *text;
    size_t size;
    struct error err;
    assert_int_equal(config_text_read(temporary_folder, &text, &size, &err), -1);
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_int_equal(config_text_read("/dev/zero", &text, &size, &err), -1);
    assert_int_equal(config_text_read(temporary_path("absent.cfg"), &text, &size, &err), -1);
    assert_non_null(strstr(err.text, "absent.cfg: No such file"));
    const char *fifo = temporary_path("fifo"); /* must not wait for a writer */
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(config_text_read(fifo, &text, &size, &err), -1);
    const char *path = temporary_write("a.cfg", "count = 3;", 10);
    assert_int_equal(config_text_read(path, &text, &size, &err), 0);
    assert_int_equal(size, 10);
    free(text);
}

/* Random cuts, flips and repetitions of a text that has every construct: an answer each time, one line. */
static void broken_text_never_breaks_the_reader(void **state)
{
    (void)state;
    static const char seed[] = "count = 12; share = 1e-3; on = true; name = \"a\\\"b\"; # c\nlist = [ 1, 2, 0x1F ];\n"
                               "group = { count = 1; inner = ( 1, \"x\", { a = 1; } ); };\nitems = ( { count = 3; } ); "
                               "/* c */ words = ( \"a\" \"b\", \"c\" );";
    uint64_t random = 88172645463325252u;
    char text[sizeof seed * 2];
    for (int round = 0; round < 20000; round++) {
        size_t size = sizeof seed - 1;
        memcpy(text, seed, size);
        for (int change = 0; change < 4; change++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            size_t at = (size_t)(random % size), from = (size_t)(random >> 20) % size;
            switch ((random >> 40) % 4) {
            case 0:
                text[at] = (char)(random >> 48);
                break;
            case 1:
                size = at + 1;
                break;
            case 2:
                text[at] = "{}[]()=;\"@-+.eL0,"[(random >> 50) % 17];
                break;
            default:
                memmove(text + at, text + from, size - (at > from ? at : from));
            }
        }
        struct error err = read_text(text, size, NULL);
        assert_null(strchr(err.text, '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_that_are_right),
        cmocka_unit_test(mistakes_are_named_with_their_line),
        cmocka_unit_test(unknown_keys_are_refused),
        cmocka_unit_test(numbers_are_not_misread),
        cmocka_unit_test(dangerous_text_is_refused),
        cmocka_unit_test(syntax_errors_are_told_in_words),
        cmocka_unit_test(syntax_words_agree_with_the_parser),
        cmocka_unit_test(parameters_and_defaults_are_listed),
        cmocka_unit_test(files_that_are_none_are_refused),
        cmocka_unit_test(broken_text_never_breaks_the_reader),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
