/* Small files beside a stage's state: the step file, and best weights that nothing names any more. */
#ifndef TUNELAW_WORKERS_STAGE_STAGE_FILES_H
#define TUNELAW_WORKERS_STAGE_STAGE_FILES_H

#include "workers/stage/stage.h"

/* mkdir DIR/checkpoints and DIR/logs. */
int stage_make_folders(const struct stage *stage, struct error *err);

/* -1 where another run has taken the directory over since this stage was handed out: what this one would write or
 * remove is that one's now. Asked right before each of that, as a process that was stopped for long may go on anywhere.
 */
int stage_check_owner(const struct stage *stage, struct error *err);

/* What is known of all attempts of a stage so far, those that died among them. */
struct stage_trained {
    uint64_t reached;  /* the highest step */
    uint64_t executed; /* steps, as often as they were trained */
};
/* Of the executed steps those beyond the first time. */
static inline uint64_t stage_trained_repeated(const struct stage_trained *trained, uint64_t first_step)
{
    uint64_t once = trained->reached > first_step ? trained->reached - first_step : 0;
    return trained->executed > once ? trained->executed - once : 0;
}
/* false, zeros: no attempt has begun. */
bool stage_trained_read(const struct stage *stage, struct stage_trained *out);
/* Not synced: it survives a kill, and only counts. */
void stage_trained_write(const struct stage *stage, const struct stage_trained *trained);

/* Remove best weights of this stage but those of steps `keep` and `keep_too` (0: none), and its unfinished files: of a
 * stage that is still ours. */
void stage_remove_best(const struct stage *stage, uint64_t keep, uint64_t keep_too);

#endif
