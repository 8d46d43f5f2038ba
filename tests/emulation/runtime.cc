/* Streams, events and memory: runtime.h. */
#include "tests/emulation/runtime.h"

#include <dlfcn.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

/* Its operations share what each has for itself: they may run again and again. */
struct emulated_graph {
    std::shared_ptr<std::vector<emulated_operation>> operations = std::make_shared<std::vector<emulated_operation>>();
    bool invalid = false;
};

struct emulated_stream {
    std::mutex mutex; /* of the list */
    std::deque<emulated_operation> waiting;
    std::atomic<bool> working{false}; /* an operation of it runs, in whatever thread */
    emulated_graph *captured = nullptr;
};

struct emulated_event {
    std::shared_ptr<std::atomic<bool>> done; /* NULL: never recorded */
    cudaStream_t stream = nullptr;
};

namespace
{

constexpr size_t ALIGNMENT = 256, AT_ONCE = 4;
constexpr double PATIENCE = 60; /* seconds, for what another rank must do */

struct block {
    size_t bytes;
    bool pinned;
};

std::mutex guard; /* of the blocks */
std::map<uintptr_t, block> blocks;
size_t taken, limit = (size_t)1 << 30;
std::atomic<cudaError_t> fault{cudaSuccess};
std::atomic<int> devices{EMULATED_DEVICES}, refusal{0}, held{0};
thread_local cudaError_t last = cudaSuccess;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
thread_local uint32_t dice = 1;

unsigned roll(unsigned sides)
{
    dice = dice * 1664525u + 1013904223u;
    return (dice >> 8) % sides;
}

cudaError_t keep(cudaError_t code)
{
    cudaError_t broken = fault.load();
    if (broken != cudaSuccess) code = broken;
    if (code != cudaSuccess) last = code;
    return code;
}

/* Whether one more of what is held can be had. */
bool grant()
{
    bool granted = refusal.load() <= 0 || refusal.fetch_sub(1) != 1;
    held += granted;
    return granted;
}

/* Every stream of this thread: memory that is freed waits for the device. */
thread_local std::deque<cudaStream_t> streams;

/* Whether something that cannot be captured is done while this thread captures: the capture is void. */
bool captured()
{
    bool any = false;
    for (cudaStream_t stream : streams)
        if (stream->captured) any = stream->captured->invalid = true;
    return any;
}

double now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool idle(cudaStream_t stream)
{
    std::lock_guard<std::mutex> lock(stream->mutex);
    return stream->waiting.empty();
}

/* Up to so many operations; false: one has to wait. */
bool advance(cudaStream_t stream, size_t most)
{
    if (stream->working.exchange(true)) return false; /* streams that wait for each other */
    bool all = true;
    for (; most > 0 && all && !idle(stream); most--) {
        stream->mutex.lock();
        const emulated_operation &next = stream->waiting.front(); /* it stays where it is */
        stream->mutex.unlock();
        all = fault.load() != cudaSuccess || next();
        std::lock_guard<std::mutex> lock(stream->mutex);
        if (all) stream->waiting.pop_front();
    }
    stream->working = false;
    return all;
}

template <typename Done> void wait_until(cudaStream_t stream, Done done)
{
    double began = now();
    while (!done()) {
        if (advance(stream, SIZE_MAX)) continue;
        sched_yield();
        if (now() - began > PATIENCE) emulation_fail("a stream waits for what does not come");
    }
}

/* An allocation that holds all of it. */
bool inside(const void *memory, size_t bytes, bool pinned)
{
    std::lock_guard<std::mutex> lock(guard);
    uintptr_t at = reinterpret_cast<uintptr_t>(memory);
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) return false;
    auto found = std::prev(next);
    return found->second.pinned == pinned && at - found->first <= found->second.bytes &&
           bytes <= found->second.bytes - (at - found->first);
}

void check(const void *memory, size_t bytes, bool pinned)
{
    if (!inside(memory, bytes, pinned))
        emulation_fail(pinned ? "a copy's host side is not in pinned memory" : "a copy leaves the device's memory");
}

cudaError_t take(void **memory, size_t bytes, bool pinned)
{
    size_t size = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *memory = nullptr;
    if (capture_mode != cudaStreamCaptureModeRelaxed && captured()) return keep(cudaErrorStreamCaptureUnsupported);
    std::lock_guard<std::mutex> lock(guard);
    if (keep(cudaSuccess) != cudaSuccess) return fault.load();
    if (!pinned && (size > limit || taken > limit - size)) return keep(cudaErrorMemoryAllocation);
    if (!grant()) return keep(cudaErrorMemoryAllocation);
    *memory = aligned_alloc(ALIGNMENT, size ? size : ALIGNMENT);
    if (!*memory) return keep(cudaErrorMemoryAllocation);
    memset(*memory, 0xff, size);
    blocks[reinterpret_cast<uintptr_t>(*memory)] = {bytes, pinned};
    if (!pinned) taken += size;
    return cudaSuccess;
}

cudaError_t give(void *memory, bool pinned)
{
    if (!memory) return keep(cudaSuccess);
    if (captured()) emulation_fail("memory is freed while a stream is captured");
    std::lock_guard<std::mutex> lock(guard);
    auto found = blocks.find(reinterpret_cast<uintptr_t>(memory));
    if (found == blocks.end() || found->second.pinned != pinned) emulation_fail("what is freed was not allocated");
    size_t size = (found->second.bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!pinned) taken -= size;
    memset(memory, 0xff, found->second.bytes);
    blocks.erase(found);
    held--;
    free(memory);
    return keep(cudaSuccess);
}

void drain()
{
    for (cudaStream_t stream : streams)
        if (fault.load() == cudaSuccess && !advance(stream, SIZE_MAX))
            wait_until(stream, [=] { return idle(stream) || fault.load() != cudaSuccess; });
}

} // namespace

cudaError_t emulated_enqueue(cudaStream_t stream, emulated_operation operation)
{
    if (keep(cudaSuccess) != cudaSuccess) return fault.load();
    if (!stream) {
        operation();
        return cudaSuccess;
    }
    if (stream->captured) {
        stream->captured->operations->push_back(std::move(operation));
        return cudaSuccess;
    }
    stream->mutex.lock();
    stream->waiting.push_back(std::move(operation));
    stream->mutex.unlock();
    if (roll(4) == 0) advance(stream, roll(AT_ONCE) + 1);
    return keep(cudaSuccess);
}

void emulated_advance(cudaStream_t stream)
{
    advance(stream, AT_ONCE);
}

/* In the place of gang.cu's dlopen: NCCL that a machine may have knows nothing of these streams. */
extern "C" void *emulated_dlopen(const char *, int mode)
{
    const char *library = getenv("EMULATED_NCCL");
    return dlopen(library ? library : "EMULATED_NCCL, which is not set", mode);
}

void emulated_memory(size_t bytes)
{
    limit = bytes;
}

void emulated_fault(bool failing)
{
    fault = failing ? cudaErrorIllegalAddress : cudaSuccess;
}

void emulated_devices(int count)
{
    devices = count;
}

void emulated_refuse(int number)
{
    refusal = number;
}

int emulated_held(void)
{
    return held;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = devices;
    return keep(cudaSuccess);
}

cudaError_t cudaSetDevice(int device)
{
    return keep(device >= 0 && device < devices ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    *properties = {};
    if (device < 0 || device >= devices) return keep(cudaErrorInvalidDevice);
    snprintf(properties->name, sizeof properties->name, "emulated");
    properties->uuid.bytes[0] = (char)(device + 1);
    properties->totalGlobalMem = limit;
    properties->sharedMemPerBlockOptin = emulated_shared_bytes();
    properties->major = 9;
    properties->multiProcessorCount = 3; /* few and odd: more work than blocks at small sizes */
    return keep(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return keep(cudaSuccess);
}

cudaError_t cudaGetLastError()
{
    cudaError_t code = keep(last);
    last = cudaSuccess;
    return code;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "out of memory" : "an error of the emulation";
}

const char *cudaGetErrorName(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : error == cudaErrorIllegalAddress ? "cudaErrorIllegalAddress"
                                              : "cudaErrorUnknown";
}

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int)
{
    return keep(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *all)
{
    std::lock_guard<std::mutex> lock(guard);
    *all = limit;
    *left = limit > taken ? limit - taken : 0;
    return keep(cudaSuccess);
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    return take(memory, bytes, false);
}

cudaError_t cudaFree(void *memory)
{
    if (memory) drain();
    return give(memory, false);
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    return take(memory, bytes, true);
}

cudaError_t cudaFreeHost(void *memory)
{
    if (memory) drain();
    return give(memory, true);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    check(to, bytes, kind == cudaMemcpyDeviceToHost);
    check(from, bytes, kind == cudaMemcpyHostToDevice);
    return emulated_enqueue(stream, [=] {
        memmove(to, from, bytes);
        return true;
    });
}

cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t stream)
{
    check(memory, bytes, false);
    return emulated_enqueue(stream, [=] {
        memset(memory, byte, bytes);
        return true;
    });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = nullptr;
    if (!grant()) return keep(cudaErrorMemoryAllocation);
    *stream = new emulated_stream();
    streams.push_back(*stream);
    return keep(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    if (fault.load() == cudaSuccess && !idle(stream)) wait_until(stream, [=] { return idle(stream); });
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) streams.erase(streams.begin() + (ptrdiff_t)i);
    delete stream;
    held--;
    return keep(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (captured()) return keep(cudaErrorStreamCaptureUnsupported);
    wait_until(stream, [=] { return idle(stream); });
    return keep(cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    if (captured()) return keep(cudaErrorStreamCaptureUnsupported);
    advance(stream, roll(2 * AT_ONCE));
    return keep(idle(stream) ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (captured()) return keep(cudaErrorStreamCaptureUnsupported);
    stream->captured = new emulated_graph();
    return keep(cudaSuccess);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
    std::swap(*mode, capture_mode);
    return keep(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->captured;
    stream->captured = nullptr;
    if (!(*graph)->invalid) return keep(cudaSuccess);
    delete *graph;
    *graph = nullptr;
    return keep(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *work, cudaGraph_t graph, unsigned long long)
{
    *work = new emulated_graph(*graph);
    return keep(cudaSuccess);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return keep(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t work, cudaStream_t stream)
{
    for (const emulated_operation &operation : *work->operations)
        if (emulated_enqueue(stream, operation) != cudaSuccess) break;
    return keep(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return keep(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t work)
{
    delete work;
    return keep(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    std::shared_ptr<std::atomic<bool>> done = event->done;
    cudaStream_t other = event->stream;
    if (!done) return keep(cudaSuccess);
    return emulated_enqueue(stream, [=] {
        if (!done->load()) advance(other, AT_ONCE);
        return done->load();
    });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = nullptr;
    if (!grant()) return keep(cudaErrorMemoryAllocation);
    *event = new emulated_event();
    return keep(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    held--;
    return keep(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    auto done = std::make_shared<std::atomic<bool>>(false);
    event->done = done;
    event->stream = stream;
    return emulated_enqueue(stream, [=] { return done->store(true), true; });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (captured()) return keep(cudaErrorStreamCaptureUnsupported);
    std::shared_ptr<std::atomic<bool>> done = event->done;
    if (done) wait_until(event->stream, [=] { return done->load() || fault.load() != cudaSuccess; });
    return keep(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (captured()) return keep(cudaErrorStreamCaptureUnsupported);
    if (!event->done) return keep(cudaSuccess);
    if (!event->done->load()) advance(event->stream, roll(2 * AT_ONCE));
    return keep(event->done->load() ? cudaSuccess : cudaErrorNotReady);
}
