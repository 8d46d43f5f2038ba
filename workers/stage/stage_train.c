/* The loop of a pack of stages, mostly of one: steps, validations, states, and the evaluation that ends each. Every
 * rank takes the same way: what only one of them can know (the clock, a drain) is decided by rank 0 and told to the
 * others. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "io/log.h"
#include "workers/stage/stage_internal.h"

static bool leads(const struct member *member)
{
    return member->collective->rank == 0;
}

/* After how many steps validation number i (from 1) comes. */
static uint64_t evaluation_step(uint64_t i, uint64_t steps, uint64_t evaluations)
{
    return (2 * i * steps + evaluations) / (2 * evaluations);
}

bool evaluation_due(const struct stage *stage, uint64_t step)
{
    uint64_t steps = stage->last_step, evaluations = stage->recipe.evaluations ? stage->recipe.evaluations : 1;
    if (stage->kind == STAGE_PRETRAIN) return false; /* at the end of the stage */
    if (step == steps && stage->kind == STAGE_FINETUNE) return true;
    if (stage->recipe.evaluation_steps) return step % stage->recipe.evaluation_steps == 0;
    uint64_t near = step * evaluations / steps;
    return step == evaluation_step(near, steps, evaluations) || step == evaluation_step(near + 1, steps, evaluations);
}

static double mean_train_loss(const struct checkpoint_header *state)
{
    return state->train_loss_tokens ? state->train_loss_sum / (double)state->train_loss_tokens : NAN;
}

static int record(struct member *member, double valid_loss, struct error *err)
{
    struct run *run = member->run;
    struct checkpoint_header *state = &member->state;
    struct store_curve_entry entry = {.step = (double)state->step,
                                      .tokens = (double)state->tokens,
                                      .train_loss = mean_train_loss(state),
                                      .valid_loss = valid_loss,
                                      .gradient_norm = state->gradient_norm,
                                      .learning_rate = state->step ? recipe_rate(&run->stage->recipe, state->step) : 0};
    state->train_loss_sum = 0;
    state->train_loss_tokens = 0;
    if (!leads(member)) return 0;
    LOG("step %" PRIu64 " of %" PRIu64
        ": train loss %.6f, valid loss %.6f, gradient norm %.4g, rate %.4g, %.0f tokens/s",
        state->step, run->stage->last_step, entry.train_loss, valid_loss, entry.gradient_norm, entry.learning_rate,
        monitor_rate(&run->monitor));
    return curve_add(&run->curve, &entry, err);
}

int member_stopped(void *context)
{
    struct member *member = context;
    double stopped = leads(member) && monitor_stopped(&member->run->monitor);
    return collective_sum_double(member->collective, &stopped) ? -1 : stopped > 0;
}

/* Stages that are worked on together, in the order of their lanes. */
struct list {
    struct member *members[PACK_LIMIT];
    size_t count;
};

static void add(struct list *list, struct member *member)
{
    list->members[list->count++] = member;
}

static void diverge(struct member *member)
{
    member->over = true;
    if (leads(member)) member->run->diverged = true;
}

/* End here, to go on from the newest state, or from one that is written now. */
static int cut(struct member *member, bool save, struct error *err)
{
    if (save && state_save(member, err)) return -1;
    member->over = true;
    if (leads(member)) member->run->cut = true;
    return 0;
}

static int cut_all(const struct list *list, bool save, struct error *err)
{
    for (size_t i = 0; i < list->count; i++)
        if (cut(list->members[i], save && list->members[i]->run->training, err)) return -1;
    return 0;
}

/* What a validation of a finetuning stage means for it. */
static int judge(struct member *member, double loss, struct error *err)
{
    struct checkpoint_header *state = &member->state;
    if (!isfinite(loss)) {
        diverge(member);
        return 0;
    }
    if (!(loss < state->best_loss)) {
        state->evaluations_without_gain++;
        return 0;
    }
    state->best_loss = loss;
    state->evaluations_without_gain = 0;
    return member->run->training ? best_save(member, err) : 0;
}

static void enter(const struct member *member)
{
    if (leads(member)) run_enter(member->run);
}

/* Losses of all over their feeds of one kind, where there is one. 0, -1, or 1: a drain. */
static int evaluate_all(const struct list *list, struct feed *(*feed)(const struct member *), double *losses,
                        uint64_t *targets, struct error *err)
{
    struct evaluation evaluations[PACK_LIMIT];
    struct member *first = list->members[0];
    for (size_t i = 0; i < list->count; i++) {
        struct member *member = list->members[i];
        losses[i] = NAN;
        evaluations[i] = (struct evaluation){.feed = feed(member), .buffer = &member->buffer, .lane = member->lane};
    }
    if (!evaluations[0].feed) return 0; /* one data set: nobody has any */
    int stopped = evaluate_lanes(first->model, evaluations, list->count, first->joined, &first->tick, err);
    for (size_t i = 0; i < list->count && !stopped; i++) {
        losses[i] = evaluations[i].loss;
        targets[i] = evaluations[i].targets;
    }
    return stopped;
}

static struct feed *validation_feed(const struct member *member)
{
    return member->run->stage->kind == STAGE_PRETRAIN ? member->text : member->valid;
}

static struct feed *test_feed(const struct member *member)
{
    return member->test;
}

static struct feed *text_feed(const struct member *member)
{
    return member->text;
}

/* A validation of finetuning stages, or the text validation that ends a pretraining stage: an entry of each curve.
 * A validation that a drain cuts has changed nothing: the next attempt begins with it. */
static int validate(const struct list *list, struct error *err)
{
    double losses[PACK_LIMIT];
    uint64_t targets[PACK_LIMIT];
    if (list->count == 0) return 0;
    int stopped = evaluate_all(list, validation_feed, losses, targets, err);
    if (stopped) return stopped < 0 ? -1 : cut_all(list, true, err);
    for (size_t i = 0; i < list->count; i++) {
        struct member *member = list->members[i];
        enter(member);
        if (record(member, losses[i], err)) return -1;
        if (member->run->stage->kind != STAGE_PRETRAIN && judge(member, losses[i], err)) return -1;
    }
    return 0;
}

enum { GO_ON = 0, SAVE = 1, DRAIN = 2 };

/* What rank 0's clock and hooks ask for after a step; the same answer on every rank, or -1. */
static int decide(struct member *member)
{
    double answer = 0;
    struct run *run = member->run;
    const struct stage *stage = run->stage;
    if (leads(member)) {
        bool due = (stage->checkpoint_seconds > 0 && clock_elapsed() - run->saved >= stage->checkpoint_seconds) ||
                   (stage->checkpoint_steps && member->state.step % stage->checkpoint_steps == 0);
        answer = monitor_stopped(&run->monitor) ? DRAIN : due ? SAVE : GO_ON;
    }
    return collective_sum_double(member->collective, &answer) ? -1 : (int)answer;
}

/* Count a finished step. */
static void account(struct member *member, const struct trainer_step *step, double seconds)
{
    struct run *run = member->run;
    struct checkpoint_header *state = &member->state;
    state->step++;
    state->tokens += step->tokens;
    state->target_tokens += step->targets;
    state->train_loss_sum += step->loss;
    state->train_loss_tokens += step->targets;
    state->gradient_norm = step->gradient_norm;
    if (!leads(member)) return;
    run->trained.tokens += step->tokens;
    run->trained.targets += step->targets;
    run->trained.sequences += step->sequences;
    monitor_step(&run->monitor, state->step, step->loss / (double)step->targets, step->tokens, seconds);
}

/* The end of a step: whether it diverged, whether a validation is due. */
static void look_at_step(struct member *member, const struct trainer_step *step, struct list *due)
{
    if (!step->finite) {
        enter(member);
        if (leads(member))
            LOG("diverged at step %" PRIu64 ": loss %g, gradient norm %g", member->state.step,
                step->loss / (double)step->targets, step->gradient_norm);
        diverge(member);
    } else if (evaluation_due(member->run->stage, member->state.step)) {
        add(due, member);
    }
}

/* A step of each. Its time is shared out by tokens. */
static int train_once(const struct list *list, struct error *err)
{
    struct trainer *trainers[PACK_LIMIT];
    struct trainer_step steps[PACK_LIMIT];
    uint64_t numbers[PACK_LIMIT], tokens = 0;
    struct list due = {.count = 0};
    double started = clock_elapsed();
    for (size_t i = 0; i < list->count; i++) {
        trainers[i] = &list->members[i]->trainer;
        numbers[i] = list->members[i]->state.step + 1;
    }
    if (trainer_steps(trainers, numbers, steps, list->count, err)) return -1;
    double seconds = clock_elapsed() - started;
    for (size_t i = 0; i < list->count; i++)
        tokens += steps[i].tokens;
    for (size_t i = 0; i < list->count; i++) {
        enter(list->members[i]);
        account(list->members[i], &steps[i], seconds * (double)steps[i].tokens / (double)tokens);
        look_at_step(list->members[i], &steps[i], &due);
    }
    return validate(&due, err);
}

static bool finished(const struct member *member)
{
    const struct stage *stage = member->run->stage;
    const struct checkpoint_header *state = &member->state;
    return state->step >= stage->last_step || state->finished ||
           (stage->recipe.patience && state->evaluations_without_gain >= stage->recipe.patience);
}

/* End of the steps of a stage that neither diverged nor was cut. */
static int close_training(struct member *member, struct error *err)
{
    struct run *run = member->run;
    const struct list alone = {{member}, 1};
    if (run->stage->kind == STAGE_FINETUNE)
        return run->training && !member->state.finished ? state_finish(member, err) : 0;
    if (run->stage->kind == STAGE_PRETRAIN && validate(&alone, err)) return -1;
    if (member->over) return 0;
    member->state.finished = CHECKPOINT_FINISHED;
    return state_save(member, err);
}

/* The best weights, where training found some. */
static int load_best(struct member *member, struct error *err)
{
    struct run *run = member->run;
    const struct checkpoint_header *state = &member->state;
    if (!state->best_step) return 0;
    if (leads(member)) {
        pthread_mutex_lock(run->io);
        run->best = best_open(run->stage, state->best_step, state->best_digest, err);
        pthread_mutex_unlock(run->io);
    }
    if ((leads(member) && !run->best) || collective_barrier(member->collective)) return -1;
    return member_load_trainable(member, run->best, false, err);
}

static int fill_losses(struct member *member, double test, uint64_t test_tokens, double text, struct error *err)
{
    uint64_t valid_tokens;
    const struct checkpoint_header *state = &member->state;
    if (feed_targets(member->valid, 0, feed_items(member->valid), &valid_tokens, err)) return -1;
    if (!leads(member)) return 0;
    member->run->diverged = !isfinite(test);
    struct store_result *result = &member->run->outcome->row.result;
    result->test_loss = test;
    result->test_tokens = test_tokens;
    result->valid_tokens = valid_tokens;
    result->pretrain_loss = text;
    LOG("best at step %" PRIu64 ": valid loss %.6f, test loss %.6f, pretraining text %.6f", state->best_step,
        state->best_loss, test, text);
    return 0;
}

/* What a member writes with its best weights. A drain cuts it: the next attempt evaluates it again. */
static int write_texts(struct member *member, double test, struct error *err)
{
    struct run *run = member->run;
    if (!run->stage->generate.max_new_tokens || !isfinite(test)) return 0;
    int stopped = member_generate(member, &run->outcome->row.result, err);
    return stopped > 0 ? cut(member, false, err) : stopped;
}

/* Final evaluation of finetuning stages, with their best weights. */
static int conclude(const struct list *list, struct error *err)
{
    double tests[PACK_LIMIT], texts[PACK_LIMIT];
    uint64_t test_tokens[PACK_LIMIT], text_tokens[PACK_LIMIT];
    if (list->count == 0) return 0;
    for (size_t i = 0; i < list->count; i++)
        if (load_best(list->members[i], err)) return -1;
    int stopped = evaluate_all(list, test_feed, tests, test_tokens, err);
    if (!stopped) stopped = evaluate_all(list, text_feed, texts, text_tokens, err);
    if (stopped) return stopped < 0 ? -1 : cut_all(list, false, err);
    for (size_t i = 0; i < list->count; i++) {
        struct member *member = list->members[i];
        enter(member);
        if (fill_losses(member, tests[i], test_tokens[i], texts[i], err) || write_texts(member, tests[i], err))
            return -1;
    }
    return 0;
}

static void settle(struct member *member)
{
    member->over = true;
    if (!leads(member)) return;
    run_enter(member->run);
    member->run->state = member->state;
    run_settle(member->run, NULL);
}

/* Those whose steps are over: their end. */
static int end_all(const struct list *list, struct error *err)
{
    struct list untrained = {.count = 0}, last = {.count = 0};
    for (size_t i = 0; i < list->count; i++) {
        struct member *member = list->members[i];
        if (member->over) continue;
        enter(member);
        if (close_training(member, err)) return -1;
        if (!member->run->training && member->run->stage->kind == STAGE_FINETUNE) add(&untrained, member);
    }
    if (validate(&untrained, err)) return -1;
    for (size_t i = 0; i < list->count; i++)
        if (!list->members[i]->over && list->members[i]->run->stage->kind == STAGE_FINETUNE)
            add(&last, list->members[i]);
    if (conclude(&last, err)) return -1;
    for (size_t i = 0; i < list->count; i++)
        settle(list->members[i]);
    return 0;
}

/* After a step: a state where it is time for one; a drain cuts. */
static int save_all(const struct list *list, struct error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        struct member *member = list->members[i];
        if (member->over || finished(member)) continue;
        enter(member);
        int action = decide(member);
        if (action < 0 || (action == SAVE && state_save(member, err))) return -1;
        if (action == DRAIN && cut(member, true, err)) return -1;
    }
    return 0;
}

/* Take those that have ended out of the list, and end them. */
static int end_finished(struct list *list, struct error *err)
{
    struct list ended = {.count = 0}, left = {.count = 0};
    for (size_t i = 0; i < list->count; i++)
        add(list->members[i]->over || finished(list->members[i]) ? &ended : &left, list->members[i]);
    *list = left;
    return end_all(&ended, err);
}

/* A drain that is asked for before the first step costs no step and no state. */
static int begin_training(const struct list *list, struct error *err)
{
    struct list due = {.count = 0};
    int stopped = member_stopped(list->members[0]);
    if (stopped) return stopped < 0 ? -1 : cut_all(list, false, err);
    for (size_t i = 0; i < list->count; i++)
        if (list->members[i]->run->validation_due) add(&due, list->members[i]);
    return validate(&due, err);
}

int members_train(struct member *members, size_t count, struct error *err)
{
    struct list list = {.count = 0};
    for (size_t i = 0; i < count; i++)
        add(&list, &members[i]);
    if (begin_training(&list, err) || end_finished(&list, err)) return -1;
    while (list.count > 0)
        if (train_once(&list, err) || save_all(&list, err) || end_finished(&list, err)) return -1;
    return 0;
}
