/* Progress of a stage, as seen from outside, and the memory that it took. */
#include "workers/stage/monitor.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/log.h"

#define PROGRESS_SECONDS 0.2
#define LOG_SECONDS 10.0

/* Steps of the stage itself; 0: its prefix has diverged on the way to it. */
static uint64_t steps_done(const struct stage *stage, uint64_t step)
{
    return step > stage->first_step ? step - stage->first_step : 0;
}

struct stage_trained monitor_trained(const struct monitor *monitor)
{
    const struct stage_trained *before = &monitor->before;
    return (struct stage_trained){.reached = monitor->step > before->reached ? monitor->step : before->reached,
                                  .executed = before->executed + (monitor->step - monitor->start)};
}

static void send(struct monitor *monitor)
{
    monitor->sent = clock_elapsed();
    monitor->progress.tokens_per_second = monitor_rate(monitor);
    const struct stage_trained trained = monitor_trained(monitor);
    stage_trained_write(monitor->stage, &trained);
    if (monitor->hooks && monitor->hooks->progress)
        monitor->hooks->progress(monitor->hooks->context, &monitor->progress);
}

void monitor_start(struct monitor *monitor, const struct stage *stage, const struct stage_hooks *hooks, uint64_t step,
                   const struct stage_trained *before)
{
    uint64_t done = steps_done(stage, step);
    *monitor = (struct monitor){.stage = stage,
                                .hooks = hooks,
                                .step = step,
                                .start = step,
                                .before = *before,
                                .started = clock_elapsed(),
                                .logged = clock_elapsed(),
                                .progress = {.identity = stage->identity,
                                             .step = done,
                                             .steps = stage->last_step - stage->first_step,
                                             .checkpoint_step = done}};
    send(monitor);
}

void monitor_tick(void *argument)
{
    struct monitor *monitor = argument;
    if (clock_elapsed() - monitor->sent >= PROGRESS_SECONDS) send(monitor);
}

void monitor_step(struct monitor *monitor, uint64_t step, double loss, uint64_t tokens, double seconds)
{
    monitor->step = step;
    monitor->tokens += tokens;
    monitor->training_seconds += seconds;
    monitor->progress.step = steps_done(monitor->stage, step);
    monitor->progress.loss = loss;
    monitor_tick(monitor);
    if (clock_elapsed() - monitor->logged < LOG_SECONDS) return;
    monitor->logged = clock_elapsed();
    LOG("step %" PRIu64 " of %" PRIu64 ": loss %.4f, %.0f tokens/s", step, monitor->stage->last_step, loss,
        monitor_rate(monitor));
}

void monitor_checkpoint(struct monitor *monitor, uint64_t step)
{
    monitor->progress.checkpoint_step = steps_done(monitor->stage, step);
    send(monitor);
}

double monitor_rate(const struct monitor *monitor)
{
    return monitor->training_seconds > 0 ? (double)monitor->tokens / monitor->training_seconds : 0;
}

bool monitor_stopped(const struct monitor *monitor)
{
    return monitor->hooks && monitor->hooks->stop && *monitor->hooks->stop;
}

void peak_reset(const struct kernels *kernels)
{
    if (kernels && kernels->peak_reset) kernels->peak_reset();
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return; /* the peak is then that of the process */
    ssize_t written = write(fd, "5", 1);
    (void)written;
    close(fd);
}

uint64_t peak_bytes(const struct kernels *kernels)
{
    if (kernels && kernels->peak_bytes) return kernels->peak_bytes();
    char line[256];
    uint64_t kib = 0;
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %" SCNu64, &kib) == 1) break;
    if (status) fclose(status);
    if (kib) return kib * 1024;
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}
