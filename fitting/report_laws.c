/* Fitting: the report's tables of laws: every law of every view with its parameters, and why some are not identified.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fitting/analysis_internal.h"
#include "fitting/html.h"
#include "fitting/html_table.h"
#include "fitting/report_internal.h"

enum { PARAMETER_COLUMNS = 10, FIXED = 4, REASONS = 60 };
static const char *const columns[PARAMETER_COLUMNS] = {"A", "alpha", "G", "gamma", "F", "tau", "B", "S", "beta", "E"};
static const char *const symbols[PARAMETER_COLUMNS] = {"A", "α", "G", "γ", "F", "τ", "B", "S", "β", "E"};

static size_t parameter_of(const struct law *law, const char *name)
{
    for (size_t i = 0; i < law->parameter_count; i++)
        if (!strcmp(law->parameters[i].name, name)) return i;
    return SIZE_MAX;
}

static void parameter_cell(struct html_table *table, const struct analysis_fit *fit, size_t i)
{
    char text[2][32];
    if (i == SIZE_MAX) {
        html_cell(table, "");
        return;
    }
    const struct interval *interval = &fit->intervals.raw[i];
    if (!interval->identified) {
        html_cell_begin(table, "n", 1);
        fputs("<abbr title=\"not identified: ", table->out);
        html_text(table->out, interval->reason);
        fputs("\">?</abbr>", table->out);
        html_cell_end(table);
        return;
    }
    html_cell_begin(table, "n", 1);
    fprintf(table->out, "%.3g", near_zero(law_parameter_value(&fit->law, fit->fit.theta, i)));
    if (!isnan(interval->low))
        fprintf(table->out, "<small>%s … %s</small>", html_rough(near_zero(interval->low), text[0], sizeof text[0]),
                html_rough(near_zero(interval->high), text[1], sizeof text[1]));
    html_cell_end(table);
}

static void heldout_cell(struct html_table *table, const struct heldout *heldout)
{
    if (heldout->kind == HELDOUT_NONE) {
        html_cell(table, "");
        return;
    }
    html_cell_begin(table, "n", 1);
    fprintf(table->out, "%.3g<small>%zu point%s%s</small>", heldout->error, heldout->points,
            heldout->points == 1 ? "" : "s", heldout->kind == HELDOUT_LEVELS ? ", levels" : "");
    html_cell_end(table);
}

static void name_cells(struct html_table *table, const struct analysis_fit *fit, bool best)
{
    char text[32];
    html_cell_begin(table, NULL, 1);
    html_text(table->out, fit->group);
    if (!isnan(fit->parameters))
        fprintf(table->out, "<small>model size %s</small>", html_count_short(fit->parameters, text, sizeof text));
    if (!isnan(fit->pretrain_tokens))
        fprintf(table->out, "<small>%s pretraining tokens</small>",
                html_count_short(fit->pretrain_tokens, text, sizeof text));
    html_cell_end(table);
    html_cell_begin(table, NULL, 1);
    html_text(table->out, fit->law.name);
    if (best) fputs(" ★", table->out);
    fputs("<small>", table->out);
    html_formula(table->out, fit->formula);
    fputs("</small>", table->out);
    if (fit->ignored_axis) fprintf(table->out, "<small>without %s: too few levels</small>", fit->ignored_axis);
    html_cell_end(table);
    html_number(table, "%.0f", (double)fit->fitted_count);
}

static void law_row(const struct analysis *analysis, size_t index, const bool used[PARAMETER_COLUMNS],
                    struct html_table *table)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    bool best = analysis_best(analysis, index) == index;
    html_row(table, best ? "best" : NULL);
    name_cells(table, fit, best);
    if (!fit->fitted) {
        html_cell_begin(table, "why", table->count - table->next);
        fputs("not fitted: ", table->out);
        html_text(table->out, fit->why);
        html_cell_end(table);
    } else {
        for (size_t c = 0; c < PARAMETER_COLUMNS; c++)
            if (used[c]) parameter_cell(table, fit, parameter_of(&fit->law, columns[c]));
        heldout_cell(table, &fit->heldout);
    }
    html_row_end(table);
}

static void law_table(const struct report *report, enum view_kind view, const char *caption)
{
    const struct analysis *analysis = report->analysis;
    bool used[PARAMETER_COLUMNS] = {false};
    struct html_column heads[PARAMETER_COLUMNS + FIXED] = {{"method", false}, {"law", false}, {"points", true}};
    size_t rows = 0, count = FIXED - 1;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        if (analysis->fits[i].view != view) continue;
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
        if (analysis->fits[i].view == view) law_row(analysis, i, used, &table);
    html_table_end(&table);
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
    if (listed) fprintf(out, "</ul>%s</details>\n", listed == REASONS ? "<p>All are in fit.json.</p>" : "");
}

void report_laws(const struct report *report)
{
    const struct analysis *analysis = report->analysis;
    if (!analysis->fit_count) {
        fputs("<p>No finetuned point is done yet, so there is nothing to fit.</p>\n", report->out);
        return;
    }
    fprintf(report->out,
            "<p>L is the loss in nats per target token, N model size (%s), P pretraining tokens, T PET size, D "
            "finetuning examples. Fits minimise a sum of Huber losses (threshold %g) on %s. Below each value its %g %% "
            "interval over %zu resamples of pretraining runs and points. Held-out error: mean absolute deviation of "
            "the loss on points that the fit has not seen; ★ the better law of a view by this error. ?: these points "
            "do not identify the parameter; the reasons are below the tables.</p>\n",
            analysis->observations.x_name, analysis->options.delta, analysis->options.log_residuals ? "log L" : "L",
            100 * analysis->options.level, analysis->options.resamples);
    law_table(report, VIEW_JOINT, "All points of a method");
    law_table(report, VIEW_MODEL, "Model size and finetuning examples, at one pretraining count");
    law_table(report, VIEW_PRETRAIN, "Pretraining tokens and finetuning examples, at one model size");
    law_table(report, VIEW_PET, "Size of the method and finetuning examples, at one model and pretraining count");
    law_table(report, VIEW_EXAMPLES, "Finetuning examples alone");
    write_reasons(report);
}
