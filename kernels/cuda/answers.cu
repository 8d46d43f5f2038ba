/* Numbers on their way to the host, which goes on meanwhile: sums that a step needs, waited for when they are asked
 * for.
 *
 * At full size: the losses of two passes, and a number for each tensor of each lane of a pack (64 lanes of some hundred
 * tensors). They lie one behind the other in pinned memory; when it is full, all that is there is waited for. */
#include <cmath>
#include <cstring>
#include <new>

#include "kernels/cuda/device.cuh"

static constexpr size_t ROOM = (size_t)1 << 20;

struct answer {
    double *out;
    size_t begin, count; /* in the room */
    cudaEvent_t done;
};

struct answers {
    double *room;               /* pinned, ROOM bytes */
    size_t used;                /* numbers */
    std::deque<answer> awaited; /* oldest first */
    std::deque<cudaEvent_t> spare;
};

cudaError_t answers_create(struct device *device)
{
    device->answers = new (std::nothrow) struct answers();
    if (!device->answers) return cudaErrorMemoryAllocation;
    return cudaMallocHost(reinterpret_cast<void **>(&device->answers->room), ROOM);
}

void answers_destroy(struct device *device)
{
    struct answers *answers = device->answers;
    if (!answers) return;
    for (const answer &a : answers->awaited)
        cudaEventDestroy(a.done);
    for (cudaEvent_t event : answers->spare)
        cudaEventDestroy(event);
    cudaFreeHost(answers->room);
    delete answers;
    device->answers = nullptr;
}

void device_answer(struct device *device, const double *from, size_t count, double *out)
{
    struct answers *answers = device->answers;
    size_t all = ROOM / sizeof(double);
    if (device_records(device)) {
        device_unrecordable(device);
        return;
    }
    if (count > all) { /* a model of a hundred thousand tensors */
        cuda_to_host(device, out, from, count * sizeof(double));
        return;
    }
    if (answers->used + count > all) cuda_collect(device, 0, nullptr);
    cudaEvent_t done = device_failed(device) ? nullptr : device_take_event(device, &answers->spare);
    if (device_failed(device)) return;
    device_note(device, cudaMemcpyAsync(answers->room + answers->used, from, count * sizeof(double),
                                        cudaMemcpyDeviceToHost, device->stream));
    device_note(device, cudaEventRecord(done, device->stream));
    answers->awaited.push_back({out, answers->used, count, done});
    answers->used += count;
}

int cuda_collect(struct device *device, size_t later, struct error *err)
{
    struct answers *answers = device->answers;
    while (answers->awaited.size() > later) {
        const answer a = answers->awaited.front();
        answers->awaited.pop_front();
        if (!device_failed(device)) device_wait_event(device, a.done);
        if (!device_failed(device)) memcpy(a.out, answers->room + a.begin, a.count * sizeof(double));
        answers->spare.push_back(a.done);
    }
    if (answers->awaited.empty()) answers->used = 0;
    return device_failed(device) ? device_told(device, err) : 0;
}
