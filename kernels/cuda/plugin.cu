/* The CUDA plugin: what devices there are, and the table of operations.
 * The runtime is linked statically; without a driver the probe answers with the reason instead of failing to load. */
#include <cstdio>
#include <cstring>

#include "kernels/cuda/device.cuh"

extern "C" {
#include "kernels/cuda/nvml.h"
#include "kernels/cuda/plugin.h"
}

namespace
{

int fail(struct error *err, const char *what, cudaError_t code)
{
    if (err) {
        snprintf(err->text, sizeof err->text, "%s: %s (error %d)", what, cudaGetErrorString(code), (int)code);
    }
    return -1;
}

/* The runtime gives one code for no driver and for one that is too old. */
int no_driver(struct error *err)
{
    int version = 0;
    cudaDriverGetVersion(&version);
    if (!err) return -1;
    if (version == 0) {
        snprintf(err->text, sizeof err->text, "no NVIDIA driver (error %d)", (int)cudaErrorInsufficientDriver);
    } else {
        snprintf(err->text, sizeof err->text,
                 "the NVIDIA driver is for CUDA %d.%d, older than the plugin's %d.%d (error %d)", version / 1000,
                 version % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10,
                 (int)cudaErrorInsufficientDriver);
    }
    return -1;
}

int probe(struct kernels_device *devices, int capacity, struct error *err)
{
    int count = 0;
    char driver[sizeof devices->driver];
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaErrorNoDevice) return 0;
    if (code == cudaErrorInsufficientDriver) return no_driver(err);
    if (code != cudaSuccess) return fail(err, "no usable device", code);
    if (capacity > 0) nvml_driver_version(driver, sizeof driver);
    for (int i = 0; i < count && i < capacity; i++) {
        cudaDeviceProp properties;
        code = cudaGetDeviceProperties(&properties, i);
        if (code != cudaSuccess) return fail(err, "a device could not be asked for its properties", code);
        devices[i] = {};
        snprintf(devices[i].name, sizeof devices[i].name, "%s", properties.name);
        snprintf(devices[i].driver, sizeof devices[i].driver, "%s", driver);
        device_uuid(properties, devices[i].uuid);
        devices[i].memory = properties.totalGlobalMem;
        devices[i].major = properties.major;
        devices[i].minor = properties.minor;
        devices[i].multiprocessors = properties.multiProcessorCount;
    }
    return count;
}

} // namespace

extern "C" __attribute__((visibility("default"))) const struct kernels_plugin tunelaw_kernels_plugin = {
    KERNELS_PLUGIN_ABI, KERNELS_ABI, probe, &kernels_cuda, products_library};
