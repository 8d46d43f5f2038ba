/* The launcher: a small process that each rank forks before MPI_Init, and that forks the workers.
 *
 * Forking after MPI_Init is unsafe with RDMA, so the agent never forks. The launcher restores the full CPU mask, drops
 * MPI's environment variables, and gives each worker its share of the CPUs and a parent-death signal: when an agent
 * dies, however it dies, its launcher and its workers are gone at once. At full size: 8 to 64 workers a node.
 * Everything is asynchronous: the agent never waits for the launcher. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_LAUNCHER_H
#define TUNELAW_ORCHESTRATOR_RUN_LAUNCHER_H

#include <stdint.h>
#include <sys/types.h>

#include "io/error.h"

#define LAUNCHER_CPUS 1024 /* bits of a CPU mask */

struct launcher {
    pid_t pid;
    int fd; /* poll for reading: events wait there */
};

enum launcher_event_kind { LAUNCHER_SPAWNED = 1, LAUNCHER_FAILED, LAUNCHER_EXITED };
struct launcher_event {
    uint32_t kind;
    uint32_t number; /* the worker's */
    int32_t pid;     /* spawned */
    int32_t status;  /* exited: as waitpid gives it; failed: errno */
};

/* Fork the launcher. Call before MPI_Init and before any thread. */
int launcher_start(struct launcher *launcher, struct error *err);

enum launcher_what { LAUNCHER_WORKER, LAUNCHER_MEASURE }; /* `tunelaw worker`, which runs stages; `tunelaw measure` */

/* Ask for a worker `number` (unique in this run) on CPUs cpu_first .. cpu_first+cpu_count-1 of the host's online CPUs
 * (cpu_count 0: all), with gpus as its CUDA_VISIBLE_DEVICES (NULL: the variable stays as it is). *socket is the agent's
 * end, close-on-exec. */
int launcher_spawn(struct launcher *launcher, enum launcher_what what, uint32_t number, uint32_t cpu_first,
                   uint32_t cpu_count, const char *gpus, int *socket, struct error *err);

/* Ask that a worker be killed (SIGKILL), if it still lives: never hits a recycled pid. */
int launcher_kill(struct launcher *launcher, uint32_t number, struct error *err);

/* Next event without waiting: 1 got one, 0 none, -1 the launcher is gone. */
int launcher_poll(struct launcher *launcher, struct launcher_event *event, struct error *err);

/* End the launcher and with it every worker that still lives. */
void launcher_stop(struct launcher *launcher);

/* CPUs that this host gives us, whatever mask mpirun bound us to: the count after the launcher has asked for all of
 * them. */
uint32_t launcher_host_cpus(void);

#endif
