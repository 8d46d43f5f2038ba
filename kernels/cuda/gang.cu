/* Sums over the devices of a gang: by NCCL where every rank has a GPU of its own, else through the host.
 *
 * NCCL is loaded at the first sum. The ranks find each other through the host's collectives: rank 0's identity, and
 * which GPU each has; where any rank cannot use NCCL, all go through the host. NCCL_ALGO and NCCL_PROTO are set to Ring
 * and Simple, where the environment does not say otherwise, so that sums have one order. TUNELAW_HOST_COLLECTIVES=1:
 * through the host always.
 *
 * A rank that fails aborts the gang (kernels/collective.h). The others may then wait for it to join them, or on their
 * stream for a sum that does not come: whoever waits looks for that, and ends the communicator, which lets the stream
 * go on. So that no call of NCCL itself waits where that cannot be seen, communicators do not block: what a call asks
 * for, NCCL may do in a thread of its own, and until it has, it takes no other call and its stream nothing that follows
 * the sum. */
#include <pthread.h>
#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
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
    X(ncclCommInitRankConfig)                                                                                          \
    X(ncclCommFinalize)                                                                                                \
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

/* When the plugin is loaded: before the driver, which reads the last of them, and before other threads may be reading
 * the environment. A process of one GPU needs no sums. */
__attribute__((constructor)) void fix_environment()
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    setenv("NCCL_ALGO", "Ring", 0);
    setenv("NCCL_PROTO", "Simple", 0);
    setenv("NCCL_RUNTIME_CONNECT", "0", 0); /* ranks connect when a gang is made, not in a first sum */
    if (!visible || strchr(visible, ',')) setenv("CUDA_MODULE_LOADING", "EAGER", 0);
}

void load_once()
{
    struct library library = {};
    struct error why;
    if (library_open(&library, NCCL_FILE, &why) == 0) {
#define FIND(name) library_find(&library, #name, &call.name);
        NCCL_FUNCTIONS(FIND)
#undef FIND
        loaded = !library.missing;
        if (!loaded)
            snprintf(why.text, sizeof why.text, NCCL_FILE " lacks %s; needed: NCCL 2.14 or later", library.missing);
    }
    if (!loaded) fprintf(stderr, "sums over a gang of GPUs go through the host: %s\n", why.text);
}

bool wanted()
{
    const char *host = getenv("TUNELAW_HOST_COLLECTIVES");
    if (host && strcmp(host, "1") == 0) return false;
    pthread_once(&once, load_once);
    return loaded;
}

} // namespace

struct gang {
    struct collective collective;
    ncclComm_t communicator; /* NULL: through the host */
    bool asked;              /* NCCL may not have done yet what it was asked for last */
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

#define NCCL_FAILED GANG_FAILED ", or NCCL itself (NCCL_DEBUG=WARN tells more)"
constexpr long JOINING = 1000000; /* nanoseconds between looks: ranks join once a stage, in a second or so */

/* It is not known of which device. */
void fail(struct device *device, const char *what)
{
    device_fail(device, what);
    if (device->also == what) device->in_gang = true;
}

/* Whether NCCL has done what it was asked for: 1; 0: not yet; -1: the gang is broken, and the device has failed. */
int progress(struct device *device)
{
    struct gang *gang = device->gang;
    ncclResult_t state = ncclSuccess;
    if (collective_aborted(&gang->collective)) {
        fail(device, GANG_FAILED);
        return -1;
    }
    ncclResult_t told = call.ncclCommGetAsyncError(gang->communicator, &state);
    if (told == ncclSuccess && state == ncclInProgress) return 0;
    if (told == ncclSuccess && state == ncclSuccess) return 1;
    fail(device, NCCL_FAILED);
    return -1;
}

/* Wait until it has, looking every so often (0: all the time, a launch takes microseconds): 0 or -1. */
int finish(struct device *device, long nanoseconds)
{
    int done;
    const timespec pause = {0, nanoseconds};
    if (!device->gang->asked) return 0;
    while ((done = progress(device)) == 0) {
        if (nanoseconds)
            nanosleep(&pause, nullptr);
        else
            sched_yield();
    }
    if (done < 0) gang_abort(device);
    device->gang->asked = false;
    return done < 0 ? -1 : 0;
}

/* What a call of NCCL has returned: 0, or -1 where it was refused. */
int ask(struct device *device, ncclResult_t result)
{
    device->gang->asked = result == ncclInProgress;
    if (result == ncclSuccess || result == ncclInProgress) return 0;
    fail(device, NCCL_FAILED);
    gang_abort(device);
    return -1;
}

/* 0, or -1: a rank has failed. */
int join(struct device *device, const ncclUniqueId &identity)
{
    struct gang *gang = device->gang;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t result = call.ncclCommInitRankConfig(&gang->communicator, gang->collective.size, identity,
                                                      gang->collective.rank, &config);
    return ask(device, result) || finish(device, JOINING) ? -1 : 0;
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
    return all_able(all) ? join(device, all[0].identity) : 0;
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

/* On the device's stream; or on that of communication, beside it, from what it has done so far. Behind the first more
 * follows at once, so the launch is waited for; what is computed beside the second does not wait for it. */
int sum(struct device *device, const struct collective *c, size_t n, numbers x, cudaStream_t stream)
{
    if (c->size == 1 || n == 0) return 0;
    struct gang *gang = gang_of(device, c);
    if (!gang || device_failed(device)) return -1;
    if (!gang->communicator) return through_host(device, gang, n, x);
    if (finish(device, 0)) return -1;
    bool beside = stream != device->stream;
    ncclDataType_t type = x.reals && device->precision == PRECISION_BF16 ? ncclBfloat16 : ncclFloat;
    void *address = x.floats ? static_cast<void *>(x.floats) : static_cast<void *>(x.reals);
    if (beside) device_note(device, cudaEventRecord(gang->ready, device->stream));
    if (beside) device_note(device, cudaStreamWaitEvent(stream, gang->ready, 0));
    ncclResult_t result = call.ncclAllReduce(address, address, n, type, ncclSum, gang->communicator, stream);
    gang->beside = gang->beside || beside;
    if (ask(device, result)) return -1;
    return beside ? 0 : finish(device, 0);
}

} // namespace

bool gang_alive(struct device *device)
{
    sched_yield();
    if (!device->gang->communicator || progress(device) >= 0) return true;
    gang_abort(device);
    return false;
}

void gang_launched(struct device *device)
{
    if (device->gang) finish(device, 0);
}

void gang_abort(struct device *device)
{
    struct gang *gang = device->gang;
    if (!gang || !gang->communicator) return;
    call.ncclCommAbort(gang->communicator);
    gang->communicator = nullptr;
    gang->asked = false;
    cudaStreamSynchronize(device->communication); /* the sums that were given up have let go of them */
    cudaStreamSynchronize(device->stream);
}

/* Not before the sums are done; a rank that fails meanwhile ends that. */
static void leave(struct device *device)
{
    struct gang *gang = device->gang;
    if (!gang->communicator || finish(device, 0)) return;
    if (ask(device, call.ncclCommFinalize(gang->communicator))) return;
    if (finish(device, 0) == 0) call.ncclCommDestroy(gang->communicator);
}

void gang_destroy(struct device *device)
{
    struct gang *gang = device->gang;
    if (!gang) return;
    if (device_failed(device) || collective_aborted(&gang->collective)) gang_abort(device);
    leave(device);
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
    gang->beside = false;
    if (finish(device, 0)) return -1;
    device_note(device, cudaEventRecord(gang->done, device->communication));
    device_note(device, cudaStreamWaitEvent(device->stream, gang->done, 0));
    return device_failed(device) ? -1 : 0;
}

int cuda_gather_ranks(struct device *device, const struct collective *c, size_t n, const float *x, float *all)
{
    if (c->size == 1) {
        cuda_copy(device, n * sizeof(float), x, all);
        return 0;
    }
    struct gang *gang = gang_of(device, c);
    if (!gang || device_failed(device)) return -1;
    if (gang->communicator) {
        if (finish(device, 0)) return -1;
        ncclResult_t result = call.ncclAllGather(x, all, n, ncclFloat, gang->communicator, device->stream);
        return ask(device, result) || finish(device, 0) ? -1 : 0;
    }
    std::vector<float> mine(n), everyone(n * (size_t)c->size);
    cuda_to_host(device, mine.data(), x, n * sizeof(float));
    if (device_failed(device) || collective_gather(c, n, mine.data(), everyone.data())) return -1;
    cuda_to_device(device, all, everyone.data(), everyone.size() * sizeof(float));
    return 0;
}
