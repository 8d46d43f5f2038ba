/* The store: what is committed is read back, what is not is not, and generations keep it. */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "io/store/store_internal.h"

static void test_create_and_commit(void **state)
{
    struct fixture *fixture = *state;
    struct store_generation_report report = fixture_generation(fixture, 0, 5);
    assert_int_equal(report.added, 5);
    assert_int_equal(report.kept + report.removed + report.damaged, 0);
    assert_int_equal(report.epoch, 1);
    struct store *store = fixture_open(fixture, true);
    assert_int_equal(store_count(store), 5);
    assert_int_equal(store_epoch(store), 1);
    assert_string_equal(store_config(store), fixture_header.config_text);
    assert_string_equal(store_config_path(store), fixture_header.config_path);
    assert_string_equal(store_name(store), fixture_header.name);
    assert_string_equal(store_dataset_digest(store), fixture_header.dataset_digest);
    struct store_point expected = fixture_point(3);
    assert_memory_equal(store_point(store, 3), &expected, sizeof expected);
    struct store_row rows[2] = {fixture_row(4, 4), fixture_row(1, 1)};
    assert_int_equal(store_commit(store, rows, 2, &fixture->err), 0);
    unsigned char committed[5];
    assert_int_equal(store_committed(store, committed, &fixture->err), 0);
    assert_memory_equal(committed, "\0\1\0\0\1", 5);
    store_close(store);
    store = fixture_open(fixture, false);
    fixture_check_row(store, 4, 4);
    fixture_check_row(store, 1, 1);
    struct store_execution execution;
    assert_int_equal(store_read(store, 1, NULL, &execution, NULL, NULL), 1);
    assert_int_equal(execution.epoch, 1);
    assert_int_equal(store_read(store, 0, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(store_read(store, 5, NULL, NULL, NULL, &fixture->err), -1);
    store_close(store);
}

/* Finished rows get other metrics of texts; everything else of them, and of the other rows, is the same bytes. */
static void test_amend(void **state)
{
    struct fixture *fixture = *state;
    struct store_slots before[4], after;
    fixture_generation(fixture, 0, 4);
    struct store *store = fixture_open(fixture, true);
    fixture_commit(store, 1, 1);
    fixture_commit(store, 3, 3);
    for (size_t i = 0; i < 4; i++)
        store_read_slots(store, i, &before[i], NULL);
    store_close(store);
    struct store_result texts = fixture_row(3, 3).result, unknown = fixture_row(2, 2).result, found;
    texts.bleu = 99;
    texts.beams = 1;
    texts.length_penalty = NAN;
    texts.test_loss = 12345; /* is not of texts */
    assert_int_equal(store_amend(fixture->dir, &unknown, 1, "0.2", &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "no finished row has the identity"));
    assert_int_equal(store_amend(fixture->dir, &texts, 1, "0.2", &fixture->err), 0);
    store = fixture_open(fixture, false);
    assert_int_equal(store_epoch(store), 2);
    assert_string_equal(store_program_version(store), "0.2");
    assert_string_equal(store_config(store), fixture_header.config_text);
    fixture_check_row(store, 1, 1);
    assert_int_equal(store_read(store, 0, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(store_read_slots(store, 1, &after, &fixture->err), 1);
    assert_memory_equal(&after, &before[1], sizeof after);
    assert_int_equal(store_read_slots(store, 3, &after, &fixture->err), 1);
    assert_memory_equal(after.result, before[3].result, offsetof(struct store_result, bleu));
    assert_memory_equal(after.execution, before[3].execution, sizeof after.execution);
    assert_memory_equal(after.curve, before[3].curve, sizeof after.curve);
    assert_int_equal(store_read(store, 3, &found, NULL, NULL, &fixture->err), 1);
    assert_true(found.bleu == 99 && found.beams == 1 && isnan(found.length_penalty) && found.chrf == 50.25);
    store_close(store);
}

static void test_commit_refuses(void **state)
{
    struct fixture *fixture = *state;
    fixture_generation(fixture, 0, 4);
    struct store *store = fixture_open(fixture, true);
    fixture_commit(store, 1, 1);
    struct store_row again = fixture_row(1, 1), foreign = fixture_row(2, 3), outside = fixture_row(4, 4);
    struct store_row pending = fixture_row(2, 2), curve = fixture_row(2, 2);
    struct store_row twice[2] = {fixture_row(2, 2), fixture_row(2, 2)}, good_then_bad[2] = {fixture_row(0, 0), again};
    pending.result.status = STORE_CRASHED;
    curve.curve.count = STORE_CURVE + 1;
    assert_int_equal(store_commit(store, &again, 1, &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "already committed"));
    assert_int_equal(store_commit(store, &foreign, 1, &fixture->err), -1);
    assert_int_equal(store_commit(store, &outside, 1, &fixture->err), -1);
    assert_int_equal(store_commit(store, &pending, 1, &fixture->err), -1);
    assert_int_equal(store_commit(store, &curve, 1, &fixture->err), -1);
    assert_int_equal(store_commit(store, twice, 2, &fixture->err), -1);
    assert_int_equal(store_commit(store, good_then_bad, 2, &fixture->err), -1);
    unsigned char committed[4];
    assert_int_equal(store_committed(store, committed, NULL), 0);
    assert_memory_equal(committed, "\0\1\0\0", 4);
    store_close(store);
    store = fixture_open(fixture, false);
    struct store_row row = fixture_row(2, 2);
    assert_int_equal(store_commit(store, &row, 1, &fixture->err), -1);
    store_close(store);
}

/* Two sweeps that compute the same write the same bytes, whatever their callers left in the gaps of a row. */
static void test_results_are_deterministic(void **state)
{
    struct fixture *fixture = *state;
    struct store_point points[2] = {fixture_point(0), fixture_point(4)};
    void *bytes[2];
    for (int run = 0; run < 2; run++) {
        unlink(fixture->path);
        assert_int_equal(store_generation(fixture->dir, &fixture_header, points, 2, NULL, &fixture->err), 0);
        struct store *store = fixture_open(fixture, true);
        struct store_row rows[2] = {fixture_row(0, 0), fixture_row(1, 4)};
        rows[0].execution.attempt += (uint32_t)run;
        if (run) rows[1].result.test_loss = (double)NAN; /* the fixture's has the sign bit set */
        assert_int_equal(store_commit(store, rows, 2, &fixture->err), 0);
        bytes[run] = malloc(2 * STORE_SLOT);
        assert_int_equal(pread(store->fd, bytes[run], 2 * STORE_SLOT, (off_t)store_offset(store, STORE_RESULTS, 0)),
                         2 * STORE_SLOT);
        store_close(store);
    }
    assert_memory_equal(bytes[0], bytes[1], 2 * STORE_SLOT);
    free(bytes[0]);
    free(bytes[1]);
}

/* Rows that lie side by side go to the disk under one write, others alone: the bytes are the same, in whatever order
 * they are given. */
static void test_rows_side_by_side(void **state)
{
    enum { COUNT = 200, STRIDE = 77 };
    struct fixture *fixture = *state;
    struct store_row *rows = calloc(COUNT, sizeof *rows);
    size_t count = 0;
    for (size_t i = 0; i < COUNT; i++) {
        size_t index = i * STRIDE % COUNT;
        if (index % 90 != 3 && index != 150) rows[count++] = fixture_row(index, index);
    }
    fixture_generation(fixture, 0, COUNT);
    struct store *store = fixture_open(fixture, true);
    assert_int_equal(store_commit(store, rows, count, &fixture->err), 0);
    assert_int_equal(store_commit(store, rows, 1, &fixture->err), -1);
    store_close(store);
    store = fixture_open(fixture, true);
    assert_int_equal(store_commit(store, rows + 1, 1, &fixture->err), -1); /* as the file itself says */
    for (size_t i = 0; i < COUNT; i++) {
        bool left = i % 90 == 3 || i == 150;
        assert_int_equal(store_read(store, i, NULL, NULL, NULL, &fixture->err), left ? 0 : 1);
        if (left) fixture_commit(store, i, i);
        fixture_check_row(store, i, i);
    }
    store_close(store);
    free(rows);
}

static void test_attempts(void **state)
{
    enum { COUNT = 600 };
    struct fixture *fixture = *state;
    uint32_t attempts[COUNT];
    fixture_generation(fixture, 0, COUNT);
    struct store *store = fixture_open(fixture, true);
    for (size_t i = 0; i < COUNT; i += 3) {
        struct store_state one = {.status = STORE_RUNNING, .attempts = (uint32_t)i + 1};
        if (i % 2) store_field(one.message, sizeof one.message, "out of memory");
        assert_int_equal(store_set_state(store, i, &one, &fixture->err), 0);
    }
    uint32_t two = 2; /* no longer what its checksum says */
    assert_int_equal(pwrite(store->fd, &two, 4, (off_t)store_offset(store, STORE_STATE_ROWS, 300) + 4), 4);
    assert_int_equal(store_attempts(store, attempts, &fixture->err), 0);
    for (size_t i = 0; i < COUNT; i++) {
        uint32_t expected = i % 3 ? 0 : i % 2 || i == 300 ? STORE_ATTEMPTS_UNKNOWN : (uint32_t)i + 1;
        assert_int_equal(attempts[i], expected);
    }
    store_close(store);
}

static void test_state(void **state)
{
    struct fixture *fixture = *state;
    fixture_generation(fixture, 0, 3);
    struct store *store = fixture_open(fixture, true);
    struct store_state found, running = {STORE_RUNNING, 2, 1.7e9, 0.25, "worker 3: signal 9"};
    assert_int_equal(store_read_state(store, 1, &found, &fixture->err), 0);
    assert_int_equal(found.status, STORE_PENDING);
    assert_int_equal(found.attempts, 0);
    assert_int_equal(store_set_state(store, 1, &running, &fixture->err), 0);
    assert_int_equal(store_read_state(store, 1, &found, &fixture->err), 0);
    assert_memory_equal(&found, &running, sizeof running);
    running.status = STORE_STATUSES;
    assert_int_equal(store_set_state(store, 1, &running, &fixture->err), -1);
    assert_int_equal(store_set_state(store, 3, &found, &fixture->err), -1);
    store_close(store);
}

static void test_generation_keeps_adds_removes(void **state)
{
    struct fixture *fixture = *state;
    fixture_generation(fixture, 0, 6);
    struct store *store = fixture_open(fixture, true);
    fixture_commit(store, 1, 1);
    fixture_commit(store, 4, 4);
    struct store_state crashed = {STORE_CRASHED, 3, 1.7e9, 0.5, "signal 11"};
    struct store_state running = {STORE_RUNNING, 1, 1.7e9, 0.5, ""};
    assert_int_equal(store_set_state(store, 5, &crashed, NULL), 0);
    assert_int_equal(store_set_state(store, 4, &running, NULL), 0);
    /* points 3..8: 0, 1, 2 leave the sweep, of these 1 is committed; 6, 7, 8 are new */
    struct store_generation_report report = fixture_generation(fixture, 3, 6);
    assert_int_equal(report.kept, 2);
    assert_int_equal(report.added, 3);
    assert_int_equal(report.removed, 1);
    assert_int_equal(report.damaged, 0);
    assert_int_equal(report.epoch, 2);
    /* the process of the earlier attempt writes into the old file only */
    fixture_commit(store, 0, 0);
    store_close(store);
    store = fixture_open(fixture, false);
    assert_int_equal(store_count(store), 7);
    fixture_check_row(store, 1, 4);
    fixture_check_row(store, 6, 1);
    assert_int_equal(store_point(store, 6)->removed, 1);
    assert_int_equal(store_point(store, 1)->removed, 0);
    struct store_state found;
    assert_int_equal(store_read_state(store, 2, &found, NULL), 0);
    assert_int_equal(found.status, STORE_PENDING);
    assert_int_equal(found.attempts, 3);
    assert_string_equal(found.message, "signal 11");
    assert_int_equal(store_read_state(store, 1, &found, NULL), 0);
    assert_int_equal(found.status, STORE_DIVERGED);
    unsigned char committed[7];
    assert_int_equal(store_committed(store, committed, NULL), 0);
    assert_memory_equal(committed, "\0\1\0\0\0\0\1", 7);
    store_close(store);
    /* a point that comes back has its result */
    report = fixture_generation(fixture, 0, 6);
    assert_int_equal(report.kept, 2);
    assert_int_equal(report.added, 2);
    assert_int_equal(report.removed, 0);
    store = fixture_open(fixture, false);
    assert_int_equal(store_epoch(store), 3);
    fixture_check_row(store, 1, 1);
    struct store_execution execution;
    assert_int_equal(store_read(store, 1, NULL, &execution, NULL, NULL), 1);
    assert_int_equal(execution.epoch, 1);
    store_close(store);
}

static void flip(const char *path, uint64_t offset)
{
    int fd = open(path, O_RDWR);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static void test_damaged_rows_run_again(void **state)
{
    struct fixture *fixture = *state;
    fixture_generation(fixture, 0, 5);
    struct store *store = fixture_open(fixture, true);
    for (size_t i = 0; i < 5; i++)
        fixture_commit(store, i, i);
    flip(fixture->path, store_offset(store, STORE_RESULTS, 0) + 100);
    flip(fixture->path, store_offset(store, STORE_EXECUTIONS, 1) + 5);
    flip(fixture->path, store_offset(store, STORE_CURVES, 2) + 77);
    flip(fixture->path, store_offset(store, STORE_RESULTS, 3) + STORE_MARKER_OFFSET);
    struct store_execution execution;
    struct store_curve curve;
    assert_int_equal(store_read(store, 0, NULL, NULL, NULL, &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "row 0 is damaged"));
    assert_int_equal(store_read(store, 1, NULL, NULL, NULL, NULL), -1);
    assert_int_equal(store_read(store, 1, NULL, &execution, NULL, &fixture->err), -1);
    /* a curve alone: empty, and nothing else is concerned */
    assert_int_equal(store_read(store, 2, NULL, NULL, &curve, &fixture->err), 1);
    assert_int_equal(curve.count, 0);
    assert_int_equal(store_check_curve(store, 2, &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "curve"));
    assert_int_equal(store_read(store, 3, NULL, NULL, NULL, &fixture->err), -1);
    store_close(store);
    struct store_generation_report report = fixture_generation(fixture, 0, 5);
    assert_int_equal(report.damaged, 3);
    assert_int_equal(report.kept, 2);
    assert_int_equal(report.curves, 1);
    store = fixture_open(fixture, true);
    assert_int_equal(store_read(store, 2, NULL, NULL, &curve, &fixture->err), 1);
    assert_int_equal(store_check_curve(store, 2, NULL), 0);
    assert_int_equal(curve.count, 0);
    for (size_t i = 0; i < 4; i++) {
        struct store_state pending;
        if (i == 2) continue;
        assert_int_equal(store_read(store, i, NULL, NULL, NULL, NULL), 0);
        assert_int_equal(store_read_state(store, i, &pending, NULL), 0);
        assert_int_equal(pending.status, STORE_PENDING);
        fixture_commit(store, i, i);
    }
    for (size_t i = 0; i < 5; i++)
        if (i != 2) fixture_check_row(store, i, i);
    store_close(store);
}

/* A row whose state says that it is finished, and whose result is a hole, has lost it. */
static void test_lost_results(void **state)
{
    static const unsigned char hole[STORE_SLOT];
    struct fixture *fixture = *state;
    struct store_state done = {.status = STORE_DONE, .attempts = 1};
    fixture_generation(fixture, 0, 3);
    struct store *store = fixture_open(fixture, true);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(store_read(store, i, NULL, NULL, NULL, &fixture->err), 0);
        fixture_commit(store, i, i);
        assert_int_equal(store_set_state(store, i, &done, &fixture->err), 0);
    }
    int fd = open(fixture->path, O_WRONLY);
    assert_int_equal(pwrite(fd, hole, sizeof hole, (off_t)store_offset(store, STORE_RESULTS, 1)), sizeof hole);
    close(fd);
    assert_int_equal(store_read(store, 0, NULL, NULL, NULL, &fixture->err), 1);
    assert_int_equal(store_read(store, 1, NULL, NULL, NULL, &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "its result is not there"));
    store_close(store);
    struct store_generation_report report = fixture_generation(fixture, 0, 3);
    assert_true(report.damaged == 1 && report.kept == 2);
}

static void test_generation_refuses(void **state)
{
    struct fixture *fixture = *state;
    struct store_point points[3] = {fixture_point(0), fixture_point(1), fixture_point(0)};
    assert_int_equal(store_generation(fixture->dir, &fixture_header, points, 3, NULL, &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "two points"));
    assert_int_equal(store_generation(fixture->dir, &fixture_header, points, 0, NULL, &fixture->err), -1);
    assert_int_equal(access(fixture->path, F_OK), -1);
    points[2] = (struct store_point){0};
    assert_int_equal(store_generation(fixture->dir, &fixture_header, points, 3, NULL, &fixture->err), -1);
    assert_int_equal(store_generation("/nonexistent", &fixture_header, points, 2, NULL, &fixture->err), -1);
    /* something else under the store's name stays as it is */
    fixture_write_file(fixture->path, "my notes", 8);
    assert_int_equal(store_generation(fixture->dir, &fixture_header, points, 2, NULL, &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "not a tunelaw store"));
    size_t size;
    char *bytes = fixture_read_file(fixture->path, &size);
    assert_int_equal(size, 8);
    assert_memory_equal(bytes, "my notes", 8);
    free(bytes);
}

/* A link left at the temporary name must not lead the new generation into another file. */
static void test_generation_follows_no_link(void **state)
{
    struct fixture *fixture = *state;
    char victim[128], temporary[128];
    snprintf(victim, sizeof victim, "%s/victim", fixture->dir);
    snprintf(temporary, sizeof temporary, "%s.tmp", fixture->path);
    fixture_write_file(victim, "precious", 8);
    assert_int_equal(symlink(victim, temporary), 0);
    mode_t mask = umask(027);
    fixture_generation(fixture, 0, 2);
    umask(mask);
    size_t size;
    char *bytes = fixture_read_file(victim, &size);
    assert_int_equal(size, 8);
    free(bytes);
    struct stat status;
    assert_int_equal(lstat(fixture->path, &status), 0);
    assert_true(S_ISREG(status.st_mode));
    assert_int_equal(status.st_mode & 0777, 0640);
    assert_int_equal(access(temporary, F_OK), -1);
}

static void test_find(void **state)
{
    struct fixture *fixture = *state;
    struct store_point points[4] = {fixture_point(0), fixture_point(1), fixture_point(2), fixture_point(3)};
    memcpy(points[1].identity, "abcd0000000000000000000000000001", DIGEST_HEX);
    memcpy(points[3].identity, "abcd1000000000000000000000000001", DIGEST_HEX);
    assert_int_equal(store_generation(fixture->dir, &fixture_header, points, 4, NULL, &fixture->err), 0);
    struct store *store = fixture_open(fixture, false);
    assert_int_equal(store_find(store, "abcd0", &fixture->err), 1);
    assert_int_equal(store_find(store, "abcd1000000000000000000000000001", &fixture->err), 3);
    assert_int_equal(store_find(store, "abcd", &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "more than one"));
    assert_int_equal(store_find(store, "abc", &fixture->err), -1);
    assert_int_equal(store_find(store, "abcd2", &fixture->err), -1);
    assert_int_equal(store_find(store, "abcd10000000000000000000000000010", &fixture->err), -1);
    char identity[DIGEST_HEX + 1] = {0};
    for (size_t i = 0; i < 4; i++) {
        memcpy(identity, points[i].identity, DIGEST_HEX);
        assert_int_equal(store_find(store, identity, &fixture->err), i);
    }
    store_close(store);
}

/* The order on which durability rests: payloads, sync, markers, sync. */
static char trace[64];
static int traced_write(int fd, const void *bytes, size_t size, uint64_t offset)
{
    strcat(trace, size == sizeof(struct store_marker) ? "m" : "p");
    return pwrite(fd, bytes, size, (off_t)offset) == (ssize_t)size ? 0 : -1;
}

static int traced_sync(int fd)
{
    strcat(trace, "s");
    return fdatasync(fd);
}

static int failing_sync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

static void test_commit_order(void **state)
{
    struct fixture *fixture = *state;
    fixture_generation(fixture, 0, 3);
    struct store *store = fixture_open(fixture, true);
    struct store_row rows[2] = {fixture_row(0, 0), fixture_row(2, 2)};
    store->calls = (struct store_calls){traced_write, failing_sync};
    assert_int_equal(store_commit(store, rows, 2, &fixture->err), -1);
    assert_string_equal(trace, "pppppp"); /* a payload that is not on disk gets no marker */
    assert_int_equal(store_read(store, 0, NULL, NULL, NULL, NULL), 0);
    /* nor does the next sync of this file say anything about it: one starts again */
    store->calls.sync = traced_sync;
    assert_int_equal(store_commit(store, rows, 2, &fixture->err), -1);
    store_close(store);
    store = fixture_open(fixture, true);
    store->calls = (struct store_calls){traced_write, traced_sync};
    trace[0] = '\0';
    assert_int_equal(store_commit(store, rows, 2, &fixture->err), 0);
    assert_string_equal(trace, "ppppppsmms");
    fixture_check_row(store, 2, 2);
    store_close(store);
}

/* No slot shares a page with another, and no payload shares a sector with its marker: also in the smallest store. */
static void test_slots_are_aligned(void **state)
{
    struct fixture *fixture = *state;
    static const size_t counts[] = {1, 2, 7, 15, 16, 100};
    assert_true(sizeof(struct store_result) <= STORE_SLOT - 512);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        unlink(fixture->path);
        fixture_generation(fixture, 0, counts[i]);
        struct store *store = fixture_open(fixture, true);
        assert_int_equal(store->offsets[STORE_RESULTS] % STORE_SLOT, 0);
        assert_int_equal(store->offsets[STORE_CURVES] % STORE_SLOT, 0);
        for (size_t row = 0; row < counts[i]; row++)
            fixture_commit(store, row, row);
        store_close(store);
        store = fixture_open(fixture, false);
        for (size_t row = 0; row < counts[i]; row++)
            fixture_check_row(store, row, row);
        store_close(store);
    }
}

static void test_text(void **state)
{
    (void)state;
    char field[8], out[9];
    store_field(field, sizeof field, "lora");
    assert_memory_equal(field, "lora\0\0\0\0", 8);
    store_field(field, sizeof field, "twelve bytes");
    assert_memory_equal(field, "twelve b", 8);
    store_text(out, sizeof out, field, sizeof field);
    assert_string_equal(out, "twelve b");
    store_text(out, 4, field, sizeof field);
    assert_string_equal(out, "twe");
    assert_string_equal(store_status_name(STORE_OUT_OF_MEMORY), "out-of-memory");
    assert_string_equal(store_status_name(STORE_SKIPPED), "skipped");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create_and_commit),
        TEST(test_amend),
        TEST(test_commit_refuses),
        TEST(test_results_are_deterministic),
        TEST(test_rows_side_by_side),
        TEST(test_attempts),
        TEST(test_state),
        TEST(test_generation_keeps_adds_removes),
        TEST(test_lost_results),
        TEST(test_damaged_rows_run_again),
        TEST(test_generation_refuses),
        TEST(test_generation_follows_no_link),
        TEST(test_find),
        TEST(test_commit_order),
        TEST(test_slots_are_aligned),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
