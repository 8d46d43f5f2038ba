/* Trials on this host: processes on its devices, as a run would place its workers, that measure
 * (workers/stage/trial.h). They have ended when a function returns.
 *
 * All of them measure at once, since that is how a sweep runs: what they share (memory's bandwidth, caches, power)
 * counts. At full size: 64 workers of a node; a cell of a sweep takes seconds, its models are made once a cell. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_TRIALS_H
#define TUNELAW_ORCHESTRATOR_RUN_TRIALS_H

#include <stddef.h>
#include <stdint.h>

#include "orchestrator/run/gpus.h"
#include "orchestrator/run/launcher.h"
#include "workers/stage/probe.h"
#include "workers/stage/trial.h"

struct trials_host {
    struct launcher *launcher; /* borrowed; it has no other workers */
    const struct gpus *gpus;   /* of this host, claimed; NULL: CPU cores */
    uint32_t devices, threads; /* of the host, each of so many threads */
};

/* What there is (workers/stage/probe.h), told by a process of its own: a broken driver ends that alone. measure: with
 * the rate, on `threads` CPUs or on the first of `gpus` (NULL: of what this process sees). launcher NULL: one is
 * started, and ended; then there must be no other threads. -1: also where the process has died, or has not answered for
 * two minutes. */
int trials_machine(struct launcher *launcher, const struct gpus *gpus, const char *backend, enum precision precision,
                   uint32_t threads, bool measure, struct probe *probe, struct error *err);

/* The request and the text behind it (NULL: none) to `workers` workers of `degree` devices each. *mean: of what they
 * measured, peak_bytes the largest. -1: one of them could not, or has died; the line says why. */
int trials_measure(const struct trials_host *host, uint32_t workers, uint32_t degree,
                   const struct trial_request *request, const char *stage, struct trial *mean, struct error *err);

#endif
