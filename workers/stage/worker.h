/* The worker process: `tunelaw worker FD`, a child of the launcher, driven over a socket by its node's agent.
 *
 * It owns the devices it was given and runs one stage after another; weights of a base stay resident between stages
 * that leave it as it is (workers/stage/residence.h). It may crash, run out of memory or hang: the agent sees its
 * socket close, or its progress stop, and MPI never notices. Frames on the socket: struct frame_header, then the
 * payload. */
#ifndef TUNELAW_WORKERS_STAGE_WORKER_H
#define TUNELAW_WORKERS_STAGE_WORKER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "io/error.h"
#include "io/text/dataset.h"
#include "workers/stage/stage.h"

enum frame_type {
    FRAME_STAGE = 1, /* agent -> worker: JSON of a stage, or of those of a pack, one a line */
    FRAME_DRAIN,     /* agent -> worker: checkpoint at the next step and end the stage as cut */
    FRAME_EXIT,      /* agent -> worker: leave */
    FRAME_PROGRESS,  /* worker -> agent: struct stage_progress, at most a few a second */
    FRAME_OUTCOME,   /* worker -> agent: struct stage_outcome; after the last of its stages the worker is free again */
    FRAME_TRIAL /* to a worker: struct trial_request and the JSON of a stage (workers/stage/trial.h); back: its answer
                 */
};
struct frame_header {
    uint32_t magic; /* 0x574c5531 */
    uint32_t type;
    uint64_t size; /* of the payload; at most FRAME_LIMIT */
};
#define FRAME_MAGIC 0x574c5531u
#define FRAME_LIMIT (1u << 20)

/* Whole frames over a socket. send: 0 or -1. receive: 1 got one (*payload malloc'ed, caller frees), 0 closed, -1 error.
 * Both block. */
int frame_send(int fd, uint32_t type, const void *payload, size_t size, struct error *err);
int frame_receive(int fd, uint32_t *type, void **payload, size_t *size, struct error *err);

/* Run stages from `fd` until FRAME_EXIT or the socket closes; the process's exit code. */
int worker_main(int fd);

/* Run one stage in this process (tests, verify). progress and stop may be NULL; *stop non-zero: end as cut at the next
 * step. */
struct stage_hooks {
    void (*progress)(void *context, const struct stage_progress *progress);
    void (*outcome)(void *context, const struct stage_outcome *outcome); /* of each stage as soon as it has ended */
    void (*enter)(void *context, size_t index); /* what is logged from now on is of this stage of the pack */
    void *context;
    const volatile int *stop;
    struct residence *residence; /* keeps the base for the next stage of this process; NULL: nothing stays */
};
void stage_run(const struct stage *stage, const struct stage_hooks *hooks, struct stage_outcome *outcome);

/* Run stages of finetuning from one base as a pack (docs/engine.md, Packs): the same rows as one after the other.
 * Stages are `aligned`, 1 .. PACK_LIMIT, of one model, base, data set, degree, backend. A stage that diverges, or whose
 * files cannot be read at the start, ends alone; a failure while they train fails all that have not ended.
 * outcomes[count]. */
void stage_run_pack(const struct stage *stages, size_t count, const struct stage_hooks *hooks,
                    struct stage_outcome *outcomes);

/* Load the best checkpoint of a finished finetuning stage and evaluate it again on the test split: *loss in nats per
 * target token. */
int stage_reevaluate(const struct stage *stage, const struct store_result *result, double *loss, struct error *err);

/* How many examples of the test split its texts are generated for, its first; 0: all. */
uint64_t stage_text_examples(const struct stage *stage);

/* What stage_generate is to do; what it generates with is stage->generate. */
struct generation_request {
    enum dataset_split split;
    const char *const *lines; /* not NULL: `count` sources of one's own, UTF-8, instead of the split */
    uint64_t count;           /* 0: all examples of the split */
    FILE *file;               /* gets the texts as lines of JSON; NULL: they are only measured */
};

/* Generate texts with the weights of a finished point: *measured is the point's result with the metrics, the settings
 * and the digest of these texts. Runs in this process, on a gang of stage->degree threads. */
int stage_generate(const struct stage *stage, const struct store_result *result,
                   const struct generation_request *request, struct store_result *measured, struct error *err);

#endif
