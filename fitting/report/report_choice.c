/* Fitting: which law holds: the report's tables of the laws of each view side by side, and of their mean errors. */
#include <math.h>
#include <stdint.h>

#include "fitting/report/html.h"
#include "fitting/report/html_table.h"
#include "fitting/report/report_internal.h"

#define COLUMNS(columns) columns, sizeof columns / sizeof *columns

static void bound_cell(struct html_table *table, double value, bool beyond)
{
    html_number(table, beyond ? ">%.3g" : "%.3g", value);
}

static void error_cells(struct html_table *table, const struct heldout *error)
{
    bool beyond = false;
    double told = error ? heldout_told(error, &beyond) : NAN;
    bound_cell(table, told, beyond);
    html_number(table, "%.0f", error ? (double)error->points : NAN);
}

static void view_rows(const struct analysis *analysis, const struct analysis_choice *choice, struct html_table *table)
{
    for (size_t i = 0; i < choice->count; i++) {
        const struct analysis_fit *fit = &analysis->fits[choice->first + i];
        const struct heldout *cells = analysis_error(fit, true), *levels = analysis_error(fit, false);
        bool best = choice->best == choice->first + i;
        if (!fit->fitted) continue;
        html_row(table, NULL);
        html_cell(table, fit->group);
        html_cell(table, view_name(fit->view));
        html_cell_begin(table, NULL, 1);
        html_text(table->out, fit->law.name);
        if (best) fputs(" ★", table->out);
        html_cell_end(table);
        error_cells(table, cells);
        error_cells(table, levels);
        html_number(table, "%.3g", cells || levels ? (cells ? cells : levels)->constant_error : NAN);
        html_number(table, "%.1f", choice->akaike[i]);
        html_row_end(table);
    }
}

static void write_means(const struct report *report)
{
    static const struct html_column columns[] = {{"view", false}, {"law", false},   {"held-out cells", true},
                                                 {"views", true}, {"levels", true}, {"views", true}};
    struct analysis_mean means[VIEWS][ANALYSIS_LAWS];
    size_t counts[VIEWS], all = 0;
    for (size_t view = 0; view < VIEWS; view++)
        all += counts[view] = analysis_means(report->analysis, (enum view_kind)view, means[view]);
    if (!all) return;
    struct html_table table;
    html_table_begin(&table, report->out, "Mean error over the views of a kind in which every law was judged alike",
                     COLUMNS(columns));
    for (size_t view = 0; view < VIEWS; view++)
        for (size_t i = 0; i < counts[view]; i++) {
            html_row(&table, NULL);
            html_cell(&table, view_name((enum view_kind)view));
            html_cell(&table, means[view][i].law);
            for (size_t by = 0; by < 2; by++) {
                bound_cell(&table, means[view][i].error[by], means[view][i].beyond[by]);
                html_number(&table, "%.0f", means[view][i].views[by] > 1 ? (double)means[view][i].views[by] : NAN);
            }
            html_row_end(&table);
        }
    html_table_end(&table);
}

void report_choice(const struct report *report)
{
    static const struct html_column columns[] = {{"method", false},        {"view", false},    {"law", false},
                                                 {"held-out cells", true}, {"points", true},   {"levels", true},
                                                 {"points", true},         {"constant", true}, {"AICc", true}};
    const struct analysis *analysis = report->analysis;
    struct analysis_choice choice;
    struct html_table table;
    bool any = false;
    for (size_t first = 0, next; first < analysis->fit_count; first = next) {
        next = analysis_choose(analysis, first, &choice);
        if (choice.count < 2) continue;
        if (!any) {
            fputs("<h3>Which law holds</h3>\n<p>Mean absolute deviation of the loss on cells that the sweep file holds "
                  "out, and on levels of the axes left out in turn; of the best constant on the same points; AICc less "
                  "the least of the view. ★ the better law.</p>\n",
                  report->out);
            write_means(report);
            fputs("<details><summary>Every view</summary>\n", report->out);
            html_table_begin(&table, report->out, NULL, COLUMNS(columns));
        }
        any = true;
        view_rows(analysis, &choice, &table);
    }
    if (!any) return;
    html_table_end(&table);
    fputs("</details>\n", report->out);
}
