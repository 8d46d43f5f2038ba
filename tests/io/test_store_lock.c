/* The lock of a run directory: one holder at a time, named to the others, gone with its process however it dies. */
#include "store_fixture.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* A file system as another might be: locks as here, locks for everyone, no locks. */
static enum { LOCKS_WORK, LOCKS_GRANTED_TO_ALL, LOCKS_MISSING } locks;

int fcntl(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    bool of_locks = command == F_OFD_SETLK || command == F_OFD_GETLK;
    if (of_locks && locks == LOCKS_MISSING) {
        errno = ENOLCK;
        return -1;
    }
    if (of_locks && locks == LOCKS_GRANTED_TO_ALL) {
        if (command == F_OFD_GETLK) ((struct flock *)argument)->l_type = F_UNLCK;
        return 0;
    }
    return ((__typeof__(&fcntl))dlsym(RTLD_NEXT, "fcntl"))(fd, command, argument);
}

static void test_probe(void **state)
{
    struct fixture *fixture = *state;
    int fd;
    locks = LOCKS_GRANTED_TO_ALL;
    int granted = store_lock(fixture->dir, 0, &fd, &fixture->err);
    locks = LOCKS_WORK;
    assert_int_equal(granted, -1);
    assert_non_null(strstr(fixture->err.text, "grants one lock to two"));
    locks = LOCKS_MISSING;
    int missing = store_lock(fixture->dir, 0, &fd, &fixture->err);
    locks = LOCKS_WORK;
    assert_int_equal(missing, -1);
    assert_non_null(strstr(fixture->err.text, "gives no locks"));
    assert_int_equal(store_lock(fixture->dir, 0, &fd, &fixture->err), 0); /* neither has kept it */
    assert_int_equal(store_lock_held(fixture->dir, &fixture->err), 1);
    locks = LOCKS_GRANTED_TO_ALL; /* as another node of such a file system sees it */
    int seen = store_lock_held(fixture->dir, &fixture->err);
    locks = LOCKS_WORK;
    assert_int_equal(seen, 0);
    close(fd);
    assert_int_equal(store_lock_held(fixture->dir, &fixture->err), 0);
}

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

static void read_byte(int fd)
{
    char byte;
    assert_int_equal(read(fd, &byte, 1), 1);
}

/* A committer of an earlier attempt that was stopped (a suspended virtual machine, a hung file system) goes on after
 * its sweep was resumed elsewhere: its commits succeed, and nobody ever sees them. */
static void test_zombie_commits_nowhere(void **state)
{
    enum { POINTS = 6 };
    struct fixture *fixture = *state;
    int ready[2], status;
    size_t size, size_after;
    fixture_generation(fixture, 0, POINTS);
    assert_int_equal(pipe(ready), 0);
    pid_t zombie = fork();
    if (zombie == 0) {
        struct error err;
        struct store *store = store_open(fixture->dir, true, &err);
        struct store_row rows[2] = {fixture_row(0, 0), fixture_row(1, 1)},
                         late[2] = {fixture_row(2, 2), fixture_row(5, 5)};
        struct store_state running = {.status = STORE_RUNNING, .attempts = 77};
        late[0].result.steps = late[1].result.steps = 666; /* not what the resumed run computes */
        if (!store || store_commit(store, rows, 2, &err) != 0) _exit(1);
        if (write(ready[1], "r", 1) != 1) _exit(2);
        raise(SIGSTOP);
        if (store_commit(store, late, 2, &err) != 0 || store_set_state(store, 3, &running, &err) != 0) _exit(3);
        _exit(store_is_replaced(store) ? 0 : 4);
    }
    read_byte(ready[0]);
    assert_int_equal(waitpid(zombie, &status, WUNTRACED), zombie);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(fixture_generation(fixture, 0, POINTS).kept, 2);
    struct store *store = fixture_open(fixture, true);
    fixture_commit(store, 2, 2);
    fixture_commit(store, 3, 3);
    void *before = fixture_read_file(fixture->path, &size);
    assert_int_equal(kill(zombie, SIGCONT), 0);
    assert_int_equal(waitpid(zombie, &status, 0), zombie);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    void *after = fixture_read_file(fixture->path, &size_after);
    assert_int_equal(size_after, size);
    assert_memory_equal(after, before, size);
    assert_false(store_is_replaced(store));
    fixture_commit(store, 5, 5); /* the zombie's row 5 is not here */
    store_close(store);
    close(ready[0]);
    close(ready[1]);
    free(before);
    free(after);
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
        TEST(test_zombie_commits_nowhere),
        TEST(test_refusals),
        TEST(test_probe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
