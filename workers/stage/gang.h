/* A gang: the threads of one worker that share a stage, one a device. */
#ifndef TUNELAW_WORKERS_STAGE_GANG_H
#define TUNELAW_WORKERS_STAGE_GANG_H

#include "io/error.h"
#include "kernels/collective.h"

/* Run body(context, collective, err) on `size` new threads, ranks 0 .. size-1, and wait for all. A body that returns -1
 * aborts the gang's collectives, so that the others return too. 0, or -1 with the line of the rank that failed first.
 */
int gang_run(int size, int (*body)(void *context, const struct collective *collective, struct error *err),
             void *context, struct error *err);

/* Before a rank gives its device back: where it has failed, the others must not wait any more for its part of a sum. */
static inline void gang_tell(const struct collective *collective, int status)
{
    if (status) collective_abort(collective->group);
}

#endif
