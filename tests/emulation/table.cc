/* The table of the emulated device, out of the operations that this build has: the others are NULL. */
#include "kernels/cuda/cuda.cuh"

#define WEAK(name) extern std::remove_pointer_t<decltype(kernels::name)> cuda_##name __attribute__((weak));
CUDA_OPERATIONS(WEAK)
#undef WEAK

namespace
{

struct kernels table()
{
    struct kernels kernels = {};
    kernels.abi = KERNELS_ABI;
    kernels.name = "emulated";
#define SET(name) kernels.name = cuda_##name;
    CUDA_OPERATIONS(SET)
#undef SET
    return kernels;
}

} // namespace

extern "C" const struct kernels kernels_emulated;
const struct kernels kernels_emulated = table();
