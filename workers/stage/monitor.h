/* What the outside sees of a stage while it runs: progress to the agent, the step file, log lines. Rank 0's alone. */
#ifndef TUNELAW_WORKERS_STAGE_MONITOR_H
#define TUNELAW_WORKERS_STAGE_MONITOR_H

#include "kernels/kernels.h"
#include "workers/stage/stage.h"
#include "workers/stage/stage_files.h"
#include "workers/stage/worker.h"

struct monitor {
    const struct stage *stage;
    const struct stage_hooks *hooks; /* may be NULL */
    struct stage_progress progress;
    uint64_t step, start;        /* absolute; where this attempt began */
    struct stage_trained before; /* of earlier attempts */
    uint64_t tokens;             /* trained by this attempt */
    double started, training_seconds, sent, logged;
};

/* `step`: where this attempt begins; `before`: of earlier attempts. Sends the first progress. */
void monitor_start(struct monitor *monitor, const struct stage *stage, const struct stage_hooks *hooks, uint64_t step,
                   const struct stage_trained *before);
/* Of this attempt and those before. */
struct stage_trained monitor_trained(const struct monitor *monitor);
/* A sign of life, at most a few a second. */
void monitor_tick(void *monitor);
void monitor_step(struct monitor *monitor, uint64_t step, double loss, uint64_t tokens, double seconds);
void monitor_checkpoint(struct monitor *monitor, uint64_t step);
double monitor_rate(const struct monitor *monitor);  /* tokens a second, of training */
bool monitor_stopped(const struct monitor *monitor); /* the hooks ask for a drain */

/* Most memory that the process had since the last reset, in bytes: on its devices, where they have their own (0: not
 * known), else resident. kernels: the backend; NULL: the host's alone. */
void peak_reset(const struct kernels *kernels);
uint64_t peak_bytes(const struct kernels *kernels);

#endif
