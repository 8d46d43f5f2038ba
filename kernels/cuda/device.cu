/* Devices and their memory.
 *
 * One host thread a device, one stream for all it computes and another for sums over the gang. Nothing waits but
 * to_host, download, synchronise, collect, and a copy that finds its room full of earlier ones still on their way.
 * Memory is taken when a stage begins; scratch and rings grow in its first steps. The first error stays: what follows
 * is skipped, and synchronise or collect tells it. */
#include "kernels/cuda/device.cuh"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

extern "C" {
#include "kernels/cuda/nvml.h"
}

static_assert(sizeof kernels_device::uuid == NVML_UUID, "the same text");

namespace
{

constexpr size_t RING = (size_t)32 << 20, CONSTANTS = (size_t)8 << 20, ANSWER = (size_t)1 << 20, ALIGNMENT = 256;
constexpr size_t PIECE = (size_t)1 << 22; /* elements that are converted at a time */
constexpr int OLDEST_MAJOR = 8;           /* compute capability */

size_t aligned(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

int fail(struct error *err, int index, const char *what, cudaError_t code)
{
    bool memory = code == cudaErrorMemoryAllocation;
    cudaGetLastError(); /* what was told is not told again */
    if (err)
        snprintf(err->text, sizeof err->text, "device %d: %s: %s: %s (%s)", index,
                 memory ? "out of memory" : DEVICE_FAILED, what, cudaGetErrorString(code), cudaGetErrorName(code));
    return -1;
}

int ring_create(struct ring *ring, size_t size, bool mirrored, int index, struct error *err)
{
    ring->size = size;
    cudaError_t code = cudaMallocHost(reinterpret_cast<void **>(&ring->host), size);
    if (code == cudaSuccess && mirrored) code = cudaMalloc(reinterpret_cast<void **>(&ring->mirror), size);
    return code == cudaSuccess ? 0 : fail(err, index, "memory for transfers", code);
}

void ring_destroy(struct ring *ring)
{
    for (const struct ring::use &use : ring->uses)
        cudaEventDestroy(use.done);
    for (cudaEvent_t event : ring->spare)
        cudaEventDestroy(event);
    cudaFreeHost(ring->host);
    cudaFree(ring->mirror);
}

/* Wait for a stream, or for an event of it: a gang whose other ranks have failed ends the wait, and fails the device.
 */
cudaError_t finish(cudaStream_t stream)
{
    return cudaStreamSynchronize(stream);
}

cudaError_t finish(cudaEvent_t event)
{
    return cudaEventSynchronize(event);
}

cudaError_t query(cudaStream_t stream)
{
    return cudaStreamQuery(stream);
}

cudaError_t query(cudaEvent_t event)
{
    return cudaEventQuery(event);
}

template <typename Awaited> void wait_for(struct device *device, Awaited awaited)
{
    cudaError_t code;
    if (!device->gang) {
        code = finish(awaited);
    } else {
        while ((code = query(awaited)) == cudaErrorNotReady)
            if (!gang_alive(device)) break;
    }
    device_note(device, code);
}

/* Nothing is on its way any more, whatever has failed: before memory goes, which would wait where no gang can end it.
 */
void settle(struct device *device)
{
    if (!device_failed(device)) gang_launched(device);
    if (!device_failed(device)) wait_for(device, device->stream);
    if (!device_failed(device) && device->gang) wait_for(device, device->communication);
    if (device_failed(device)) gang_abort(device);
}

/* The first `count` copies are done with. */
void ring_forget(struct ring *ring, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ring->spare.push_back(ring->uses.front().done);
        ring->uses.pop_front();
    }
}

/* The next `bytes` in one piece, at most the ring's size; waits for copies that still leave from there. They lie in the
 * order in which they were given, not by place: behind the last one that is in the way all are done. */
unsigned char *ring_take(struct device *device, struct ring *ring, size_t bytes)
{
    if (ring->head + bytes > ring->size) ring->head = 0;
    size_t begin = ring->head, end = begin + bytes, in_the_way = 0;
    for (size_t i = 0; i < ring->uses.size(); i++)
        if (ring->uses[i].begin < end && begin < ring->uses[i].end) in_the_way = i + 1;
    if (in_the_way) wait_for(device, ring->uses[in_the_way - 1].done);
    ring_forget(ring, in_the_way);
    while (!ring->uses.empty() && cudaEventQuery(ring->uses.front().done) == cudaSuccess)
        ring_forget(ring, 1);
    ring->head = aligned(end);
    return ring->host + begin;
}

/* The copy from there has been given to the stream. */
void ring_given(struct device *device, struct ring *ring, const unsigned char *place, size_t bytes)
{
    cudaEvent_t event = device_take_event(device, &ring->spare);
    if (!event) return;
    device_note(device, cudaEventRecord(event, device->stream));
    size_t begin = (size_t)(place - ring->host);
    ring->uses.push_back({begin, begin + bytes, event});
}

/* Which GPU an index means. Ranks share GPUs only where a test asks for it. */
int find_gpu(int index, int *gpu, struct error *err)
{
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    const char *share = getenv("TUNELAW_SHARE_GPU");
    if (code != cudaSuccess) return fail(err, index, "no usable GPU", code);
    *gpu = share && strcmp(share, "1") == 0 && count > 0 ? index % count : index;
    if (*gpu < count) return 0;
    if (err)
        snprintf(err->text, sizeof err->text,
                 "device %d: " DEVICE_FAILED ": this process sees %d GPU%s (TUNELAW_SHARE_GPU=1 lets ranks share one, "
                 "for tests)",
                 index, count, count == 1 ? "" : "s");
    return -1;
}

int open_gpu(struct device *device, int gpu, struct error *err)
{
    cudaDeviceProp properties;
    cudaError_t code = cudaSetDevice(gpu);
    if (code == cudaSuccess) code = cudaGetDeviceProperties(&properties, gpu);
    if (code != cudaSuccess) return fail(err, gpu, "it cannot be used", code);
    if (properties.major < OLDEST_MAJOR) {
        if (err)
            snprintf(err->text, sizeof err->text,
                     "device %d: " DEVICE_FAILED ": %s has compute capability %d.%d; needed: %d.0 or later", gpu,
                     properties.name, properties.major, properties.minor, OLDEST_MAJOR);
        return -1;
    }
    device->index = gpu;
    device_uuid(properties, device->uuid);
    device->multiprocessors = (unsigned)properties.multiProcessorCount;
    device->shared_bytes = properties.sharedMemPerBlockOptin;
    code = cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking);
    if (code == cudaSuccess) code = cudaStreamCreateWithFlags(&device->communication, cudaStreamNonBlocking);
    if (code == cudaSuccess) code = cudaMallocHost(reinterpret_cast<void **>(&device->answer), ANSWER);
    if (code == cudaSuccess) code = answers_create(device);
    if (code != cudaSuccess) return fail(err, gpu, "streams", code);
    if (ring_create(&device->input, RING, false, gpu, err)) return -1;
    return ring_create(&device->constants, CONSTANTS, true, gpu, err);
}

__global__ void from_floats(size_t n, const float *from, bf16 *to)
{
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride)
        to[i] = rounded<bf16>(from[i]);
}

__global__ void to_floats(size_t n, const bf16 *from, float *to)
{
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride)
        to[i] = number(from[i]);
}

} // namespace

void device_uuid(const cudaDeviceProp &properties, char out[sizeof kernels_device::uuid])
{
    const unsigned char *b = reinterpret_cast<const unsigned char *>(properties.uuid.bytes);
    snprintf(out, sizeof kernels_device::uuid,
             "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4],
             b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

enum precision device_precision(const struct device *device)
{
    return device->precision;
}

cudaStream_t device_stream(const struct device *device)
{
    return device->stream;
}

unsigned device_multiprocessors(const struct device *device)
{
    return device->multiprocessors;
}

size_t device_shared_bytes(const struct device *device)
{
    return device->shared_bytes;
}

void device_note(struct device *device, cudaError_t code)
{
    if (code == cudaErrorNotReady) return; /* what a query says, and the runtime remembers: no error */
    if (code != cudaSuccess && device_records(device)) {
        device_unrecordable(device);
        return;
    }
    if (code != cudaSuccess && device->error == cudaSuccess) device->error = code;
}

/* A library is often the first to see that a kernel before it has failed: then that is what is told. */
void device_fail(struct device *device, const char *what)
{
    if (device_failed(device)) return;
    if (device_records(device)) {
        device_unrecordable(device);
        return;
    }
    device_note(device, cudaStreamQuery(device->stream));
    if (!device_failed(device)) device->also = what;
}

bool device_failed(const struct device *device)
{
    return device->error != cudaSuccess || device->also;
}

void *device_scratch(struct device *device, size_t bytes)
{
    if (device_failed(device)) return nullptr;
    if (bytes <= device->scratch_bytes) return device->scratch;
    if (device_records(device)) {
        device_unrecordable(device);
        return nullptr;
    }
    settle(device);
    device_note(device, cudaFree(device->scratch));
    device->scratch = nullptr;
    device->scratch_bytes = 0;
    cudaError_t code = cudaMalloc(&device->scratch, bytes);
    device_note(device, code);
    if (code == cudaSuccess) device->scratch_bytes = bytes;
    nvml_note(device->uuid);
    return device->scratch;
}

const void *device_constants(struct device *device, const void *from, size_t bytes)
{
    struct ring *ring = &device->constants;
    if (device_failed(device)) return nullptr;
    if (device_records(device)) return graph_constants(device, from, bytes);
    if (bytes > ring->size) { /* a model of some ten thousand tensors: once */
        struct error none;
        settle(device);
        ring_destroy(ring);
        *ring = {};
        if (ring_create(ring, 2 * aligned(bytes), true, device->index, &none)) {
            device_note(device, cudaErrorMemoryAllocation);
            return nullptr;
        }
    }
    unsigned char *place = ring_take(device, ring, bytes), *mirror = ring->mirror + (place - ring->host);
    memcpy(place, from, bytes);
    device_note(device, cudaMemcpyAsync(mirror, place, bytes, cudaMemcpyHostToDevice, device->stream));
    ring_given(device, ring, place, bytes);
    return mirror;
}

struct device *cuda_device_create(int index, int threads, struct error *err)
{
    (void)threads; /* of the host */
    int gpu;
    if (find_gpu(index, &gpu, err)) return nullptr;
    struct device *device = new (std::nothrow) struct device();
    if (!device) {
        if (err) snprintf(err->text, sizeof err->text, "out of memory");
        return nullptr;
    }
    if (open_gpu(device, gpu, err) || products_create(device, err)) {
        cuda_device_destroy(device);
        return nullptr;
    }
    return device;
}

void cuda_device_destroy(struct device *device)
{
    if (!device) return;
    gang_destroy(device);
    products_destroy(device);
    ring_destroy(&device->input);
    ring_destroy(&device->constants);
    cudaFree(device->scratch);
    cudaFreeHost(device->answer);
    answers_destroy(device);
    if (device->communication) cudaStreamDestroy(device->communication);
    if (device->stream) cudaStreamDestroy(device->stream);
    cudaGetLastError();
    delete device;
}

void *cuda_allocate(struct device *device, size_t bytes, struct error *err)
{
    void *memory = nullptr;
    size_t size = std::max(bytes, (size_t)1);
    cudaError_t code = cudaMalloc(&memory, size);
    if (code == cudaErrorMemoryAllocation) {
        size_t left = 0, all = 0;
        cudaGetLastError();
        cudaMemGetInfo(&left, &all);
        if (err)
            snprintf(err->text, sizeof err->text,
                     "device %d: out of memory: %.1f MiB could not be had, %.1f of %.1f are free", device->index,
                     (double)bytes / 0x1p20, (double)left / 0x1p20, (double)all / 0x1p20);
        return nullptr;
    }
    if (code == cudaSuccess) code = cudaMemsetAsync(memory, 0, size, device->stream);
    nvml_note(device->uuid);
    if (code == cudaSuccess) return memory;
    fail(err, device->index, "memory", code);
    cudaFree(memory);
    return nullptr;
}

void cuda_release(struct device *device, void *memory)
{
    settle(device);          /* something may still use it */
    nvml_note(device->uuid); /* with what libraries have taken since the last allocation */
    device_note(device, cudaFree(memory));
}

uint64_t cuda_peak_bytes()
{
    return nvml_peak();
}

void cuda_peak_reset()
{
    nvml_reset();
}

void cuda_to_device(struct device *device, void *to, const void *from, size_t bytes)
{
    if (device_records(device)) {
        device_unrecordable(device);
        return;
    }
    for (size_t done = 0; done < bytes && !device_failed(device);) {
        size_t piece = std::min(bytes - done, device->input.size / 4); /* some on their way while one is filled */
        unsigned char *place = ring_take(device, &device->input, piece);
        memcpy(place, static_cast<const unsigned char *>(from) + done, piece);
        device_note(device, cudaMemcpyAsync(static_cast<unsigned char *>(to) + done, place, piece,
                                            cudaMemcpyHostToDevice, device->stream));
        ring_given(device, &device->input, place, piece);
        done += piece;
    }
}

void cuda_to_host(struct device *device, void *to, const void *from, size_t bytes)
{
    for (size_t done = 0; done < bytes && !device_failed(device);) {
        size_t piece = std::min(bytes - done, ANSWER);
        device_note(device, cudaMemcpyAsync(device->answer, static_cast<const unsigned char *>(from) + done, piece,
                                            cudaMemcpyDeviceToHost, device->stream));
        if (device_wait(device)) return;
        memcpy(static_cast<unsigned char *>(to) + done, device->answer, piece);
        done += piece;
    }
}

int device_wait(struct device *device)
{
    if (device_records(device)) {
        device_unrecordable(device);
        return -1;
    }
    wait_for(device, device->stream);
    return device_failed(device) ? -1 : 0;
}

cudaEvent_t device_take_event(struct device *device, std::deque<cudaEvent_t> *spare)
{
    cudaEvent_t event = nullptr;
    if (spare->empty()) {
        device_note(device, cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    } else {
        event = spare->front();
        spare->pop_front();
    }
    return event;
}

void device_wait_event(struct device *device, cudaEvent_t event)
{
    wait_for(device, event);
}

int cuda_synchronise(struct device *device, struct error *err)
{
    if (!device_failed(device)) device_wait(device);
    device_note(device, cudaGetLastError());
    cuda_collect(device, 0, nullptr); /* it is all there */
    return device_failed(device) ? device_told(device, err) : 0;
}

int device_told(struct device *device, struct error *err)
{
    if (device->also) {
        if (err)
            snprintf(err->text, sizeof err->text, "device %d: %s%s", device->index,
                     device->in_gang ? "" : DEVICE_FAILED ": ", device->also);
        return -1;
    }
    return fail(err, device->index, "an operation", device->error);
}

void cuda_set_precision(struct device *device, enum precision precision)
{
    device->precision = precision;
}

enum precision cuda_precision(const struct device *device)
{
    return device->precision;
}

size_t cuda_element_bytes(const struct device *device)
{
    return device->precision == PRECISION_BF16 ? sizeof(bf16) : sizeof(float);
}

void cuda_upload(struct device *device, size_t n, const float *from, real *to)
{
    if (device->precision != PRECISION_BF16) {
        cuda_to_device(device, to, from, n * sizeof(float));
        return;
    }
    for (size_t done = 0; done < n; done += PIECE) {
        size_t piece = std::min(n - done, PIECE);
        float *floats = static_cast<float *>(device_scratch(device, piece * sizeof(float)));
        if (!floats) return;
        cuda_to_device(device, floats, from + done, piece * sizeof(float));
        launch(device, from_floats, blocks_to_stride(device, piece, 256, 16), 256, 0, piece, floats,
               as<bf16>(to) + done);
    }
}

void cuda_download(struct device *device, size_t n, const real *from, float *to)
{
    if (device->precision != PRECISION_BF16) {
        cuda_to_host(device, to, from, n * sizeof(float));
        return;
    }
    for (size_t done = 0; done < n; done += PIECE) {
        size_t piece = std::min(n - done, PIECE);
        float *floats = static_cast<float *>(device_scratch(device, piece * sizeof(float)));
        if (!floats) return;
        launch(device, to_floats, blocks_to_stride(device, piece, 256, 16), 256, 0, piece, as<bf16>(from) + done,
               floats);
        cuda_to_host(device, to + done, floats, piece * sizeof(float));
    }
}

void cuda_zero(struct device *device, size_t bytes, void *x)
{
    if (bytes) device_note(device, cudaMemsetAsync(x, 0, bytes, device->stream));
}

void cuda_copy(struct device *device, size_t bytes, const void *x, void *y)
{
    if (bytes) device_note(device, cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice, device->stream));
}
