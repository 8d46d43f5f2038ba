/* When several stages may be on one device: the rule, for the plan, and through the plan for the schedule of the master
 * and of the simulated clock. Pure.
 *
 * A stage's share is the larger of two parts of a device: of its time (the stage's products at the device's rate, over
 * the stage's predicted seconds, in which the device also waits for each operation to be launched), and of its memory
 * (predicted bytes and those of the process, over the device's). Stages are on one device as long as their shares are
 * no more than the whole: then the device has time and memory for all of them at once, and none is slowed down. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_SHARE_H
#define TUNELAW_ORCHESTRATOR_PLAN_SHARE_H

#include <stdint.h>

#define SHARE_WHOLE (1u << 20) /* a device */

/* Of a stage on one device that is at work for busy_seconds of its `seconds` and takes so many bytes; at most `most`
 * stages are to be on a device (1: none shares). device_bytes 0: not known, so a stage has the whole. */
uint32_t share_of(double busy_seconds, double seconds, uint64_t bytes, uint64_t device_bytes, uint32_t most);

#endif
