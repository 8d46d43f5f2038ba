/* What makes a point the same point: canonical text -> XXH3-128. A change of any text here is a new version of it. */
#include "orchestrator/plan/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define IDENTITY_VERSION "tunelaw-1"

static struct digest digest_of_text(const char *text, int length, size_t size)
{
    return digest_of(text, length < 0 ? 0 : (size_t)length < size ? (size_t)length : size - 1);
}

/* What every recipe has, without the step counts. What came later is named only where it is used: points from before
 * keep their identity. */
static void recipe_text(const struct recipe *recipe, char *out, size_t size)
{
    bool adamw = recipe->optimiser == OPTIMISER_ADAMW; /* the others have no betas */
    int length = snprintf(
        out, size,
        "learning_rate=%.17g beta1=%.17g beta2=%.17g epsilon=%.17g weight_decay=%.17g clip_norm=%.17g schedule=%s "
        "warmup_steps=%" PRIu64 " final_ratio=%.17g sequence_length=%" PRIu32 " batch=%" PRIu32,
        recipe->learning_rate, adamw ? recipe->beta1 : 0.0, adamw ? recipe->beta2 : 0.0, adamw ? recipe->epsilon : 0.0,
        recipe->weight_decay, recipe->clip_norm, schedule_name(recipe->schedule), recipe->warmup_steps,
        recipe->final_ratio, recipe->sequence_length, recipe->batch);
    if (recipe->optimiser == OPTIMISER_ADAFACTOR)
        length += snprintf(out + length, size - (size_t)length, " optimiser=adafactor parameter_scale=%d",
                           recipe->parameter_scale);
    if (recipe->optimiser == OPTIMISER_SGD)
        length += snprintf(out + length, size - (size_t)length, " optimiser=sgd momentum=%.17g", recipe->momentum);
    if (recipe->schedule == SCHEDULE_WSD)
        length += snprintf(out + length, size - (size_t)length, " decay_share=%.17g", recipe->decay_share);
    if (recipe->dropout > 0) length += snprintf(out + length, size - (size_t)length, " dropout=%.17g", recipe->dropout);
    if (recipe->label_smoothing > 0)
        length += snprintf(out + length, size - (size_t)length, " label_smoothing=%.17g", recipe->label_smoothing);
    if (recipe->order == ORDER_STREAM) length += snprintf(out + length, size - (size_t)length, " order=stream");
    if (recipe->evaluation_steps)
        snprintf(out + length, size - (size_t)length, " evaluation_steps=%" PRIu64, recipe->evaluation_steps);
}

/* One for the whole sweep, named where it is not fp32. */
static const char *precision_text(enum precision precision)
{
    static const char *const texts[PRECISIONS] = {"", " precision=bf16", " precision=bf16x3"};
    return texts[precision];
}

/* "" where the next token is predicted everywhere. */
static void objective_text(const struct recipe *recipe, char *out, size_t size)
{
    out[0] = '\0';
    if (recipe->objective != OBJECTIVE_UL2) return;
    int used = snprintf(out, size, " objective=ul2 ");
    mixture_text(&recipe->mixture, out + used, size - (size_t)used);
}

struct digest identity_trunk(const struct sweep *sweep, size_t model)
{
    char recipe[768], shape[MODEL_TEXT], objective[MIXTURE_TEXT + 32], text[4096];
    const struct sweep_model *base = &sweep->bases[model];
    recipe_text(&sweep->pretrain, recipe, sizeof recipe);
    model_text(&sweep->models[model], shape, sizeof shape);
    objective_text(&sweep->pretrain, objective, sizeof objective);
    int length = snprintf(text, sizeof text,
                          IDENTITY_VERSION " trunk data=%s %s %s decay_steps=%" PRIu64 " seed=%" PRIu64 "%s%s",
                          sweep->tasks[base->text].data.digest.hex, shape, recipe, base->decay_steps,
                          sweep->pretrain_seed, precision_text(sweep->pretrain.precision), objective);
    return digest_of_text(text, length, sizeof text);
}

struct digest identity_imported(const struct model_config *model)
{
    char shape[MODEL_TEXT], text[MODEL_TEXT + 128];
    model_text(model, shape, sizeof shape);
    int length = snprintf(text, sizeof text, IDENTITY_VERSION " imported name=%s %s", model->name, shape);
    return digest_of_text(text, length, sizeof text);
}

struct digest identity_state(const struct digest *trunk, uint64_t step)
{
    char text[128];
    int length = snprintf(text, sizeof text, IDENTITY_VERSION " pretrain trunk=%s step=%" PRIu64, trunk->hex, step);
    return digest_of_text(text, length, sizeof text);
}

/* 0 means all: the same as their number. */
static uint64_t used(uint64_t wanted, size_t have)
{
    return wanted ? wanted : have;
}

void identity_method(const struct sweep_task *task, const struct method_config *method, const struct digest *start,
                     const struct recipe *recipe, struct identity_method *out)
{
    char text[768], more[METHOD_TEXT];
    method_text(method, more, sizeof more);
    if (!recipe->steps) /* nothing is trained */
        snprintf(text, sizeof text, "sequence_length=%" PRIu32, recipe->sequence_length);
    else
        recipe_text(recipe, text, sizeof text);
    snprintf(out->text, sizeof out->text,
             "data=%s valid=%" PRIu64 " test=%" PRIu64 " method=%s size=%" PRIu32 " alpha=%.17g%s%s%s %s%s",
             task->data.digest.hex, used(task->valid_examples, task->data.examples[SPLIT_VALID]),
             used(task->test_examples, task->data.examples[SPLIT_TEST]), method_name(method->kind), method->size,
             method->kind == METHOD_LORA ? method->alpha : 0.0, more, start->hex[0] ? " start=" : "", start->hex, text,
             precision_text(recipe->precision));
}

void identity_tuned(struct identity_method *method, const struct digest *reference)
{
    size_t length = strlen(method->text);
    snprintf(method->text + length, sizeof method->text - length, " tuned_at=%s", reference->hex);
}

struct digest identity_point(const struct digest *base, const struct identity_method *method,
                             const struct recipe *recipe, uint64_t examples, uint64_t seed)
{
    char text[2048];
    int length;
    if (!recipe->steps)
        length = snprintf(text, sizeof text, IDENTITY_VERSION " point base=%s %s", base->hex, method->text);
    else
        length =
            snprintf(text, sizeof text,
                     IDENTITY_VERSION " point base=%s %s steps=%" PRIu64 " decay_steps=%" PRIu64 " evaluations=%" PRIu32
                                      " patience=%" PRIu32 " examples=%" PRIu64 " seed=%" PRIu64,
                     base->hex, method->text, recipe->steps, recipe->decay_steps, recipe->evaluations, recipe->patience,
                     examples, seed);
    return digest_of_text(text, length, sizeof text);
}

struct digest identity_prefix(const struct digest *base, const struct identity_method *method, uint64_t seed,
                              uint64_t step)
{
    char text[2048];
    int length =
        snprintf(text, sizeof text, IDENTITY_VERSION " prefix base=%s %s patience=0 seed=%" PRIu64 " step=%" PRIu64,
                 base->hex, method->text, seed, step);
    return digest_of_text(text, length, sizeof text);
}
