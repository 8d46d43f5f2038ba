/* The start of a run: the lock, what the sweep file means for what is there, and the store's next generation. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/checkpoint/checkpoint.h"
#include "io/file.h"
#include "io/log.h"
#include "io/version.h"
#include "orchestrator/run/master_internal.h"
#include "orchestrator/run/run_directory.h"

#define LOCK_SLICE 1.0 /* seconds between looks at the signals while the lock is waited for */

/* An earlier run of this directory may take its time to end; who asks for a drain ends the waiting. */
static int take_lock(struct master *master, struct error *err)
{
    const struct master_options *o = &master->options;
    double end = clock_elapsed() + o->lock_wait;
    bool told = false;
    while (store_lock(o->dir, LOCK_SLICE, &master->lock_fd, err) != 0) {
        bool asked = errno != EAGAIN || (o->signalled && *o->signalled) || master_drain_file(master);
        if (asked || clock_elapsed() >= end) return -1;
        if (!told) printf("waiting up to %.0f s: %s\n", o->lock_wait, err->text);
        told = true;
        fflush(stdout);
    }
    return 0;
}

int master_open_store(struct master *master, struct error *err)
{
    const char *dir = master->options.dir;
    if (take_lock(master, err) != 0) return -1;
    /* another run may have gone on between the first look and the lock */
    if (drift_check(master->options.drift, master->sweep, master->plan, stdout, err) != 0) return -1;
    char checkpoints[PATH_MAX];
    size_t removed;
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", dir);
    if (checkpoint_remove_unfinished(checkpoints, &removed, err) != 0) return -1;
    if (removed) LOG("%zu unfinished checkpoint files of killed workers removed", removed);
    /* what was asked of an earlier run */
    if (request_withdraw(dir, REQUEST_DRAIN, err) != 0 || request_withdraw(dir, REQUEST_PAUSE, err) != 0) return -1;
    struct store_generation_report report;
    const char *shard = master->options.drift->shard;
    if (run_directory_store(dir, master->sweep, master->plan, shard, &report, err) != 0) return -1;
    LOG("generation %llu: %zu committed rows kept, %zu points added, %zu removed from the sweep, %zu damaged, "
        "%zu curves damaged",
        (unsigned long long)report.epoch, report.kept, report.added, report.removed, report.damaged, report.curves);
    if (report.epoch > 1)
        printf("resuming %s: %zu of %zu points are done, %zu new, %zu no longer in the sweep%s%s\n", dir,
               report.kept - report.removed, master->plan->point_count, report.added, report.removed,
               report.damaged ? ", DAMAGED ROWS RUN AGAIN" : "", report.curves ? ", DAMAGED CURVES ARE EMPTY NOW" : "");
    master->store = store_open(dir, true, err);
    if (!master->store) return -1;
    master->generation = store_stamp(dir);
    return 0;
}
