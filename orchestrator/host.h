/* What this host gives to its devices: memory, for a check before anything is launched; and whether it ran out of it.
 */
#ifndef TUNELAW_ORCHESTRATOR_HOST_H
#define TUNELAW_ORCHESTRATOR_HOST_H

#include <stdint.h>

#include "io/error.h"
#include "orchestrator/sweep.h"

/* Bytes that the processes of this host may have together: what is built in, or less where a control group says so. */
uint64_t host_memory(void);

/* Processes of this host that the kernel has killed for want of memory since it was started, those of control groups
 * included; 0 where the kernel does not say. */
uint64_t host_memory_kills(void);

/* What the sweep leaves open, by the backend that this host has. On CPU cores resources.device_bytes = this host's
 * memory over its devices, so that the plan refuses a stage that cannot fit; on GPUs resources.operation_seconds. */
int host_fill_resources(struct sweep *sweep, struct error *err);

#endif
