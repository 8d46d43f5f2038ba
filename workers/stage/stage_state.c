/* Checkpoints of a stage: where an attempt begins, and what it leaves for the next. The order on disk is best weights,
 * then the state that names them, then the removal of what no state names. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "workers/stage/residence.h"
#include "workers/stage/stage_files.h"
#include "workers/stage/stage_internal.h"

struct checkpoint *best_open(const struct stage *stage, uint64_t step, const char *digest, struct error *err)
{
    char path[PATH_MAX];
    stage_best_path(stage, step, path);
    struct checkpoint *best = checkpoint_open(path, err);
    if (!best) return NULL;
    errno = 0;
    struct digest found = checkpoint_digest(best);
    if (strncmp(found.hex, digest, DIGEST_HEX) == 0) return best; /* its header may name the prefix that wrote it */
    error_set(err, "%s: not the weights of step %" PRIu64 " that are wanted: digest %s instead of %.32s", path, step,
              found.hex, digest);
    checkpoint_close(best);
    return NULL;
}

/* Why an own state cannot be gone on from; 0 where it can. */
static int check_own(const struct run *run, const struct checkpoint_header *header, struct error *err)
{
    const struct stage *stage = run->stage;
    /* a trunk's state is named by its step: the checkpoint before it may be another one than when it was written */
    bool parent = stage->kind == STAGE_PRETRAIN || strcmp(header->parent, stage->parent.hex) == 0;
    if (strcmp(header->stage, stage->identity.hex) != 0 || !parent) return error_set(err, "it is of another stage");
    bool complete = stage->kind != STAGE_FINETUNE && header->finished; /* its children may have started from it */
    if (!complete && strcmp(header->execution_class, run->execution_class) != 0)
        return error_set(err, "its execution class is %s, ours is %s", header->execution_class, run->execution_class);
    if (header->step < stage->first_step || header->step > stage->last_step)
        return error_set(err, "its step is %" PRIu64, header->step);
    if (stage->kind == STAGE_PRETRAIN || header->best_step == 0) return 0;
    struct checkpoint *best = best_open(stage, header->best_step, header->best_digest, err);
    checkpoint_close(best);
    return best ? 0 : -1;
}

int curve_copy(struct run *run, const struct checkpoint *from, struct error *err)
{
    const struct store_curve_entry *entries;
    size_t count = checkpoint_curve(from, &entries);
    for (size_t i = 0; i < count; i++)
        if (curve_add(&run->curve, &entries[i], err)) return -1;
    return 0;
}

/* Of a base that is resident the name and the end are enough. */
static int peek_parent(const struct stage *stage, const char *path, struct error *err)
{
    struct checkpoint_header header;
    int found = checkpoint_peek(path, &header, err);
    if (found < 0) return -1;
    if (found > 0 && strcmp(header.stage, stage->parent.hex) == 0 && header.finished) return 0;
    return error_set(err, "%s: not the end state of its stage", path);
}

int run_parent(struct run *run, struct error *err)
{
    char path[PATH_MAX];
    const struct stage *stage = run->stage;
    if (!stage->parent.hex[0]) return 0;
    stage_parent_path(stage, path);
    if (residence_holds(run_residence(run))) return peek_parent(stage, path, err);
    run->parent = checkpoint_open(path, err);
    if (!run->parent) return -1;
    const struct checkpoint_header *header = checkpoint_header(run->parent);
    if (strcmp(header->stage, stage->parent.hex) != 0 || !header->finished)
        return error_set(err, "%s: not the end state of its stage", path);
    if (stage->kind == STAGE_PRETRAIN && header->step != stage->first_step)
        return error_set(err, "%s: ends at step %" PRIu64 ", not at %" PRIu64, path, header->step, stage->first_step);
    return 0;
}

/* Begin from the parent: a trunk goes on counting, finetuning counts from 0. */
static int start_from_parent(struct run *run, struct error *err)
{
    const struct stage *stage = run->stage;
    struct checkpoint_header *start = &run->start;
    *start = (struct checkpoint_header){.step = stage->first_step, .best_loss = INFINITY};
    strcpy(start->stage, stage->identity.hex);
    strcpy(start->parent, stage->parent.hex);
    strcpy(start->execution_class, run->execution_class);
    if (stage->prefix.hex[0]) return run_prefix(run, err);
    if (stage->kind != STAGE_PRETRAIN || !run->parent) return 0;
    start->tokens = checkpoint_header(run->parent)->tokens;
    start->target_tokens = checkpoint_header(run->parent)->target_tokens;
    return curve_copy(run, run->parent, err);
}

int run_resume(struct run *run, struct error *err)
{
    char path[PATH_MAX];
    struct checkpoint_header header;
    struct error why = {""};
    const struct stage *stage = run->stage;
    stage_state_path(stage, path);
    int found = checkpoint_peek(path, &header, &why);
    if (found > 0) errno = 0;
    if (found > 0 && check_own(run, &header, &why) == 0) run->own = checkpoint_open(path, &why);
    if (found != 0 && !run->own) {
        /* it may be good: another attempt may be able to look at it */
        if (errno != 0 && errno != EBADMSG && errno != ENOENT) return error_set(err, "%s", why.text);
        LOG("the state %s is left aside: %s", path, why.text);
    }
    if (run->own && stage->kind != STAGE_FINETUNE && header.finished) {
        run->start = header;
        return 0; /* nothing to do: the parent may be gone */
    }
    if (run_parent(run, err)) return -1;
    if (!run->own) return start_from_parent(run, err);
    run->start = header;
    if (curve_copy(run, run->own, err)) return -1;
    double validated = run->curve.count ? run->curve.entries[run->curve.count - 1].step : 0;
    run->validation_due = !header.finished && evaluation_due(stage, header.step) && validated < (double)header.step;
    return 0;
}

static bool leads(const struct member *member)
{
    return member->collective->rank == 0;
}

static int begin(struct member *member, const char *path, bool tensors, bool moments, struct error *err)
{
    struct run *run = member->run;
    const struct curve *curve = &run->curve;
    member->state.seconds = run->start.seconds + run_seconds(run);
    run->writer = checkpoint_writer_create(path, &member->state, curve->entries, curve->count, err);
    if (!run->writer) return -1;
    return tensors ? parameters_declare(member->parameters, run->writer, moments, err) : 0;
}

/* Write a file from the shards of all ranks. *digest is rank 0's. */
static int save(struct member *member, const char *path, bool tensors, bool moments, struct digest *digest,
                struct error *err)
{
    struct run *run = member->run;
    int result = 0;
    if (leads(member) && begin(member, path, tensors, moments, err)) return -1;
    if (collective_barrier(member->collective)) return -1;
    if (tensors) {
        pthread_mutex_lock(run->io);
        result = parameters_put(member->parameters, run->writer, moments, err);
        pthread_mutex_unlock(run->io);
    }
    if (result || collective_barrier(member->collective)) return -1;
    if (!leads(member)) return 0;
    if (stage_check_owner(run->stage, err)) return -1; /* what is written is discarded with the run */
    struct checkpoint_writer *writer = run->writer;
    run->writer = NULL; /* finish frees it */
    return checkpoint_writer_finish(writer, digest, err);
}

static void remove_best(const struct stage *stage, uint64_t step)
{
    char path[PATH_MAX];
    stage_best_path(stage, step, path);
    if (stage_check_owner(stage, NULL) == 0) unlink(path);
}

/* A state is on disk: best weights that only the one before it named can go. */
static void state_durable(struct member *member)
{
    struct run *run = member->run;
    uint64_t before = run->durable_best;
    run->durable_best = member->state.best_step;
    run->durable_step = member->state.step;
    if (before && before != run->durable_best) remove_best(run->stage, before);
    run->saved = clock_elapsed();
    monitor_checkpoint(&run->monitor, member->state.step);
}

static int save_state(struct member *member, bool tensors, struct error *err)
{
    char path[PATH_MAX];
    stage_state_path(member->run->stage, path);
    if (save(member, path, tensors, true, NULL, err)) return -1;
    if (leads(member)) state_durable(member);
    return 0;
}

int state_save(struct member *member, struct error *err)
{
    return save_state(member, true, err);
}

int state_finish(struct member *member, struct error *err)
{
    member->state.finished = CHECKPOINT_FINISHED;
    return save_state(member, false, err);
}

int best_save(struct member *member, struct error *err)
{
    char path[PATH_MAX];
    struct digest digest = {""};
    struct run *run = member->run;
    uint64_t before = member->state.best_step;
    stage_best_path(run->stage, member->state.step, path);
    if (save(member, path, true, false, &digest, err)) return -1;
    member->state.best_step = member->state.step;
    if (!leads(member)) return 0;
    strcpy(member->state.best_digest, digest.hex);
    if (before && before != run->durable_best) remove_best(run->stage, before);
    return 0;
}
