/* The table of the CUDA backend. */
#include "kernels/cuda/cuda.cuh"

namespace
{

constexpr struct kernels table()
{
    struct kernels kernels = {};
    kernels.abi = KERNELS_ABI;
    kernels.name = "cuda";
#define SET(name) kernels.name = cuda_##name;
    CUDA_OPERATIONS(SET)
#undef SET
    return kernels;
}

} // namespace

extern "C" const struct kernels kernels_cuda = table();
