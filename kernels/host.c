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

size_t host_element_bytes(const struct device *device)
{
    (void)device;
    return sizeof(float);
}

void host_upload(struct device *device, size_t n, const float *from, float *to)
{
    host_transfer(device, to, from, n * sizeof *to);
}

void host_download(struct device *device, size_t n, const float *from, float *to)
{
    host_transfer(device, to, from, n * sizeof *to);
}

void host_round(struct device *device, size_t n, const float *value, float *rounded)
{
    if (rounded && rounded != value) host_transfer(device, rounded, value, n * sizeof *rounded);
}

void host_zero(struct device *device, size_t bytes, void *x)
{
    (void)device;
    if (bytes) memset(x, 0, bytes);
}

void host_copy(struct device *device, size_t bytes, const void *x, void *y)
{
    host_transfer(device, y, x, bytes);
}

int host_sum_ranks(struct device *device, const struct collective *gang, size_t n, float *x)
{
    (void)device;
    return collective_sum(gang, n, x);
}

int host_sum_ranks_end(struct device *device, const struct collective *gang)
{
    (void)device, (void)gang;
    return 0;
}

int host_gather_ranks(struct device *device, const struct collective *gang, size_t n, const float *x, float *all)
{
    (void)device;
    return collective_gather(gang, n, x, all);
}

int host_collect(struct device *device, size_t later, struct error *err)
{
    (void)device, (void)later, (void)err;
    return 0;
}

int host_synchronise(struct device *device, struct error *err)
{
    (void)device;
    (void)err;
    return 0;
}
