/* Names the library that a backend computes with: a part of the execution class. */
#include <cblas.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/onednn.h"
#include "kernels/kernels.h"

void kernels_library(const struct kernels *kernels, char *out, size_t size)
{
    char version[16] = "";
    if (strcmp(kernels->name, "cpu") != 0) {
        snprintf(out, size, "%s", "plain");
    } else if (onednn_built()) {
        onednn_version(out, size);
    } else {
        sscanf(openblas_get_config(), "OpenBLAS %15s", version);
        snprintf(out, size, "openblas-%s-%s", version, openblas_get_corename());
    }
}

bool kernels_fast_bf16(const struct kernels *kernels)
{
    if (strcmp(kernels->name, "cpu") == 0) return onednn_fast_bf16();
    return strcmp(kernels->name, "reference") != 0;
}
