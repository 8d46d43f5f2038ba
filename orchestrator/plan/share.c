/* The part of a device that a stage takes. */
#include "orchestrator/plan/share.h"

#include "orchestrator/sweep/sweep.h"

#include <math.h>

uint32_t share_of(double busy_seconds, double seconds, uint64_t bytes, uint64_t device_bytes, uint32_t most)
{
    if (most <= 1 || device_bytes == 0 || !(seconds > 0.0)) return SHARE_WHOLE;
    double time = busy_seconds / seconds;
    double memory = ((double)bytes + (double)GPU_PROCESS_BYTES) / (double)device_bytes;
    double share = ceil(SHARE_WHOLE * fmax(time, memory));
    double least =
        floor((double)SHARE_WHOLE / most); /* rounded down: exactly `most` of these are no more than a whole */
    return share < SHARE_WHOLE ? (uint32_t)fmax(share, least) : SHARE_WHOLE;
}
