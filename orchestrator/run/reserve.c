/* Processes that hold memory for the moment in which there is none. */
#include "orchestrator/run/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define RESERVE_SCORE 900 /* after every worker (1000), before everything else */
#define FEW 65536         /* file descriptors */

static int own_score(void)
{
    int score = 0;
    FILE *file = fopen("/proc/self/oom_score_adj", "r");
    if (!file) return 0;
    if (fscanf(file, "%d", &score) != 1) score = 0;
    fclose(file);
    return score;
}

/* What the launcher has open: one end of a socket that is open here, too, would not be seen to close. */
static void close_all(void)
{
    if (close_range(STDERR_FILENO + 1, ~0u, 0) == 0) return;
    for (int fd = STDERR_FILENO + 1; fd < FEW; fd++) /* kernels before 5.9 */
        close(fd);
}

void reserve_offer(int score)
{
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    char text[16];
    int length = snprintf(text, sizeof text, "%d", score);
    if (write(file, text, (size_t)length) < 0) errno = 0;
    close(file);
}

static void hold(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    prctl(PR_SET_NAME, "tunelaw-reserve"); /* for whoever looks with ps */
    close_all();
    if (own_score() < RESERVE_SCORE) reserve_offer(RESERVE_SCORE);
    char *bytes = mmap(NULL, RESERVE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) _exit(0);
    memset(bytes, 1, RESERVE_BYTES);
    if (mlock(bytes, RESERVE_BYTES)) errno = 0; /* a wish: not to be swapped out */
    for (;;)
        pause();
}

void reserve_fill(struct reserve *reserve)
{
    pid_t parent = getpid();
    for (int i = 0; i < RESERVE_PROCESSES; i++) {
        if (reserve->pids[i] != 0) continue;
        pid_t pid = fork();
        if (pid == 0) hold(parent);
        if (pid > 0) reserve->pids[i] = pid;
    }
}

bool reserve_ended(struct reserve *reserve, pid_t pid)
{
    for (int i = 0; i < RESERVE_PROCESSES; i++)
        if (reserve->pids[i] == pid) {
            reserve->pids[i] = 0;
            return true;
        }
    return false;
}

void reserve_kill(struct reserve *reserve)
{
    for (int i = 0; i < RESERVE_PROCESSES; i++)
        if (reserve->pids[i] != 0) kill(reserve->pids[i], SIGKILL);
}
