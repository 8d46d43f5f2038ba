/* Full and broken disks: every call that writes fails in its turn. The caller gets one line that names the file and the
 * reason, what was committed is still there, and the next try, on a disk that works, goes on. */
#include "store_fixture.h"

#include "disk.h"
#include "io/checkpoint/checkpoint.h"
#include "io/store/store_internal.h"

#ifdef __SANITIZE_ADDRESS__
/* HDF5 1.10 keeps what it has of a file that a full disk does not let it close. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}
#endif

enum { POINTS = 8, HAD = 3, CALLS = 1000 };

static const struct {
    int number;
    bool once;
} failures[] = {{ENOSPC, false}, {EIO, false}, {EIO, true}};
enum { FAILURES = sizeof failures / sizeof failures[0] };

static void disk_break(const char *folder, int which, long calls)
{
    disk_start(folder);
    disk.recording = true;
    disk.failures = 0;
    disk.fail_errno = failures[which].number;
    disk.fail_once = failures[which].once;
    disk.fail_after = calls;
}

static void disk_mend(void)
{
    disk.fail_after = -1;
    disk_stop();
}

static void assert_told(const struct error *err, int which, long calls)
{
    if (!strstr(err->text, strerror(failures[which].number)) || !strstr(err->text, "/tmp/tunelaw_store_"))
        fail_msg("call %ld, %s: \"%s\"", calls, strerror(failures[which].number), err->text);
}

/* Points 0..HAD-1 are committed. */
static void store_make(struct fixture *fixture)
{
    unlink(fixture->path);
    fixture_generation(fixture, 0, POINTS);
    struct store *store = fixture_open(fixture, true);
    for (size_t i = 0; i < HAD; i++)
        fixture_commit(store, i, i);
    store_close(store);
}

/* The store opens, the first rows are right, the others right or empty; then a new start commits what is left. */
static void store_check(struct fixture *fixture, bool others_empty)
{
    struct store *store = fixture_open(fixture, false);
    for (size_t i = 0; i < store_count(store); i++) {
        int found = store_read(store, i, NULL, NULL, NULL, &fixture->err);
        if (found < 0) fail_msg("%s", fixture->err.text);
        if (i < HAD) assert_int_equal(found, 1);
        if (i >= HAD && others_empty) assert_int_equal(found, 0);
        if (found) fixture_check_row(store, i, i);
    }
    store_close(store);
    assert_int_equal(fixture_generation(fixture, 0, POINTS).damaged, 0);
    unsigned char committed[POINTS];
    store = fixture_open(fixture, true);
    assert_int_equal(store_committed(store, committed, NULL), 0);
    for (size_t i = 0; i < POINTS; i++)
        if (!committed[i]) fixture_commit(store, i, i);
    for (size_t i = 0; i < POINTS; i++)
        fixture_check_row(store, i, i);
    store_close(store);
}

static void test_commit(void **state)
{
    struct fixture *fixture = *state;
    long tried = 0;
    for (int which = 0; which < FAILURES; which++)
        for (long calls = 0;; calls++) {
            struct store_row rows[3] = {fixture_row(4, 4), fixture_row(3, 3), fixture_row(7, 7)};
            assert_true(calls < CALLS);
            store_make(fixture);
            disk_start(fixture->dir);
            struct store *store = fixture_open(fixture, true);
            disk_break(fixture->dir, which, calls);
            disk.file_of[store->fd] = 1;
            int result = store_commit(store, rows, 3, &fixture->err);
            long failed = disk.failures;
            bool synced = store->sync_failed;
            disk_mend();
            if (synced) { /* the same store takes nothing more, even if the disk seems to work again */
                struct store_row next = fixture_row(6, 6);
                assert_int_equal(store_commit(store, &next, 1, &fixture->err), -1);
                assert_non_null(strstr(fixture->err.text, "earlier sync"));
            }
            store_close(store);
            if (failed == 0) {
                assert_int_equal(result, 0);
                break;
            }
            assert_int_equal(result, -1);
            if (!synced) assert_told(&fixture->err, which, calls);
            store_check(fixture, calls < 7); /* payload: 3 writes for rows 3 and 4, 3 for row 7; the first sync */
            tried++;
        }
    assert_int_equal(tried, FAILURES * (6 + 1 + 3 + 1));
}

static void test_generation(void **state)
{
    struct fixture *fixture = *state;
    char temporary[128];
    snprintf(temporary, sizeof temporary, "%s.tmp", fixture->path);
    for (int which = 0; which < FAILURES; which++) {
        long calls = 0, tried = 0;
        for (;; calls++) {
            struct store_point *points = fixture_points(0, POINTS + 2);
            assert_true(calls < CALLS);
            store_make(fixture);
            disk_break(fixture->dir, which, calls);
            int result = store_generation(fixture->dir, &fixture_header, points, POINTS + 2, NULL, &fixture->err);
            long failed = disk.failures;
            disk_mend();
            free(points);
            if (failed == 0) {
                assert_int_equal(result, 0);
                break;
            }
            assert_int_equal(result, -1);
            assert_told(&fixture->err, which, calls);
            assert_int_equal(access(temporary, F_OK), -1); /* a full disk gets its room back */
            store_check(fixture, true);
            tried++;
        }
        assert_true(tried > 20);
    }
}

static void test_first_generation(void **state)
{
    struct fixture *fixture = *state;
    struct store_point *points = fixture_points(0, POINTS);
    for (int which = 0; which < FAILURES; which++)
        for (long calls = 0;; calls++) {
            assert_true(calls < CALLS);
            unlink(fixture->path);
            disk_break(fixture->dir, which, calls);
            int result = store_generation(fixture->dir, &fixture_header, points, POINTS, NULL, &fixture->err);
            long failed = disk.failures;
            disk_mend();
            if (failed == 0) break;
            assert_int_equal(result, -1);
            assert_told(&fixture->err, which, calls);
        }
    assert_int_equal(access(fixture->path, F_OK), 0);
    free(points);
}

static int checkpoint_publish(const char *path, uint64_t step, struct error *err)
{
    static float values[300];
    struct checkpoint_header header = {.step = step};
    struct checkpoint_tile tile = {"value/w", 10, 30, 0, 10, 0, 30};
    struct checkpoint_writer *writer = checkpoint_writer_create(path, &header, NULL, 0, err);
    if (!writer) return -1;
    if (checkpoint_writer_declare(writer, "value/w", 10, 30, err) != 0 ||
        checkpoint_writer_put(writer, &tile, values, err) != 0) {
        checkpoint_writer_destroy(writer);
        return -1;
    }
    return checkpoint_writer_finish(writer, NULL, err);
}

static void test_checkpoint(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/state.h5", fixture->dir);
    for (int which = 0; which < FAILURES; which++)
        for (long calls = 0;; calls++) {
            struct checkpoint_header header;
            size_t left;
            assert_true(calls < CALLS);
            if (checkpoint_publish(path, 1, &fixture->err) != 0) fail_msg("%s", fixture->err.text);
            disk_break(fixture->dir, which, calls);
            int result = checkpoint_publish(path, 2, &fixture->err);
            long failed = disk.failures;
            bool published = false; /* the directory's sync comes after the rename */
            for (size_t i = 0; i < disk.count; i++)
                published = published || disk.events[i].kind == DISK_RENAME;
            disk_mend();
            assert_int_equal(checkpoint_peek(path, &header, &fixture->err), 1);
            if (failed == 0) break;
            assert_int_equal(result, -1);
            assert_told(&fixture->err, which, calls);
            assert_int_equal(header.step, published ? 2 : 1);
            assert_int_equal(checkpoint_remove_unfinished(fixture->dir, &left, &fixture->err), 0);
            assert_int_equal(left, 0);
        }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_commit), TEST(test_generation), TEST(test_first_generation),
                                       TEST(test_checkpoint)};
    disk.no_sync = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
