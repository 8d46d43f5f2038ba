/* NVIDIA's libraries, loaded when a device is made: the plugin itself must load where they are not. */
#ifndef TUNELAW_KERNELS_CUDA_LIBRARIES_CUH
#define TUNELAW_KERNELS_CUDA_LIBRARIES_CUH

#include <dlfcn.h>

#include <cstdio>

#include "io/error.h"

struct library {
    void *handle;
    const char *missing; /* a function that it lacks; NULL: none */
};

static inline int library_open(struct library *library, const char *name, struct error *err)
{
    library->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library->handle) return 0;
    if (err) snprintf(err->text, sizeof err->text, "%s cannot be loaded: %s", name, dlerror());
    return -1;
}

template <typename F> void library_find(struct library *library, const char *name, F **function)
{
    *function = reinterpret_cast<F *>(dlsym(library->handle, name));
    if (!*function && !library->missing) library->missing = name;
}

#endif
