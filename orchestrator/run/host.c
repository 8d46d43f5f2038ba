/* The memory of this host, between the sweep and the plan. */
#include "orchestrator/run/host.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "orchestrator/run/trials.h"

/* The limit in a file of a control group; UINT64_MAX: none ("max", or no such file). */
static uint64_t group_limit(const char *root, const char *group, const char *name)
{
    char path[PATH_MAX + 64];
    uint64_t bytes;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s%s/%s", root, group, name);
    FILE *file = fopen(path, "re");
    if (!file) return UINT64_MAX;
    if (fscanf(file, "%" SCNu64, &bytes) != 1) bytes = UINT64_MAX;
    fclose(file);
    return bytes;
}

/* The smallest limit of a control group and those above it. */
static uint64_t groups_limit_in(const char *root, char *group, const char *name)
{
    uint64_t least = group_limit(root, "", name);
    for (char *slash; (slash = strrchr(group, '/')); *slash = 0) {
        uint64_t limit = group_limit(root, group, name);
        if (limit < least) least = limit;
    }
    return least;
}

/* The smallest limit of this process's control group and those above it: cgroup v2 ("0::/path"), or v1 with its own
 * hierarchy for memory ("4:memory:/path"). */
static uint64_t groups_limit(void)
{
    char line[PATH_MAX];
    FILE *file = fopen("/proc/self/cgroup", "re");
    uint64_t least = UINT64_MAX;
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(++controllers, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        uint64_t limit = UINT64_MAX;
        if (controllers[0] == 0) limit = groups_limit_in("", group, "memory.max");
        if (!strcmp(controllers, "memory")) limit = groups_limit_in("/memory", group, "memory.limit_in_bytes");
        if (limit < least) least = limit;
    }
    if (file) fclose(file);
    return least;
}

uint64_t host_memory_kills(void)
{
    char line[128];
    uint64_t kills = 0;
    FILE *file = fopen("/proc/vmstat", "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "oom_kill %" SCNu64, &kills) == 1) break;
    if (file) fclose(file);
    return kills;
}

uint32_t host_cpus(void)
{
    const char *text = getenv("SLURM_CPUS_ON_NODE");
    long job = text ? strtol(text, NULL, 10) : 0;
    uint32_t host = launcher_host_cpus();
    return job > 0 && job < (long)host ? (uint32_t)job : host;
}

uint64_t host_memory(void)
{
    uint64_t present = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE), limit = groups_limit();
    return limit < present ? limit : present;
}

int host_probe(const struct sweep *sweep, struct launcher *launcher, bool measure, struct probe *probe,
               struct error *err)
{
    const struct sweep_resources *resources = &sweep->resources;
    return trials_machine(launcher, NULL, resources->backend, sweep->precision, resources->threads, measure, probe,
                          err);
}

bool host_has_gpus(const struct probe *probe)
{
    return strcmp(probe->backend, "cuda") == 0;
}

uint32_t host_devices(const struct gpus *gpus, uint32_t wanted, uint32_t threads)
{
    if (gpus) return wanted > gpus->count ? 0 : wanted ? wanted : gpus->count;
    uint32_t devices = wanted ? wanted : host_cpus() / threads;
    return devices ? devices : 1;
}

const char *host_gpu_text(const struct probe *probe, uint32_t index, char out[HOST_GPU_TEXT])
{
    const struct probe_gpu *gpu = &probe->gpu[index];
    snprintf(out, HOST_GPU_TEXT, "%s, %.1f GiB, %s, driver %s", gpu->name, (double)gpu->memory / 0x1p30, gpu->uuid,
             probe->driver);
    return out;
}

static uint64_t smallest_gpu(const struct probe *probe)
{
    uint64_t least = probe->gpus ? probe->gpu[0].memory : 0;
    for (uint32_t i = 1; i < probe->gpus; i++)
        if (probe->gpu[i].memory < least) least = probe->gpu[i].memory;
    return least;
}

void host_fill_resources(struct sweep *sweep, const struct probe *probe)
{
    struct sweep_resources *resources = &sweep->resources;
    sweep_set_backend(sweep, probe->backend);
    if (resources->device_bytes) return;
    resources->device_bytes = host_has_gpus(probe)
                                  ? smallest_gpu(probe)
                                  : host_memory() / host_devices(NULL, resources->devices, resources->threads);
}
