/* What a rank tells when a sum over its gang has failed. */
#ifndef TUNELAW_WORKERS_MODEL_GANG_FAILED_H
#define TUNELAW_WORKERS_MODEL_GANG_FAILED_H

#include "kernels/kernels.h"

/* *err: what has failed on this rank's own device, where that is why; else GANG_FAILED. Always -1. */
int gang_failed(const struct kernels *kernels, struct device *device, struct error *err);

#endif
