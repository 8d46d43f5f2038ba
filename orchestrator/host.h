/* What this host gives to its devices: memory, for a check before anything is launched; and whether it ran out of it.
 */
#ifndef TUNELAW_ORCHESTRATOR_HOST_H
#define TUNELAW_ORCHESTRATOR_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "io/error.h"
#include "orchestrator/launcher.h"
#include "orchestrator/sweep.h"
#include "workers/probe.h"

/* Bytes that the processes of this host may have together: what is built in, or less where a control group says so. */
uint64_t host_memory(void);

/* Processes of this host that the kernel has killed for want of memory since it was started, those of control groups
 * included; 0 where the kernel does not say. */
uint64_t host_memory_kills(void);

/* The backend and the devices of this host for a sweep, told by a worker of `launcher` (NULL: one that is started for
 * it); with the rate where `measure`. */
int host_probe(const struct sweep *sweep, struct launcher *launcher, bool measure, struct probe *probe,
               struct error *err);

/* CPUs of this host that are ours: in a Slurm job those of the job, even where nothing keeps us from the others. */
uint32_t host_cpus(void);

/* What the sweep leaves open, its backend among it, by the backend that this host has. On CPU cores
 * resources.device_bytes = this host's memory over its devices, on GPUs that of the smallest, so that the plan refuses
 * a stage that cannot fit; on GPUs also resources.operation_seconds. */
void host_fill_resources(struct sweep *sweep, const struct probe *probe);
bool host_has_gpus(const struct probe *probe);

#endif
