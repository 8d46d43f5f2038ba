/* What libkernels_cuda.so shows to the program: one symbol, a struct kernels_plugin. The program holds nothing of CUDA.
 */
#ifndef TUNELAW_KERNELS_CUDA_PLUGIN_H
#define TUNELAW_KERNELS_CUDA_PLUGIN_H

#include "kernels/kernels.h"

#define KERNELS_PLUGIN_FILE "libkernels_cuda.so"
#define KERNELS_PLUGIN_SYMBOL "tunelaw_kernels_plugin"
#define KERNELS_PLUGIN_ABI 2 /* of this struct */

struct kernels_plugin {
    uint32_t plugin_abi;  /* KERNELS_PLUGIN_ABI */
    uint32_t kernels_abi; /* KERNELS_ABI */
    /* The devices of this machine, at most `capacity` of them described: how many there are, or -1 with *err saying
     * why. */
    int (*probe)(struct kernels_device *devices, int capacity, struct error *err);
    const struct kernels *kernels;
    /* The library behind matrix products, "cublaslt-13.1.0"; "" where it cannot be loaded. Cut at `size`. */
    void (*library)(char *out, size_t size);
};

#endif
