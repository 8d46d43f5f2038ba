/* Names the library that a backend computes with: a part of the execution class. */
#include <cblas.h>
#include <stdio.h>
#include <string.h>

#include "kernels/kernels.h"

void kernels_library(const struct kernels *kernels, char *out, size_t size)
{
    char version[16] = "";
    if (strcmp(kernels->name, "cpu") == 0) {
        sscanf(openblas_get_config(), "OpenBLAS %15s", version);
        snprintf(out, size, "openblas-%s-%s", version, openblas_get_corename());
    } else {
        snprintf(out, size, "%s", "plain");
    }
}
