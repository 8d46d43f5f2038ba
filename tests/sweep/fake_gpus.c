/* A CUDA plugin for machines without a GPU: what CUDA_VISIBLE_DEVICES lists, computed with the CPU backend. Each device
 * that is made is a line of the file $FAKE_GPUS_LOG: process, its CUDA_VISIBLE_DEVICES, index. For test_gpus.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cuda/plugin.h"

static struct kernels operations;

static int probe(struct kernels_plugin_device *devices, int capacity, struct error *err)
{
    (void)err;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int count = visible && *visible ? 1 : 0;
    for (; visible && *visible; visible++)
        count += *visible == ',';
    for (int i = 0; i < count && i < capacity; i++)
        devices[i] = (struct kernels_plugin_device){.name = "fake", .memory = 1u << 30, .major = 9};
    return count;
}

static struct device *device_create(int index, int threads, struct error *err)
{
    FILE *log = fopen(getenv("FAKE_GPUS_LOG"), "ae");
    if (log) fprintf(log, "%d %s %d\n", (int)getpid(), getenv("CUDA_VISIBLE_DEVICES"), index);
    if (log) fclose(log);
    return kernels_cpu.device_create(index, threads, err);
}

__attribute__((constructor)) static void fill(void)
{
    operations = kernels_cpu;
    operations.name = "cuda";
    operations.device_create = device_create;
}

__attribute__((visibility("default")))
const struct kernels_plugin tunelaw_kernels_plugin = {KERNELS_PLUGIN_ABI, KERNELS_ABI, probe, &operations};
