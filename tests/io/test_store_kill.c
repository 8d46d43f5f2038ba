/* A committer killed with SIGKILL at random instants: every acknowledged row is there and right, no other row is half
 * there. The number of kills is the first argument or STORE_KILLS. */
#include "store_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { POINTS = 48 };
static size_t kills = 100;
static unsigned seed = 1;

static void pause_randomly(long longest_us)
{
    long us = (long)(rand_r(&seed) % (unsigned)longest_us);
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

/* Commit what is not committed, in groups of one to three, and acknowledge each row on the pipe. */
static void commit_rows(const char *dir, int acknowledge)
{
    struct error err;
    unsigned char committed[POINTS];
    struct store *store = store_open(dir, true, &err);
    if (!store || store_committed(store, committed, &err) != 0) _exit(1);
    for (size_t i = 0; i < POINTS;) {
        struct store_row rows[3];
        size_t count = 0;
        for (size_t most = i % 3 + 1; i < POINTS && count < most; i++)
            if (!committed[i]) rows[count++] = fixture_row(i, i);
        struct store_state running = {.status = STORE_RUNNING, .attempts = 1};
        if (count > 0 && store_set_state(store, rows[0].index, &running, &err) != 0) _exit(1);
        if (store_commit(store, rows, count, &err) != 0) _exit(1);
        for (size_t j = 0; j < count; j++) {
            unsigned char index = (unsigned char)rows[j].index;
            if (write(acknowledge, &index, 1) != 1) _exit(1);
        }
    }
    store_close(store);
}

static void generations(struct fixture *fixture)
{
    for (;;) {
        struct store_point *points = fixture_points(0, POINTS);
        if (store_generation(fixture->dir, &fixture_header, points, POINTS, NULL, &fixture->err) != 0) _exit(1);
        free(points);
    }
}

/* Returns how many rows are committed; acknowledged[i] rows must be, and every one must be whole. */
static size_t check_rows(struct fixture *fixture, const unsigned char *acknowledged)
{
    size_t count = 0;
    struct store *store = fixture_open(fixture, false);
    assert_int_equal(store_count(store), POINTS);
    for (size_t i = 0; i < POINTS; i++) {
        int status = store_read(store, i, NULL, NULL, NULL, &fixture->err);
        if (status < 0) fail_msg("a torn row is visible: %s", fixture->err.text);
        if (status == 0 && acknowledged[i]) fail_msg("row %zu was acknowledged and is lost", i);
        if (status == 1) fixture_check_row(store, i, i);
        count += status == 1;
    }
    store_close(store);
    return count;
}

static void end_child(pid_t child)
{
    int status;
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) fail_msg("the child failed by itself");
}

static void test_committer_killed(void **state)
{
    struct fixture *fixture = *state;
    size_t partial = 0, total = 0;
    unsigned char acknowledged[POINTS] = {0};
    fixture_generation(fixture, 0, POINTS);
    for (size_t round = 0; round < kills; round++) {
        int ends[2];
        unsigned char index;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            commit_rows(fixture->dir, ends[1]);
            for (;;)
                pause();
        }
        close(ends[1]);
        pause_randomly(30000);
        end_child(child);
        while (read(ends[0], &index, 1) == 1)
            acknowledged[index] = 1;
        close(ends[0]);
        size_t committed = check_rows(fixture, acknowledged);
        partial += committed > 0 && committed < POINTS;
        total += committed;
        if (committed == POINTS) { /* all there: begin again */
            memset(acknowledged, 0, sizeof acknowledged);
            unlink(fixture->path);
        }
        if (committed == POINTS || round % 8 == 0) fixture_generation(fixture, 0, POINTS);
    }
    assert_true(total > 0);
    if (kills >= 100) assert_true(partial > kills / 10); /* the kills did fall in the middle */
}

static void test_generation_killed(void **state)
{
    struct fixture *fixture = *state;
    unsigned char acknowledged[POINTS] = {0};
    uint64_t epoch = 0;
    fixture_generation(fixture, 0, POINTS);
    struct store *store = fixture_open(fixture, true);
    for (size_t i = 0; i < POINTS; i += 2) {
        fixture_commit(store, i, i);
        acknowledged[i] = 1;
    }
    store_close(store);
    for (size_t round = 0; round < kills / 4; round++) {
        pid_t child = fork();
        if (child == 0) generations(fixture);
        pause_randomly(40000);
        end_child(child);
        assert_int_equal(check_rows(fixture, acknowledged), POINTS / 2);
        store = fixture_open(fixture, false);
        assert_true(store_epoch(store) >= epoch);
        epoch = store_epoch(store);
        store_close(store);
    }
    assert_true(epoch > 1);
}

/* Readers open the store at any moment of a committing child, and what they have seen committed stays so. */
static void test_readers_meanwhile(void **state)
{
    struct fixture *fixture = *state;
    unsigned char seen[POINTS] = {0};
    int ends[2], status;
    fixture_generation(fixture, 0, POINTS);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        commit_rows(fixture->dir, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    size_t opened = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        struct store *store = fixture_open(fixture, false);
        for (size_t i = 0; i < POINTS; i++) {
            int found = store_read(store, i, NULL, NULL, NULL, &fixture->err);
            if (found < 0) fail_msg("%s", fixture->err.text);
            assert_true(found == 1 || !seen[i]);
            if (found == 1) fixture_check_row(store, i, i);
            seen[i] = found == 1;
        }
        store_close(store);
        opened++;
    }
    close(ends[0]);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    memset(seen, 1, sizeof seen);
    assert_int_equal(check_rows(fixture, seen), POINTS);
    assert_true(opened > 0);
}

/* A new generation takes the name between a reader's steps, again and again: the reader gets one of them. */
static void test_readers_between_generations(void **state)
{
    enum { OPENED = 150, GENERATIONS = 10, SECONDS = 120 };
    struct fixture *fixture = *state;
    uint64_t epoch = 0, first = 0;
    fixture_generation(fixture, 0, POINTS);
    pid_t child = fork();
    if (child == 0) generations(fixture);
    time_t end = time(NULL) + SECONDS;
    for (size_t i = 0; (i < OPENED || epoch < first + GENERATIONS) && time(NULL) < end; i++) {
        struct store *store = store_open(fixture->dir, false, &fixture->err);
        if (!store) {
            end_child(child);
            fail_msg("%s", fixture->err.text);
        }
        assert_true(store_epoch(store) >= epoch);
        epoch = store_epoch(store);
        if (i == 0) first = epoch;
        store_close(store);
    }
    end_child(child);
    assert_true(epoch >= first + GENERATIONS);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
    const char *count = argc > 1 ? argv[1] : getenv("STORE_KILLS");
    if (count) kills = (size_t)strtoul(count, NULL, 10);
    seed = (unsigned)time(NULL);
    print_message("%zu kills, seed %u\n", kills, seed);
    const struct CMUnitTest tests[] = {
        TEST(test_committer_killed),
        TEST(test_generation_killed),
        TEST(test_readers_meanwhile),
        TEST(test_readers_between_generations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
