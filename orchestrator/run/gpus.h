/* The GPUs that an agent may use, and the claim on them: no two runs on a host share one.
 *
 * Which they are: CUDA_VISIBLE_DEVICES where it is set (numbers, UUIDs, MIG names), which is what Slurm sets for its
 * job; else SLURM_STEP_GPUS or SLURM_JOB_GPUS; else every GPU of the host (/dev/nvidiaN). A claim is a lock on a file
 * in /dev/shm that ends with the process. It goes by a UUID or MIG name where the list has those, else by the number
 * that Slurm knows the GPU by on the host, since inside a job numbers may begin at 0 again; a run that is told UUIDs
 * and one that is told numbers do not see each other. Nothing of CUDA is loaded. At full size: 64 MIG devices a node.
 */
#ifndef TUNELAW_ORCHESTRATOR_RUN_GPUS_H
#define TUNELAW_ORCHESTRATOR_RUN_GPUS_H

#include <stdint.h>

#include "io/error.h"

#define GPUS_MOST 64
#define GPU_NAME 96
#define GPUS_TEXT 1024 /* bytes of a worker's list of names */

struct gpus {
    uint32_t count;
    char names[GPUS_MOST][GPU_NAME]; /* as CUDA_VISIBLE_DEVICES has them */
    char keys[GPUS_MOST][GPU_NAME];  /* files of the claims */
    int locks[GPUS_MOST];            /* -1: not claimed */
};

/* 0 and at least one GPU; or -1 with *err: none, or a name that no GPU can have, or one twice. */
int gpus_find(struct gpus *gpus, struct error *err);

/* Claim GPUs first .. first+count-1 for the run in `dir`, waiting up to `wait` seconds for an earlier run to leave
 * them. -1 with *err: who has it. Claims that were taken stay until gpus_release or the end of the process. */
int gpus_claim(struct gpus *gpus, uint32_t first, uint32_t count, double wait, const char *dir, struct error *err);
void gpus_release(struct gpus *gpus);

/* The value of CUDA_VISIBLE_DEVICES for a worker on these GPUs. */
int gpus_text(const struct gpus *gpus, uint32_t first, uint32_t count, char out[GPUS_TEXT], struct error *err);

#endif
