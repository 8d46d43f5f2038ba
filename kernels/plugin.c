/* Finds and loads the CUDA plugin. It lies beside the executable and nowhere else: no variable of the environment
 * decides which code is run. */
#include "kernels/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const struct kernels_plugin *loaded;
static struct error reason;

static int plugin_path(char path[PATH_MAX], struct error *err)
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (n < 0) return error_set_errno(err, "the path of the program could not be read");
    path[n] = 0;
    char *slash = strrchr(path, '/');
    size_t directory = slash ? (size_t)(slash - path) + 1 : 0;
    if (directory + sizeof KERNELS_PLUGIN_FILE > PATH_MAX) return error_set(err, "the path of the program is too long");
    strcpy(path + directory, KERNELS_PLUGIN_FILE);
    return 0;
}

static int load(struct error *err)
{
    char path[PATH_MAX];
    if (plugin_path(path, err)) return -1;
    if (access(path, F_OK)) {
        return error_set(err,
                         "plugin not built: %s is not there; install the CUDA toolkit and build again with "
                         "cmake -DTUNELAW_CUDA=ON",
                         path);
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return error_set(err, "plugin could not be loaded: %s", dlerror());
    const struct kernels_plugin *plugin = dlsym(library, KERNELS_PLUGIN_SYMBOL);
    if (!plugin || plugin->plugin_abi != KERNELS_PLUGIN_ABI || plugin->kernels_abi != KERNELS_ABI) {
        dlclose(library);
        return error_set(err, "plugin %s is of another version of the program; build both again", path);
    }
    loaded = plugin;
    return 0;
}

static void load_once(void)
{
    load(&reason);
}

const struct kernels_plugin *plugin_load(struct error *err)
{
    pthread_once(&once, load_once);
    if (!loaded) error_set(err, "%s", reason.text);
    return loaded;
}

const char *kernels_missing(const struct kernels *kernels)
{
#define NEED(field)                                                                                                    \
    if (!kernels->field) return #field
    NEED(device_create);
    NEED(device_destroy);
    NEED(allocate);
    NEED(release);
    NEED(to_device);
    NEED(to_host);
    NEED(synchronise);
    NEED(collect);
    NEED(set_precision);
    NEED(precision);
    NEED(element_bytes);
    NEED(upload);
    NEED(download);
    NEED(sum_ranks);
    NEED(sum_ranks_floats);
    NEED(sum_ranks_begin);
    NEED(sum_ranks_end);
    NEED(gather_ranks);
    NEED(matmul);
    NEED(matmul_floats);
    NEED(linear);
    NEED(matmul_group);
    NEED(zero);
    NEED(copy);
    NEED(add);
    NEED(scale);
    NEED(rms_norm_forward);
    NEED(rms_norm_backward);
    NEED(layer_norm_forward);
    NEED(layer_norm_backward);
    NEED(row_squares);
    NEED(row_norm_forward);
    NEED(row_norm_dots);
    NEED(row_norm_backward);
    NEED(bias_forward);
    NEED(bias_backward);
    NEED(scale_columns);
    NEED(scale_columns_backward);
    NEED(split_heads);
    NEED(merge_heads);
    NEED(rotary);
    NEED(attention_forward);
    NEED(attention_backward);
    NEED(attention_decode);
    NEED(swiglu_forward);
    NEED(swiglu_backward);
    NEED(gelu_forward);
    NEED(gelu_backward);
    NEED(dropout);
    NEED(embedding_forward);
    NEED(embedding_backward);
    NEED(gather_rows);
    NEED(scatter_rows);
    NEED(cross_entropy_partial);
    NEED(cross_entropy_finish);
    NEED(top_k);
    NEED(sums);
    NEED(adamw);
    NEED(sgd);
    NEED(square_sums);
    NEED(moving_average);
    NEED(adafactor_squares);
    NEED(adafactor);
#undef NEED
    return NULL;
}
