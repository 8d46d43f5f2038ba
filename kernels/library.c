/* Names the library that a backend computes with: a part of the execution class. */
#include <cblas.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/onednn.h"
#include "kernels/kernels.h"
#include "kernels/plugin.h"

void kernels_library(const struct kernels *kernels, char *out, size_t size)
{
    char version[16] = "";
    if (strcmp(kernels->name, "cuda") == 0) {
        const struct kernels_plugin *plugin = plugin_load(NULL);
        snprintf(out, size, "%s", "cublaslt");
        if (plugin && plugin->library) plugin->library(out, size);
    } else if (strcmp(kernels->name, "cpu") != 0) {
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

/* Found by trying, with OpenBLAS 0.3.21 (Haswell, Zen, SkylakeX, Cooperlake) and oneDNN 2.6.3 (AVX2, AVX-512): kernels
 * for AVX2 work on 12 rows at a time and finish what is left in another way; oneDNN has other ones up to 16 rows, and
 * for AVX2 others where copying the matrices does not pay; OpenBLAS has others for small products on AVX-512. In bf16
 * the cpu backend cuts products by their size (cpu/rounded.c). cuBLASLt's algorithm does not depend on the number of
 * rows (cuda/matmul.cu), which says nothing of what it does: it is tried. What has not been tried is not joined. */
enum row_join kernels_row_join(const struct kernels *kernels, enum precision precision)
{
    char library[64];
    if (strcmp(kernels->name, "reference") == 0) return JOIN_ALWAYS;
    if (strcmp(kernels->name, "cpu") != 0) return JOIN_TRIED;
    if (precision != PRECISION_FP32) return JOIN_NEVER;
    kernels_library(kernels, library, sizeof library);
    if (strncmp(library, "openblas", 8) == 0) return JOIN_LARGE;
    if (strncmp(library, "onednn", 6) != 0) return JOIN_NEVER;
    return strstr(library, "avx512") || strstr(library, "amx") ? JOIN_ALWAYS : JOIN_NARROW;
}

#define NARROW 256        /* columns for which oneDNN never copies: 1/rows + 1/columns >= 0.0038 */
#define SMALL_PRODUCT 1e6 /* multiply-adds of OpenBLAS's kernels for small products */

bool kernels_rows_join(enum row_join join, size_t rows, size_t n, size_t k)
{
    switch (join) {
    case JOIN_ALWAYS:
        return true;
    case JOIN_NARROW:
        return n <= NARROW;
    case JOIN_LARGE:
        return (double)rows * (double)n * (double)k > SMALL_PRODUCT;
    case JOIN_NEVER:
    case JOIN_TRIED:
        break;
    }
    return false;
}
