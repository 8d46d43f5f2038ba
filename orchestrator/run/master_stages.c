/* The life of a stage: needed or not, ready when its parent is complete, complete, tried again, given up with what
 * waits below it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "io/log.h"
#include "orchestrator/run/master_internal.h"

int master_set_state(struct master *master, uint32_t point, enum store_status status, double progress, bool new_attempt,
                     const char *message, struct error *err)
{
    struct store_state state = {.attempts = master->attempts[point]};
    bool known = state.attempts != STORE_ATTEMPTS_UNKNOWN;
    if (!known && store_read_state(master->store, point, &state, err) != 0) return -1;
    state.status = (uint32_t)status;
    state.attempts += new_attempt ? 1 : 0;
    state.updated = clock_wall();
    state.progress = progress;
    if (message) store_field(state.message, sizeof state.message, message);
    master->attempts[point] = state.message[0] ? STORE_ATTEMPTS_UNKNOWN : state.attempts;
    return store_set_state(master->store, point, &state, err);
}

int master_make_ready(struct master *master, uint32_t index, struct error *err)
{
    const struct plan_stage *stage = &master->plan->stages[index];
    if (master->stages[index].state != STAGE_READY) master->ready++;
    master->stages[index].state = STAGE_READY;
    double checkpoint = master->sweep->resources.checkpoint_seconds;
    double seconds = checkpoint > 0 && checkpoint < stage->seconds ? checkpoint : stage->seconds;
    /* what may have ended earlier runs comes after what has not */
    double priority = losses_of(master->losses, index) ? 0 : stage->priority;
    /* by information, neighbours in the order are not to change places */
    bool any = master->sweep->resources.order != SWEEP_INFORMATION;
    struct schedule_stage entry = {.stage = index,
                                   .degree = stage->degree,
                                   .priority = priority,
                                   .flops = stage->flops,
                                   .seconds = seconds,
                                   .share = stage->share,
                                   .base = any ? plan_kept_base(master->plan, index) : 0};
    master->nothing_fits = false;
    return schedule_add(&master->schedule, &entry) == 0 ? 0 : error_set(err, "out of memory");
}

int master_list_children(struct master *master, struct error *err)
{
    const struct plan *plan = master->plan;
    master->child_first = calloc(plan->stage_count + 2, sizeof *master->child_first);
    master->children = calloc(plan->stage_count + 1, sizeof *master->children);
    if (!master->child_first || !master->children) return error_set(err, "out of memory");
    for (size_t i = 0; i < plan->stage_count; i++)
        if (plan->stages[i].parent != PLAN_NONE) master->child_first[plan->stages[i].parent + 2]++;
    for (size_t i = 2; i < plan->stage_count + 2; i++)
        master->child_first[i] += master->child_first[i - 1];
    for (size_t i = 0; i < plan->stage_count; i++)
        if (plan->stages[i].parent != PLAN_NONE)
            master->children[master->child_first[plan->stages[i].parent + 1]++] = (uint32_t)i;
    return 0;
}

/* A state is needed, and those before it down to one that is on disk. What goes on from a prefix needs its base, too.
 */
static int need(struct master *master, uint32_t index, struct error *err)
{
    while (index != PLAN_NONE && master->stages[index].state == STAGE_UNNEEDED) {
        const struct plan_stage *stage = &master->plan->stages[index];
        bool finished = stage->point != PLAN_NONE && master->committed[stage->point];
        if (stage->point == PLAN_NONE && master_state_finished(master, index, &finished, err) != 0) return -1;
        master->stages[index].state = finished ? STAGE_COMPLETE : STAGE_WAITING;
        if (!finished)
            index = stage->parent;
        else if (stage->kind == STAGE_PREFIX)
            index = plan_base(master->plan, index);
        else
            return 0;
    }
    return 0;
}

/* What is left to do: stages of uncommitted points, or those that alone are to be run, with what they need. */
int master_find_work(struct master *master, struct error *err)
{
    const struct plan *plan = master->plan;
    master->committed = calloc(store_count(master->store), 1); /* behind the sweep's points: removed ones */
    master->attempts = calloc(store_count(master->store) + 1, sizeof *master->attempts);
    if (!master->committed || !master->attempts) return error_set(err, "out of memory");
    if (store_committed(master->store, master->committed, err) != 0 ||
        store_attempts(master->store, master->attempts, err) != 0)
        return -1;
    if (master_open_references(master, err) != 0) return -1;
    for (size_t p = 0; p < plan->point_count; p++) {
        if (master->committed[p] || master->options.only) continue;
        uint32_t index = plan->stage_of_point[p];
        master->stages[index].state = STAGE_WAITING;
        if (need(master, plan->stages[index].parent, err) != 0) return -1;
    }
    for (uint32_t i = 0; master->options.only && i < plan->stage_count; i++)
        if (master->options.only[i] && need(master, i, err) != 0) return -1;
    if (master_give_up_lost(master, err) != 0 || master_resolve_references(master, err) != 0) return -1;
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        if (master->stages[i].state != STAGE_WAITING) continue;
        if (master_parent_complete(master, i) && master_make_ready(master, i, err) != 0) return -1;
    }
    return 0;
}

/* A prefix that is there, or that nothing needs: what hangs below it may still wait for the base. */
static bool is_passed(const struct master *master, uint32_t index)
{
    unsigned char state = master->stages[index].state;
    return master->plan->stages[index].kind == STAGE_PREFIX && (state == STAGE_COMPLETE || state == STAGE_UNNEEDED);
}

int master_skip_below(struct master *master, uint32_t index, struct error *err)
{
    for (uint32_t c = master->child_first[index]; c < master->child_first[index + 1]; c++) {
        uint32_t child = master->children[c];
        if (is_passed(master, child) && master_skip_below(master, child, err) != 0) return -1;
        if (master->stages[child].state != STAGE_WAITING) continue;
        master->stages[child].state = STAGE_SKIPPED;
        master->candidate_ended = true;
        uint32_t point = master->plan->stages[child].point;
        if (point != PLAN_NONE) {
            char message[STORE_MESSAGE];
            snprintf(message, sizeof message, "its base, stage %.12s, has failed",
                     master->plan->stages[index].identity.hex);
            master->summary.skipped++;
            if (master_set_state(master, point, STORE_SKIPPED, 0, false, message, err) != 0) return -1;
        }
        if (master_skip_below(master, child, err) != 0) return -1;
    }
    return 0;
}

/* What waits for a stage that is complete is ready. */
static int wake(struct master *master, uint32_t index, struct error *err)
{
    for (uint32_t c = master->child_first[index]; c < master->child_first[index + 1]; c++) {
        uint32_t child = master->children[c];
        if (is_passed(master, child) && wake(master, child, err) != 0) return -1;
        if (master->stages[child].state == STAGE_WAITING && master_parent_complete(master, child) &&
            master_make_ready(master, child, err) != 0)
            return -1;
    }
    return 0;
}

/* Nothing starts from a prefix any more whose children are all complete. What has failed may be tried again. */
static void collect(struct master *master, uint32_t index)
{
    if (index == PLAN_NONE || master->plan->stages[index].kind != STAGE_PREFIX) return;
    for (uint32_t c = master->child_first[index]; c < master->child_first[index + 1]; c++) {
        unsigned char state = master->stages[master->children[c]].state;
        if (state != STAGE_COMPLETE && state != STAGE_UNNEEDED) return;
    }
    stage_discard(master_describe(master, index));
    master->stages[index].state = STAGE_UNNEEDED; /* no longer there, should a state below be lost */
}

int master_complete(struct master *master, uint32_t index, struct error *err)
{
    master->candidate_ended = true;
    master->stages[index].state = STAGE_COMPLETE;
    if (wake(master, index, err) != 0) return -1;
    collect(master, master->plan->stages[index].parent);
    return 0;
}

/* The first of the states that a stage reads, its parent's and its base's, that is not there; PLAN_NONE: none. */
static uint32_t missing_state(const struct master *master, uint32_t index)
{
    uint32_t parent = master->plan->stages[index].parent, base = plan_base(master->plan, parent);
    if (parent != PLAN_NONE && master->stages[parent].state != STAGE_COMPLETE) return parent;
    return base != PLAN_NONE && master->stages[base].state != STAGE_COMPLETE ? base : PLAN_NONE;
}

bool master_parent_complete(const struct master *master, uint32_t index)
{
    return missing_state(master, index) == PLAN_NONE && master_rate_known(master, index);
}

/* Ready now, or when what it reads is there. A state that nobody needed until now is looked for on disk. */
static int make_ready_or_wait(struct master *master, uint32_t index, struct error *err)
{
    for (;;) {
        bool finished = false;
        uint32_t missing = missing_state(master, index);
        if (missing == PLAN_NONE && master_rate_known(master, index)) return master_make_ready(master, index, err);
        if (missing == PLAN_NONE) {
            master->stages[index].state = STAGE_WAITING;
            return 0;
        }
        if (master->stages[missing].state == STAGE_UNNEEDED &&
            master_state_finished(master, missing, &finished, err) != 0)
            return -1;
        if (finished) {
            master->stages[missing].state = STAGE_COMPLETE;
            continue;
        }
        master->stages[index].state = STAGE_WAITING;
        if (master->stages[missing].state != STAGE_UNNEEDED) return 0;
        index = missing;
    }
}

/* A stage has failed: where a state that it reads is proven to be damaged, that is put aside and its stage runs again.
 * A state that cannot be opened for another reason (no more descriptors, no permission, no memory) is left alone. */
static int check_state(struct master *master, uint32_t parent, struct error *err)
{
    if (parent == PLAN_NONE || master->stages[parent].state != STAGE_COMPLETE) return 0;
    char path[PATH_MAX], aside[PATH_MAX + 16];
    struct error why;
    stage_state_path(master_describe(master, parent), path);
    struct checkpoint *checkpoint = checkpoint_open(path, &why);
    int reason = errno;
    bool whole = checkpoint != NULL;
    checkpoint_close(checkpoint);
    if (whole) return 0;
    if (reason != EBADMSG && reason != ENOENT) {
        master_say(master, "stage %.12s is left as it is: %s", master->plan->stages[parent].identity.hex, why.text);
        return 0;
    }
    if (store_check_replaced(master->store, err) != 0) return -1; /* the file is another run's by now */
    master_say(master, "stage %.12s runs again: %s", master->plan->stages[parent].identity.hex, why.text);
    snprintf(aside, sizeof aside, "%s.damaged", path);
    if (reason == EBADMSG && rename(path, aside) != 0) return error_set_errno(err, "%s: cannot put it aside", path);
    return make_ready_or_wait(master, parent, err);
}

static int check_parents(struct master *master, uint32_t index, struct error *err)
{
    uint32_t parent = master->plan->stages[index].parent, base = plan_base(master->plan, parent);
    if (base != parent && check_state(master, base, err) != 0) return -1;
    return check_state(master, parent, err);
}

static void note_failure(struct master *master, uint32_t index, const struct stage_outcome *outcome)
{
    struct failure *failure = &master->failures[master->failure_count++ % FAILURES_KEPT];
    *failure = (struct failure){index, master->stages[index].attempts, outcome->status, clock_wall(), ""};
    snprintf(failure->message, sizeof failure->message, "%s", outcome->message);
}

/* Then every stage would train to its first write, and fail. */
static bool disk_is_full(const struct stage_outcome *outcome)
{
    return strstr(outcome->message, strerror(ENOSPC)) || strstr(outcome->message, strerror(EDQUOT));
}

int master_fail(struct master *master, uint32_t index, const struct stage_outcome *outcome, struct error *err)
{
    struct master_stage *stage = &master->stages[index];
    uint32_t point = master->plan->stages[index].point, limit = master->sweep->resources.attempts;
    note_failure(master, index, outcome);
    master_say(master, "stage %.12s attempt %u of %u: %s: %s", master->plan->stages[index].identity.hex,
               stage->attempts, limit, store_status_name(outcome->status), outcome->message);
    bool full = disk_is_full(outcome);
    master->summary.disk_full |= full;
    if (full && master_drain(master, "there is no room left on the disk", err) != 0) return -1;
    /* divergence is a function of the stage: another attempt would diverge, too */
    if (full || (stage->attempts < limit && outcome->status != STORE_DIVERGED)) {
        if (point != PLAN_NONE && master_set_state(master, point, STORE_PENDING, 0, false, outcome->message, err) != 0)
            return -1;
        if (check_parents(master, index, err) != 0) return -1;
        return make_ready_or_wait(master, index, err);
    }
    stage->state = STAGE_FAILED;
    master->candidate_ended = true;
    if (point != PLAN_NONE) {
        master->summary.failed++;
        if (master_set_state(master, point, outcome->status, 0, false, outcome->message, err) != 0) return -1;
    }
    if (master_skip_below(master, index, err) != 0) return -1;
    return master->options.fail_fast ? master_drain(master, "a stage was given up (--fail-fast)", err) : 0;
}
