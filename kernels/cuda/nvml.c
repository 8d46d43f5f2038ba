/* NVML's functions and structs as its reference has them (nvml.h is not part of every toolkit). Of the functions that
 * list processes it is _v2, whose struct is the same in all drivers since CUDA 11: _v3 has had two. */
#include "kernels/cuda/nvml.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INSUFFICIENT_SIZE = 7 };
#define NOT_AVAILABLE UINT64_MAX

struct nvml_device;

struct process { /* nvmlProcessInfo_v2_t */
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
};

/* GPUs that were noted since the last reset. */
struct counted {
    char uuid[NVML_UUID];
    uint64_t peak; /* NOT_AVAILABLE: the driver has not told */
};

static struct {
    pthread_mutex_t mutex;
    bool asked, there;
    int (*driver_version)(char *out, unsigned size);
    int (*handle_by_uuid)(const char *uuid, struct nvml_device **device);
    int (*processes)(struct nvml_device *device, unsigned *count, struct process *processes);
    struct counted counted[NVML_DEVICES];
    size_t count;
    bool too_many;
} nvml = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static bool find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found); /* POSIX: a function's address is like an object's */
    return found != NULL;
}

/* Once a process; it stays loaded. */
static bool load(void)
{
    if (nvml.asked) return nvml.there;
    nvml.asked = true;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    int (*initialise)(void);
    if (!library || !find(library, "nvmlInit_v2", &initialise) || initialise() != SUCCESS) return false;
    nvml.there = find(library, "nvmlSystemGetDriverVersion", &nvml.driver_version);
    if (!find(library, "nvmlDeviceGetHandleByUUID", &nvml.handle_by_uuid) ||
        !find(library, "nvmlDeviceGetComputeRunningProcesses_v2", &nvml.processes))
        nvml.processes = NULL;
    return nvml.there;
}

void nvml_driver_version(char *out, size_t size)
{
    out[0] = 0;
    pthread_mutex_lock(&nvml.mutex);
    if (load() && nvml.driver_version(out, (unsigned)size) != SUCCESS) out[0] = 0;
    pthread_mutex_unlock(&nvml.mutex);
}

static uint64_t bytes_on(struct nvml_device *device)
{
    struct process few[16], *more = NULL, *list = few;
    unsigned count = sizeof few / sizeof *few;
    uint64_t bytes = NOT_AVAILABLE;
    int code = nvml.processes(device, &count, few);
    while (code == INSUFFICIENT_SIZE) {
        count += 8; /* others may come meanwhile */
        free(more);
        list = more = calloc(count, sizeof *list);
        if (!list) return NOT_AVAILABLE;
        code = nvml.processes(device, &count, list);
    }
    for (unsigned i = 0; code == SUCCESS && i < count; i++)
        if (list[i].pid == (unsigned)getpid()) bytes = list[i].bytes;
    free(more);
    return bytes;
}

/* CUDA tells a MIG device's UUID as it tells a GPU's. */
static int find_device(const char *uuid, struct nvml_device **device)
{
    char slice[NVML_UUID];
    if (nvml.handle_by_uuid(uuid, device) == SUCCESS) return 0;
    snprintf(slice, sizeof slice, "MIG-%.*s", NVML_UUID - 5, uuid + 4);
    return strncmp(uuid, "GPU-", 4) || nvml.handle_by_uuid(slice, device) != SUCCESS ? -1 : 0;
}

static void ask(struct counted *counted)
{
    struct nvml_device *device;
    if (!load() || !nvml.processes || find_device(counted->uuid, &device)) return;
    uint64_t bytes = bytes_on(device);
    if (bytes == NOT_AVAILABLE) return;
    if (counted->peak == NOT_AVAILABLE || bytes > counted->peak) counted->peak = bytes;
}

static struct counted *counted_of(const char *uuid)
{
    for (size_t i = 0; i < nvml.count; i++)
        if (strcmp(nvml.counted[i].uuid, uuid) == 0) return &nvml.counted[i];
    if (nvml.count == NVML_DEVICES) return NULL;
    struct counted *counted = &nvml.counted[nvml.count++];
    strncpy(counted->uuid, uuid, sizeof counted->uuid - 1);
    counted->peak = NOT_AVAILABLE;
    return counted;
}

void nvml_note(const char *uuid)
{
    pthread_mutex_lock(&nvml.mutex);
    struct counted *counted = counted_of(uuid);
    if (counted)
        ask(counted);
    else
        nvml.too_many = true;
    pthread_mutex_unlock(&nvml.mutex);
}

uint64_t nvml_peak(void)
{
    uint64_t sum = 0;
    pthread_mutex_lock(&nvml.mutex);
    bool known = !nvml.too_many;
    for (size_t i = 0; i < nvml.count; i++) {
        ask(&nvml.counted[i]); /* libraries allocate, too */
        known = known && nvml.counted[i].peak != NOT_AVAILABLE;
        sum += nvml.counted[i].peak;
    }
    pthread_mutex_unlock(&nvml.mutex);
    return known ? sum : 0;
}

void nvml_reset(void)
{
    pthread_mutex_lock(&nvml.mutex);
    memset(nvml.counted, 0, sizeof nvml.counted);
    nvml.count = 0;
    nvml.too_many = false;
    pthread_mutex_unlock(&nvml.mutex);
}
