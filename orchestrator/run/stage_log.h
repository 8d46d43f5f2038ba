/* What the plan said of stages and what they took: sums over logs/stages.jsonl, for the commands that read a run.
 *
 * At full size: 10^5 lines, read one at a time. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_STAGE_LOG_H
#define TUNELAW_ORCHESTRATOR_RUN_STAGE_LOG_H

#include <jansson.h>
#include <stddef.h>

#include "io/digest.h"

/* Stages of one model and method that have ended with what they were for, in all runs of the directory. */
struct stage_log_entry {
    char model[48], method[16];               /* method: "pretrain" too */
    size_t stages;                            /* attempts that completed one */
    double predicted_seconds, actual_seconds; /* of the steps that were trained */
    double predicted_bytes, peak_bytes; /* of the one that took most: planned, and counted by the host's kernel or the
                                           GPUs' driver; peak 0: not known */
};

struct stage_log {
    struct stage_log_entry *entries;
    size_t count;
};

/* Read DIR/logs/stages.jsonl; identity: of one stage alone, or NULL. Lines that are torn, or older than these numbers,
 * are passed over. Without a log there are no entries. Freed by stage_log_free. -1: memory. */
int stage_log_read(const char *dir, const char *identity, struct stage_log *log);
void stage_log_free(struct stage_log *log);

json_t *stage_log_json(const struct stage_log *log);

#endif
