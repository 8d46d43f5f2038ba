/* Names of schedules and optimisers, and the learning rate of every step: what the planner hashes and the trainer
 * obeys. */
#include <math.h>
#include <string.h>

#include "workers/model/config.h"
#include "workers/model/names.h"

static const char *const schedule_names[SCHEDULES] = {"constant", "linear", "cosine", "inverse_sqrt", "wsd"};

static const char *const optimiser_names[OPTIMISERS] = {"adamw", "adafactor", "sgd"};

static const char *const order_names[ORDERS] = {"shuffled", "stream"};

const char *example_order_name(enum example_order order)
{
    return (unsigned)order < ORDERS ? order_names[order] : "unknown";
}

int example_order_find(const char *name)
{
    return name_find(order_names, ORDERS, name);
}

static const char *const objective_names[OBJECTIVES] = {"causal", "ul2"};

const char *objective_name(enum objective objective)
{
    return (unsigned)objective < OBJECTIVES ? objective_names[objective] : "unknown";
}

int objective_find(const char *name)
{
    return name_find(objective_names, OBJECTIVES, name);
}

const char *optimiser_name(enum optimiser_kind kind)
{
    return (unsigned)kind < OPTIMISERS ? optimiser_names[kind] : "unknown";
}

int optimiser_find(const char *name)
{
    return name_find(optimiser_names, OPTIMISERS, name);
}

const char *schedule_name(enum schedule_kind kind)
{
    return (unsigned)kind < SCHEDULES ? schedule_names[kind] : "unknown";
}

int schedule_find(const char *name)
{
    return name_find(schedule_names, SCHEDULES, name);
}

/* The last step at the full rate: the end of the warm-up, or with WSD of the stable phase. */
static uint64_t decay_begin(const struct recipe *recipe)
{
    uint64_t decaying = (uint64_t)ceil(recipe->decay_share * (double)recipe->decay_steps);
    if (recipe->schedule != SCHEDULE_WSD || recipe->decay_steps - decaying < recipe->warmup_steps)
        return recipe->warmup_steps;
    return recipe->decay_steps - decaying;
}

/* Share of the way from there to decay_steps, 0..1. */
static double decay_progress(const struct recipe *recipe, uint64_t step)
{
    uint64_t begin = decay_begin(recipe);
    if (step >= recipe->decay_steps) return 1;
    return step <= begin ? 0 : (double)(step - begin) / (double)(recipe->decay_steps - begin);
}

double recipe_rate(const struct recipe *recipe, uint64_t step)
{
    double rate = recipe->learning_rate, floor_ratio = recipe->final_ratio;
    if (step < recipe->warmup_steps) return rate * (double)step / (double)recipe->warmup_steps;
    switch (recipe->schedule) {
    case SCHEDULE_LINEAR:
    case SCHEDULE_WSD: /* Hu et al. 2024 (MiniCPM), with a linear decay */
        return rate * (floor_ratio + (1 - floor_ratio) * (1 - decay_progress(recipe, step)));
    case SCHEDULE_COSINE:
        return rate * (floor_ratio + (1 - floor_ratio) * 0.5 * (1 + cos(M_PI * decay_progress(recipe, step))));
    case SCHEDULE_INVERSE_SQRT: { /* Vaswani et al. 2017, with the peak at the end of the warm-up */
        double peak = recipe->warmup_steps ? (double)recipe->warmup_steps : 1;
        return step > peak ? rate * sqrt(peak / (double)step) : rate;
    }
    case SCHEDULE_CONSTANT:
    case SCHEDULES:
        break;
    }
    return rate;
}

uint64_t recipe_steady_steps(const struct recipe *recipe)
{
    bool endless = recipe->schedule == SCHEDULE_CONSTANT || recipe->schedule == SCHEDULE_INVERSE_SQRT;
    return endless ? UINT64_MAX : decay_begin(recipe);
}
