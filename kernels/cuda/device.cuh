/* The device itself, for the files of the host's side: device.cu, graphs.cu, matmul.cu, gang.cu. */
#ifndef TUNELAW_KERNELS_CUDA_DEVICE_CUH
#define TUNELAW_KERNELS_CUDA_DEVICE_CUH

#include <deque>
#include <memory>

#include "kernels/cuda/cuda.cuh"

/* Pinned host memory that copies leave from, used round and round: a place is taken again when its copy is done. With a
 * mirror in device memory it hands lists to kernels; there the stream keeps the order. */
struct ring {
    unsigned char *host, *mirror; /* mirror: NULL without */
    size_t size, head;
    struct use {
        size_t begin, end;
        cudaEvent_t done;
    };
    std::deque<use> uses; /* oldest first */
    std::deque<cudaEvent_t> spare;
};

struct products; /* matmul.cu */
struct gang;     /* gang.cu */
struct answers;  /* answers.cu */

struct device {
    int index; /* of the GPU */
    char uuid[sizeof kernels_device::uuid];
    enum precision precision;
    unsigned multiprocessors;
    size_t shared_bytes; /* of a block, at most */
    cudaStream_t stream, communication;
    cudaError_t error; /* the first one */
    const char *also;  /* what a library said, where CUDA itself said nothing; else NULL */
    bool in_gang;      /* that is the gang's failure, and says nothing of this device */
    struct ring input, constants;
    unsigned char *answer; /* pinned, ANSWER bytes: what to_host waits for */
    struct answers *answers;
    void *scratch;
    size_t scratch_bytes;
    struct products *products;
    struct gang *gang;       /* NULL: no sum over ranks yet */
    struct graph *recording; /* what is given to the stream is recorded; NULL: it is done */
};

/* "GPU-01234567-89ab-..." */
void device_uuid(const cudaDeviceProp &properties, char out[sizeof kernels_device::uuid]);
/* A library failed. The text is a constant. */
void device_fail(struct device *device, const char *what);
bool device_failed(const struct device *device);
/* Wait for the stream: 0 or -1. A gang whose other ranks have failed ends the wait. */
int device_wait(struct device *device);
/* The same for what comes before an event of the stream. */
void device_wait_event(struct device *device, cudaEvent_t event);
/* An event, a spare one where there is one; NULL after an error, which is kept. */
cudaEvent_t device_take_event(struct device *device, std::deque<cudaEvent_t> *spare);
/* -1, with the error of a device that has failed. */
int device_told(struct device *device, struct error *err);

/* answers.cu: room for what is on its way to the host. */
cudaError_t answers_create(struct device *device);
void answers_destroy(struct device *device);

/* graphs.cu: whether the device records; what cannot be recorded makes the recording void, and is no error; lists, as
 * device_constants gives them, which stay with the graph; host memory that stays with it, if the device records. */
bool device_records(struct device *device);
void device_unrecordable(struct device *device);
const void *graph_constants(struct device *device, const void *from, size_t bytes);
void graph_keep(struct device *device, std::shared_ptr<const void> memory);

int products_create(struct device *device, struct error *err);
void products_destroy(struct device *device);
void products_library(char *out, size_t size); /* as struct kernels_plugin says */
void gang_destroy(struct device *device);
/* false: the gang is broken; what the stream still waited for was given up, and the device has failed. */
bool gang_alive(struct device *device);
/* Where there is a gang: what NCCL was asked for is on its stream, or the device has failed. */
void gang_launched(struct device *device);
/* Give up what the streams wait for from other ranks, for good. For a device that has failed. */
void gang_abort(struct device *device);

#endif
