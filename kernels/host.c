/* Memory of the backends that compute on the host: aligned, zeroed, and copied with memcpy. */
#include "kernels/host.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT ((size_t)64)

void *host_allocate(struct device *device, size_t bytes, struct error *err)
{
    (void)device;
    void *memory = NULL;
    if (bytes <= PTRDIFF_MAX - ALIGNMENT) {
        size_t rounded = bytes ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
        memory = aligned_alloc(ALIGNMENT, rounded);
        if (memory) memset(memory, 0, rounded);
    }
    if (!memory) error_set(err, "out of memory: %.1f MiB could not be had", (double)bytes / 0x1p20);
    return memory;
}

void host_release(struct device *device, void *memory)
{
    (void)device;
    free(memory);
}

void host_transfer(struct device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes) memmove(to, from, bytes);
}

int host_synchronise(struct device *device, struct error *err)
{
    (void)device;
    (void)err;
    return 0;
}
