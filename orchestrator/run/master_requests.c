/* When a run is to stop or to pause: asked for by a file, by the end of the job's time, by a signal or a failure. */
#include <math.h>
#include <unistd.h>

#include "io/log.h"
#include "orchestrator/run/master_internal.h"

#define REQUEST_INTERVAL 0.2 /* seconds between looks for files that ask for something */

bool master_drain_file(const struct master *master)
{
    return master->options.drain_file && access(master->options.drain_file, F_OK) == 0;
}

int master_drain(struct master *master, const char *why, struct error *err)
{
    if (master->draining) return 0;
    master->draining = true;
    master_say(master, "draining: %s; running stages checkpoint and stop", why);
    for (int rank = 0; rank < master->transport->size; rank++)
        if (transport_send(master->transport, rank, MESSAGE_DRAIN, NULL, 0, err) != 0) return -1;
    return 0;
}

double master_seconds_left(const struct master *master)
{
    const struct master_options *o = &master->options;
    if (o->end_time <= 0) return INFINITY;
    return (o->end_time - o->grace - clock_wall()) / master->calibration.mean;
}

/* What a person, or the batch script, asks for by files: a drain, or that nothing new starts for a while. */
int master_watch_requests(struct master *master, struct error *err)
{
    double now = clock_elapsed();
    if (master->draining || now - master->requests_checked < REQUEST_INTERVAL) return 0;
    master->requests_checked = now;
    bool paused = request_present(master->options.dir, REQUEST_PAUSE);
    if (paused != master->paused)
        master_say(master, paused ? "paused: nothing new starts; running stages go on" : "no longer paused");
    master->paused = paused;
    if (master_drain_file(master)) return master_drain(master, "asked for by --drain-file", err);
    if (request_present(master->options.dir, REQUEST_DRAIN))
        return master_drain(master, "asked for by drain.request", err);
    return 0;
}

/* Drain when the job's time is up, or when what is left of it is of no use. */
int master_watch_time(struct master *master, struct error *err)
{
    if (master->options.end_time <= 0 || master->draining) return 0;
    if (master_seconds_left(master) <= 0) return master_drain(master, "the job's time limit is near", err);
    /* what waits for its commit may still make others ready */
    bool idle = master->running_count == 0 && master->first_arrival == master->arrival_count &&
                master->nodes_present == (size_t)master->transport->size;
    if (idle && master->nothing_fits && master->ready > 0)
        return master_drain(master, "no stage that is left reaches a checkpoint before the job's time limit", err);
    return 0;
}
