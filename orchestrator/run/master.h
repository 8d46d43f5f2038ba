/* The master: owns the plan, the schedule, the clock and the store's committer. Lives in rank 0 beside its agent.
 *
 * At full size: 10^5 points, 10^3 agents, thousands of small messages a second; memory is the plan and a few bytes a
 * stage. Only the master writes the store; rows that arrive together are committed together. A stage ends done,
 * diverged (both are results), cut (drained, its checkpoint waits for the next run) or failed; a failed attempt is
 * tried again up to the sweep's limit, then its points end as failed and what needs it as skipped. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_MASTER_H
#define TUNELAW_ORCHESTRATOR_RUN_MASTER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "io/store/store.h"
#include "orchestrator/plan/drift.h"
#include "orchestrator/plan/plan.h"
#include "orchestrator/run/transport.h"

struct master_options {
    const char *dir;              /* absolute run directory; exists, with checkpoints/ and logs/ */
    bool fail_fast;               /* the first point given up drains the sweep */
    struct drift_question *drift; /* answered once before; asked again under the lock. Names the shard, too */
    const unsigned char
        *only;          /* [stages] 1: these are run, and nothing else; NULL: the points and all that they need */
    const char *bases;  /* absolute; a run directory whose end states of pretraining are taken; NULL: there is none */
    bool progress_line; /* a line that rewrites itself on stderr; otherwise plain lines on stdout */
    double lock_wait;   /* seconds to wait for another run of DIR to end */
    double end_time; /* of the job, seconds since 1970; 0: none. Nothing is started that would not reach a checkpoint */
    double grace;    /* seconds before end_time at which a drain begins */
    const volatile sig_atomic_t *signalled; /* not zero: do not wait for the lock any longer; may be NULL */
    bool rows_join;         /* the backend's products gain by the rows of several points: packs are tried */
    const char *drain_file; /* drain as soon as it is there: a signal is lost where mpirun is still starting; or NULL */
};

struct master;

/* Takes DIR's lock, looks at the drift again, writes the store's next generation, finds out what is left to do, begins
 * to verify the data set where anything is. sweep, plan and transport are borrowed. NULL with *err. */
struct master *master_create(const struct sweep *sweep, const struct plan *plan, struct transport *transport,
                             const struct master_options *options, struct error *err);
void master_destroy(struct master *master);

/* A message from an agent (MESSAGE_HELLO, MESSAGE_PROGRESS, MESSAGE_OUTCOME, MESSAGE_DRAIN). */
int master_message(struct master *master, int rank, int tag, const void *payload, size_t size, struct error *err);

/* A rank has died (transport_lost): its devices are gone, its stages have failed an attempt. What is left to do and
 * fits on no other rank drains the run. */
int master_lost(struct master *master, int rank, struct error *err);

/* Take what has been committed, hand out what is ready, write status.json and the progress line when it is time. */
int master_step(struct master *master, struct error *err);

/* A descriptor that can be read when master_step has something to do though no message has come: a commit is done. */
int master_wake_fd(const struct master *master);

/* Checkpoint and stop: nothing new is handed out, running stages end as cut. */
int master_drain(struct master *master, const char *why, struct error *err);

/* Nothing runs and nothing can be handed out any more. */
bool master_finished(const struct master *master);

struct master_summary {
    size_t points, done, diverged, failed, skipped, left; /* of the sweep; with `only`, of these stages */
    bool disk_full;       /* that is why some are left: the next run would end so, too */
    size_t committed_now; /* by this run */
    double seconds;
};
struct master_summary master_summary(const struct master *master);

/* Print the end of the run: counts, and the first failures with their reasons and logs. */
void master_print_summary(struct master *master);

#endif
