/* NVML, which belongs to the driver and is loaded at run time: what the driver counts of this process on its GPUs.
 *
 * From any thread. At full size: 8 GPUs of a worker, asked after each allocation of device memory and before its
 * release, of which a stage has some ten; a GPU that many processes share is asked for this one alone. */
#ifndef TUNELAW_KERNELS_CUDA_NVML_H
#define TUNELAW_KERNELS_CUDA_NVML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NVML_UUID 48    /* bytes of "GPU-01234567-89ab-..." */
#define NVML_DEVICES 64 /* that one process counts; further ones make all of it unknown */

/* Version of the driver; "" where there is no NVML. Cut at `size`. */
void nvml_driver_version(char *out, size_t size);

/* Memory of this process on a GPU may have grown: the driver is asked, and the most is kept. */
void nvml_note(const char *uuid);

/* Bytes that this process had at the most on each GPU that was noted since the last reset, together; 0 where one of
 * them is not known: no NVML, or it does not list this process (a client of MPS, some vGPUs, a PID namespace of a
 * container, where the number may by chance be another process's). */
uint64_t nvml_peak(void);
void nvml_reset(void);

#endif
