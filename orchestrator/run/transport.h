/* Messages between the ranks: bytes with a tag, never blocking, never waiting for a rank that may be dead.
 *
 * Over MPI when the program was started by mpirun or srun; a world of one otherwise, without MPI. A message to oneself
 * takes a queue. At full size: 10^3 ranks that each send a few messages a second to rank 0. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_TRANSPORT_H
#define TUNELAW_ORCHESTRATOR_RUN_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "io/error.h"

struct transport {
    int rank, size;             /* in the world */
    int local_rank, local_size; /* among the ranks of this host */
    bool mpi;                   /* false: a world of one, MPI not started */
    struct transport_queue *queue;
};

/* Collective. Refuses a world of one inside a Slurm step of several tasks: N masters on one store. */
int transport_open(struct transport *transport, int *argc, char ***argv, struct error *err);
/* Collective where the run ends well; where it does not, the process simply exits. */
void transport_close(struct transport *transport);

/* Collective: rank 0's bytes to every rank, once, before anything can be dead. Returns 0. */
int transport_broadcast(struct transport *transport, void *bytes, size_t size);

/* Copies the payload; it leaves when the peer takes it. To a rank that is known to be dead it is dropped. */
int transport_send(struct transport *transport, int rank, int tag, const void *payload, size_t size, struct error *err);

/* Next message without waiting: 1 (*payload is malloc'ed, the caller frees), 0 none, -1 error. */
int transport_receive(struct transport *transport, int *rank, int *tag, void **payload, size_t *size,
                      struct error *err);

/* A rank that has died since the last call, each once; -1: none, or MPI cannot tell (then mpirun ends the job when a
 * rank dies). It can where MPI has ULFM and the job was started for it: Open MPI 5, `mpirun --with-ft ulfm`. */
int transport_lost(struct transport *transport);

/* Whether a message to oneself waits: transport_receive gets it at once. */
bool transport_waiting(const struct transport *transport);

/* Messages that have been sent but not yet taken. */
size_t transport_pending(struct transport *transport);

#endif
