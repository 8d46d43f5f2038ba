/* `tunelaw merge` as a user runs it: conflicts are shown and decided by rule, and nothing is written where they are
 * left. */
#include "tests/io/store_fixture.h"

#include <sys/stat.h>

#include "program.h"

/* DIR/NAME with one committed point of this loss, finished then. */
static void make_run(struct fixture *fixture, const char *name, double loss, double finished)
{
    char dir[128];
    struct store_point point = fixture_point(1);
    struct store_row row = fixture_row(0, 1);
    snprintf(dir, sizeof dir, "%s/%s", fixture->dir, name);
    assert_int_equal(mkdir(dir, 0777), 0);
    row.result.test_loss = loss;
    row.execution.finished = finished;
    if (store_generation(dir, &fixture_header, &point, 1, NULL, &fixture->err)) fail_msg("%s", fixture->err.text);
    struct store *store = store_open(dir, true, &fixture->err);
    if (!store || store_commit(store, &row, 1, &fixture->err)) fail_msg("%s", fixture->err.text);
    store_close(store);
}

static double loss_of(struct fixture *fixture, const char *path)
{
    struct store_result result;
    struct store *store = store_open(path, false, &fixture->err);
    if (!store) fail_msg("%s", fixture->err.text);
    assert_int_equal(store_read(store, 0, &result, NULL, NULL, NULL), 1);
    store_close(store);
    return result.test_loss;
}

static void check(struct output output, int code, const char *out, const char *errors)
{
    if (output.code != code || !strstr(output.out, out) || !strstr(output.errors, errors))
        fail_msg("exit %d\n%s\n%s", output.code, output.out, output.errors);
    program_free(&output);
}

static void test_conflict(void **state)
{
    struct fixture *fixture = *state;
    const char *dir = fixture->dir;
    char out[128];
    make_run(fixture, "a", 2.5, 100);
    make_run(fixture, "b", 2.25, 200);
    snprintf(out, sizeof out, "%s/out.h5", dir);
    check(program_run(dir, "merge %s %s/a %s/b", out, dir, dir), 1, "conflict: ", "1 results differ");
    assert_int_equal(access(out, F_OK), -1);
    check(program_run(dir, "merge %s %s/a %s/b --rule earliest", out, dir, dir), 0, "test loss 2.5,", "");
    assert_true(loss_of(fixture, out) == 2.5);
    /* OUT is one of the inputs: what it holds is not overwritten in silence */
    check(program_run(dir, "merge %s %s/b", out, dir), 1, "test loss 2.25,", "--rule");
    assert_true(loss_of(fixture, out) == 2.5);
    check(program_run(dir, "merge %s %s/b --rule newest", out, dir), 0, "<- kept", "");
    assert_true(loss_of(fixture, out) == 2.25);
    check(program_run(dir, "merge %s %s/b", out, dir), 0, "1 results were there more than once and equal", "");
}

/* A merge of what is there tells what is missing, and why where the store knows. */
static void test_complete(void **state)
{
    struct fixture *fixture = *state;
    const char *dir = fixture->dir;
    char whole[128];
    struct store_point points[3] = {fixture_point(1), fixture_point(2), fixture_point(3)};
    struct store_state crashed = {.status = STORE_CRASHED, .attempts = 2, .updated = 50, .message = "out of luck"};
    make_run(fixture, "a", 2.5, 100);
    snprintf(whole, sizeof whole, "%s/whole", dir);
    assert_int_equal(mkdir(whole, 0777), 0);
    if (store_generation(whole, &fixture_header, points, 3, NULL, &fixture->err)) fail_msg("%s", fixture->err.text);
    struct store *store = store_open(whole, true, &fixture->err);
    assert_int_equal(store_set_state(store, 2, &crashed, &fixture->err), 0);
    store_close(store);
    check(program_run(dir, "merge --complete %s %s/a", whole, dir), 1, ": out of luck", "2 of 3 points have no result");
    assert_true(loss_of(fixture, whole) == 2.5); /* merged all the same */
    check(program_run(dir, "merge --complete %s/a %s/a", dir, dir), 0, "1 points, 1 with a result", "");
}

static void test_refusals(void **state)
{
    struct fixture *fixture = *state;
    const char *dir = fixture->dir;
    char folder[128];
    make_run(fixture, "a", 2.5, 100);
    snprintf(folder, sizeof folder, "%s/new", dir);
    check(program_run(dir, "merge"), 1, "", "which run directories");
    check(program_run(dir, "merge %s", folder), 1, "", "which run directories");
    check(program_run(dir, "merge %s %s/nothing", folder, dir), 1, "", "nothing");
    check(program_run(dir, "merge %s %s/a --rule mean", folder, dir), 1, "", "allowed: fail, earliest, newest");
    check(program_run(dir, "merge %s %s/a --tolerance -1", folder, dir), 1, "", "allowed: 0..1");
    assert_int_equal(access(folder, F_OK), -1);
    /* a run that is at work keeps its directory */
    char a[128];
    int lock_fd;
    snprintf(a, sizeof a, "%s/a", dir);
    assert_int_equal(store_lock(a, 0, &lock_fd, &fixture->err), 0);
    make_run(fixture, "b", 2.5, 100);
    check(program_run(dir, "merge %s %s/b", a, dir), 1, "", "another run has this directory");
    close(lock_fd);
    check(program_run(dir, "merge %s %s/b", a, dir), 0, "1 points, 1 with a result", "");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_conflict), TEST(test_complete), TEST(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
