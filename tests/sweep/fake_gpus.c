/* A CUDA plugin for machines without a GPU: what CUDA_VISIBLE_DEVICES lists, computed with the CPU backend. Each device
 * that is made is a line of the file $FAKE_GPUS_LOG: process, its CUDA_VISIBLE_DEVICES, index. For test_gpus.py. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cuda/plugin.h"

static struct kernels operations;

static int probe(struct kernels_device *devices, int capacity, struct error *err)
{
    (void)err;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES"), *memory = getenv("FAKE_GPUS_MEMORY");
    if (getenv("FAKE_GPUS_CRASH")) raise(SIGSEGV); /* as a broken driver may */
    int count = visible && *visible ? 1 : 0;
    for (; visible && *visible; visible++)
        count += *visible == ',';
    for (int i = 0; i < count && i < capacity; i++)
        devices[i] = (struct kernels_device){.name = "fake",
                                             .uuid = "GPU-fake",
                                             .driver = "1.2",
                                             .memory = memory ? strtoull(memory, NULL, 10) : (uint64_t)4 << 30,
                                             .major = 9};
    return count;
}

static struct device *device_create(int index, int threads, struct error *err)
{
    FILE *log = fopen(getenv("FAKE_GPUS_LOG"), "ae");
    if (log) fprintf(log, "%d %s %d\n", (int)getpid(), getenv("CUDA_VISIBLE_DEVICES"), index);
    if (log) fclose(log);
    return kernels_cpu.device_create(index, threads, err);
}

/* $FAKE_GPUS_BROKEN is a file that names the GPU, as CUDA_VISIBLE_DEVICES does, that does not work from then on. */
static int synchronise(struct device *device, struct error *err)
{
    char broken[64] = "";
    const char *path = getenv("FAKE_GPUS_BROKEN"), *visible = getenv("CUDA_VISIBLE_DEVICES");
    FILE *file = path ? fopen(path, "re") : NULL;
    if (file && fscanf(file, "%63s", broken) != 1) broken[0] = 0;
    if (file) fclose(file);
    if (broken[0] && visible && !strcmp(visible, broken))
        return error_set(err, DEVICE_FAILED ": uncorrectable ECC error");
    return kernels_cpu.synchronise(device, err);
}

/* $FAKE_GPUS_PEAK bytes, once a reset has said from when on; without it not known, as of a driver that does not tell.
 */
static bool counting;

static void peak_reset(void)
{
    counting = true;
}

static uint64_t peak_bytes(void)
{
    const char *peak = getenv("FAKE_GPUS_PEAK");
    return counting && peak ? strtoull(peak, NULL, 10) : 0;
}

__attribute__((constructor)) static void fill(void)
{
    operations = kernels_cpu;
    operations.name = "cuda";
    operations.device_create = device_create;
    operations.synchronise = synchronise;
    operations.peak_reset = peak_reset;
    operations.peak_bytes = peak_bytes;
}

static void library(char *out, size_t size)
{
    snprintf(out, size, "%s", "fake");
}

__attribute__((visibility("default")))
const struct kernels_plugin tunelaw_kernels_plugin = {KERNELS_PLUGIN_ABI, KERNELS_ABI, probe, &operations, library};
