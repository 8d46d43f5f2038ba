/* Memory and collectives of backends whose device is the host itself: shared by reference/ and cpu/. Private to
 * kernels/. */
#ifndef TUNELAW_KERNELS_HOST_H
#define TUNELAW_KERNELS_HOST_H

#include <stddef.h>

#include "kernels/kernels.h"

void *host_allocate(struct device *device, size_t bytes, struct error *err);
void host_release(struct device *device, void *memory);
void host_transfer(struct device *device, void *to, const void *from, size_t bytes);
size_t host_element_bytes(const struct device *device);
void host_upload(struct device *device, size_t n, const float *from, float *to);
void host_download(struct device *device, size_t n, const float *from, float *to);
/* What an optimiser writes beside values: the same here, where it lies elsewhere; `rounded` may be NULL. */
void host_round(struct device *device, size_t n, const float *value, float *rounded);
void host_zero(struct device *device, size_t bytes, void *x);
void host_copy(struct device *device, size_t bytes, const void *x, void *y);
int host_sum_ranks(struct device *device, const struct collective *gang, size_t n, float *x);
int host_sum_ranks_end(struct device *device, const struct collective *gang);
int host_gather_ranks(struct device *device, const struct collective *gang, size_t n, const float *x, float *all);
int host_synchronise(struct device *device, struct error *err);
int host_collect(struct device *device, size_t later, struct error *err);

#endif
