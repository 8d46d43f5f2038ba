/* Memory of backends whose device is the host itself: shared by reference/ and cpu/. Private to kernels/. */
#ifndef TUNELAW_KERNELS_HOST_H
#define TUNELAW_KERNELS_HOST_H

#include <stddef.h>

#include "io/error.h"

struct device;
void *host_allocate(struct device *device, size_t bytes, struct error *err);
void host_release(struct device *device, void *memory);
void host_transfer(struct device *device, void *to, const void *from, size_t bytes);
int host_synchronise(struct device *device, struct error *err);

#endif
