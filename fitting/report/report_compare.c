/* Fitting: the report's comparisons: best cells, powers of the three axes, where methods meet, what was forgotten. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fitting/analysis/analysis_internal.h"
#include "fitting/report/html.h"
#include "fitting/report/html_table.h"
#include "fitting/report/report_internal.h"

enum { LISTED_CELLS = 200, LISTED_CROSSINGS = 200 };
#define COLUMNS(columns) columns, sizeof columns / sizeof *columns

struct report_untuned report_untuned(const struct observations *observations, const struct observation *row)
{
    struct report_untuned mean = {0};
    size_t count = 0;
    for (size_t i = 0; i < observations->base_count; i++) {
        const struct observation *base = &observations->base[i];
        if (base->parameters != row->parameters || base->pretrain_tokens != row->pretrain_tokens ||
            strcmp(base->task, row->task))
            continue;
        mean.loss += base->loss;
        mean.pretrain_loss += base->pretrain_loss;
        for (size_t score = 0; score < OBSERVATION_SCORES; score++)
            mean.scores[score] += base->scores[score];
        count++;
    }
    const double points = count ? (double)count : NAN; /* none: not a number, and so are the means */
    mean.loss /= points;
    mean.pretrain_loss /= points;
    for (size_t score = 0; score < OBSERVATION_SCORES; score++)
        mean.scores[score] /= points;
    return mean;
}

void report_method_cell(const struct report *report, struct html_table *table, const char *task, const char *method)
{
    char label[OBSERVATION_LABEL];
    html_cell(table, observations_label(&report->analysis->observations, task, method, label));
}

/* Rows are in order of method, PET size, model size: the end of those that agree with `first`. */
size_t report_end_of_cells(const struct observations *observations, size_t first)
{
    const struct observation *row = &observations->rows[first];
    size_t end = first + 1;
    while (end < observations->count && !strcmp(observations->rows[end].method, row->method) &&
           !strcmp(observations->rows[end].task, row->task) && observations->rows[end].pet_size == row->pet_size &&
           observations->rows[end].parameters == row->parameters)
        end++;
    return end;
}

void report_best_cells(const struct report *report)
{
    static const struct html_column columns[] = {
        {"method", false},  {"PET size", true},  {"model size", true}, {"pretraining tokens", true},
        {"examples", true}, {"best loss", true}, {"untuned", true},    {"gain", true}};
    const struct observations *observations = &report->analysis->observations;
    struct html_table table;
    html_table_begin(&table, report->out, "The best measured cell of each method and model size", COLUMNS(columns));
    for (size_t first = 0, end, listed = 0; first < observations->count && listed < LISTED_CELLS;
         first = end, listed++) {
        const struct observation *best = &observations->rows[first];
        end = report_end_of_cells(observations, first);
        for (size_t i = first; i < end; i++)
            if (observations->rows[i].loss < best->loss) best = &observations->rows[i];
        double untuned = report_untuned(observations, best).loss;
        html_row(&table, NULL);
        report_method_cell(report, &table, best->task, best->method);
        html_number(&table, "%g", best->pet_size > 0 ? best->pet_size : NAN);
        html_count_cell(&table, best->parameters);
        html_count_cell(&table, best->pretrain_tokens);
        html_count_cell(&table, best->examples);
        html_number(&table, "%.4f", best->loss);
        html_number(&table, "%.4f", untuned);
        html_number(&table, "%.4f", untuned - best->loss);
        html_row_end(&table);
    }
    html_table_end(&table);
}

static void staged_cell(struct html_table *table, const struct staged_parameter *parameter)
{
    char text[2][32];
    if (isnan(parameter->value)) {
        html_cell(table, "");
        return;
    }
    html_cell_begin(table, "n", 1);
    if (parameter->identified) {
        fprintf(table->out, "%.3g", near_zero(parameter->value));
    } else {
        fputs("<abbr title=\"not identified: ", table->out);
        html_text(table->out, parameter->reason);
        fputs("\">?</abbr>", table->out);
    }
    if (parameter->identified && !isnan(parameter->low))
        fprintf(table->out, "<small>%s … %s</small>", html_rough(near_zero(parameter->low), text[0], sizeof text[0]),
                html_rough(near_zero(parameter->high), text[1], sizeof text[1]));
    html_cell_end(table);
}

bool report_has_powers(const struct report *report)
{
    for (size_t i = 0; i < report->analysis->staged_count; i++)
        if (report->analysis->staged[i].fitted) return true;
    return false;
}

void report_powers(const struct report *report)
{
    static const struct html_column columns[] = {{"method", false},    {"α model size", true}, {"α pretraining", true},
                                                 {"α PET size", true}, {"β examples", true},   {"E", true}};
    struct html_table table;
    html_table_begin(&table, report->out, NULL, COLUMNS(columns));
    for (size_t i = 0; i < report->analysis->staged_count; i++) {
        const struct analysis_staged *entry = &report->analysis->staged[i];
        if (!entry->fitted) continue;
        html_row(&table, NULL);
        report_method_cell(report, &table, entry->task, entry->method);
        for (size_t k = 0; k < STAGED_AXES; k++)
            staged_cell(&table, &entry->staged.alpha[k]);
        staged_cell(&table, &entry->staged.beta);
        staged_cell(&table, &entry->staged.offset);
        html_row_end(&table);
    }
    html_table_end(&table);
}

static void roots_cell(struct html_table *table, const struct analysis_crossing *crossing)
{
    char text[3][32];
    html_cell_begin(table, NULL, 1);
    for (size_t k = 0; k < crossing->count; k++) {
        bool some = crossing->roots[k] >= 1;
        fprintf(table->out, "%s%s%s", k ? ", " : "",
                some ? html_count_short(crossing->roots[k], text[0], sizeof text[0]) : "below 1",
                analysis_crossing_identified(crossing, k) ? "" : "?");
        if (some && !isnan(crossing->low[k]))
            fprintf(table->out, " (%s … %s)", html_count_short(crossing->low[k], text[1], sizeof text[1]),
                    html_count_short(crossing->high[k], text[2], sizeof text[2]));
    }
    if (!crossing->count) fputs("never", table->out);
    html_cell_end(table);
}

void report_crossings(const struct report *report)
{
    static const struct html_column columns[] = {
        {"methods", false}, {"model size", true}, {"examples at equal loss", false}, {"resamples that agree", true}};
    const struct analysis *analysis = report->analysis;
    char text[2][32];
    if (!analysis->crossing_count) return;
    fprintf(report->out,
            "<p>Numbers of examples at which the laws of two methods give the same loss, looked for between %s and %s, "
            "with intervals over the resamples that have as many meetings (?: fewer than half of them have, or the "
            "interval does "
            "not hold the number: not identified by these points). <code>tunelaw advise</code> answers for any "
            "model size, number of examples and budget.</p>\n",
            html_count(analysis->crossings[0].range[0], text[0], sizeof text[0]),
            html_count(analysis->crossings[0].range[1], text[1], sizeof text[1]));
    struct html_table table;
    html_table_begin(&table, report->out, "Where two methods meet", COLUMNS(columns));
    for (size_t i = 0; i < analysis->crossing_count && i < LISTED_CROSSINGS; i++) {
        const struct analysis_crossing *crossing = &analysis->crossings[i];
        html_row(&table, NULL);
        html_cell_begin(&table, NULL, 1);
        html_text(report->out, analysis->fits[crossing->first].group);
        fputs(" and ", report->out);
        html_text(report->out, analysis->fits[crossing->second].group);
        html_cell_end(&table);
        html_count_cell(&table, crossing->parameters);
        roots_cell(&table, crossing);
        html_number(&table, "%.0f %%", 100 * crossing->agreement);
        html_row_end(&table);
    }
    html_table_end(&table);
    if (analysis->crossing_count > LISTED_CROSSINGS)
        fprintf(report->out, "<p>The first %d of %zu; %s.</p>\n", LISTED_CROSSINGS, analysis->crossing_count,
                report_rest(report));
}

static double forgotten(const struct observations *observations, const struct observation *row)
{
    return row->pretrain_loss - report_untuned(observations, row).pretrain_loss;
}

bool report_has_forgetting(const struct report *report)
{
    const struct observations *observations = &report->analysis->observations;
    for (size_t i = 0; i < observations->count; i++)
        if (!isnan(forgotten(observations, &observations->rows[i]))) return true;
    return false;
}

void report_forgetting(const struct report *report)
{
    static const struct html_column columns[] = {{"method", false},       {"PET size", true}, {"model size", true},
                                                 {"points", true},        {"before", true},   {"after, mean", true},
                                                 {"most forgotten", true}};
    const struct observations *observations = &report->analysis->observations;
    struct html_table table;
    html_table_begin(&table, report->out,
                     "Loss on the pretraining text before and after finetuning, nats per token, and the largest rise",
                     COLUMNS(columns));
    for (size_t first = 0, end, listed = 0; first < observations->count && listed < LISTED_CELLS; first = end) {
        const struct observation *row = &observations->rows[first];
        double before = 0, after = 0, worst = -INFINITY;
        size_t known = 0;
        end = report_end_of_cells(observations, first);
        for (size_t i = first; i < end; i++) {
            double rise = forgotten(observations, &observations->rows[i]);
            if (isnan(rise)) continue;
            after += observations->rows[i].pretrain_loss;
            before += observations->rows[i].pretrain_loss - rise;
            worst = fmax(worst, rise);
            known++;
        }
        if (!known) continue;
        listed++;
        html_row(&table, NULL);
        report_method_cell(report, &table, row->task, row->method);
        html_number(&table, "%g", row->pet_size > 0 ? row->pet_size : NAN);
        html_count_cell(&table, row->parameters);
        html_number(&table, "%.0f", (double)known);
        html_number(&table, "%.3f", before / (double)known);
        html_number(&table, "%.3f", after / (double)known);
        html_number(&table, "%+.3f", worst);
        html_row_end(&table);
    }
    html_table_end(&table);
}
