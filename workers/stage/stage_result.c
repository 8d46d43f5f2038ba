/* From a finished run to its row: what was computed, and where and how. Nothing in the result depends on time, attempts
 * or interruptions. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "io/version.h"
#include "workers/stage/stage_internal.h"

int curve_add(struct curve *curve, const struct store_curve_entry *entry, struct error *err)
{
    if (curve->count == curve->capacity) {
        size_t capacity = curve->capacity ? 2 * curve->capacity : 64;
        struct store_curve_entry *entries = realloc(curve->entries, capacity * sizeof *entries);
        if (!entries) return error_set(err, "out of memory for the curve");
        curve->entries = entries;
        curve->capacity = capacity;
    }
    curve->entries[curve->count++] = *entry;
    return 0;
}

void execution_class_of(const struct stage *stage, const struct kernels *kernels, char out[STORE_NAME])
{
    char library[STORE_NAME];
    enum precision precision = stage->recipe.precision;
    const char *emulated = precision != PRECISION_FP32 && !kernels_fast_bf16(kernels) ? "-rounded" : "";
    kernels_library(kernels, library, sizeof library);
    int length =
        snprintf(out, STORE_NAME, "%.9s:tp%" PRIu32 ":t%" PRIu32 ":", kernels->name, stage->degree, stage->threads);
    if (precision != PRECISION_FP32)
        length += snprintf(out + length, STORE_NAME - (size_t)length, "%s%s:", precision_name(precision), emulated);
    snprintf(out + length, STORE_NAME - (size_t)length, "%s%.30s", stage->aligned ? "pack:" : "", library);
}

static double finite_or_infinity(double loss)
{
    return isfinite(loss) ? loss : INFINITY;
}

/* A longer curve is thinned evenly, first and last kept. */
static void fill_curve(const struct curve *curve, struct store_curve *out)
{
    size_t count = curve->count < STORE_CURVE ? curve->count : STORE_CURVE;
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        size_t from = curve->count <= STORE_CURVE
                          ? i
                          : (2 * i * (curve->count - 1) + (STORE_CURVE - 1)) / (2 * (STORE_CURVE - 1));
        out->entries[i] = curve->entries[from];
        out->entries[i].valid_loss = finite_or_infinity(out->entries[i].valid_loss);
    }
}

static void fill_result(const struct run *run, struct store_result *result)
{
    const struct checkpoint_header *state = &run->state;
    bool diverged = run->diverged;
    result->status = diverged ? STORE_DIVERGED : STORE_DONE;
    result->evaluations = (uint32_t)run->curve.count;
    result->steps = state->step;
    result->best_step = state->best_step;
    result->tokens = state->tokens;
    result->target_tokens = state->target_tokens;
    result->flops = run->stage->flops;
    result->learning_rate = run->stage->recipe.steps ? run->stage->recipe.learning_rate : 0.0;
    result->gradient_norm = diverged ? finite_or_infinity(state->gradient_norm) : state->gradient_norm;
    result->valid_loss = state->best_loss;
    if (diverged) {
        result->train_loss = finite_or_infinity(state->train_loss_sum / (double)state->train_loss_tokens);
        result->test_loss = result->pretrain_loss = INFINITY;
        result->test_tokens = result->valid_tokens = 0;
    } else {
        result->train_loss = run->curve.count ? run->curve.entries[run->curve.count - 1].train_loss : NAN;
    }
    result->test_perplexity = exp(result->test_loss);
    memcpy(result->best_digest, state->best_digest, sizeof result->best_digest);
}

static void fill_execution(const struct run *run, struct store_execution *execution)
{
    char host[256] = "";
    const struct stage *stage = run->stage;
    gethostname(host, sizeof host - 1);
    store_field(execution->host, sizeof execution->host, host);
    const char *name = run->kernels->name;
    store_field(execution->device, sizeof execution->device, strcmp(name, "reference") == 0 ? "cpu" : name);
    store_field(execution->execution_class, sizeof execution->execution_class, run->execution_class);
    store_field(execution->version, sizeof execution->version, version_string());
    execution->finished = clock_wall();
    execution->started = execution->finished - (clock_elapsed() - run->started);
    execution->seconds = run->start.seconds + run_seconds(run);
    execution->tokens_per_second = monitor_rate(&run->monitor);
    execution->peak_bytes = run->outcome->peak_bytes;
    execution->predicted_bytes = stage->predicted_bytes;
    execution->attempt = stage->attempt;
}

void result_fill(struct run *run)
{
    struct store_row *row = &run->outcome->row;
    const char *identity = run->stage->identity.hex;
    memcpy(row->result.identity, identity, sizeof row->result.identity);
    memcpy(row->curve.identity, identity, sizeof row->curve.identity);
    fill_result(run, &row->result);
    fill_execution(run, &row->execution);
    fill_curve(&run->curve, &row->curve);
}
