/* NCCL's declarations: its own header where there is one (the toolkit brings none), else those that are used here, of
 * NCCL 2.14. The library is loaded at run time either way, of the header's version or another. Private to kernels/cuda.
 */
#ifndef TUNELAW_KERNELS_CUDA_NCCL_CUH
#define TUNELAW_KERNELS_CUDA_NCCL_CUH

#if __has_include(<nccl.h>) && !defined(TUNELAW_OWN_NCCL_DECLARATIONS)
#include <nccl.h>
#else
#include <cuda_runtime.h>

#include <climits>

extern "C" {
typedef struct ncclComm *ncclComm_t;
typedef struct {
    char internal[128];
} ncclUniqueId;
typedef enum { ncclSuccess = 0, ncclInProgress = 7 } ncclResult_t;
typedef enum { ncclSum = 0 } ncclRedOp_t;
typedef enum { ncclFloat = 7, ncclBfloat16 = 9 } ncclDataType_t;

/* As of 2.14, which is what `version` says: a later library takes no more than `size` bytes of it, and its own defaults
 * for what was added since. */
typedef struct {
    size_t size;
    unsigned int magic, version;
    int blocking;
} ncclConfig_t;
#define NCCL_CONFIG_INITIALIZER                                                                                        \
    {                                                                                                                  \
        sizeof(ncclConfig_t), 0xcafebeef, 21400, INT_MIN                                                               \
    }

ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config);
ncclResult_t ncclCommFinalize(ncclComm_t comm);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
ncclResult_t ncclCommAbort(ncclComm_t comm);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error);
ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream);
}
#endif

#endif
