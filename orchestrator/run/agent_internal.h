/* Inside the agent: shared by agent.c (assignments), agent_workers.c (what workers say, and how they end) and
 * agent_devices.c (what is on a device). */
#ifndef TUNELAW_ORCHESTRATOR_RUN_AGENT_INTERNAL_H
#define TUNELAW_ORCHESTRATOR_RUN_AGENT_INTERNAL_H

#include "orchestrator/run/agent.h"

enum worker_state { WORKER_IDLE, WORKER_BUSY, WORKER_LEAVING };

struct worker {
    uint32_t number;
    int32_t pid; /* 0 until the launcher has said */
    int socket;  /* -1: closed */
    enum worker_state state;
    uint32_t first, count;       /* devices */
    uint64_t bytes;              /* of each that its stages take, or the last ones took: it keeps their base */
    struct message_assign *jobs; /* while busy: [job_count], those that have ended are of stage JOB_ENDED */
    uint32_t job_count, jobs_left;
    double heard; /* when it last said something; or was told to leave */
    bool timed_out, killed;
    uint64_t memory_kills; /* of the host, when the stage began, or up to a second before */
    unsigned char *buffer; /* bytes of an unfinished frame */
    size_t used, capacity;
};

#define JOB_ENDED UINT32_MAX

/* An assignment that waits for memory of its devices: an idle worker that has it is leaving. */
struct pending {
    struct pending *next;
    struct message_assign *jobs; /* [jobs[0].count] */
    size_t size;
    uint64_t bytes; /* of each of its devices */
    char text[];    /* the stages as the worker gets them */
};

struct agent {
    struct launcher *launcher;
    struct transport *transport;
    const char *dir;                       /* of the run */
    const struct gpus *gpus;               /* device d is GPU host_first + d; NULL: CPU cores */
    uint32_t host_first, devices, threads; /* devices host_first .. host_first+devices-1 of the host */
    uint64_t device_bytes; /* that the workers on a device may have together; 0: one is on it, the next one comes when
                              it has gone */
    uint32_t *failures;    /* [devices] attempts in a row that found it broken */
    struct worker *workers;
    size_t count, capacity;
    struct pending *pending; /* in the order in which they came */
    uint32_t next_number;
    uint64_t memory_kills; /* of the host, as last looked at, */
    double kills_read;     /* and when */
    bool stopping, looked_at_lock;
    struct pollfd *polls;
};

/* agent.c. To the master: how an attempt ended; that those of the jobs which have not ended have failed. */
int agent_send_outcome(struct agent *agent, uint32_t stage_index, const struct stage_outcome *outcome,
                       uint32_t lost_device, struct error *err);
int agent_send_failures(struct agent *agent, struct message_assign *jobs, uint32_t count, enum store_status status,
                        const char *reason, struct error *err);

/* agent_workers.c. What a worker has said, as far as it is there; who has started and ended, by the launcher; end
 * workers that hang, and those that do not leave. */
int agent_worker_read(struct agent *agent, struct worker *worker, struct error *err);
int agent_launcher_said(struct agent *agent, struct error *err);
int agent_watch(struct agent *agent, struct error *err);
void agent_worker_free(struct worker *worker);

/* agent_devices.c. What an attempt says of the devices that it ran on: number, from 1, of one that is set aside now;
 * else 0. */
uint32_t agent_judge_devices(struct agent *agent, const struct worker *worker, const struct stage_outcome *outcome);

/* The worker for an assignment, idle and on exactly its devices, or NULL: a new one. Idle workers that are in its way
 * are told to leave. false: it must wait until one of them has gone, as there is no memory for both. */
bool agent_find_worker(struct agent *agent, const struct pending *assignment, struct worker **worker);

/* Tell an idle worker to leave. */
void agent_leave(struct worker *worker);

#endif
