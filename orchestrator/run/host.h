/* What this host gives to its devices: memory, for a check before anything is launched; and whether it ran out of it.
 */
#ifndef TUNELAW_ORCHESTRATOR_RUN_HOST_H
#define TUNELAW_ORCHESTRATOR_RUN_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "io/error.h"
#include "orchestrator/run/gpus.h"
#include "orchestrator/run/launcher.h"
#include "orchestrator/sweep/sweep.h"
#include "workers/stage/probe.h"

/* Bytes that the processes of this host may have together: what is built in, or less where a control group says so. */
uint64_t host_memory(void);
/* CPUs of this host that are ours: in a Slurm job those of the job, even where nothing keeps us from the others. */
uint32_t host_cpus(void);

/* Processes of this host that the kernel has killed for want of memory since it was started, those of control groups
 * included; 0 where the kernel does not say. */
uint64_t host_memory_kills(void);

/* The backend and the devices of this host for a sweep, told by a worker of `launcher` (NULL: one that is started for
 * it); with the rate where `measure`. */
int host_probe(const struct sweep *sweep, struct launcher *launcher, bool measure, struct probe *probe,
               struct error *err);

/* Devices of this host for a run that wants so many (0: all): `gpus`, or where that is NULL CPUs, `threads` each; at
 * least one of these. 0: there are fewer GPUs than that. */
uint32_t host_devices(const struct gpus *gpus, uint32_t wanted, uint32_t threads);

/* What the sweep leaves open, its backend among it, by the backend that this host has. On CPU cores
 * resources.device_bytes = this host's memory over its devices, on GPUs that of the smallest, so that the plan refuses
 * a stage that cannot fit; what goes with the backend is that of sweep_set_backend. */
void host_fill_resources(struct sweep *sweep, const struct probe *probe);
bool host_has_gpus(const struct probe *probe);

/* "NVIDIA H100 80GB HBM3, 79.6 GiB, GPU-..., driver 580.65": GPU `index` of a probe. */
#define HOST_GPU_TEXT 192
const char *host_gpu_text(const struct probe *probe, uint32_t index, char out[HOST_GPU_TEXT]);

#endif
