/* The loop of a stage: steps, validations, states, and the evaluation that ends it. Every rank takes the same way: what
 * only one of them can know (the clock, a drain) is decided by rank 0 and told to the others. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "io/log.h"
#include "workers/stage_internal.h"

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

/* End here, to go on from the newest state. */
static int cut(struct member *member)
{
    if (leads(member)) member->run->cut = true;
    return 1;
}

/* The same, from a state that is written now. */
static int save_and_cut(struct member *member, struct error *err)
{
    return state_save(member, err) ? -1 : cut(member);
}

/* One validation of a finetuning stage, or the text validation that ends a pretraining stage: an entry of the curve.
 * 0, -1, or 1: the stage is over, diverged or cut. A cut validation has changed nothing: the next attempt begins with
 * it. */
static int validate(struct member *member, struct error *err)
{
    double loss = NAN;
    uint64_t targets;
    struct run *run = member->run;
    struct checkpoint_header *state = &member->state;
    bool pretrain = run->stage->kind == STAGE_PRETRAIN;
    struct feed *feed = pretrain ? member->text : member->valid;
    int stopped = feed ? evaluate(member->model, feed, &member->buffer, &member->tick, &loss, &targets, err) : 0;
    if (stopped) return stopped < 0 ? -1 : run->training ? save_and_cut(member, err) : cut(member);
    if (record(member, loss, err)) return -1;
    if (pretrain) return 0;
    if (!isfinite(loss)) {
        if (leads(member)) run->diverged = true;
        return 1;
    }
    if (!(loss < state->best_loss)) {
        state->evaluations_without_gain++;
        return 0;
    }
    state->best_loss = loss;
    state->evaluations_without_gain = 0;
    return run->training ? best_save(member, err) : 0;
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

/* 0, 1 diverged or cut, -1. */
static int train_one(struct member *member, struct error *err)
{
    struct trainer_step step;
    double started = clock_elapsed();
    if (trainer_step(&member->trainer, member->state.step + 1, &step, err)) return -1;
    account(member, &step, clock_elapsed() - started);
    if (!step.finite) {
        if (leads(member)) {
            LOG("diverged at step %" PRIu64 ": loss %g, gradient norm %g", member->state.step,
                step.loss / (double)step.targets, step.gradient_norm);
            member->run->diverged = true;
        }
        return 1;
    }
    return evaluation_due(member->run->stage, member->state.step) ? validate(member, err) : 0;
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
    if (run->stage->kind == STAGE_FINETUNE)
        return run->training && !member->state.finished ? state_finish(member, err) : 0;
    int over = run->stage->kind == STAGE_PRETRAIN ? validate(member, err) : 0;
    if (over) return over < 0 ? -1 : 0;
    member->state.finished = CHECKPOINT_FINISHED;
    return state_save(member, err);
}

/* A drain that is asked for before the first step costs no step and no state. */
static int begin_training(struct member *member, struct error *err)
{
    int stopped = member_stopped(member);
    if (stopped) return stopped < 0 ? -1 : cut(member);
    return member->run->validation_due ? validate(member, err) : 0;
}

int member_train(struct member *member, struct error *err)
{
    int over = begin_training(member, err);
    while (over == 0 && !finished(member)) {
        over = train_one(member, err);
        if (over || finished(member)) break;
        int action = decide(member);
        if (action < 0 || (action == SAVE && state_save(member, err))) return -1;
        if (action == DRAIN) over = save_and_cut(member, err);
    }
    if (over) return over < 0 ? -1 : 0;
    return close_training(member, err);
}

/* The losses of the best weights. 0, -1, or 1: cut. */
static int conclude(struct member *member, double *test, double *text, uint64_t *test_tokens, struct error *err)
{
    uint64_t text_tokens;
    int stopped = evaluate(member->model, member->test, &member->buffer, &member->tick, test, test_tokens, err);
    if (!stopped && member->text)
        stopped = evaluate(member->model, member->text, &member->buffer, &member->tick, text, &text_tokens, err);
    return stopped > 0 ? cut(member) : stopped;
}

int member_conclude(struct member *member, struct error *err)
{
    struct run *run = member->run;
    const struct checkpoint_header *state = &member->state;
    double test, text = NAN;
    uint64_t test_tokens, valid_tokens;
    int over = run->training ? 0 : validate(member, err);
    if (over) return over < 0 ? -1 : 0;
    if (state->best_step) {
        if (leads(member)) run->best = best_open(run->stage, state->best_step, state->best_digest, err);
        if ((leads(member) && !run->best) || collective_barrier(member->collective)) return -1;
        if (member_load_trainable(member, run->best, false, err)) return -1;
    }
    over = conclude(member, &test, &text, &test_tokens, err);
    if (over) return over < 0 ? -1 : 0;
    if (feed_targets(member->valid, 0, feed_items(member->valid), &valid_tokens, err)) return -1;
    if (!leads(member)) return 0;
    run->diverged = !isfinite(test);
    struct store_result *result = &run->outcome->row.result;
    result->test_loss = test;
    result->test_tokens = test_tokens;
    result->valid_tokens = valid_tokens;
    result->pretrain_loss = text;
    LOG("best at step %" PRIu64 ": valid loss %.6f, test loss %.6f, pretraining text %.6f", state->best_step,
        state->best_loss, test, text);
    return 0;
}
