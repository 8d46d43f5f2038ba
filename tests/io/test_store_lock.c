/* The lock of a run directory: one holder at a time, named to the others, gone with its process however it dies. */
#include "store_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* A child that has the lock, closes another descriptor of the file, and lives until it is killed. */
static pid_t start_holder(struct fixture *fixture)
{
    int ends[2];
    char ready = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        int fd;
        char path[128];
        if (store_lock(fixture->dir, 0, &fd, NULL) != 0) _exit(1);
        snprintf(path, sizeof path, "%s/results.lock", fixture->dir);
        close(open(path, O_RDWR)); /* would lose a classic fcntl lock */
        if (write(ends[1], "r", 1) != 1) _exit(1);
        for (;;)
            pause();
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &ready, 1), 1);
    close(ends[0]);
    return child;
}

static void end_holder(pid_t child)
{
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void test_second_is_refused(void **state)
{
    struct fixture *fixture = *state;
    char pid[32];
    int fd = -1;
    pid_t child = start_holder(fixture);
    assert_int_equal(store_lock(fixture->dir, 0.1, &fd, &fixture->err), -1);
    snprintf(pid, sizeof pid, "pid %ld", (long)child);
    assert_non_null(strstr(fixture->err.text, pid));
    assert_non_null(strstr(fixture->err.text, "host "));
    assert_int_equal(fd, -1);
    end_holder(child);
    assert_int_equal(store_lock(fixture->dir, 5, &fd, &fixture->err), 0);
    close(fd);
}

static void test_waiter_gets_it_after_a_kill(void **state)
{
    struct fixture *fixture = *state;
    int fd, status;
    pid_t holder = start_holder(fixture);
    pid_t waiter = fork();
    if (waiter == 0) _exit(store_lock(fixture->dir, 30, &fd, NULL) == 0 ? 0 : 1);
    end_holder(holder);
    assert_int_equal(waitpid(waiter, &status, 0), waiter);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Also within one process, and a program that the holder starts does not keep it. */
static void test_not_inherited_by_exec(void **state)
{
    struct fixture *fixture = *state;
    int fd, second, ends[2];
    assert_int_equal(store_lock(fixture->dir, 0, &fd, &fixture->err), 0);
    assert_int_equal(store_lock(fixture->dir, 0, &second, &fixture->err), -1);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        execlp("sleep", "sleep", "60", (char *)NULL);
        _exit(1);
    }
    char none;
    close(ends[1]);
    assert_int_equal(read(ends[0], &none, 1), 0); /* exec has closed the child's end */
    close(ends[0]);
    close(fd);
    int result = store_lock(fixture->dir, 0, &second, &fixture->err);
    end_holder(child);
    assert_int_equal(result, 0);
    close(second);
}

static void test_refusals(void **state)
{
    struct fixture *fixture = *state;
    char path[128], victim[128];
    int fd;
    assert_int_equal(store_lock("/nonexistent", 0, &fd, &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "/nonexistent/results.lock"));
    snprintf(path, sizeof path, "%s/results.lock", fixture->dir);
    snprintf(victim, sizeof victim, "%s/victim", fixture->dir);
    fixture_write_file(victim, "precious", 8);
    assert_int_equal(symlink(victim, path), 0);
    assert_int_equal(store_lock(fixture->dir, 0, &fd, &fixture->err), -1);
    size_t size;
    free(fixture_read_file(victim, &size));
    assert_int_equal(size, 8);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_second_is_refused),
        TEST(test_waiter_gets_it_after_a_kill),
        TEST(test_not_inherited_by_exec),
        TEST(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
