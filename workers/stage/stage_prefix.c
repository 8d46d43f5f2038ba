/* Shared beginnings: a point goes on where the prefix that it shares with others ended, with the numbers and the best
 * weights that it would have had, had it trained them alone. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/log.h"
#include "workers/stage/stage_files.h"
#include "workers/stage/stage_internal.h"

static int open_prefix(struct run *run, struct error *err)
{
    char path[PATH_MAX];
    const struct stage *stage = run->stage;
    stage_prefix_path(stage, path);
    run->prefix = checkpoint_open(path, err);
    if (!run->prefix) return -1;
    const struct checkpoint_header *header = checkpoint_header(run->prefix);
    if (strcmp(header->stage, stage->prefix.hex) != 0 || !header->finished ||
        strcmp(header->parent, stage->parent.hex) != 0)
        return error_set(err, "%s: not the end state of its prefix", path);
    if (header->finished != CHECKPOINT_DIVERGED && header->step != stage->first_step)
        return error_set(err, "%s: ends at step %" PRIu64 ", not at %" PRIu64, path, header->step, stage->first_step);
    return 0;
}

/* The prefix's best weights under this stage's name: one file, which each may remove. */
static int take_best(const struct run *run, struct error *err)
{
    char from[PATH_MAX], to[PATH_MAX];
    const struct checkpoint_header *start = &run->start;
    if (!start->best_step) return 0;
    struct stage prefix = *run->stage;
    prefix.identity = run->stage->prefix;
    stage_best_path(&prefix, start->best_step, from);
    stage_best_path(run->stage, start->best_step, to);
    if (stage_check_owner(run->stage, err)) return -1;
    unlink(to); /* of an attempt that has left no state */
    if (file_link(from, to, err)) return -1;
    struct checkpoint *best = best_open(run->stage, start->best_step, start->best_digest, err);
    checkpoint_close(best);
    return best ? 0 : -1;
}

int run_prefix(struct run *run, struct error *err)
{
    if (open_prefix(run, err)) return -1;
    const struct checkpoint_header own = run->start, *header = checkpoint_header(run->prefix);
    struct checkpoint_header *start = &run->start;
    *start = *header;
    memcpy(start->stage, own.stage, sizeof start->stage);
    memcpy(start->execution_class, own.execution_class, sizeof start->execution_class);
    start->finished = CHECKPOINT_ON_THE_WAY;
    start->seconds = 0;
    run->diverged = header->finished == CHECKPOINT_DIVERGED;
    if (run->diverged) LOG("its prefix has diverged at step %" PRIu64, start->step);
    return curve_copy(run, run->prefix, err) || take_best(run, err) ? -1 : 0;
}

int run_save_diverged(struct run *run, struct error *err)
{
    char path[PATH_MAX];
    struct checkpoint_header end = run->state;
    end.finished = CHECKPOINT_DIVERGED;
    end.seconds = run->start.seconds + run_seconds(run);
    stage_state_path(run->stage, path);
    if (stage_check_owner(run->stage, err)) return -1;
    struct checkpoint_writer *writer = checkpoint_writer_create(path, &end, run->curve.entries, run->curve.count, err);
    return writer ? checkpoint_writer_finish(writer, NULL, err) : -1;
}
