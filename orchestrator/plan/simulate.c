/* The plan on a simulated clock: stages become ready, are placed by the scheduler and end after their predicted
 * seconds. */
#include "orchestrator/plan/simulate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct end {
    double time;
    uint32_t stage;
    struct schedule_seat seat;
};

struct simulation {
    const struct plan *plan;
    const struct simulate_options *options;
    struct schedule schedule;
    struct schedule_node *nodes;
    size_t devices;   /* of all nodes */
    uint32_t widest;  /* devices of the widest node */
    struct end *ends; /* heap of the stages that run, the next end first */
    size_t running;
    uint32_t *first_child, *next_child; /* lists of children */
    double *left;                       /* [stage] seconds still to compute */
    double *chain;                      /* [stage] seconds of the longest chain of what is left, from its start */
    size_t *candidates;                 /* [reference] candidates that are not complete */
    unsigned char *done;                /* [stage] completed here */
    double work;                        /* device seconds of all that is left at the start */
    uint64_t order;                     /* stages that have become ready so far */
    size_t open, placed;                /* stages that are not complete; placements */
    double now;
};

static double priority(const struct simulation *s, uint32_t index)
{
    if (s->options->fifo) return -(double)s->order;
    bool chains = s->plan->sweep->resources.order == SWEEP_LONGEST_CHAIN;
    return chains ? s->chain[index] : s->plan->stages[index].priority;
}

static int make_ready(struct simulation *s, uint32_t index, struct error *err)
{
    const struct plan_stage *stage = &s->plan->stages[index];
    double checkpoint = s->options->checkpoint_seconds;
    bool any = !s->options->fifo && s->plan->sweep->resources.order == SWEEP_LONGEST_CHAIN;
    struct schedule_stage entry = {.stage = index,
                                   .degree = stage->degree,
                                   .priority = priority(s, index),
                                   .flops = stage->flops,
                                   .share = stage->share,
                                   .base = any ? plan_kept_base(s->plan, index) : 0,
                                   .seconds = checkpoint > 0.0 ? fmin(s->left[index], checkpoint) : s->left[index]};
    s->order++;
    return schedule_add(&s->schedule, &entry) ? error_set(err, "out of memory") : 0;
}

static int prepare_nodes(struct simulation *s, struct error *err)
{
    const struct simulate_options *o = s->options;
    s->nodes = calloc(o->nodes + 1, sizeof *s->nodes);
    if (!s->nodes) return error_set(err, "out of memory for %zu nodes", o->nodes);
    for (size_t i = 0; i < o->nodes; i++) {
        if (o->cluster ? schedule_node_copy(&s->nodes[i], &o->cluster[i])
                       : schedule_node_init(&s->nodes[i], o->devices))
            return error_set(err, "out of memory for %zu nodes", o->nodes);
        s->devices += s->nodes[i].devices;
        uint32_t widest = schedule_node_widest(&s->nodes[i]);
        if (widest > s->widest) s->widest = widest;
    }
    size_t most = s->devices * STAGES_PER_DEVICE;
    if (most > s->plan->stage_count) most = s->plan->stage_count;
    s->ends = calloc(most + 1, sizeof *s->ends);
    return s->ends ? 0 : error_set(err, "out of memory for %zu devices", s->devices);
}

/* Of each of its devices, what a stage keeps from others; of all devices. */
static double part(const struct plan_stage *stage)
{
    return stage->share ? (double)stage->share / SHARE_WHOLE : 1.0;
}

static double width(const struct plan_stage *stage)
{
    return stage->degree * part(stage);
}

static bool is_open(const struct simulation *s, uint32_t stage)
{
    return !s->options->seconds || s->options->seconds[stage] >= 0.0;
}

/* What is left of each stage, and the chains and lists of children over it. Parents come before children. */
static int prepare_stages(struct simulation *s, struct error *err)
{
    const struct plan *plan = s->plan;
    size_t count = plan->stage_count + 1;
    s->first_child = malloc(count * sizeof *s->first_child);
    s->next_child = malloc(count * sizeof *s->next_child);
    s->left = calloc(count, sizeof *s->left);
    s->chain = calloc(count, sizeof *s->chain);
    if (!s->first_child || !s->next_child || !s->left || !s->chain)
        return error_set(err, "out of memory for %zu stages", plan->stage_count);
    s->candidates = calloc(plan->reference_count + 1, sizeof *s->candidates);
    s->done = calloc(count, 1);
    double *tails = calloc(plan->reference_count + 1, sizeof *tails);
    if (!s->candidates || !s->done || !tails) {
        free(tails);
        return error_set(err, "out of memory for %zu stages", plan->stage_count);
    }
    memset(s->first_child, 0xff, count * sizeof *s->first_child);
    for (size_t i = plan->stage_count; i-- > 0;) {
        const struct plan_stage *stage = &plan->stages[i];
        if (!is_open(s, (uint32_t)i)) continue;
        if (stage->degree > s->widest) {
            free(tails);
            return error_set(err, "a stage of model \"%s\" needs %" PRIu32 " devices on one node, a node has %" PRIu32,
                             plan->sweep->models[stage->model].name, stage->degree, s->widest);
        }
        s->open++;
        s->left[i] = s->options->seconds ? s->options->seconds[i] : stage->seconds;
        s->chain[i] += s->left[i];
        s->work += s->left[i] * width(stage);
        if (stage->reference != PLAN_NONE && plan_is_tuned(stage)) {
            tails[stage->reference] = fmax(tails[stage->reference], s->chain[i]);
        } else if (stage->reference != PLAN_NONE) {
            s->chain[i] = fmax(s->chain[i], s->left[i] + tails[stage->reference]);
            s->candidates[stage->reference]++;
        }
        if (stage->parent == PLAN_NONE) continue;
        s->chain[stage->parent] = fmax(s->chain[stage->parent], s->chain[i]);
        s->next_child[i] = s->first_child[stage->parent];
        s->first_child[stage->parent] = (uint32_t)i;
    }
    free(tails);
    return 0;
}

/* Nothing that a stage needs is still to be computed. */
static bool is_ready(const struct simulation *s, uint32_t index)
{
    const struct plan_stage *stage = &s->plan->stages[index];
    uint32_t parent = stage->parent;
    return is_open(s, index) && !s->done[index] && (parent == PLAN_NONE || !is_open(s, parent) || s->done[parent]) &&
           (!plan_is_tuned(stage) || !s->candidates[stage->reference]);
}

static int start(struct simulation *s, struct error *err)
{
    for (uint32_t i = 0; i < s->plan->stage_count; i++)
        if (is_ready(s, i) && make_ready(s, i, err)) return -1;
    return 0;
}

static void swap(struct end *a, struct end *b)
{
    struct end t = *a;
    *a = *b;
    *b = t;
}

static void push(struct simulation *s, struct end end)
{
    size_t at = s->running++;
    s->ends[at] = end;
    for (; at > 0 && s->ends[at].time < s->ends[(at - 1) / 2].time; at = (at - 1) / 2)
        swap(&s->ends[at], &s->ends[(at - 1) / 2]);
}

static struct end pop(struct simulation *s)
{
    struct end top = s->ends[0];
    s->ends[0] = s->ends[--s->running];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < s->running && s->ends[child].time < s->ends[least].time) least = child;
        if (least == at) return top;
        swap(&s->ends[at], &s->ends[least]);
        at = least;
    }
}

static void place(struct simulation *s, double stop)
{
    struct schedule_stage next;
    struct schedule_seat seat;
    while (schedule_next(&s->schedule, s->nodes, s->options->nodes, stop - s->now, &next, &seat)) {
        push(s, (struct end){s->now + s->left[next.stage], next.stage, seat});
        s->placed++;
    }
}

static int complete(struct simulation *s, struct error *err)
{
    struct end end = pop(s);
    s->now = end.time;
    schedule_release(s->nodes, &end.seat);
    s->open--;
    s->done[end.stage] = 1;
    for (uint32_t child = s->first_child[end.stage]; child != PLAN_NONE; child = s->next_child[child])
        if (is_ready(s, child) && make_ready(s, child, err)) return -1;
    const struct plan_stage *stage = &s->plan->stages[end.stage];
    if (stage->reference == PLAN_NONE || plan_is_tuned(stage) || --s->candidates[stage->reference] > 0) return 0;
    for (uint32_t i = 0; i < s->plan->stage_count; i++) { /* the last candidate */
        const struct plan_stage *waiting = &s->plan->stages[i];
        if (plan_is_tuned(waiting) && waiting->reference == stage->reference && is_ready(s, i) && make_ready(s, i, err))
            return -1;
    }
    return 0;
}

/* Every stage that runs checkpoints and waits for the next job. */
static int cut(struct simulation *s, double stop, struct error *err)
{
    while (s->running > 0) {
        struct end end = pop(s);
        schedule_release(s->nodes, &end.seat);
        s->chain[end.stage] -= s->left[end.stage] - (end.time - stop);
        s->left[end.stage] = end.time - stop;
        if (make_ready(s, end.stage, err)) return -1;
    }
    return 0;
}

/* One job from `begin`; s->now is when its work ended. */
static int run_job(struct simulation *s, double begin, struct error *err)
{
    const struct simulate_options *o = s->options;
    double stop = o->wall_seconds > 0.0 ? begin + o->wall_seconds - o->grace_seconds : INFINITY;
    size_t before = s->placed;
    s->now = begin;
    for (;;) {
        place(s, stop);
        if (s->running == 0) break;
        double time = s->ends[0].time;
        if (time > stop) return cut(s, stop, err);
        while (s->running > 0 && s->ends[0].time <= time)
            if (complete(s, err)) return -1;
    }
    if (s->open > 0 && s->placed == before)
        return error_set(err, "no stage that is left ends or reaches a checkpoint in the %.0f s that a job has",
                         o->wall_seconds - o->grace_seconds);
    return 0;
}

static int run_jobs(struct simulation *s, struct simulate_result *result, struct error *err)
{
    double begin = 0.0;
    for (result->jobs = 0; s->open > 0; result->jobs++, begin += s->options->wall_seconds)
        if (run_job(s, begin, err)) return -1;
    result->makespan_seconds = s->now;
    result->placed = s->placed;
    return 0;
}

/* Gangs of d or more devices have no more places than the nodes hold of d: their seconds over the places. */
static double gang_bound(const struct simulation *s)
{
    double bound = 0.0;
    for (uint32_t least = 1; least <= s->widest; least++) {
        double seconds = 0.0, places = 0.0;
        for (size_t i = 0; i < s->plan->stage_count; i++)
            if (s->plan->stages[i].degree >= least) seconds += s->left[i] * part(&s->plan->stages[i]);
        for (size_t i = 0; i < s->options->nodes; i++)
            places += s->nodes[i].devices / least;
        bound = fmax(bound, seconds / places);
    }
    return bound;
}

struct arrival {
    double time, width; /* devices */
};

static int by_time(const void *a, const void *b)
{
    const struct arrival *x = a, *y = b;
    return (x->time > y->time) - (x->time < y->time);
}

/* At no time do more devices work than stages can have become ready for, were there devices for all: the time at which
 * even so the work is done. */
static int ready_bound(const struct simulation *s, double *bound, struct error *err)
{
    size_t count = 0;
    struct arrival *arrivals = calloc(s->plan->stage_count + 1, sizeof *arrivals);
    double *earliest = calloc(s->plan->stage_count + 1, sizeof *earliest);
    if (arrivals && earliest) {
        for (uint32_t i = 0; i < s->plan->stage_count; i++) {
            uint32_t parent = s->plan->stages[i].parent;
            if (parent != PLAN_NONE) earliest[i] = earliest[parent] + s->left[parent];
            if (is_open(s, i)) arrivals[count++] = (struct arrival){earliest[i], width(&s->plan->stages[i])};
        }
        qsort(arrivals, count, sizeof *arrivals, by_time);
        double done = 0.0, busy = 0.0, now = 0.0;
        for (size_t i = 0; i < count && busy < (double)s->devices; i++) {
            if (done + busy * (arrivals[i].time - now) > s->work) break;
            done += busy * (arrivals[i].time - now);
            now = arrivals[i].time;
            busy = fmin(busy + arrivals[i].width, (double)s->devices);
        }
        *bound = busy > 0.0 ? now + (s->work - done) / busy : 0.0;
    }
    int rc = arrivals && earliest ? 0 : error_set(err, "out of memory for %zu stages", s->plan->stage_count);
    free(arrivals);
    free(earliest);
    return rc;
}

static int bounds(const struct simulation *s, struct simulate_result *result, struct error *err)
{
    double ready = 0.0;
    if (ready_bound(s, &ready, err)) return -1;
    result->lower_bound_seconds = s->devices ? s->work / (double)s->devices : 0.0;
    for (size_t i = 0; i < s->plan->stage_count; i++)
        result->lower_bound_seconds = fmax(result->lower_bound_seconds, s->chain[i]);
    result->tight_bound_seconds = fmax(result->lower_bound_seconds, fmax(ready, gang_bound(s)));
    return 0;
}

int simulate(const struct plan *plan, const struct simulate_options *options, struct simulate_result *result,
             struct error *err)
{
    struct simulation s = {.plan = plan, .options = options};
    *result = (struct simulate_result){.order = options->order};
    schedule_init(&s.schedule);
    s.schedule.order = options->order;
    int rc = prepare_nodes(&s, err) || prepare_stages(&s, err) || bounds(&s, result, err) || start(&s, err) ||
                     run_jobs(&s, result, err)
                 ? -1
                 : 0;
    double capacity = result->makespan_seconds * (double)s.devices;
    result->utilisation = capacity > 0.0 ? s.work / capacity : 0.0;
    schedule_free(&s.schedule);
    for (size_t i = 0; s.nodes && i < options->nodes; i++)
        schedule_node_free(&s.nodes[i]);
    free(s.nodes);
    free(s.ends);
    free(s.first_child);
    free(s.next_child);
    free(s.left);
    free(s.chain);
    free(s.candidates);
    free(s.done);
    return rc;
}

int simulate_best(const struct plan *plan, const struct simulate_options *options, struct simulate_result *result,
                  struct error *err)
{
    struct simulate_options other = *options;
    struct simulate_result second;
    if (simulate(plan, options, result, err)) return -1;
    other.order = options->order == SCHEDULE_CHAIN ? SCHEDULE_CHAIN_DEVICES : SCHEDULE_CHAIN;
    if (options->fifo || plan->sweep->resources.order != SWEEP_LONGEST_CHAIN) return 0;
    if (plan_forecast(plan, 1).widest < 2) return 0; /* the same */
    if (simulate(plan, &other, &second, err)) return -1;
    if (second.makespan_seconds < result->makespan_seconds) *result = second;
    return 0;
}
