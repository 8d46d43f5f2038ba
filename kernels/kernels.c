/* Which backends there are, and which one a name stands for. */
#include "kernels/kernels.h"

#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/plugin.h"
#include "kernels/reference/reference.h"

static const struct kernels *find_cuda(struct error *err)
{
    const struct kernels_plugin *plugin = plugin_load(err);
    if (!plugin) goto failed;
    int devices = plugin->probe(NULL, 0, err);
    if (devices < 0) goto failed;
    if (devices == 0) {
        error_set(err, "no device");
        goto failed;
    }
    const char *missing = kernels_missing(plugin->kernels);
    if (missing) {
        error_set(err, "the plugin has no complete set of operations (%s is missing)", missing);
        goto failed;
    }
    return plugin->kernels;
failed:
    error_prefix(err, "cuda");
    return NULL;
}

const struct kernels *kernels_find(const char *name, struct error *err)
{
    if (strcmp(name, "reference") == 0) return &kernels_reference;
    if (strcmp(name, "cpu") == 0) return &kernels_cpu;
    if (strcmp(name, "cuda") == 0) return find_cuda(err);
    if (strcmp(name, "auto") == 0) {
        const struct kernels *cuda = find_cuda(NULL);
        return cuda ? cuda : &kernels_cpu;
    }
    error_set(err, "unknown backend \"%s\"; allowed: auto, reference, cpu, cuda", name);
    return NULL;
}

int kernels_devices(struct kernels_device *devices, int capacity, struct error *err)
{
    const struct kernels_plugin *plugin = plugin_load(err);
    return plugin ? plugin->probe(devices, capacity, err) : -1;
}

size_t kernels_available(const struct kernels *backends[], size_t capacity)
{
    const struct kernels *all[] = {&kernels_reference, &kernels_cpu, find_cuda(NULL)};
    size_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i] && count < capacity) backends[count++] = all[i];
    }
    return count;
}

struct kernels_storage kernels_storage(const char *name, enum precision precision)
{
    bool host = strcmp(name, "reference") == 0 || strcmp(name, "cpu") == 0, cuda = strcmp(name, "cuda") == 0;
    return (struct kernels_storage){.element = cuda && precision == PRECISION_BF16 ? sizeof(uint16_t) : sizeof(float),
                                    .loss_rows = host ? 256 : 1024};
}
