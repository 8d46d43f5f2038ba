/* The launcher process: forks workers for an agent, passes their sockets, reports how they ended. */
#include "orchestrator/run/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "orchestrator/run/gpus.h"
#include "orchestrator/run/reserve.h"

#define WORKER_FD 3

enum request_kind { REQUEST_SPAWN = 1, REQUEST_KILL };
struct request {
    uint32_t kind, what, number, cpu_first, cpu_count;
    char gpus[GPUS_TEXT]; /* "": not said */
};

struct child {
    pid_t pid;
    uint32_t number;
};

struct children {
    struct child *list;
    size_t count, capacity;
};

/* All CPUs that the host lets us have: a mask wider than the cpuset is cut to it by the kernel. */
static void full_mask(cpu_set_t *mask)
{
    cpu_set_t before, all;
    sched_getaffinity(0, sizeof before, &before);
    memset(&all, 0xff, sizeof all);
    if (sched_setaffinity(0, sizeof all, &all) != 0 || sched_getaffinity(0, sizeof *mask, mask) != 0) *mask = before;
    sched_setaffinity(0, sizeof before, &before);
}

uint32_t launcher_host_cpus(void)
{
    cpu_set_t mask;
    full_mask(&mask);
    int count = CPU_COUNT(&mask);
    return count > 0 ? (uint32_t)count : 1;
}

static void drop_mpi_environment(void)
{
    static const char *const prefixes[] = {"OMPI_", "PMIX_", "PMI_", "ORTE_", "OPAL_"};
    extern char **environ;
    for (size_t i = 0; environ[i];) {
        bool drop = false;
        for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; p++)
            drop = drop || strncmp(environ[i], prefixes[p], strlen(prefixes[p])) == 0;
        char name[256];
        const char *equals = strchr(environ[i], '=');
        if (drop && equals && (size_t)(equals - environ[i]) < sizeof name) {
            snprintf(name, sizeof name, "%.*s", (int)(equals - environ[i]), environ[i]);
            unsetenv(name); /* moves the rest down: look at the same place again */
        } else {
            i++;
        }
    }
}

/* A thread that waits for the others of its device spins, for milliseconds unless it is told otherwise: on a core that
 * something else uses, too, it takes the very time that they wait for (docs/configuration.md, threads). */
static void bound_spinning(void)
{
    if (!getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", "1000", 0);
}

/* In the child: become `tunelaw worker 3` on its CPUs. Returns only if that fails. */
static void become_worker(int socket, const struct request *request, pid_t launcher)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launcher) _exit(1);
    reserve_offer(1000); /* where memory runs out, the kernel shall take a worker */
    cpu_set_t all, mine;
    CPU_ZERO(&mine);
    if (sched_getaffinity(0, sizeof all, &all) == 0 && request->cpu_count > 0) {
        uint32_t seen = 0;
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &all)) continue;
            if (seen >= request->cpu_first && seen < request->cpu_first + request->cpu_count) CPU_SET(cpu, &mine);
            seen++;
        }
        if (CPU_COUNT(&mine) > 0) sched_setaffinity(0, sizeof mine, &mine);
    }
    if (request->gpus[0]) setenv("CUDA_VISIBLE_DEVICES", request->gpus, 1);
    bound_spinning();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0) dup2(null, STDIN_FILENO);
    if (socket == WORKER_FD)
        fcntl(socket, F_SETFD, 0);
    else
        dup2(socket, WORKER_FD);
    close_range(WORKER_FD + 1, ~0u, 0);
    char number[16];
    snprintf(number, sizeof number, "%d", WORKER_FD);
    const char *command = request->what == LAUNCHER_MEASURE ? "measure" : "worker"; /* for whoever looks with ps */
    execl("/proc/self/exe", "tunelaw", command, number, (char *)NULL);
    _exit(127);
}

static void send_event(int fd, struct launcher_event event)
{
    while (send(fd, &event, sizeof event, MSG_NOSIGNAL) < 0 && errno == EINTR)
        continue;
}

static void spawn_child(int fd, struct children *children, const struct request *request, int socket)
{
    struct launcher_event event = {LAUNCHER_FAILED, request->number, 0, ENOMEM};
    if (children->count == children->capacity) {
        size_t capacity = children->capacity ? 2 * children->capacity : 16;
        struct child *grown = realloc(children->list, capacity * sizeof *grown);
        if (!grown) {
            send_event(fd, event);
            return;
        }
        children->list = grown;
        children->capacity = capacity;
    }
    pid_t launcher = getpid(), pid = fork();
    if (pid == 0) become_worker(socket, request, launcher);
    if (pid < 0) {
        event.status = errno;
    } else {
        children->list[children->count++] = (struct child){pid, request->number};
        event = (struct launcher_event){LAUNCHER_SPAWNED, request->number, pid, 0};
    }
    send_event(fd, event);
}

static void reap(int fd, struct children *children, struct reserve *reserve)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (reserve_ended(reserve, pid)) continue;
        for (size_t i = 0; i < children->count; i++)
            if (children->list[i].pid == pid) {
                send_event(fd, (struct launcher_event){LAUNCHER_EXITED, children->list[i].number, pid, status});
                children->list[i] = children->list[--children->count];
                break;
            }
    }
}

/* One request with, for a spawn, the worker's socket. 1 got one, 0 the agent is gone. */
static int receive_request(int fd, struct request *request, int *socket)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    *socket = -1;
    ssize_t got;
    do
        got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof *request) return 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(socket, CMSG_DATA(header), sizeof *socket);
    return 1;
}

static void launcher_main(int fd)
{
    struct children children = {0};
    struct reserve reserve = {{0}};
    cpu_set_t mask;
    full_mask(&mask);
    sched_setaffinity(0, sizeof mask, &mask);
    drop_mpi_environment();
    /* a drain is the agent's business: it tells the workers */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* whoever started us may ignore it, and then no end of a worker is told */
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_SETMASK, &chld, NULL);
    int signals = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
    struct pollfd polls[2] = {{fd, POLLIN, 0}, {signals, POLLIN, 0}};
    for (;;) {
        if (poll(polls, 2, -1) < 0 && errno != EINTR) break;
        if (polls[1].revents) {
            struct signalfd_siginfo info;
            while (read(signals, &info, sizeof info) > 0)
                continue;
            reap(fd, &children, &reserve);
        }
        if (!polls[0].revents) continue;
        struct request request;
        int socket;
        if (!receive_request(fd, &request, &socket)) break;
        if (request.kind == REQUEST_SPAWN && socket >= 0) {
            reserve_fill(&reserve);
            spawn_child(fd, &children, &request, socket);
        }
        if (request.kind == REQUEST_KILL)
            for (size_t i = 0; i < children.count; i++)
                if (children.list[i].number == request.number) kill(children.list[i].pid, SIGKILL);
        if (socket >= 0) close(socket);
    }
    for (size_t i = 0; i < children.count; i++)
        kill(children.list[i].pid, SIGKILL);
    reserve_kill(&reserve);
    while (waitpid(-1, NULL, 0) > 0)
        continue;
    _exit(0);
}

int launcher_start(struct launcher *launcher, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return error_set_errno(err, "socketpair");
    pid_t agent = getpid(), pid = fork();
    if (pid < 0) {
        close(pair[0]);
        close(pair[1]);
        return error_set_errno(err, "fork of the launcher");
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != agent) _exit(1);
        close(pair[0]);
        launcher_main(pair[1]);
    }
    close(pair[1]);
    *launcher = (struct launcher){pid, pair[0]};
    return 0;
}

static int send_request(struct launcher *launcher, const struct request *request, int socket, struct error *err)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    memset(&control, 0, sizeof control);
    struct request copy = *request;
    struct iovec part = {&copy, sizeof copy};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (socket >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &socket, sizeof socket);
    }
    ssize_t sent;
    do
        sent = sendmsg(launcher->fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof copy ? 0 : error_set_errno(err, "the launcher process is gone");
}

int launcher_spawn(struct launcher *launcher, enum launcher_what what, uint32_t number, uint32_t cpu_first,
                   uint32_t cpu_count, const char *gpus, int *socket, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return error_set_errno(err, "socketpair");
    struct request request = {REQUEST_SPAWN, what, number, cpu_first, cpu_count, ""};
    if (gpus) snprintf(request.gpus, sizeof request.gpus, "%s", gpus);
    int result = send_request(launcher, &request, pair[1], err);
    close(pair[1]);
    if (result != 0)
        close(pair[0]);
    else
        *socket = pair[0];
    return result;
}

int launcher_kill(struct launcher *launcher, uint32_t number, struct error *err)
{
    struct request request = {REQUEST_KILL, LAUNCHER_WORKER, number, 0, 0, ""};
    return send_request(launcher, &request, -1, err);
}

int launcher_poll(struct launcher *launcher, struct launcher_event *event, struct error *err)
{
    ssize_t got = recv(launcher->fd, event, sizeof *event, MSG_DONTWAIT);
    if (got == (ssize_t)sizeof *event) return 1;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    return error_set(err, "the launcher process is gone");
}

void launcher_stop(struct launcher *launcher)
{
    if (launcher->pid <= 0) return;
    close(launcher->fd); /* the launcher sees it, kills its workers and leaves */
    waitpid(launcher->pid, NULL, 0);
    launcher->pid = 0;
}
