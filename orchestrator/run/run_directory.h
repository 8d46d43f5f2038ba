/* The run directory as every rank names it: absolute, whatever folder a rank was started in. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_RUN_DIRECTORY_H
#define TUNELAW_ORCHESTRATOR_RUN_RUN_DIRECTORY_H

#include <limits.h>

#include "io/error.h"
#include "io/store/store.h"
#include "orchestrator/plan/plan.h"

/* Longest path that stages can hold, with room for the names of files below it. */
#define RUN_PATH_LIMIT (PATH_MAX - 129)

/* `path` from the root, seen from this process's folder. Refuses what cannot be sent to workers: longer than
 * RUN_PATH_LIMIT, or not UTF-8. Links stay as they are: they may lead elsewhere on another node. */
int run_path(const char *path, char absolute[PATH_MAX], struct error *err);

/* A new generation of DIR/results.h5: the plan's points, and what was committed there. shard: "" for the whole sweep;
 * report may be NULL. The caller holds the directory's lock. */
int run_directory_store(const char *dir, const struct sweep *sweep, const struct plan *plan, const char *shard,
                        struct store_generation_report *report, struct error *err);

/* run_path, then DIR, DIR/checkpoints and DIR/logs are made where they do not exist. */
int run_directory_make(const char *dir, char absolute[PATH_MAX], struct error *err);

#endif
