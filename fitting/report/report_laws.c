/* Fitting: the report's tables of laws: every law of every view with its parameters, and why some are not identified.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fitting/analysis/analysis_internal.h"
#include "fitting/report/html.h"
#include "fitting/report/html_table.h"
#include "fitting/report/report_internal.h"

enum { PARAMETER_COLUMNS = 10, FIXED = 4, REASONS = 60 };
static const char *const columns[PARAMETER_COLUMNS] = {"A", "alpha", "G", "gamma", "F", "tau", "B", "S", "beta", "E"};
static const char *const symbols[PARAMETER_COLUMNS] = {"A", "α", "G", "γ", "F", "τ", "B", "S", "β", "E"};

static size_t parameter_of(const struct law *law, const char *name)
{
    for (size_t i = 0; i < law->parameter_count; i++)
        if (!strcmp(law->parameters[i].name, name)) return i;
    return SIZE_MAX;
}

/* "[0.1 … 0.3]"; an open end is left out. */
static void write_profile(FILE *out, const struct span *profile)
{
    char text[2][32] = {"", ""};
    if (!profile->low_open) html_rough(near_zero(profile->low), text[0], sizeof text[0]);
    if (!profile->high_open) html_rough(near_zero(profile->high), text[1], sizeof text[1]);
    fprintf(out, "<small>[%s%s…%s%s]</small>", text[0], *text[0] ? " " : "", *text[1] ? " " : "", text[1]);
}

/* Value and intervals of parameter i, or ? with the reason. */
static void write_parameter(FILE *out, const struct analysis_fit *fit, bool both, size_t i)
{
    char text[2][32];
    const struct interval *interval = &fit->intervals.raw[i];
    if (!interval->identified) {
        fputs("<abbr title=\"not identified: ", out);
        html_text(out, interval->reason);
        fputs("\">?</abbr>", out);
        return;
    }
    fprintf(out, "%.3g", near_zero(law_parameter_value(&fit->law, fit->fit.theta, i)));
    if (!isnan(interval->low))
        fprintf(out, "<small>%s … %s</small>", html_rough(near_zero(interval->low), text[0], sizeof text[0]),
                html_rough(near_zero(interval->high), text[1], sizeof text[1]));
    if (both && !isnan(interval->profile.low)) write_profile(out, &interval->profile);
}

static void parameter_cell(struct html_table *table, const struct analysis_fit *fit, bool both, size_t i)
{
    if (i == SIZE_MAX) {
        html_cell(table, "");
        return;
    }
    html_cell_begin(table, "n", 1);
    write_parameter(table->out, fit, both, i);
    html_cell_end(table);
}

static void heldout_cell(struct html_table *table, const struct heldout *heldout)
{
    if (heldout->kind == HELDOUT_NONE) {
        html_cell(table, "");
        return;
    }
    bool beyond;
    double told = heldout_told(heldout, &beyond);
    html_cell_begin(table, "n", 1);
    fprintf(table->out, "%s%.3g<small>%zu point%s%s%s</small>", beyond ? "&gt;" : "", told, heldout->points,
            heldout->points == 1 ? "" : "s", heldout->kind == HELDOUT_LEVELS ? ", levels" : "",
            beyond ? "; does not extrapolate" : "");
    html_cell_end(table);
}

static void method_cell(struct html_table *table, const struct analysis_fit *fit)
{
    char text[32];
    html_cell_begin(table, fit->view == VIEW_JOINT ? "narrow" : NULL, 1);
    html_text(table->out, fit->group);
    if (!isnan(fit->parameters))
        fprintf(table->out, "<small>model size %s</small>", html_count_short(fit->parameters, text, sizeof text));
    if (!isnan(fit->pretrain_tokens))
        fprintf(table->out, "<small>%s pretraining tokens</small>",
                html_count_short(fit->pretrain_tokens, text, sizeof text));
    html_cell_end(table);
}

static void law_cell(struct html_table *table, const struct analysis_fit *fit, bool best)
{
    html_cell_begin(table, "law", 1);
    html_text(table->out, fit->law.name);
    if (best) fputs(" ★", table->out);
    fputs("<small>", table->out);
    html_formula(table->out, fit->formula);
    fputs("</small>", table->out);
    if (fit->ignored_axis) fprintf(table->out, "<small>without %s: too few levels</small>", fit->ignored_axis);
    html_cell_end(table);
}

static void why_cell(struct html_table *table, const struct analysis_fit *fit)
{
    html_cell_begin(table, "why", table->count - table->next);
    fputs("not fitted: ", table->out);
    html_text(table->out, fit->why);
    html_cell_end(table);
}

static void law_row(const struct analysis *analysis, size_t index, const bool used[PARAMETER_COLUMNS],
                    struct html_table *table)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    bool best = analysis_best(analysis, index) == index;
    html_row(table, best ? "best" : NULL);
    method_cell(table, fit);
    law_cell(table, fit, best);
    html_number(table, "%.0f", (double)fit->fitted_count);
    if (!fit->fitted) {
        why_cell(table, fit);
    } else {
        for (size_t c = 0; c < PARAMETER_COLUMNS; c++)
            if (used[c])
                parameter_cell(table, fit, analysis->options.intervals == INTERVAL_BOTH,
                               parameter_of(&fit->law, columns[c]));
        heldout_cell(table, &fit->heldout);
    }
    html_row_end(table);
}

static bool in_table(const struct analysis_fit *fit, enum view_kind view)
{
    return fit->view == view && !fit->law.user;
}

static void law_table(const struct report *report, enum view_kind view, const char *caption)
{
    const struct analysis *analysis = report->analysis;
    bool used[PARAMETER_COLUMNS] = {false};
    struct html_column heads[PARAMETER_COLUMNS + FIXED] = {{"method", false}, {"law", false}, {"points", true}};
    size_t rows = 0, count = FIXED - 1;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        if (!in_table(&analysis->fits[i], view)) continue;
        rows++;
        for (size_t c = 0; c < PARAMETER_COLUMNS; c++)
            used[c] = used[c] || parameter_of(&analysis->fits[i].law, columns[c]) != SIZE_MAX;
    }
    if (!rows) return;
    for (size_t c = 0; c < PARAMETER_COLUMNS; c++)
        if (used[c]) heads[count++] = (struct html_column){symbols[c], true};
    heads[count++] = (struct html_column){"held-out error", true};
    struct html_table table;
    html_table_begin(&table, report->out, caption, heads, count);
    for (size_t i = 0; i < analysis->fit_count; i++)
        if (in_table(&analysis->fits[i], view)) law_row(analysis, i, used, &table);
    html_table_end(&table);
}

static void own_law_row(const struct analysis *analysis, size_t index, struct html_table *table)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    html_row(table, NULL);
    method_cell(table, fit);
    html_cell_begin(table, NULL, 1);
    fprintf(table->out, "%s%s", view_name(fit->view), analysis_best(analysis, index) == index ? " ★" : "");
    html_cell_end(table);
    html_number(table, "%.0f", (double)fit->fitted_count);
    if (!fit->fitted) {
        why_cell(table, fit);
    } else {
        html_cell_begin(table, "w", 1);
        for (size_t p = 0; p < fit->law.parameter_count; p++) {
            fprintf(table->out, "<span class=\"own\">%s ", fit->law.parameters[p].symbol);
            write_parameter(table->out, fit, analysis->options.intervals == INTERVAL_BOTH, p);
            fputs("</span> ", table->out);
        }
        html_cell_end(table);
        heldout_cell(table, &fit->heldout);
    }
    html_row_end(table);
}

/* A law of the sweep file, in all its views: it has parameters of its own. */
static void own_law_table(const struct report *report, const struct law *law)
{
    static const struct html_column heads[] = {
        {"method", false}, {"view", false}, {"points", true}, {"parameters", false}, {"held-out error", true}};
    const struct analysis *analysis = report->analysis;
    char caption[LAW_FORMULA + 64];
    struct html_table table;
    snprintf(caption, sizeof caption, "%s: L = %s", law->name, law->user->expression.text);
    html_table_begin(&table, report->out, caption, heads, sizeof heads / sizeof *heads);
    for (size_t i = 0; i < analysis->fit_count; i++)
        if (analysis->fits[i].law.user == law->user) own_law_row(analysis, i, &table);
    html_table_end(&table);
}

static void own_law_tables(const struct report *report)
{
    const struct analysis *analysis = report->analysis;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        const struct law *law = &analysis->fits[i].law;
        bool known = !law->user;
        for (size_t j = 0; j < i && !known; j++)
            known = analysis->fits[j].law.user == law->user;
        if (!known) own_law_table(report, law);
    }
}

/* Why parameters are not identified, one line a law. */
static void write_reasons(const struct report *report)
{
    const struct analysis *analysis = report->analysis;
    FILE *out = report->out;
    size_t listed = 0;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        bool begun = false;
        for (size_t p = 0; fit->fitted && p < fit->law.parameter_count && listed < REASONS; p++) {
            if (fit->intervals.raw[p].identified) continue;
            if (!listed && !begun) fputs("<details><summary>Why parameters are not identified</summary>\n<ul>\n", out);
            if (!begun) {
                fputs("<li>", out);
                html_text(out, fit->group);
                fprintf(out, ", %s, %s: ", view_name(fit->view), fit->law.name);
            }
            fprintf(out, "%s%s, ", begun ? "; " : "", fit->law.parameters[p].symbol);
            html_text(out, fit->intervals.raw[p].reason);
            begun = true;
        }
        if (begun) fputs("</li>\n", out);
        listed += begun;
    }
    if (listed == REASONS) fprintf(out, "</ul><p>The first %d; %s.</p>", REASONS, report_rest(report));
    if (listed) fprintf(out, "%s</details>\n", listed == REASONS ? "" : "</ul>");
}

/* What the letters and numbers of the tables mean. */
static void write_terms(const struct report *report)
{
    const struct analysis *analysis = report->analysis;
    const struct analysis_options *options = &analysis->options;
    enum metric metric = analysis->observations.metric;
    FILE *out = report->out;
    fprintf(out,
            "<p>L is the %s%s%s, N model size (%s), P pretraining tokens, T PET size, D finetuning "
            "examples. Fits minimise a sum of %s residuals of %s.",
            metric_titles[metric], *metric_units[metric] ? " in " : "", metric_units[metric],
            analysis->observations.x_name,
            options->absolute       ? "absolute"
            : isinf(options->delta) ? "squared"
                                    : "Huber's",
            options->log_residuals ? "log L" : "L");
    if (!options->absolute && !isinf(options->delta)) fprintf(out, " Huber's threshold is %g.", options->delta);
    if (options->intervals == INTERVAL_PROFILE)
        fprintf(out, " Below each value stands its %g %% interval by profile likelihood.", 100 * options->level);
    else if (options->resamples)
        fprintf(out, " Below each value stands its %g %% interval over %zu resamples of %s%s.", 100 * options->level,
                options->resamples, cluster_name(options->resample),
                options->intervals == INTERVAL_BOTH ? ", then in brackets that by profile likelihood" : "");
    fprintf(out,
            " Held-out error: mean absolute deviation of the loss on points that the fit has not seen; ★ the better "
            "law of a view by this error; &gt;: more than %g times that of the best constant, the law does not "
            "extrapolate to these points. ?: these points do not identify the parameter; the reasons are below the "
            "tables.</p>\n",
            HELDOUT_BEYOND);
}

void report_laws(const struct report *report)
{
    const struct analysis *analysis = report->analysis;
    if (!analysis->fit_count) {
        fputs("<p>No finetuned point is done yet, so there is nothing to fit.</p>\n", report->out);
        return;
    }
    write_terms(report);
    law_table(report, VIEW_JOINT, "All points of a method");
    law_table(report, VIEW_MODEL, "Model size and finetuning examples, at one pretraining count");
    law_table(report, VIEW_PRETRAIN, "Pretraining tokens and finetuning examples, at one model size");
    law_table(report, VIEW_PET, "Size of the method and finetuning examples, at one model and pretraining count");
    law_table(report, VIEW_EXAMPLES, "Finetuning examples alone");
    own_law_tables(report);
    write_reasons(report);
}
