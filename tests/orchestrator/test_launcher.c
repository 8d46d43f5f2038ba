/* The launcher: workers get their socket, their CPUs and a clean environment; they die with the launcher's owner,
 * however that ends. The worker here is this program itself, started as `worker 3`: it reports what it finds, then does
 * as it is told. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "orchestrator/run/launcher.h"
#include "orchestrator/run/reserve.h"

struct report {
    int cpus, mpi_variables;
    pid_t pid;
};

static int fake_worker(int fd)
{
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    struct report report = {CPU_COUNT(&mask), getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK"), getpid()};
    if (write(fd, &report, sizeof report) != sizeof report) return 1;
    char order;
    if (read(fd, &order, 1) != 1) return 0;
    if (order == 's') raise(SIGSEGV);
    return order;
}

static struct launcher_event wait_event(struct launcher *launcher)
{
    struct launcher_event event;
    struct error err;
    struct pollfd poll_fd = {launcher->fd, POLLIN, 0};
    assert_int_equal(poll(&poll_fd, 1, 10000), 1);
    assert_int_equal(launcher_poll(launcher, &event, &err), 1);
    return event;
}

static int spawn(struct launcher *launcher, uint32_t number, uint32_t cpu_count, struct report *report)
{
    struct error err;
    int socket;
    assert_int_equal(launcher_spawn(launcher, LAUNCHER_WORKER, number, 0, cpu_count, NULL, &socket, &err), 0);
    struct launcher_event event = wait_event(launcher);
    assert_int_equal(event.kind, LAUNCHER_SPAWNED);
    assert_int_equal(event.number, number);
    assert_int_equal(read(socket, report, sizeof *report), sizeof *report);
    assert_int_equal(report->pid, event.pid);
    return socket;
}

static void worker_gets_what_it_needs(void **state)
{
    (void)state;
    struct launcher launcher;
    struct error err;
    setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
    setenv("PMIX_RANK", "0", 1);
    assert_int_equal(launcher_start(&launcher, &err), 0);
    struct report report;
    int socket = spawn(&launcher, 5, 1, &report);
    assert_int_equal(report.cpus, 1);
    assert_int_equal(report.mpi_variables, 0);
    assert_int_equal(write(socket, "\x07", 1), 1);
    struct launcher_event event = wait_event(&launcher);
    assert_int_equal(event.kind, LAUNCHER_EXITED);
    assert_true(WIFEXITED(event.status));
    assert_int_equal(WEXITSTATUS(event.status), 7);
    close(socket);
    launcher_stop(&launcher);
}

static void death_is_reported(void **state)
{
    (void)state;
    struct launcher launcher;
    struct error err;
    assert_int_equal(launcher_start(&launcher, &err), 0);
    struct report report;
    int socket = spawn(&launcher, 1, 0, &report);
    assert_int_equal(report.cpus, launcher_host_cpus());
    assert_int_equal(write(socket, "s", 1), 1);
    struct launcher_event event = wait_event(&launcher);
    assert_true(WIFSIGNALED(event.status) && WTERMSIG(event.status) == SIGSEGV);
    close(socket);
    socket = spawn(&launcher, 2, 0, &report);
    assert_int_equal(launcher_kill(&launcher, 2, &err), 0);
    event = wait_event(&launcher);
    assert_int_equal(event.number, 2);
    assert_true(WIFSIGNALED(event.status) && WTERMSIG(event.status) == SIGKILL);
    close(socket);
    launcher_stop(&launcher);
}

/* An agent that is killed takes its launcher and workers with it. The pipe closes when the last of them is gone. */
static void workers_die_with_the_agent(void **state)
{
    (void)state;
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    pid_t agent = fork();
    if (agent == 0) {
        close(pipes[0]);
        dup2(pipes[1], STDOUT_FILENO); /* inherited by the launcher and the worker */
        close(pipes[1]);
        struct launcher launcher;
        struct error err;
        struct report report;
        if (launcher_start(&launcher, &err) != 0) _exit(1);
        int socket;
        if (launcher_spawn(&launcher, LAUNCHER_WORKER, 1, 0, 0, NULL, &socket, &err) != 0) _exit(1);
        if (read(socket, &report, sizeof report) != sizeof report) _exit(1);
        if (write(STDOUT_FILENO, "r", 1) != 1) _exit(1);
        pause();
    }
    close(pipes[1]);
    char c;
    assert_int_equal(read(pipes[0], &c, 1), 1);
    assert_int_equal(kill(agent, SIGKILL), 0);
    struct pollfd poll_fd = {pipes[0], POLLIN, 0};
    assert_int_equal(poll(&poll_fd, 1, 10000), 1);
    assert_int_equal(read(pipes[0], &c, 1), 0);
    waitpid(agent, NULL, 0);
    close(pipes[0]);
}

/* What the children of a launcher that hold memory for the kernel to take are: their pids, each ready to be taken after
 * the workers and before everything else. */
static int reserves(pid_t launcher, pid_t pids[RESERVE_PROCESSES])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", launcher, launcher);
    FILE *children = fopen(path, "r");
    if (!children) return -1; /* a kernel without it */
    int count = 0, pid;
    while (fscanf(children, "%d", &pid) == 1) {
        char name[32] = "";
        int score = 0;
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        FILE *file = fopen(path, "r");
        if (file && fgets(name, sizeof name, file) && strcmp(name, "tunelaw-reserve\n") == 0) {
            snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid);
            FILE *adjusted = fopen(path, "r");
            if (adjusted && fscanf(adjusted, "%d", &score) == 1 && score >= 900 && score <= 1000) {
                assert_true(count < RESERVE_PROCESSES);
                pids[count++] = pid;
            }
            if (adjusted) fclose(adjusted);
        }
        if (file) fclose(file);
    }
    fclose(children);
    return count;
}

static int wait_for_reserves(pid_t launcher, pid_t pids[RESERVE_PROCESSES], int wanted)
{
    int count = -1;
    for (int i = 0; i < 1000 && (count = reserves(launcher, pids)) >= 0 && count != wanted; i++)
        usleep(10000);
    return count;
}

/* They are there with the first worker; what the kernel took comes back with the next. */
static void memory_is_held_in_reserve(void **state)
{
    (void)state;
    struct launcher launcher;
    struct error err;
    struct report report;
    pid_t pids[RESERVE_PROCESSES];
    assert_int_equal(launcher_start(&launcher, &err), 0);
    int first = spawn(&launcher, 1, 0, &report);
    int count = wait_for_reserves(launcher.pid, pids, RESERVE_PROCESSES);
    if (count >= 0) {
        assert_int_equal(count, RESERVE_PROCESSES);
        for (int i = 0; i < RESERVE_PROCESSES; i++)
            kill(pids[i], SIGKILL);
        assert_int_equal(wait_for_reserves(launcher.pid, pids, 0), 0);
        int second = spawn(&launcher, 2, 0, &report);
        assert_int_equal(wait_for_reserves(launcher.pid, pids, RESERVE_PROCESSES), RESERVE_PROCESSES);
        close(second);
    }
    close(first);
    launcher_stop(&launcher);
    if (count < 0) skip();
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "worker") == 0) return fake_worker(atoi(argv[2]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worker_gets_what_it_needs),
        cmocka_unit_test(death_is_reported),
        cmocka_unit_test(workers_die_with_the_agent),
        cmocka_unit_test(memory_is_held_in_reserve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
