/* A reason that does not fit keeps its beginning and its end: paths are long, and what went wrong stands last. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "io/error.h"

static void short_lines_are_kept(void **state)
{
    (void)state;
    char out[8];
    error_shorten(out, sizeof out, "1234567");
    assert_string_equal(out, "1234567");
    error_shorten(out, sizeof out, "");
    assert_string_equal(out, "");
}

static void long_lines_lose_their_middle(void **state)
{
    (void)state;
    char line[600], out[192];
    memset(line, 'p', 500);
    snprintf(line + 500, sizeof line - 500, ": No space left on device");
    memcpy(line, "/first", 6);
    error_shorten(out, sizeof out, line);
    assert_int_equal(strlen(out), sizeof out - 1);
    assert_int_equal(strncmp(out, "/first", 6), 0);
    assert_non_null(strstr(out, "p...p"));
    assert_non_null(strstr(out, ": No space left on device"));
}

static void characters_stay_whole(void **state)
{
    (void)state;
    char line[400];
    for (size_t i = 0; i < 199; i++)
        memcpy(line + 2 * i, "\xc3\xa4", 3);
    for (size_t size = 8; size < 64; size++) {
        char out[64];
        error_shorten(out, size, line);
        size_t bytes = 0;
        for (const char *c = out; *c; c++) {
            bytes += *c != '.';
            if (*c == '\xc3') assert_int_equal(c[1], '\xa4');
            if (*c == '\xa4') assert_true(c > out && c[-1] == '\xc3');
        }
        assert_true(strlen(out) < size && bytes % 2 == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_lines_are_kept),
        cmocka_unit_test(long_lines_lose_their_middle),
        cmocka_unit_test(characters_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
