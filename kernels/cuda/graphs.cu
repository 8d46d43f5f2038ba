/* Operations that come again and again, recorded once as a CUDA graph.
 *
 * At full size: a thousand kernels a pass, some of a few microseconds, which the host gives to the device one by one;
 * a graph is given at once. While a device records, nothing is done: what would have to wait, to grow or to allocate
 * cannot be recorded, and makes the recording void. Numbers that a kernel takes by value are those of the recording,
 * lists that were on their way in a ring of constants are kept with the graph. */
#include "kernels/cuda/device.cuh"

#include <cstdlib>
#include <cstring>
#include <new>

/* Lists of a pass: the table of rotary frequencies in every layer, addresses of grouped products. */
static constexpr size_t CONSTANTS = (size_t)256 << 10, ALIGNMENT = 256;

struct graph {
    cudaGraphExec_t work;
    unsigned char *host,
        *mirror; /* CONSTANTS bytes, pinned and of the device: the second is filled by the graph itself */
    size_t used;
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

const void *graph_constants(struct device *device, const void *from, size_t bytes)
{
    struct graph *graph = device->recording;
    size_t begin = graph->used;
    if (bytes > CONSTANTS - begin) {
        device_unrecordable(device);
        return nullptr;
    }
    graph->used = (begin + bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memcpy(graph->host + begin, from, bytes);
    device_note(device, cudaMemcpyAsync(graph->mirror + begin, graph->host + begin, bytes, cudaMemcpyHostToDevice,
                                        device->stream));
    return graph->mirror + begin;
}

static void graph_free(struct graph *graph)
{
    if (graph->work) cudaGraphExecDestroy(graph->work);
    cudaFree(graph->mirror);
    cudaFreeHost(graph->host);
    delete graph;
}

int cuda_graph_begin(struct device *device)
{
    const char *wanted = getenv("TUNELAW_CUDA_GRAPHS");
    if (device_failed(device) || device->gang || device->recording || (wanted && !strcmp(wanted, "0"))) return -1;
    struct graph *graph = new (std::nothrow) struct graph();
    if (!graph) return -1;
    cudaError_t code = cudaMallocHost(reinterpret_cast<void **>(&graph->host), CONSTANTS);
    if (code == cudaSuccess) code = cudaMalloc(reinterpret_cast<void **>(&graph->mirror), CONSTANTS);
    if (code == cudaSuccess) code = cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal);
    if (code != cudaSuccess) {
        cudaGetLastError(); /* no harm to the device */
        graph_free(graph);
        return -1;
    }
    device->recording = graph;
    return 0;
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
    if (code == cudaSuccess && !graph->invalid) {
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
