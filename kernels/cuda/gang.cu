/* Sums over the devices of a gang: by NCCL where every rank has a GPU of its own, else through the host.
 *
 * NCCL is loaded at the first sum. The ranks find each other through the host's collectives: rank 0's identity, and
 * which GPU each has; where any rank cannot use NCCL, all go through the host. NCCL_ALGO and NCCL_PROTO are set to Ring
 * and Simple, where the environment does not say otherwise, so that sums have one order. TUNELAW_HOST_COLLECTIVES=1:
 * through the host always.
 *
 * A rank that fails aborts the gang (kernels/collective.h). The others may then wait on their stream for a sum that
 * does not come: whoever waits looks for that, and ends the communicator, which lets the stream go on. */
#include <pthread.h>
#include <sched.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/libraries.cuh"
#include "kernels/cuda/nccl.cuh"

namespace
{

#define NCCL_FILE "libnccl.so.2"
#define NCCL_FUNCTIONS(X)                                                                                              \
    X(ncclGetUniqueId)                                                                                                 \
    X(ncclCommInitRank)                                                                                                \
    X(ncclCommDestroy)                                                                                                 \
    X(ncclCommAbort)                                                                                                   \
    X(ncclCommGetAsyncError)                                                                                           \
    X(ncclAllReduce)                                                                                                   \
    X(ncclAllGather)

struct functions {
#define FIELD(name) decltype(::name) *name;
    NCCL_FUNCTIONS(FIELD)
#undef FIELD
};

struct functions call; /* of the process */
bool loaded;
pthread_once_t once = PTHREAD_ONCE_INIT;

/* When the plugin is loaded: later other threads may be reading the environment. */
__attribute__((constructor)) void fix_order()
{
    setenv("NCCL_ALGO", "Ring", 0);
    setenv("NCCL_PROTO", "Simple", 0);
    setenv("NCCL_RUNTIME_CONNECT", "0", 0); /* ranks connect when a gang is made, not in a first sum */
}

void load_once()
{
    struct library library = {};
    if (library_open(&library, NCCL_FILE, nullptr)) return;
#define FIND(name) library_find(&library, #name, &call.name);
    NCCL_FUNCTIONS(FIND)
#undef FIND
    loaded = !library.missing;
}

bool wanted()
{
    const char *host = getenv("TUNELAW_HOST_COLLECTIVES");
    pthread_once(&once, load_once);
    return loaded && !(host && strcmp(host, "1") == 0);
}

} // namespace

struct gang {
    struct collective collective;
    ncclComm_t communicator; /* NULL: through the host */
    cudaEvent_t ready, done; /* of the stream of what is computed, and of the sum beside it */
    bool beside;             /* a sum is on its way there */
    std::vector<float> host;
};

namespace
{

/* What a rank tells the others, as the words of floats, which the host's gather only copies. */
struct greeting {
    ncclUniqueId identity; /* of rank 0 */
    cudaUUID_t gpu;
    uint32_t able;
};
constexpr size_t WORDS = (sizeof(greeting) + sizeof(float) - 1) / sizeof(float);

/* The same answer on every rank. */
bool all_able(const std::vector<greeting> &all)
{
    for (size_t i = 0; i < all.size(); i++) {
        if (!all[i].able) return false;
        for (size_t j = 0; j < i; j++)
            if (memcmp(&all[i].gpu, &all[j].gpu, sizeof all[i].gpu) == 0) return false;
    }
    return true;
}

/* 0, or -1: a rank has failed. */
int meet(struct device *device, struct gang *gang)
{
    const struct collective *c = &gang->collective;
    greeting mine = {};
    cudaDeviceProp properties;
    mine.able = wanted() && cudaGetDeviceProperties(&properties, device->index) == cudaSuccess;
    if (mine.able) mine.gpu = properties.uuid;
    if (mine.able && c->rank == 0 && call.ncclGetUniqueId(&mine.identity)) mine.able = 0;
    std::vector<float> words(WORDS), others(WORDS * (size_t)c->size);
    memcpy(words.data(), &mine, sizeof mine);
    if (collective_gather(c, WORDS, words.data(), others.data())) return -1;
    std::vector<greeting> all((size_t)c->size);
    for (size_t i = 0; i < all.size(); i++)
        memcpy(&all[i], others.data() + i * WORDS, sizeof all[i]);
    if (!all_able(all)) return 0;
    if (call.ncclCommInitRank(&gang->communicator, c->size, all[0].identity, c->rank)) {
        device_fail(device, "NCCL could not join the gang's devices");
        return -1;
    }
    return 0;
}

/* At the first sum of a stage. */
struct gang *gang_of(struct device *device, const struct collective *c)
{
    if (device->gang) return device->gang;
    struct gang *gang = new (std::nothrow) struct gang();
    if (!gang) return nullptr;
    gang->collective = *c;
    device_note(device, cudaEventCreateWithFlags(&gang->ready, cudaEventDisableTiming));
    device_note(device, cudaEventCreateWithFlags(&gang->done, cudaEventDisableTiming));
    device->gang = gang;
    return device_failed(device) || meet(device, gang) ? nullptr : gang;
}

int failed(struct device *device, ncclResult_t result)
{
    if (result != ncclSuccess) device_fail(device, "a sum of NCCL over the gang");
    return result == ncclSuccess ? 0 : -1;
}

/* Numbers of either kind. */
struct numbers {
    float *floats;
    real *reals;
};

int through_host(struct device *device, struct gang *gang, size_t n, numbers x)
{
    gang->host.resize(n);
    float *host = gang->host.data();
    if (x.floats)
        cuda_to_host(device, host, x.floats, n * sizeof(float));
    else
        cuda_download(device, n, x.reals, host);
    if (device_failed(device) || collective_sum(&gang->collective, n, host)) return -1;
    if (x.floats)
        cuda_to_device(device, x.floats, host, n * sizeof(float));
    else
        cuda_upload(device, n, host, x.reals);
    return 0;
}

/* On the device's stream; or on that of communication, beside it, from what it has done so far. */
int sum(struct device *device, const struct collective *c, size_t n, numbers x, cudaStream_t stream)
{
    if (c->size == 1 || n == 0) return 0;
    struct gang *gang = gang_of(device, c);
    if (!gang) return -1;
    if (!gang->communicator) return through_host(device, gang, n, x);
    bool beside = stream != device->stream;
    ncclDataType_t type = x.reals && device->precision == PRECISION_BF16 ? ncclBfloat16 : ncclFloat;
    void *address = x.floats ? static_cast<void *>(x.floats) : static_cast<void *>(x.reals);
    if (beside) device_note(device, cudaEventRecord(gang->ready, device->stream));
    if (beside) device_note(device, cudaStreamWaitEvent(stream, gang->ready, 0));
    ncclResult_t result = call.ncclAllReduce(address, address, n, type, ncclSum, gang->communicator, stream);
    if (beside) device_note(device, cudaEventRecord(gang->done, stream));
    gang->beside = gang->beside || beside;
    return failed(device, result);
}

} // namespace

bool gang_alive(struct device *device)
{
    struct gang *gang = device->gang;
    ncclResult_t state = ncclSuccess;
    sched_yield();
    if (!gang->communicator) return true;
    if (!collective_aborted(&gang->collective) &&
        call.ncclCommGetAsyncError(gang->communicator, &state) == ncclSuccess && state == ncclSuccess)
        return true;
    device_fail(device, GANG_FAILED);
    gang_abort(device);
    return false;
}

void gang_abort(struct device *device)
{
    struct gang *gang = device->gang;
    if (!gang || !gang->communicator) return;
    call.ncclCommAbort(gang->communicator);
    gang->communicator = nullptr;
    cudaStreamSynchronize(device->communication); /* the sums that were given up have let go of them */
    cudaStreamSynchronize(device->stream);
}

void gang_destroy(struct device *device)
{
    struct gang *gang = device->gang;
    if (!gang) return;
    if (device_failed(device) || collective_aborted(&gang->collective)) gang_abort(device);
    if (gang->communicator) call.ncclCommDestroy(gang->communicator);
    if (gang->ready) cudaEventDestroy(gang->ready);
    if (gang->done) cudaEventDestroy(gang->done);
    delete gang;
    device->gang = nullptr;
}

int cuda_sum_ranks(struct device *device, const struct collective *c, size_t n, real *x)
{
    return sum(device, c, n, {nullptr, x}, device->stream);
}

int cuda_sum_ranks_floats(struct device *device, const struct collective *c, size_t n, float *x)
{
    return sum(device, c, n, {x, nullptr}, device->stream);
}

int cuda_sum_ranks_begin(struct device *device, const struct collective *c, size_t n, real *x)
{
    return sum(device, c, n, {nullptr, x}, device->communication);
}

int cuda_sum_ranks_end(struct device *device, const struct collective *c)
{
    (void)c;
    struct gang *gang = device->gang;
    if (!gang || !gang->beside) return 0;
    device_note(device, cudaStreamWaitEvent(device->stream, gang->done, 0));
    gang->beside = false;
    return device_failed(device) ? -1 : 0;
}

int cuda_gather_ranks(struct device *device, const struct collective *c, size_t n, const float *x, float *all)
{
    if (c->size == 1) {
        cuda_copy(device, n * sizeof(float), x, all);
        return 0;
    }
    struct gang *gang = gang_of(device, c);
    if (!gang) return -1;
    if (gang->communicator)
        return failed(device, call.ncclAllGather(x, all, n, ncclFloat, gang->communicator, device->stream));
    std::vector<float> mine(n), everyone(n * (size_t)c->size);
    cuda_to_host(device, mine.data(), x, n * sizeof(float));
    if (device_failed(device) || collective_gather(c, n, mine.data(), everyone.data())) return -1;
    cuda_to_device(device, all, everyone.data(), everyone.size() * sizeof(float));
    return 0;
}
