/* The line of a sum that has failed: the rank whose device failed tells that, so that it is known which one it was. */
#include "workers/model/gang_failed.h"

int gang_failed(const struct kernels *kernels, struct device *device, struct error *err)
{
    return kernels->synchronise(device, err) ? -1 : error_set(err, GANG_FAILED);
}
