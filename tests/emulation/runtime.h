/* The CUDA runtime on the CPU, as far as kernels/cuda uses it: streams that lag behind, events, memory of a device.
 *
 * What is given to a stream is done later: when somebody waits for it or asks, or, at random, a little at a time, by
 * the thread that owns the stream; or by one of which a stream waits for it. An operation may have to wait, for an
 * event of another stream or for another rank; then what is behind it waits, too. Device memory and what was freed are
 * NaN; a copy must lie inside of an allocation, and on the host in pinned memory. What a device would not forgive ends
 * the program as emulation.h says. */
#ifndef TUNELAW_TESTS_EMULATION_RUNTIME_H
#define TUNELAW_TESTS_EMULATION_RUNTIME_H

#include <cstddef>
#include <functional>

#include "tests/emulation/emulation.h"

constexpr int EMULATED_DEVICES = 8;
#define CUDART_VERSION 13000

typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t, *cudaGraphExec_t;

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorStreamCaptureUnsupported = 900
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};

struct cudaUUID_t {
    char bytes[16];
};

struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount;
};

/* false: not yet, to be tried again; nothing was done. */
using emulated_operation = std::function<bool()>;
/* stream NULL: now. */
cudaError_t emulated_enqueue(cudaStream_t stream, emulated_operation operation);
/* It goes on a little, as a device does by itself: from any thread, while the stream is there. */
void emulated_advance(cudaStream_t stream);

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetLastError();
const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value);

cudaError_t cudaMemGetInfo(size_t *left, size_t *all);
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **memory, size_t bytes);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t stream);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);

/* While a stream is captured, what would wait for it is an error, as on a device, and so is its end; taking memory,
 * too, unless the thread is in the relaxed mode. */
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *work, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t work, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t work, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t work);

inline cudaError_t cudaMalloc(unsigned char **memory, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(memory), bytes);
}

/* For tests: bytes that a device has (all of them share it; at first 1 GiB); an operation fails as a kernel does that
 * touches what it must not, for the whole process, until it is forgiven; how many devices there are (at first all); the
 * number-th allocation, stream or event from now on cannot be had (0: each can); how many of them there are. */
extern "C" void emulated_memory(size_t bytes);
extern "C" void emulated_fault(bool failing);
extern "C" void emulated_devices(int count);
extern "C" void emulated_refuse(int number);
extern "C" int emulated_held(void);

#endif
