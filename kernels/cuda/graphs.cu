/* Operations that come again and again, recorded once as a CUDA graph.
 *
 * At full size: a thousand kernels a pass, of a pack some thousands, some of a few microseconds, which the host gives
 * to the device one by one; a graph is given at once. While a device records, nothing is done: what would have to wait
 * or to grow cannot be recorded, and makes the recording void. Numbers that a kernel takes by value are those of the
 * recording, lists that would go through the ring of constants lie with the graph. */
#include "kernels/cuda/device.cuh"

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

extern "C" {
#include "kernels/cuda/nvml.h"
}

/* Lists of a pass (the table of rotary frequencies in every layer, addresses of grouped products) come in pieces of so
 * many bytes: a pass of a small model has one, that of a pack some dozens. */
static constexpr size_t PIECE = (size_t)16 << 10, ALIGNMENT = 256;

struct piece {
    std::vector<unsigned char> host; /* until the recording ends */
    unsigned char *mirror;           /* of the device, PIECE bytes, or those of one longer list */
};

struct graph {
    cudaGraphExec_t work;
    std::vector<piece> lists;
    std::vector<std::shared_ptr<const void>> kept;
    const void *scratch; /* the device's, as its operations know it */
    bool invalid;        /* something could not be recorded */
};

bool device_records(struct device *device)
{
    return device->recording != nullptr;
}

void device_unrecordable(struct device *device)
{
    device->recording->invalid = true;
}

/* What the recording itself needs, and does not record. */
static unsigned char *allocate_beside(size_t bytes)
{
    unsigned char *memory = nullptr;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaError_t code = cudaThreadExchangeStreamCaptureMode(&mode);
    if (code != cudaSuccess) return nullptr;
    code = cudaMalloc(reinterpret_cast<void **>(&memory), bytes);
    cudaThreadExchangeStreamCaptureMode(&mode);
    return code == cudaSuccess ? memory : nullptr;
}

const void *graph_constants(struct device *device, const void *from, size_t bytes)
{
    std::vector<piece> &lists = device->recording->lists;
    size_t size = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (lists.empty() || lists.back().host.size() + size > PIECE) {
        unsigned char *mirror = allocate_beside(size > PIECE ? size : PIECE);
        if (!mirror) {
            device_unrecordable(device);
            return nullptr;
        }
        lists.push_back({{}, mirror});
    }
    piece &last = lists.back();
    size_t begin = last.host.size();
    last.host.resize(begin + size);
    memcpy(last.host.data() + begin, from, bytes);
    return last.mirror + begin;
}

void graph_keep(struct device *device, std::shared_ptr<const void> memory)
{
    if (device_records(device)) device->recording->kept.push_back(std::move(memory));
}

static void graph_free(struct graph *graph)
{
    if (graph->work) cudaGraphExecDestroy(graph->work);
    for (const piece &list : graph->lists)
        cudaFree(list.mirror);
    delete graph;
}

int cuda_graph_begin(struct device *device)
{
    const char *wanted = getenv("TUNELAW_CUDA_GRAPHS");
    if (device_failed(device) || device->gang || device->recording || (wanted && !strcmp(wanted, "0"))) return -1;
    struct graph *graph = new (std::nothrow) struct graph();
    if (!graph) return -1;
    if (cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        cudaGetLastError(); /* no harm to the device */
        graph_free(graph);
        return -1;
    }
    device->recording = graph;
    return 0;
}

/* Nothing writes them from then on. */
static void upload_lists(struct device *device, struct graph *graph)
{
    for (piece &list : graph->lists) {
        cuda_to_device(device, list.mirror, list.host.data(), list.host.size());
        list.host = std::vector<unsigned char>();
    }
}

struct graph *cuda_graph_end(struct device *device)
{
    struct graph *graph = device->recording;
    cudaGraph_t recorded = nullptr;
    device->recording = nullptr;
    cudaError_t code = cudaStreamEndCapture(device->stream, &recorded);
    if (code == cudaSuccess && !graph->invalid) code = cudaGraphInstantiateWithFlags(&graph->work, recorded, 0);
    if (recorded) cudaGraphDestroy(recorded);
    if (code == cudaSuccess && graph->work) code = cudaGraphUpload(graph->work, device->stream); /* takes its memory */
    nvml_note(device->uuid);
    if (code == cudaSuccess && !graph->invalid) {
        upload_lists(device, graph);
        graph->scratch = device->scratch;
        return graph;
    }
    cudaGetLastError();
    graph_free(graph);
    return nullptr;
}

int cuda_graph_launch(struct device *device, struct graph *graph)
{
    if (graph->scratch != device->scratch) return -1;
    if (!device_failed(device)) device_note(device, cudaGraphLaunch(graph->work, device->stream));
    return 0;
}

void cuda_graph_destroy(struct device *device, struct graph *graph)
{
    if (!graph) return;
    if (!device_failed(device)) device_wait(device); /* it may still run */
    graph_free(graph);
}
