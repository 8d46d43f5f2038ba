/* The memory of this host, between the sweep and the plan. */
#include "orchestrator/host.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/kernels.h"
#include "orchestrator/launcher.h"

/* memory.max of a control group; UINT64_MAX: none ("max", or no such file). */
static uint64_t group_limit(const char *group)
{
    char path[PATH_MAX + 64];
    uint64_t bytes;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
    FILE *file = fopen(path, "re");
    if (!file) return UINT64_MAX;
    if (fscanf(file, "%" SCNu64, &bytes) != 1) bytes = UINT64_MAX;
    fclose(file);
    return bytes;
}

/* The smallest limit of this process's control group and those above it (cgroup v2). */
static uint64_t groups_limit(void)
{
    char line[PATH_MAX];
    FILE *file = fopen("/proc/self/cgroup", "re");
    uint64_t least = UINT64_MAX;
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "0::/", 4) != 0) continue;
        line[strcspn(line, "\n")] = 0;
        for (char *group = line + 3, *slash; (slash = strrchr(group, '/')); *slash = 0) {
            uint64_t limit = group_limit(group);
            if (limit < least) least = limit;
        }
        uint64_t limit = group_limit("");
        if (limit < least) least = limit;
    }
    if (file) fclose(file);
    return least;
}

uint64_t host_memory(void)
{
    uint64_t present = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE), limit = groups_limit();
    return limit < present ? limit : present;
}

int host_fill_device_bytes(struct sweep *sweep, struct error *err)
{
    struct sweep_resources *resources = &sweep->resources;
    const struct kernels *kernels = kernels_find(resources->backend, err);
    if (!kernels) return -1;
    if (resources->device_bytes || strcmp(kernels->name, "cuda") == 0) return 0;
    uint32_t devices = resources->devices ? resources->devices : launcher_host_cpus() / resources->threads;
    resources->device_bytes = host_memory() / (devices ? devices : 1);
    return 0;
}
