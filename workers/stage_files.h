/* Small files beside a stage's state: the step file, and best weights that nothing names any more. */
#ifndef TUNELAW_WORKERS_STAGE_FILES_H
#define TUNELAW_WORKERS_STAGE_FILES_H

#include "workers/stage.h"

/* mkdir DIR/checkpoints and DIR/logs. */
int stage_make_folders(const struct stage *stage, struct error *err);

/* -1 where another run has taken the directory over since this stage was handed out: what this one would write or
 * remove is that one's now. Asked right before each of that, as a process that was stopped for long may go on anywhere.
 */
int stage_check_owner(const struct stage *stage, struct error *err);

/* The highest step that any attempt is known to have trained; 0 and *known = false where no attempt has begun. */
uint64_t stage_step_read(const struct stage *stage, bool *known);
/* Not synced: it survives a kill, and only counts recomputed steps. */
void stage_step_write(const struct stage *stage, uint64_t step);

/* Remove best weights of this stage but those of steps `keep` and `keep_too` (0: none), and its unfinished files: of a
 * stage that is still ours. */
void stage_remove_best(const struct stage *stage, uint64_t keep, uint64_t keep_too);

#endif
