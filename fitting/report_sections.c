/* Fitting: the report's tables. Everything that comes from a store goes through html_text. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fitting/html.h"
#include "fitting/report_internal.h"

enum { LISTED_POINTS = 5000, LISTED_LEFT_OUT = 500 };

static void cell(FILE *out, const char *text)
{
    fputs("<td>", out);
    html_text(out, text);
    fputs("</td>", out);
}

static void number(FILE *out, const char *format, double value)
{
    char text[64] = "";
    if (!isnan(value)) snprintf(text, sizeof text, format, value);
    fprintf(out, "<td class=\"n\">%s</td>", text);
}

static void count_cell(FILE *out, double value)
{
    char text[32] = "";
    fprintf(out, "<td class=\"n\">%s</td>", value > 0 ? html_count(value, text, sizeof text) : "");
}

static void fact(FILE *out, size_t value, const char *what)
{
    fprintf(out, "<li><b>%zu</b>%s</li>\n", value, what);
}

/* Distinct values of a field over every point of the store, as a list. */
static void axis_values(const struct analysis *analysis, const char *name, size_t offset, FILE *out)
{
    enum { SHOWN = 40 };
    const struct observations *observations = &analysis->observations;
    double values[SHOWN];
    size_t count = 0, all = observations->count + observations->omitted_count;
    for (size_t i = 0; i < all; i++) {
        const struct observation *row =
            i < observations->count ? &observations->rows[i] : &observations->omitted[i - observations->count].point;
        double value;
        memcpy(&value, (const char *)row + offset, sizeof value);
        size_t place = 0;
        while (place < count && values[place] < value)
            place++;
        if (value <= 0 || (place < count && values[place] == value) || count == SHOWN) continue;
        memmove(&values[place + 1], &values[place], (count - place) * sizeof *values);
        values[place] = value;
        count++;
    }
    if (!count) return;
    fprintf(out, "<tr><th>%s</th><td class=\"w\">", name);
    for (size_t i = 0; i < count; i++) {
        char text[32];
        fprintf(out, "%s%s", i ? ", " : "", html_count(values[i], text, sizeof text));
    }
    fputs("</td></tr>\n", out);
}

static void methods_row(const struct observations *observations, FILE *out)
{
    fputs("<tr><th>methods</th><td class=\"w\">", out);
    for (size_t i = 0, listed = 0; i < observations->count; i++) {
        if (i && !strcmp(observations->rows[i - 1].method, observations->rows[i].method)) continue;
        if (listed++) fputs(", ", out);
        html_text(out, observations->rows[i].method);
    }
    if (observations->base_count) fputs("; untuned", out);
    fputs("</td></tr>\n", out);
}

void report_overview(const struct analysis *analysis, FILE *out)
{
    const struct observations *observations = &analysis->observations;
    size_t held_out = 0;
    for (size_t i = 0; i < observations->count; i++)
        held_out += observations->rows[i].held_out;
    fputs("<h1>", out);
    html_text(out, observations->name);
    fputs(": finetuning scaling laws</h1>\n<ul class=\"facts\">\n", out);
    fact(out, observations->points, "points in the sweep");
    fact(out, observations->count - held_out, "finetuned, fitted");
    fact(out, held_out, "finetuned, held out");
    fact(out, observations->base_count, "untuned");
    fact(out, observations->omitted_by[OMITTED_UNFINISHED], "not finished");
    fact(out,
         observations->omitted_by[OMITTED_FAILED] + observations->omitted_by[OMITTED_DIVERGED] +
             observations->omitted_by[OMITTED_DAMAGED],
         "failed or diverged");
    fputs("</ul>\n<div class=\"box\"><table>\n", out);
    methods_row(observations, out);
    axis_values(analysis, "model sizes (parameters)", offsetof(struct observation, parameters), out);
    axis_values(analysis, "pretraining tokens", offsetof(struct observation, pretrain_tokens), out);
    axis_values(analysis, "PET sizes", offsetof(struct observation, pet_size), out);
    axis_values(analysis, "finetuning examples", offsetof(struct observation, examples), out);
    axis_values(analysis, "learning rates", offsetof(struct observation, learning_rate), out);
    fputs("</table></div>\n", out);
}

static const char *const columns[] = {"A", "alpha", "G", "gamma", "F", "tau", "B", "S", "beta", "E"};
static const char *const symbols[] = {"A", "α", "G", "γ", "F", "τ", "B", "S", "β", "E"};
enum { COLUMNS = sizeof columns / sizeof *columns };

static size_t parameter_of(const struct law *law, const char *name)
{
    for (size_t i = 0; i < law->parameter_count; i++)
        if (!strcmp(law->parameters[i].name, name)) return i;
    return SIZE_MAX;
}

static void parameter_cell(const struct analysis_fit *fit, size_t i, FILE *out)
{
    if (i == SIZE_MAX) {
        fputs("<td></td>", out);
        return;
    }
    const struct interval *interval = &fit->intervals.raw[i];
    double value = law_parameter_value(&fit->law, fit->fit.theta, i);
    if (interval->identified)
        fprintf(out, "<td class=\"n\">%.4g", value);
    else
        fprintf(out, "<td class=\"unknown\">not identified<small>%s</small>", interval->reason);
    if (interval->identified && !isnan(interval->low))
        fprintf(out, "<small>%.3g … %.3g</small>", interval->low, interval->high);
    fputs("</td>", out);
}

static void law_row(const struct analysis *analysis, size_t index, const bool used[COLUMNS], FILE *out)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    char text[32];
    fputs(analysis_best(analysis, index) == index ? "<tr class=\"best\">" : "<tr>", out);
    fputs("<td>", out);
    html_text(out, fit->group);
    if (!isnan(fit->parameters))
        fprintf(out, "<small>model size %s</small>", html_count(fit->parameters, text, sizeof text));
    if (!isnan(fit->pretrain_tokens))
        fprintf(out, "<small>%s pretraining tokens</small>", html_count(fit->pretrain_tokens, text, sizeof text));
    fprintf(out, "</td><td>%s<small>", fit->law.name);
    html_formula(out, fit->formula);
    fputs("</small>", out);
    if (fit->ignored_axis) fprintf(out, "<small>without %s: too few levels</small>", fit->ignored_axis);
    fprintf(out, "</td><td class=\"n\">%zu</td>", fit->fitted_count);
    if (!fit->fitted) {
        size_t span = 1;
        for (size_t c = 0; c < COLUMNS; c++)
            span += used[c];
        fprintf(out, "<td class=\"unknown\" colspan=\"%zu\">not fitted: ", span);
        html_text(out, fit->why);
        fputs("</td></tr>\n", out);
        return;
    }
    for (size_t c = 0; c < COLUMNS; c++)
        if (used[c]) parameter_cell(fit, parameter_of(&fit->law, columns[c]), out);
    if (fit->heldout.kind == HELDOUT_NONE)
        fputs("<td></td></tr>\n", out);
    else
        fprintf(out, "<td class=\"n\">%.4g<small>%zu point%s%s</small></td></tr>\n", fit->heldout.error,
                fit->heldout.points, fit->heldout.points == 1 ? "" : "s",
                fit->heldout.kind == HELDOUT_LEVELS ? ", levels left out" : "");
}

static void law_table(const struct analysis *analysis, enum view_kind view, const char *caption, FILE *out)
{
    bool used[COLUMNS] = {false};
    size_t rows = 0;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        if (analysis->fits[i].view != view) continue;
        rows++;
        for (size_t c = 0; c < COLUMNS; c++)
            used[c] = used[c] || parameter_of(&analysis->fits[i].law, columns[c]) != SIZE_MAX;
    }
    if (!rows) return;
    fprintf(
        out,
        "<div class=\"box\"><table>\n<caption>%s</caption>\n<tr><th>method</th><th>law</th><th class=\"n\">points</th>",
        caption);
    for (size_t c = 0; c < COLUMNS; c++)
        if (used[c]) fprintf(out, "<th class=\"n\">%s</th>", symbols[c]);
    fputs("<th class=\"n\">held-out error</th></tr>\n", out);
    for (size_t i = 0; i < analysis->fit_count; i++)
        if (analysis->fits[i].view == view) law_row(analysis, i, used, out);
    fputs("</table></div>\n", out);
}

void report_laws(const struct analysis *analysis, FILE *out)
{
    fputs("<h2>Laws</h2>\n", out);
    if (!analysis->fit_count) {
        fputs("<p>No finetuned point is done yet, so there is nothing to fit.</p>\n", out);
        return;
    }
    fprintf(
        out,
        "<p>L is the test loss in nats per target token, N model size (%s), P pretraining tokens, T PET size, D "
        "finetuning examples. "
        "Fit: sum of Huber losses, threshold %g, on %s. Small print: %g %% intervals from %zu resamples of trunks and "
        "points. "
        "Held-out error: mean absolute deviation of the loss; bold where a law is the better one of its view.</p>\n",
        analysis->observations.x_name, analysis->options.delta, analysis->options.log_residuals ? "log L" : "L",
        100 * analysis->options.level, analysis->options.resamples);
    law_table(analysis, VIEW_JOINT, "All points of a method", out);
    law_table(analysis, VIEW_MODEL, "Model size and finetuning examples, at one pretraining count", out);
    law_table(analysis, VIEW_PRETRAIN, "Pretraining tokens and finetuning examples, at one model size", out);
    law_table(analysis, VIEW_EXAMPLES, "Finetuning examples alone", out);
}

/* Mean loss of the untuned model of a row, NAN where it was not evaluated. */
static double untuned_loss(const struct observations *observations, const struct observation *row)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < observations->base_count; i++)
        if (observations->base[i].parameters == row->parameters &&
            observations->base[i].pretrain_tokens == row->pretrain_tokens) {
            sum += observations->base[i].loss;
            count++;
        }
    return count ? sum / (double)count : NAN;
}

void report_methods(const struct analysis *analysis, FILE *out)
{
    const struct observations *observations = &analysis->observations;
    if (!observations->count) return;
    fputs("<div class=\"box\"><table>\n<caption>The best cell of each method and model "
          "size</caption>\n<tr><th>method</th><th class=\"n\">PET size</th>"
          "<th class=\"n\">model size</th><th class=\"n\">pretraining tokens</th><th class=\"n\">examples</th><th "
          "class=\"n\">best loss</th>"
          "<th class=\"n\">untuned</th><th class=\"n\">gain</th></tr>\n",
          out);
    for (size_t first = 0, end; first < observations->count;
         first = end) { /* rows are in order of method, PET size, model size */
        const struct observation *best = &observations->rows[first];
        for (end = first;
             end < observations->count && !strcmp(observations->rows[end].method, observations->rows[first].method) &&
             observations->rows[end].pet_size == observations->rows[first].pet_size &&
             observations->rows[end].parameters == observations->rows[first].parameters;
             end++)
            if (observations->rows[end].loss < best->loss) best = &observations->rows[end];
        double base = untuned_loss(observations, best);
        fputs("<tr>", out);
        cell(out, best->method);
        number(out, "%g", best->pet_size > 0 ? best->pet_size : NAN);
        count_cell(out, best->parameters);
        count_cell(out, best->pretrain_tokens);
        count_cell(out, best->examples);
        number(out, "%.4f", best->loss);
        number(out, "%.4f", base);
        number(out, "%+.4f", base - best->loss);
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

void report_heldout(const struct analysis *analysis, FILE *out)
{
    bool any = false;
    for (size_t f = 0; f < analysis->fit_count; f++)
        any = any || (analysis->fits[f].fitted && analysis->fits[f].heldout_count);
    fputs("<h2>Held-out points</h2>\n", out);
    if (!any) {
        fputs("<p>The sweep file holds no cells out, or none is done: held-out errors above are of levels left out in "
              "turn.</p>\n",
              out);
        return;
    }
    fputs("<div class=\"box\"><table>\n<tr><th>method</th><th>view</th><th>law</th><th class=\"n\">model size</th><th "
          "class=\"n\">pretraining tokens</th>"
          "<th class=\"n\">examples</th><th class=\"n\">observed</th><th class=\"n\">predicted</th><th "
          "class=\"n\">difference</th></tr>\n",
          out);
    for (size_t f = 0; f < analysis->fit_count; f++) {
        const struct analysis_fit *fit = &analysis->fits[f];
        for (size_t i = 0; fit->fitted && i < fit->heldout_count; i++) {
            const struct observation *row = &analysis->observations.rows[fit->rows[fit->fitted_count + i]];
            double predicted = analysis_predict(fit, row);
            fputs("<tr>", out);
            cell(out, fit->group);
            cell(out, view_name(fit->view));
            cell(out, fit->law.name);
            count_cell(out, row->parameters);
            count_cell(out, row->pretrain_tokens);
            count_cell(out, row->examples);
            number(out, "%.4f", row->loss);
            number(out, "%.4f", predicted);
            number(out, "%+.4f", row->loss - predicted);
            fputs("</tr>\n", out);
        }
    }
    fputs("</table></div>\n", out);
}

void report_left_out(const struct analysis *analysis, FILE *out)
{
    const struct observations *observations = &analysis->observations;
    fputs("<h2>Left out</h2>\n", out);
    if (!observations->omitted_count) {
        fputs("<p>Nothing: every point of the sweep is done and used.</p>\n", out);
        return;
    }
    fputs("<ul>\n", out);
    for (size_t why = 0; why < OMISSIONS; why++)
        if (observations->omitted_by[why])
            fprintf(out, "<li>%zu: %s</li>\n", observations->omitted_by[why], omission_name((enum omission)why));
    fputs("</ul>\n<div class=\"box\"><table>\n<tr><th>point</th><th>why</th><th>method</th><th class=\"n\">PET "
          "size</th><th>model</th>"
          "<th class=\"n\">pretraining tokens</th><th class=\"n\">examples</th><th class=\"n\">learning rate</th><th "
          "class=\"n\">seed</th><th>message</th></tr>\n",
          out);
    size_t listed = 0, more = 0;
    for (size_t i = 0; i < observations->omitted_count; i++) {
        const struct observation_omitted *entry = &observations->omitted[i];
        if (entry->why == OMITTED_RATE) continue; /* measured, and in fit.json */
        if (listed++ >= LISTED_LEFT_OUT) {
            more++;
            continue;
        }
        char identity[9];
        snprintf(identity, sizeof identity, "%.8s", entry->point.identity);
        fputs("<tr>", out);
        cell(out, identity);
        cell(out, entry->status);
        cell(out, entry->point.method);
        number(out, "%g", entry->point.pet_size > 0 ? entry->point.pet_size : NAN);
        cell(out, entry->point.model);
        count_cell(out, entry->point.pretrain_tokens);
        count_cell(out, entry->point.examples);
        number(out, "%g", entry->point.learning_rate);
        fprintf(out, "<td class=\"n\">%llu</td>", (unsigned long long)entry->point.seed);
        fputs("<td class=\"w\">", out);
        html_text(out, entry->message);
        fputs("</td></tr>\n", out);
    }
    fputs("</table></div>\n", out);
    if (more) fprintf(out, "<p>And %zu more, in fit.json.</p>\n", more);
}

static void point_row(const struct analysis *analysis, const struct observation *row, const struct analysis_fit *fit,
                      FILE *out)
{
    char identity[9];
    double predicted = fit ? analysis_predict(fit, row) : NAN;
    snprintf(identity, sizeof identity, "%.8s", row->identity);
    fputs("<tr>", out);
    cell(out, identity);
    cell(out, row->method);
    number(out, "%g", row->pet_size > 0 ? row->pet_size : NAN);
    cell(out, row->model);
    count_cell(out, row->parameters);
    count_cell(out, row->pretrain_tokens);
    count_cell(out, row->examples);
    number(out, "%g", row->learning_rate > 0 ? row->learning_rate : NAN);
    fprintf(out, "<td class=\"n\">%llu</td>", (unsigned long long)row->seed);
    number(out, "%.5f", row->loss);
    number(out, "%.5f", predicted);
    number(out, "%+.5f", row->loss - predicted);
    cell(out, row->held_out ? "held out" : "");
    fputs("</tr>\n", out);
    (void)analysis;
}

void report_points(const struct analysis *analysis, FILE *out)
{
    const struct observations *observations = &analysis->observations;
    size_t all = observations->base_count + observations->count;
    fprintf(out,
            "<h2>Points</h2>\n<details><summary>%zu measured losses, with the prediction of the widest law that was "
            "fitted to them</summary>\n"
            "<div class=\"box\"><table>\n<tr><th>point</th><th>method</th><th class=\"n\">PET "
            "size</th><th>model</th><th class=\"n\">parameters</th>"
            "<th class=\"n\">pretraining tokens</th><th class=\"n\">examples</th><th class=\"n\">learning rate</th><th "
            "class=\"n\">seed</th>"
            "<th class=\"n\">loss</th><th class=\"n\">predicted</th><th class=\"n\">difference</th><th></th></tr>\n",
            all);
    for (size_t i = 0; i < all && i < LISTED_POINTS; i++) {
        if (i < observations->base_count) {
            point_row(analysis, &observations->base[i], NULL, out);
            continue;
        }
        size_t row = i - observations->base_count, fit = plots_predicting_fit(analysis, row);
        point_row(analysis, &observations->rows[row], fit == SIZE_MAX ? NULL : &analysis->fits[fit], out);
    }
    fputs("</table></div></details>\n", out);
    if (all > LISTED_POINTS) fprintf(out, "<p>The first %d of %zu; all are in fit.json.</p>\n", LISTED_POINTS, all);
}
