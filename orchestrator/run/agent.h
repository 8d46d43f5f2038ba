/* The node agent: one a rank. It owns the devices of its node that are this rank's, starts workers on them, hands them
 * stages, relays their progress and outcomes, ends the ones that hang, and turns the death of a worker into the failed
 * attempt of one stage.
 *
 * At full size: 8 devices and 64 workers a node. It never touches a tensor and never waits for a worker: sockets are
 * read without blocking. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_AGENT_H
#define TUNELAW_ORCHESTRATOR_RUN_AGENT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "orchestrator/run/gpus.h"
#include "orchestrator/run/launcher.h"
#include "orchestrator/run/protocol.h"
#include "orchestrator/run/transport.h"

struct agent;

/* launcher, transport and gpus are borrowed. devices: how many the host has, to be divided among the ranks on it; 0:
 * its CPUs / threads, or its GPUs. gpus: devices are these, and this rank's are claimed (waiting up to `wait` seconds)
 * for the run in dir (absolute, borrowed); NULL: devices are CPU cores. Sends the hello to rank 0. NULL with *err. */
struct agent_devices {
    uint32_t count, threads; /* of the host; of a device */
    struct gpus *gpus;
    double wait;
    const char *dir;
    uint64_t device_bytes; /* of a device that stages share; 0: none do */
};
struct agent *agent_create(struct launcher *launcher, struct transport *transport, const struct agent_devices *devices,
                           struct error *err);
void agent_destroy(struct agent *agent);

/* A message from the master (MESSAGE_ASSIGN, MESSAGE_DRAIN, MESSAGE_STOP). */
int agent_message(struct agent *agent, int tag, const void *payload, size_t size, struct error *err);

/* Wait so many seconds at most for the launcher and the workers, and deal with what they say. The waiting also ends
 * when `wake` can be read; -1: nothing else is waited for. */
int agent_step(struct agent *agent, double seconds, int wake, struct error *err);

/* After MESSAGE_STOP: every worker has left. */
bool agent_stopped(const struct agent *agent);

#endif
