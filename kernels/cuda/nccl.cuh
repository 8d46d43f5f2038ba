/* NCCL's declarations: its own header where there is one (the toolkit brings none), else those that are used here, of
 * NCCL 2. The library is loaded at run time either way. Private to kernels/cuda. */
#ifndef TUNELAW_KERNELS_CUDA_NCCL_CUH
#define TUNELAW_KERNELS_CUDA_NCCL_CUH

#if __has_include(<nccl.h>) && !defined(TUNELAW_OWN_NCCL_DECLARATIONS)
#include <nccl.h>
#else
#include <cuda_runtime.h>

extern "C" {
typedef struct ncclComm *ncclComm_t;
typedef struct {
    char internal[128];
} ncclUniqueId;
typedef enum { ncclSuccess = 0, ncclInProgress = 7 } ncclResult_t;
typedef enum { ncclSum = 0 } ncclRedOp_t;
typedef enum { ncclFloat = 7, ncclBfloat16 = 9 } ncclDataType_t;

ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank);
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
