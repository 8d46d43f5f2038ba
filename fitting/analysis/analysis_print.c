/* Fitting: the analysis as a person reads it at a terminal. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_internal.h"

enum { LISTED = 20 };

static void print_omitted(const struct observations *observations, const struct observation_omitted *entry, FILE *out)
{
    const struct observation *point = &entry->point;
    char label[OBSERVATION_LABEL];
    fprintf(out, "  %.8s %s, model %s, %.0f pretraining tokens", point->identity,
            observations_label(observations, point->task, point->method, label), point->model, point->pretrain_tokens);
    if (point->examples > 0) fprintf(out, ", %.0f examples", point->examples);
    if (observation_is_tuned(point))
        fprintf(out, ", learning rate of its reference cell");
    else if (point->learning_rate > 0)
        fprintf(out, ", rate %g", point->learning_rate);
    fprintf(out, ": %s%s%s\n", entry->status, entry->message[0] ? ": " : "", entry->message);
}

static void print_left_out(const struct observations *observations, FILE *out)
{
    if (!observations->omitted_count) return;
    fprintf(out, "left out:");
    for (size_t why = 0, listed = 0; why < OMISSIONS; why++)
        if (why == OMITTED_METRIC && observations->omitted_by[why])
            fprintf(out, "%s %zu whose %s was not measured", listed++ ? "," : "", observations->omitted_by[why],
                    metric_names[observations->metric]);
        else if (observations->omitted_by[why])
            fprintf(out, "%s %zu %s", listed++ ? "," : "", observations->omitted_by[why],
                    omission_name((enum omission)why));
    fprintf(out, "\n");
    size_t shown = 0, skipped = 0;
    for (size_t i = 0; i < observations->omitted_count; i++) {
        const struct observation_omitted *entry = &observations->omitted[i];
        if (entry->why == OMITTED_RATE || entry->why == OMITTED_UNFINISHED || entry->why == OMITTED_METRIC)
            continue; /* a count says enough */
        if (shown++ >= LISTED) {
            skipped++;
            continue;
        }
        print_omitted(observations, entry, out);
    }
    if (skipped) fprintf(out, "  and %zu more, see --json\n", skipped);
}

static void print_noise(const struct observations *observations, FILE *out)
{
    for (size_t i = 0; i < observations->noise_count; i++) {
        const struct observation_noise *noise = &observations->noise[i];
        char label[OBSERVATION_LABEL];
        fprintf(out, "%s%s %.2g %%", i ? ", " : "seeds differ by (standard deviation of the loss): ",
                observations_label(observations, noise->task, noise->method, label), 100 * noise->deviation);
    }
    if (observations->noise_count)
        fprintf(out, "; %s\n",
                observations->seeds == SETTINGS_MEAN ? "their means are fitted" : "each is a point of the fits");
}

static void print_head(const struct analysis *analysis, FILE *out)
{
    const struct observations *observations = &analysis->observations;
    size_t held_out = 0;
    for (size_t i = 0; i < observations->count; i++)
        held_out += observations->rows[i].held_out;
    if (observations->epoch)
        fprintf(out, "sweep %s, generation %llu of %s\n", observations->name, (unsigned long long)observations->epoch,
                observations->source);
    else
        fprintf(out, "%s\n", observations->source);
    size_t measured = observations->points - observations->base_count - observations->omitted_count;
    fprintf(out, "%zu points", observations->points);
    if (measured != observations->count) fprintf(out, ", %zu of them as %zu means", measured, observations->count);
    fprintf(out, ": %zu to fit, %zu held out, %zu untuned, %zu left out; %zu trunks\n", observations->count - held_out,
            held_out, observations->base_count, observations->omitted_count, observations->trunks);
    print_left_out(observations, out);
    if (analysis->options.absolute)
        fprintf(out, "absolute residuals");
    else if (isinf(analysis->options.delta))
        fprintf(out, "least squares");
    else
        fprintf(out, "Huber %g", analysis->options.delta);
    fprintf(out, " on %s, sum over points", analysis->options.log_residuals ? "log L" : "L");
    if (analysis->options.intervals == INTERVAL_PROFILE)
        fprintf(out, "; intervals %g %%, by profile likelihood", 100 * analysis->options.level);
    else if (analysis->options.resamples)
        fprintf(out, "; intervals %g %%, %zu resamples of %s%s", 100 * analysis->options.level,
                analysis->options.resamples, cluster_name(analysis->options.resample),
                analysis->options.intervals == INTERVAL_BOTH ? ", and by profile likelihood" : "");
    fputc('\n', out);
    if (observations->epoch)
        fprintf(out, "L %s, N %s, P pretraining tokens, T PET size, D examples\n",
                observations->metric < METRIC_BLEU ? metric_names[observations->metric]
                                                   : metric_titles[observations->metric],
                observations->x_name);
    print_noise(observations, out);
    print_warnings(analysis, out);
}

static void print_view(const struct analysis_fit *fit, FILE *out)
{
    fprintf(out, "\n%s", fit->group);
    if (fit->view == VIEW_JOINT) fprintf(out, ", all its points");
    if (!isnan(fit->parameters)) fprintf(out, ", N = %.0f", fit->parameters);
    if (!isnan(fit->pretrain_tokens)) fprintf(out, ", P = %.0f", fit->pretrain_tokens);
    fprintf(out, "\n");
}

static void print_span(FILE *out, const struct span *span)
{
    if (span->low_open && span->high_open)
        fprintf(out, "any value");
    else if (span->low_open)
        fprintf(out, "below %.4g", span->high);
    else if (span->high_open)
        fprintf(out, "above %.4g", span->low);
    else
        fprintf(out, "[%.4g, %.4g]", near_zero(span->low), near_zero(span->high));
}

static void print_interval(FILE *out, const char *symbol, int width, double value, const struct interval *interval)
{
    fprintf(out, "    ");
    print_padded(out, symbol, width);
    if (!interval->identified) {
        fprintf(out, "not identified: %s", interval->reason);
    } else {
        fprintf(out, "%-11.5g", near_zero(value));
        if (!isnan(interval->low)) fprintf(out, " [%.4g, %.4g]", near_zero(interval->low), near_zero(interval->high));
    }
    if (!isnan(interval->profile.low) && (!interval->identified || interval->profile.low != interval->low)) {
        fprintf(out, "; profile ");
        print_span(out, &interval->profile);
    }
    fprintf(out, "\n");
}

static void print_heldout(const struct heldout *heldout, FILE *out)
{
    if (heldout->kind == HELDOUT_NONE) {
        fprintf(out, "    held-out error: too few levels to leave one out\n");
        return;
    }
    bool beyond;
    double told = heldout_told(heldout, &beyond);
    fprintf(out, "    held-out mean absolute deviation %s%.4g over %zu point%s %s; of a constant %.4g%s\n",
            beyond ? "more than " : "", told, heldout->points, heldout->points == 1 ? "" : "s",
            heldout->kind == HELDOUT_CELLS ? "held out by the sweep file" : "of levels left out in turn",
            heldout->constant_error, beyond ? ": the law does not extrapolate" : "");
}

/* Pairs that cannot be told apart well: one can be traded for the other. */
static void print_correlations(const struct analysis_fit *fit, FILE *out)
{
    size_t listed = 0;
    for (size_t a = 0; a < fit->law.parameter_count; a++)
        for (size_t b = 0; b < a; b++) {
            if (!(fabs(fit->intervals.correlation[a][b]) > 0.9)) continue;
            fprintf(out, "%s%s and %s %.2f",
                    listed++ ? ", " : "    strongly correlated: ", fit->law.parameters[b].symbol,
                    fit->law.parameters[a].symbol, fit->intervals.correlation[a][b]);
        }
    if (listed) fprintf(out, "\n");
}

static void print_fit(const struct analysis_fit *fit, FILE *out)
{
    fprintf(out, "  %s: L = %s\n", fit->law.name, fit->formula);
    if (fit->ignored_axis) fprintf(out, "    without %s: too few levels to tell its power\n", fit->ignored_axis);
    if (!fit->fitted) {
        fprintf(out, "    not fitted: %s\n", fit->why);
        return;
    }
    double centred[LAW_PARAMETERS];
    int width = 4;
    for (size_t i = 0; fit->law.user && i < fit->law.parameter_count; i++) /* a user's names are ASCII */
        width = (int)fmax(width, (double)strlen(fit->law.parameters[i].symbol) + 1);
    memcpy(centred, fit->fit.theta, sizeof centred);
    law_shift(&fit->law, centred, fit->fit.centre);
    for (size_t i = 0; i < fit->law.parameter_count; i++) {
        const struct law_parameter *parameter = &fit->law.parameters[i];
        print_interval(out, parameter->symbol, width, law_parameter_value(&fit->law, fit->fit.theta, i),
                       &fit->intervals.raw[i]);
    }
    for (size_t i = 0; i < fit->law.parameter_count; i++) {
        char symbol[16];
        if (fit->law.parameters[i].role != LAW_COEFFICIENT || !law_can_shift(&fit->law)) continue;
        snprintf(symbol, sizeof symbol, "%s₀", fit->law.parameters[i].symbol);
        print_interval(out, symbol, width, law_parameter_value(&fit->law, centred, i), &fit->intervals.centred[i]);
    }
    fprintf(out, "    %zu points, objective %.6g%s, %zu of %zu best starts of %zu agree\n", fit->fit.points,
            fit->fit.objective, fit->fit.converged ? ", converged" : ", not converged", fit->fit.agreeing,
            fit->fit.polished, fit->fit.starts);
    if (fit->intervals.resamples) print_correlations(fit, out);
    fprintf(out, "    AICc %.2f\n", fit->fit.akaike);
    print_heldout(&fit->heldout, out);
    if (fit->heldout.kind == HELDOUT_CELLS && fit->levels.kind == HELDOUT_LEVELS) print_heldout(&fit->levels, out);
}

void analysis_print(const struct analysis *analysis, bool verbose, FILE *out)
{
    const size_t unmeasured = analysis->observations.omitted_by[OMITTED_METRIC];
    print_head(analysis, out);
    if (!analysis->fit_count && unmeasured) {
        fprintf(out, "%s was not measured for %zu points, so there is nothing to fit\n",
                metric_names[analysis->observations.metric], unmeasured);
        return;
    }
    if (!analysis->fit_count) {
        fprintf(out, "no finetuned point is done yet, so there is nothing to fit\n");
        return;
    }
    print_table(analysis, out);
    for (size_t i = 0; verbose && i < analysis->fit_count; i++) {
        if (!i || !analysis_same_view(&analysis->fits[i - 1], &analysis->fits[i])) print_view(&analysis->fits[i], out);
        print_fit(&analysis->fits[i], out);
    }
}
