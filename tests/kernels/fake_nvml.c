/* Stands for the driver's NVML in test_nvml.c: GPUs "GPU-one", "GPU-two", "GPU-0", "GPU-1", ..., a slice "MIG-slice",
 * this process among others on each, as the test says. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct process {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
};

unsigned long long fake_bytes = 0; /* of this process on a GPU, twice as many on "GPU-two"; ~0: not available */
unsigned fake_others = 0;          /* processes before it in the list */
int fake_hidden = 0;               /* this process is not in the list */
int fake_growing = 0;              /* so many more processes come after the list was asked for its size */

int nvmlInit_v2(void);
int nvmlSystemGetDriverVersion(char *out, unsigned size);
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device);
int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, struct process *list);

int nvmlInit_v2(void)
{
    return getenv("FAKE_NVML_BROKEN") ? 999 : 0;
}

int nvmlSystemGetDriverVersion(char *out, unsigned size)
{
    if (size < sizeof "580.65.06") return 7;
    strcpy(out, "580.65.06");
    return 0;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{
    static unsigned long long first = 1, second = 2; /* times fake_bytes */
    bool numbered = !strncmp(uuid, "GPU-", 4) && uuid[4] >= '0' && uuid[4] <= '9';
    if (!numbered && strcmp(uuid, "GPU-one") && strcmp(uuid, "GPU-two") && strcmp(uuid, "MIG-slice")) return 6;
    *device = strcmp(uuid, "GPU-two") ? &first : &second;
    return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, struct process *list)
{
    unsigned there = fake_others + (fake_hidden ? 0 : 1), room = *count;
    const unsigned long long *times = device;
    *count = there;
    if (!list) fake_others += (unsigned)fake_growing;
    if (room < there || (!list && there)) return 7; /* insufficient size */
    for (unsigned i = 0; i < there; i++) {
        list[i].pid = i < fake_others ? 1 : (unsigned)getpid();
        list[i].bytes = i < fake_others ? 1ull << 40 : fake_bytes == ~0ull ? fake_bytes : *times * fake_bytes;
        list[i].gpu_instance = list[i].compute_instance = ~0u;
    }
    return 0;
}
