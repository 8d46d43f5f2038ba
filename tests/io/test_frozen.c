/* The layer under stores, checkpoints and data sets: what it writes it finds again, what it cannot write it leaves as
 * it was, and records are those of docs/store-format.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "forge.h"
#include "io/checkpoint/checkpoint_internal.h"
#include "io/file.h"
#include "io/store/store_internal.h"
#include "temporary.h"

static const struct frozen_format format = {"tunelaw test", 7, 1 << 20};
static const struct frozen_spec specs[] = {{"a/b/bytes", "bytes", "1", FROZEN_U8, NULL, true},
                                           {"text", "a text", "text", FROZEN_TEXT, NULL, true},
                                           {"none", "no rows", "1", FROZEN_F32, NULL, false},
                                           {"a/words", "words", "1", FROZEN_U64, NULL, false}};
enum { SPECS = sizeof specs / sizeof *specs };

static int create(const char *path, const struct frozen_attribute *attributes, size_t count,
                  struct frozen_part parts[SPECS], struct frozen_block *block, struct error *err)
{
    static const uint64_t rows[SPECS] = {100, 1, 0, 3};
    int fd = -1;
    for (int i = 0; i < SPECS; i++)
        parts[i] = (struct frozen_part){.spec = &specs[i], .rows = rows[i], .row_size = i == 1 ? 5 : 0};
    return frozen_create(path, &format, attributes, count, parts, SPECS, block, &fd, err) == 0 ? fd : -1;
}

static void test_round_trip(void **state)
{
    (void)state;
    static const struct frozen_attribute attributes[] = {
        {"name", "a name", 0}, {"empty", "", 0}, {"last", NULL, UINT64_MAX}};
    struct error err = {""};
    struct frozen_part parts[SPECS];
    struct frozen_block block, found;
    const char *text;
    uint64_t number;
    int fd = create(temporary_path("file.h5"), attributes, 3, parts, &block, &err);
    if (fd < 0) fail_msg("%s", err.text);
    assert_int_equal(file_write_at(fd, "hello", 5, parts[1].offset), 0);
    assert_int_equal(frozen_seal(fd, "file", &block, &err), 0);
    if (frozen_open(fd, "file", &format, &found, &err) != 0) fail_msg("%s", err.text);
    assert_memory_equal(&found, &block, sizeof block);
    for (int i = 0; i < SPECS; i++) {
        struct frozen_part part = {.spec = &specs[i]};
        assert_int_equal(frozen_locate(&found, "file", &part, &err), 0);
        assert_true(part.rows == parts[i].rows && part.offset == parts[i].offset && part.row_size == parts[i].row_size);
        assert_int_equal(part.rows == 0, part.offset == 0);
    }
    assert_int_equal(frozen_verify(fd, "file", &format, &found, &err), 0);
    assert_int_equal(frozen_get_text(&found, "file", "empty", &text, &err), 0);
    assert_string_equal(text, "");
    assert_int_equal(frozen_get_u64(&found, "file", "last", &number, &err), 0);
    assert_true(number == UINT64_MAX);
    assert_int_equal(frozen_get_u64(&found, "file", "name", &number, &err), -1);
    assert_int_equal(frozen_get_text(&found, "file", "a name", &text, &err), -1); /* a value */
    /* what is not sealed may change, what is sealed may not */
    assert_int_equal(file_write_at(fd, "x", 1, parts[3].offset), 0);
    assert_int_equal(frozen_verify(fd, "file", &format, &found, &err), 0);
    assert_int_equal(file_write_at(fd, "x", 1, parts[0].offset + 99), 0);
    assert_int_equal(frozen_verify(fd, "file", &format, &found, &err), -1);
    assert_non_null(strstr(err.text, "checksum of dataset a/b/bytes"));
    /* nobody reads more than a file of its kind can have under its seal */
    const struct frozen_format small = {"tunelaw test", 7, 9000};
    assert_int_equal(frozen_verify(fd, "file", &small, &found, &err), -1);
    assert_non_null(strstr(err.text, "more bytes under its seal"));
    close(fd);
}

static void test_refused(void **state)
{
    (void)state;
    struct error err = {""};
    struct frozen_part parts[SPECS];
    struct frozen_block block;
    char *longest = calloc(1, 6000);
    memset(longest, 'x', 5999);
    const struct frozen_attribute attribute = {"name", longest, 0};
    assert_int_equal(create(temporary_path("file.h5"), &attribute, 1, parts, &block, &err), -1);
    assert_non_null(strstr(err.text, "attribute name does not fit; there is room for 5624 bytes"));
    assert_int_equal(access(temporary_path("file.h5"), F_OK), -1);
    longest[5624 - 6] = '\0'; /* fits, with "name" and two zero bytes */
    int fd = create(temporary_path("file.h5"), &attribute, 1, parts, &block, &err);
    assert_true(fd >= 0);
    assert_true(block.attribute_size == 5624);
    close(fd);
    /* a file, or a link to nowhere, that is there stays as it is */
    temporary_write("notes", "my notes", 8);
    assert_int_equal(create(temporary_path("notes"), NULL, 0, parts, &block, &err), -1);
    assert_non_null(strstr(err.text, "File exists"));
    assert_int_equal(symlink("nowhere", temporary_path("link")), 0);
    assert_int_equal(create(temporary_path("link"), NULL, 0, parts, &block, &err), -1);
    struct stat status;
    assert_int_equal(stat(temporary_path("notes"), &status), 0);
    assert_int_equal(status.st_size, 8);
    assert_int_equal(lstat(temporary_path("link"), &status), 0);
    assert_int_equal(access(temporary_path("nowhere"), F_OK), -1);
    assert_int_equal(create("/nonexistent/file.h5", NULL, 0, parts, &block, &err), -1);
    free(longest);
}

/* Another digest here is another file format: raise the version, and change the page. */
static void test_records(void **state)
{
    (void)state;
    const struct {
        const struct frozen_spec *spec;
        uint64_t digest;
    } records[] = {{&store_specs[STORE_POINTS], 0x99e41cfa61edfcc7},
                   {&store_specs[STORE_STATE_ROWS], 0xfdc436d972b42613},
                   {&store_specs[STORE_EXECUTIONS], 0x9ae0aaa5b85af8c7},
                   {&store_specs[STORE_RESULTS], 0x87898557f18283c4},
                   {&store_specs[STORE_CURVES], 0xbfb0f25222ef3b64},
                   {&checkpoint_specs[CHECKPOINT_HEADER], 0x464e5ae06f4f649f},
                   {&checkpoint_specs[CHECKPOINT_CURVE], 0x288add3d5daae8a1},
                   {&checkpoint_specs[CHECKPOINT_INDEX], 0x39f3a5c84777e74b}};
    for (size_t i = 0; i < sizeof records / sizeof *records; i++)
        if (frozen_layout_digest(records[i].spec->layout) != records[i].digest)
            fail_msg("%s: %016llx", records[i].spec->name,
                     (unsigned long long)frozen_layout_digest(records[i].spec->layout));
    /* the page's recipe for them */
    static const char curve[] = "48\n0 step float64\n8 tokens float64\n16 train_loss float64\n24 valid_loss float64\n"
                                "32 gradient_norm float64\n40 learning_rate float64\n";
    assert_true(checksum_of(curve, sizeof curve - 1) == 0x288add3d5daae8a1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_refused, temporary_create, temporary_remove),
        cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
