/* Stands for NCCL between the threads of one process, over the runtime of runtime.h: communicators that do not block.
 *
 * A call may be in progress when it returns; what it asks for is then done when its state has been looked at some
 * times, a sum given to its stream no earlier. A sum takes what it sums when its stream comes to it, waits for those of
 * the other ranks, and writes its result when its stream comes by again: in rank order, in bf16 rounded after each rank
 * as on a ring. What NCCL forbids is refused: a call while another is in progress, a communicator destroyed that was
 * not finalised. An aborted one lets its stream go on; the others wait until they are, too. */
#include "tests/emulation/nccl.h"

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/nccl.cuh"

extern "C" {
struct emulated_nccl emulated_nccl;
}

namespace
{

constexpr ncclResult_t SYSTEM_ERROR = static_cast<ncclResult_t>(2), INVALID_ARGUMENT = static_cast<ncclResult_t>(4),
                       INVALID_USAGE = static_cast<ncclResult_t>(5), REMOTE_ERROR = static_cast<ncclResult_t>(6);

/* What the ranks do together. */
struct meeting {
    size_t bytes;
    ncclDataType_t type;
    bool gathers;
    std::vector<std::vector<unsigned char>> brought; /* by rank */
    int arrived = 0, left = 0;
};

struct world {
    std::recursive_mutex mutex;
    std::map<int, ncclComm_t> ranks; /* that are there */
    int size = 0, joined = 0;
    bool broken = false;
    std::map<uint64_t, meeting> meetings;
};

/* What operations on a stream share with the communicator, which may go before them. */
struct progress {
    std::atomic<bool> aborted{false};
    std::atomic<uint64_t> done{0}; /* sums */
};

std::mutex guard;
std::map<uint64_t, std::shared_ptr<world>> worlds;
uint64_t identities;

bool troubled(int rank, enum nccl_trouble trouble)
{
    return emulated_nccl.trouble == trouble && emulated_nccl.rank == rank;
}

std::vector<unsigned char> result_of(const meeting &r)
{
    std::vector<unsigned char> all = r.brought[0];
    for (size_t rank = 1; rank < r.brought.size(); rank++) {
        const unsigned char *next = r.brought[rank].data();
        if (r.gathers) {
            all.insert(all.end(), next, next + r.bytes);
        } else if (r.type == ncclFloat) {
            for (size_t i = 0; i < r.bytes / sizeof(float); i++)
                reinterpret_cast<float *>(all.data())[i] += reinterpret_cast<const float *>(next)[i];
        } else {
            bf16 *sum = reinterpret_cast<bf16 *>(all.data());
            for (size_t i = 0; i < r.bytes / sizeof(bf16); i++)
                sum[i] = rounded<bf16>(number(sum[i]) + number(reinterpret_cast<const bf16 *>(next)[i]));
        }
    }
    return all;
}

} // namespace

struct ncclComm {
    std::shared_ptr<world> others;
    std::shared_ptr<progress> mine;
    int rank;
    bool joined, finalised;
    int looks;                           /* until what was asked for is done */
    ncclResult_t state;                  /* ncclInProgress: something is */
    cudaStream_t stream;                 /* of the last sum */
    std::function<cudaError_t()> launch; /* that sum, until it is given to its stream */
    uint64_t sums;                       /* so far */
};

namespace
{

/* Something has been asked for. */
ncclResult_t begin(ncclComm_t comm)
{
    comm->looks = emulated_nccl.looks;
    comm->state = ncclInProgress;
    if (comm->looks > 0) return ncclInProgress;
    ncclResult_t state;
    ncclCommGetAsyncError(comm, &state);
    return state;
}

/* All have called; all that was summed has been. */
bool complete(ncclComm_t comm)
{
    if (comm->finalised) cudaStreamQuery(comm->stream); /* which goes on by itself on a device */
    if (comm->joined) return !comm->finalised || comm->mine->done == comm->sums;
    std::lock_guard<std::recursive_mutex> lock(comm->others->mutex);
    return comm->others->joined == comm->others->size;
}

/* On the stream: false, not yet. */
bool work(world *others, progress *mine, int rank, uint64_t number, const meeting &what, const void *from, void *to,
          bool *arrived)
{
    if (mine->aborted) return true;
    if (mine->done != number) return false; /* one after another, on whatever streams */
    std::lock_guard<std::recursive_mutex> lock(others->mutex);
    meeting &r = others->meetings.emplace(number, what).first->second;
    if (r.bytes != what.bytes || r.type != what.type || r.gathers != what.gathers)
        emulation_fail("ranks of a gang do different things together");
    if (!*arrived) {
        const unsigned char *bytes = static_cast<const unsigned char *>(from);
        r.brought[(size_t)rank].assign(bytes, bytes + what.bytes);
        *arrived = true;
        r.arrived++;
    }
    for (auto other = others->ranks.begin(); r.arrived < others->size && other != others->ranks.end(); ++other)
        if (other->first != rank && other->second->stream) emulated_advance(other->second->stream);
    if (r.arrived < others->size || others->broken) return false;
    std::vector<unsigned char> result = result_of(r);
    memcpy(to, result.data(), result.size());
    if (++r.left == others->size) others->meetings.erase(number);
    mine->done++;
    return true;
}

ncclResult_t together(ncclComm_t comm, const void *from, void *to, size_t count, ncclDataType_t type, bool gathers,
                      cudaStream_t stream)
{
    if (comm->state == ncclInProgress) return INVALID_ARGUMENT;
    if (comm->state != ncclSuccess || comm->finalised) return INVALID_USAGE;
    if (troubled(comm->rank, NCCL_REFUSES_A_SUM) && comm->sums == (uint64_t)emulated_nccl.sums) return SYSTEM_ERROR;
    std::shared_ptr<world> others = comm->others;
    std::shared_ptr<progress> mine = comm->mine;
    std::shared_ptr<bool> arrived = std::make_shared<bool>(false);
    meeting what = {count * (type == ncclFloat ? sizeof(float) : sizeof(bf16)), type, gathers, {}};
    what.brought.resize((size_t)others->size);
    int rank = comm->rank;
    bool breaks = troubled(rank, NCCL_BREAKS) && comm->sums >= (uint64_t)emulated_nccl.sums;
    uint64_t number = comm->sums++;
    others->mutex.lock();
    comm->stream = stream;
    others->mutex.unlock();
    comm->launch = [=] {
        return emulated_enqueue(stream, [=] {
            if (breaks) return mine->aborted.load();
            return work(others.get(), mine.get(), rank, number, what, from, to, arrived.get());
        });
    };
    return begin(comm);
}

/* Nobody looks at its streams any more. */
void forget(ncclComm_t comm, bool broken)
{
    comm->others->mutex.lock();
    comm->others->broken = comm->others->broken || broken;
    comm->others->ranks.erase(comm->rank);
    comm->others->mutex.unlock();
    delete comm;
    __atomic_sub_fetch(&emulated_nccl.communicators, 1, __ATOMIC_SEQ_CST);
}

} // namespace

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    std::lock_guard<std::mutex> lock(guard);
    uint64_t identity = ++identities;
    worlds[identity] = std::make_shared<world>();
    memset(id, 0x5a, sizeof *id);
    memcpy(id, &identity, sizeof identity);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    uint64_t identity;
    memcpy(&identity, &id, sizeof identity);
    __atomic_add_fetch(&emulated_nccl.joining, 1, __ATOMIC_SEQ_CST);
    *comm = nullptr;
    if (config->magic != 0xcafebeef || config->version < 21400 || config->size < sizeof(ncclConfig_t) ||
        config->blocking || rank < 0 || rank >= ranks || troubled(rank, NCCL_REFUSES_TO_JOIN))
        return INVALID_ARGUMENT;
    std::lock_guard<std::mutex> lock(guard);
    auto found = worlds.find(identity);
    if (found == worlds.end()) return INVALID_ARGUMENT;
    std::shared_ptr<world> others = found->second;
    *comm = new ncclComm{others, std::make_shared<progress>(), rank, false, false, 0, ncclSuccess, nullptr, {}, 0};
    __atomic_add_fetch(&emulated_nccl.communicators, 1, __ATOMIC_SEQ_CST);
    others->mutex.lock();
    others->size = ranks;
    others->ranks[rank] = *comm;
    others->joined += !troubled(rank, NCCL_NEVER_JOINS) && !troubled(rank, NCCL_FAILS_TO_JOIN);
    if (others->joined == ranks) worlds.erase(found);
    others->mutex.unlock();
    return begin(*comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    if (comm->state == ncclInProgress && comm->looks-- <= 0) {
        if (!comm->joined && troubled(comm->rank, NCCL_FAILS_TO_JOIN)) {
            comm->state = SYSTEM_ERROR;
        } else if (complete(comm)) {
            comm->joined = true;
            comm->state = !comm->launch || comm->launch() == cudaSuccess ? ncclSuccess : SYSTEM_ERROR;
            comm->launch = nullptr;
        }
    } else if (comm->state == ncclSuccess && troubled(comm->rank, NCCL_BREAKS) &&
               comm->sums > (uint64_t)emulated_nccl.sums) {
        comm->state = REMOTE_ERROR;
    }
    *error = comm->state;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    if (comm->state == ncclInProgress || comm->finalised) return INVALID_ARGUMENT;
    comm->finalised = true;
    return begin(comm);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm->state != ncclSuccess || !comm->finalised) return INVALID_USAGE;
    forget(comm, false);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    comm->mine->aborted = true;
    forget(comm, true);
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    return op == ncclSum ? together(comm, from, to, count, type, false, stream) : INVALID_ARGUMENT;
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream)
{
    return together(comm, from, to, count, type, true, stream);
}
}
