/* What the master and the agents say to each other: tags and payloads of transport messages. Ranks of one job run one
 * build, so payloads are plain structs; the start of the job compares the builds. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_PROTOCOL_H
#define TUNELAW_ORCHESTRATOR_RUN_PROTOCOL_H

#include <stdint.h>

#include "io/store/store.h"
#include "workers/stage/stage.h"

enum message_tag {
    MESSAGE_HELLO = 1, /* agent -> master: struct message_hello */
    MESSAGE_ASSIGN,    /* master -> agent: struct message_assign, then the stage as JSON */
    MESSAGE_PROGRESS,  /* agent -> master: struct message_progress */
    MESSAGE_OUTCOME,   /* agent -> master: struct message_outcome */
    MESSAGE_DRAIN,     /* agent -> master: this rank got a signal; master -> agents: checkpoint and stop */
    MESSAGE_STOP       /* master -> agent: end the workers and leave */
};

struct message_hello {
    char host[STORE_NAME];
    uint32_t devices;
    uint32_t threads; /* of a device */
};

/* What the agent itself needs to know of a stage; it hands the JSON on unread. A pack has `count` of these, one for
 * each of its stages, and their JSON one a line. */
struct message_assign {
    uint32_t stage;      /* index in the plan */
    uint32_t attempt;    /* from 1 */
    uint32_t first;      /* device of the rank, */
    uint32_t degree;     /* and how many from there */
    uint32_t count;      /* at the head of the message */
    uint32_t shared;     /* 1: other stages may be on the device, or come to it */
    uint64_t bytes;      /* of the device's memory that the stage takes */
    double hang_seconds; /* no progress for so long: the worker is ended; 0: never */
    struct digest identity;
};

struct message_progress {
    uint32_t stage;
    int32_t pid; /* of the worker */
    struct stage_progress progress;
};

struct message_outcome {
    uint32_t stage;
    uint32_t lost_device; /* of the rank, from 1: it is set aside; 0: none */
    struct stage_outcome outcome;
};

/* What the master tells every rank at the start, before anything else. */
struct message_start {
    int32_t failed;        /* the master has printed why; leave */
    uint32_t outcome_size; /* sizeof(struct stage_outcome): the same build? */
    char version[STORE_NAME];
    char dir[PATH_MAX];
    uint32_t devices, threads; /* of a host; devices 0: all its CPUs / threads, or all its GPUs */
    int32_t gpus;              /* devices are GPUs */
    uint64_t device_bytes;     /* that stages which share a device have together; 0: none share one */
};

#endif
