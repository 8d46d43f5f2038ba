/* Fitting: what a reader must know before believing the laws of an analysis. */
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_internal.h"

enum { SENTENCE = 160, TOLD = 12 };

const char *warning_name(enum warning_kind kind)
{
    static const char *const names[WARNINGS] = {
        "shared_trunks", "execution_classes", "not_identified", "not_converged", "no_better_than_constant",
        "one_seed",      "learning_rates",    "settings",       "recipes",       "target_tokens",
        "saturated"};
    return names[kind];
}

static int warn(struct analysis *analysis, enum warning_kind kind, size_t fit, struct error *err, const char *format,
                ...) __attribute__((format(printf, 5, 6)));
static int warn(struct analysis *analysis, enum warning_kind kind, size_t fit, struct error *err, const char *format,
                ...)
{
    struct analysis_warning *warnings =
        realloc(analysis->warnings, (analysis->warning_count + 1) * sizeof *analysis->warnings);
    if (!warnings) return error_set(err, "out of memory for the warnings");
    analysis->warnings = warnings;
    struct analysis_warning *added = &warnings[analysis->warning_count++];
    *added = (struct analysis_warning){.kind = kind, .fit = fit};
    va_list args;
    va_start(args, format);
    vsnprintf(added->text, sizeof added->text, format, args);
    va_end(args);
    return 0;
}

/* A power law has no upper end; 100 - BLEU has one, where texts share nothing with their references. */
static int warn_of_saturation(struct analysis *analysis, struct error *err)
{
    const struct observations *observations = &analysis->observations;
    double limit = observations->metric < METRIC_ROUGE1 ? 100 : 1;
    size_t near = 0;
    if (observations->metric < METRIC_BLEU) return 0;
    for (size_t i = 0; i < observations->count; i++)
        near += observations->rows[i].loss > 0.98 * limit;
    if (!near) return 0;
    return warn(analysis, WARN_SATURATED, SIZE_MAX, err,
                "of %zu of %zu points %s is below 2 %% of its best: a law of powers does not bend there as %s does",
                near, observations->count, metric_scores[observations->metric], metric_titles[observations->metric]);
}

/* Fewest and most target tokens of one method's losses. */
struct tested {
    const char *method;
    double fewest, most;
};

/* More methods than the program has: a store may say anything. */
static void add_tested(const struct observation *row, struct tested list[TOLD], size_t *count)
{
    size_t i = 0;
    if (!(row->targets > 0)) return;
    while (i < *count && strcmp(list[i].method, row->method))
        i++;
    if (i == TOLD) return;
    if (i == *count) list[(*count)++] = (struct tested){row->method, row->targets, row->targets};
    list[i].fewest = fmin(list[i].fewest, row->targets);
    list[i].most = fmax(list[i].most, row->targets);
}

static int warn_of_task(struct analysis *analysis, const char *task, const struct tested *list, size_t count,
                        struct error *err)
{
    char text[320] = "";
    bool differ = false;
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(text);
        differ = differ || list[i].fewest != list[0].most || list[i].most != list[0].most;
        snprintf(text + used, sizeof text - used, "%s%.20s %.0f", i ? ", " : "", list[i].method, list[i].fewest);
        used = strlen(text);
        if (list[i].most > list[i].fewest) snprintf(text + used, sizeof text - used, " to %.0f", list[i].most);
    }
    if (!differ) return 0;
    return warn(
        analysis, WARN_TARGETS, SIZE_MAX, err,
        "task \"%.48s\": points were %s on different numbers of target tokens (%s): their losses are not of the "
        "same text",
        task, analysis->observations.metric == METRIC_VALID ? "validated" : "tested", text);
}

/* Rows and base are in the order of tasks. */
static int warn_of_targets(struct analysis *analysis, struct error *err)
{
    const struct observations *observations = &analysis->observations;
    const struct observation *rows = observations->rows, *base = observations->base;
    for (size_t first = 0, end, untuned = 0; first < observations->count; first = end) {
        const char *task = rows[first].task;
        struct tested list[TOLD];
        size_t count = 0;
        for (end = first; end < observations->count && !strcmp(rows[end].task, task); end++)
            add_tested(&rows[end], list, &count);
        while (untuned < observations->base_count && strcmp(base[untuned].task, task) < 0)
            untuned++;
        for (; untuned < observations->base_count && !strcmp(base[untuned].task, task); untuned++)
            add_tested(&base[untuned], list, &count);
        if (warn_of_task(analysis, task, list, count, err)) return -1;
    }
    return 0;
}

static int warn_of_sweep(struct analysis *analysis, struct error *err)
{
    const struct observations *observations = &analysis->observations;
    if (warn_of_saturation(analysis, err) || warn_of_targets(analysis, err)) return -1;
    if (observations->settings_lost.text[0] && *observations->config &&
        warn(analysis, WARN_SETTINGS, SIZE_MAX, err, "defaults hold, as the group fit cannot be read: %.200s",
             observations->settings_lost.text))
        return -1;
    if (*observations->config && observations->count && !observations->noise_count &&
        warn(analysis, WARN_ONE_SEED, SIZE_MAX, err,
             "one seed a cell: intervals know the scatter around the law, not that of seeds"))
        return -1;
    if (observations->recipe_cells &&
        warn(analysis, WARN_RECIPES, SIZE_MAX, err,
             "in %zu of %zu cells several points have one seed: their recipes differ (stores of different sweep files, "
             "method entries that differ in more than size and rate), and they are taken for repeats",
             observations->recipe_cells, observations->cells))
        return -1;
    if (2 * observations->rate_edges > observations->rate_cells &&
        warn(analysis, WARN_RATES, SIZE_MAX, err,
             "in %zu of %zu cells the best learning rate is the lowest or the highest that was tried",
             observations->rate_edges, observations->rate_cells))
        return -1;
    return 0;
}

/* "α, E: 2 levels of X cannot tell it": the reason is of the first. */
static int warn_identified(struct analysis *analysis, size_t index, struct error *err)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    char names[160] = "";
    const char *reason = NULL;
    for (size_t p = 0; p < fit->law.parameter_count; p++) {
        size_t used = strlen(names);
        if (fit->intervals.raw[p].identified) continue;
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", fit->law.parameters[p].symbol);
        if (!reason) reason = fit->intervals.raw[p].reason;
    }
    if (!reason) return 0;
    return warn(analysis, WARN_NOT_IDENTIFIED, index, err, "not identified: %s; %s", names, reason);
}

static int warn_of_fit(struct analysis *analysis, size_t index, struct error *err)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    if (!fit->fitted) return 0;
    if (fit->trunks < fit->fitted_count && fit->view != VIEW_TABLE &&
        warn(analysis, WARN_TRUNKS, index, err, "%zu rows of %zu pretraining trunk%s: their errors are correlated%s",
             fit->fitted_count, fit->trunks, fit->trunks == 1 ? "" : "s",
             fit->trunks == 1 ? ", and what that trunk did to them all is in no interval" : ""))
        return -1;
    if (fit->trunks < fit->fitted_count && fit->view == VIEW_TABLE &&
        warn(analysis, WARN_TRUNKS, index, err, "%zu rows of %zu cluster%s: their errors are correlated",
             fit->fitted_count, fit->trunks, fit->trunks == 1 ? "" : "s"))
        return -1;
    if (fit->classes > 1 &&
        warn(analysis, WARN_CLASSES, index, err,
             "rows of %zu execution classes: other devices, degrees or libraries may have moved their losses",
             fit->classes))
        return -1;
    if (!fit->fit.converged && warn(analysis, WARN_NOT_CONVERGED, index, err, "the fit has not converged")) return -1;
    bool beyond;
    double told = heldout_told(&fit->heldout, &beyond);
    if (fit->heldout.kind != HELDOUT_NONE && fit->heldout.error >= fit->heldout.constant_error &&
        warn(analysis, WARN_CONSTANT, index, err, "held-out error %s%.3g, that of the best constant %.3g",
             beyond ? "more than " : "", told, fit->heldout.constant_error))
        return -1;
    return warn_identified(analysis, index, err);
}

int analysis_warn(struct analysis *analysis, struct error *err)
{
    if (warn_of_sweep(analysis, err)) return -1;
    for (size_t i = 0; i < analysis->fit_count; i++)
        if (warn_of_fit(analysis, i, err)) return -1;
    return 0;
}

static size_t count_kind(const struct analysis *analysis, enum warning_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < analysis->warning_count; i++)
        count += analysis->warnings[i].kind == kind && analysis->warnings[i].fit != SIZE_MAX;
    return count;
}

/* Fewest and most trunks, or classes, of the fits that a kind of warning is about: "2 to 4". */
static void range_of(const struct analysis *analysis, enum warning_kind kind, char out[64])
{
    size_t low = SIZE_MAX, high = 0;
    for (size_t i = 0; i < analysis->warning_count; i++) {
        if (analysis->warnings[i].kind != kind) continue;
        const struct analysis_fit *fit = &analysis->fits[analysis->warnings[i].fit];
        size_t value = kind == WARN_TRUNKS ? fit->trunks : fit->classes;
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    if (low == high)
        snprintf(out, 64, "%zu", low);
    else
        snprintf(out, 64, "%zu to %zu", low, high);
}

/* Fits with an exponent, and with an E, that their points do not tell. */
static void count_unknown(const struct analysis *analysis, size_t *exponents, size_t *offsets)
{
    *exponents = *offsets = 0;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        if (!fit->fitted) continue;
        *exponents += fit->intervals.vague;
        for (size_t p = 0; p < fit->law.parameter_count; p++)
            *offsets += fit->law.parameters[p].role == LAW_OFFSET && !fit->intervals.raw[p].identified;
    }
}

/* One sentence for the `count` warnings of a kind about single fits, of `fitted`. */
static void sentence_of(const struct analysis *analysis, enum warning_kind kind, size_t count, size_t fitted,
                        char out[SENTENCE])
{
    char range[64];
    size_t exponents, offsets;
    switch (kind) {
    case WARN_TRUNKS:
        range_of(analysis, kind, range);
        snprintf(out, SENTENCE, "rows of %zu of %zu fits share trunks (%s a fit): their errors are correlated", count,
                 fitted, range);
        return;
    case WARN_CLASSES:
        range_of(analysis, kind, range);
        snprintf(out, SENTENCE, "rows of %zu of %zu fits are of several execution classes (%s a fit)", count, fitted,
                 range);
        return;
    case WARN_NOT_IDENTIFIED:
        count_unknown(analysis, &exponents, &offsets);
        snprintf(out, SENTENCE,
                 "%zu of %zu fits have a parameter that their points do not tell: %zu an exponent, %zu E", count,
                 fitted, exponents, offsets);
        return;
    case WARN_NOT_CONVERGED:
        snprintf(out, SENTENCE, "%zu of %zu fits have not converged", count, fitted);
        return;
    default:
        snprintf(out, SENTENCE, "%zu of %zu fits predict what they have not seen no better than a constant", count,
                 fitted);
    }
}

void analysis_tell_warnings(const struct analysis *analysis, void tell(void *to, const char *sentence), void *to)
{
    static const enum warning_kind kinds[] = {WARN_TRUNKS, WARN_CLASSES, WARN_NOT_IDENTIFIED, WARN_NOT_CONVERGED,
                                              WARN_CONSTANT};
    char sentence[SENTENCE];
    size_t fitted = 0;
    for (size_t i = 0; i < analysis->fit_count; i++)
        fitted += analysis->fits[i].fitted;
    for (size_t i = 0; i < analysis->warning_count; i++)
        if (analysis->warnings[i].fit == SIZE_MAX) tell(to, analysis->warnings[i].text);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t count = count_kind(analysis, kinds[k]);
        if (!count) continue;
        sentence_of(analysis, kinds[k], count, fitted, sentence);
        tell(to, sentence);
    }
}

static void print_warning(void *to, const char *sentence)
{
    fprintf(to, "warning: %s\n", sentence);
}

void print_warnings(const struct analysis *analysis, FILE *out)
{
    analysis_tell_warnings(analysis, print_warning, out);
}
