/* The CUDA plugin, as the program sees it. Private to kernels/ and its tests. */
#ifndef TUNELAW_KERNELS_PLUGIN_H
#define TUNELAW_KERNELS_PLUGIN_H

#include "kernels/cuda/plugin.h"

/* The plugin beside the executable, loaded once, or NULL with *err: not there, cannot be loaded, or of another build.
 */
const struct kernels_plugin *plugin_load(struct error *err);

/* The name of the first operation that the table lacks, or NULL where it is complete. */
const char *kernels_missing(const struct kernels *kernels);

#endif
