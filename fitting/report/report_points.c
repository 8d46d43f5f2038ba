/* Fitting: the report's lists of points: held out, left out, and all. Everything that comes from a store goes through
 * html_text. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/html_table.h"
#include "fitting/report/report_internal.h"

enum { LISTED_POINTS = 400, LISTED_LEFT_OUT = 200, LISTED_HELD_OUT = 200, LISTED_REASONS = 20 };
#define COLUMNS(columns) columns, sizeof columns / sizeof *columns

static void identity_cell(struct html_table *table, const char *identity)
{
    char text[9];
    snprintf(text, sizeof text, "%.8s", identity);
    html_cell(table, text);
}

static void heldout_row(const struct report *report, const struct analysis_fit *fit, size_t i, struct html_table *table)
{
    const struct observation *row = &report->analysis->observations.rows[fit->rows[fit->fitted_count + i]];
    double predicted = analysis_predict(fit, row);
    html_row(table, NULL);
    html_cell(table, fit->group);
    html_cell(table, view_name(fit->view));
    html_cell(table, fit->law.name);
    html_count_cell(table, row->parameters);
    html_count_cell(table, row->pretrain_tokens);
    html_count_cell(table, row->examples);
    html_number(table, "%.4f", row->loss);
    html_number(table, "%.4f", predicted);
    html_number(table, "%+.4f", row->loss - predicted);
    html_row_end(table);
}

void report_heldout(const struct report *report)
{
    static const struct html_column columns[] = {
        {"method", false},  {"view", false},    {"law", false},      {"model size", true}, {"pretraining tokens", true},
        {"examples", true}, {"observed", true}, {"predicted", true}, {"difference", true}};
    const struct analysis *analysis = report->analysis;
    size_t all = 0, listed = 0;
    for (size_t f = 0; f < analysis->fit_count; f++)
        if (analysis->fits[f].fitted) all += analysis->fits[f].heldout_count;
    if (!all) {
        fputs("<p>The sweep file holds no cells out, or none is done: held-out errors above are of levels left out in "
              "turn.</p>\n",
              report->out);
        return;
    }
    struct html_table table;
    html_table_begin(&table, report->out, "What each law says of the cells that no fit has seen", COLUMNS(columns));
    for (size_t f = 0; f < analysis->fit_count; f++) {
        const struct analysis_fit *fit = &analysis->fits[f];
        for (size_t i = 0; fit->fitted && i < fit->heldout_count && listed < LISTED_HELD_OUT; i++, listed++)
            heldout_row(report, fit, i, &table);
    }
    html_table_end(&table);
    if (all > listed) fprintf(report->out, "<p>The first %zu of %zu; %s.</p>\n", listed, all, report_rest(report));
}

/* One reason of failure: how many points it took. */
struct reason {
    const struct observation_omitted *first;
    size_t points;
};

/* Failures with the same status and message; those beyond the list are counted nowhere but in the list of points. */
static void write_reasons(const struct report *report)
{
    static const struct html_column columns[] = {{"status", false}, {"points", true}, {"message", false}};
    const struct observations *observations = &report->analysis->observations;
    struct reason reasons[LISTED_REASONS];
    size_t count = 0;
    for (size_t i = 0; i < observations->omitted_count; i++) {
        const struct observation_omitted *entry = &observations->omitted[i];
        if (entry->why != OMITTED_FAILED && entry->why != OMITTED_DAMAGED && !entry->message[0]) continue;
        size_t k = 0;
        while (k < count &&
               (strcmp(reasons[k].first->message, entry->message) || strcmp(reasons[k].first->status, entry->status)))
            k++;
        if (k == LISTED_REASONS) continue;
        if (k == count) reasons[count++] = (struct reason){entry, 0};
        reasons[k].points++;
    }
    if (!count) return;
    struct html_table table;
    html_table_begin(&table, report->out, "Reasons of failure", COLUMNS(columns));
    for (size_t k = 0; k < count; k++) {
        html_row(&table, NULL);
        html_cell(&table, reasons[k].first->status);
        html_number(&table, "%.0f", (double)reasons[k].points);
        html_cell_begin(&table, "w", 1);
        html_text(report->out, reasons[k].first->message[0] ? reasons[k].first->message : "no message");
        html_cell_end(&table);
        html_row_end(&table);
    }
    html_table_end(&table);
}

static void left_out_row(const struct report *report, const struct observation_omitted *entry, struct html_table *table)
{
    html_row(table, NULL);
    identity_cell(table, entry->point.identity);
    html_cell(table, entry->status);
    report_method_cell(report, table, entry->point.task, entry->point.method);
    html_number(table, "%g", entry->point.pet_size > 0 ? entry->point.pet_size : NAN);
    html_cell(table, entry->point.model);
    html_count_cell(table, entry->point.pretrain_tokens);
    html_count_cell(table, entry->point.examples);
    if (observation_is_tuned(&entry->point))
        html_cell(table, "of its reference cell");
    else
        html_number(table, "%g", entry->point.learning_rate > 0 ? entry->point.learning_rate : NAN);
    html_number(table, "%.0f", (double)entry->point.seed);
    html_cell_begin(table, "w", 1);
    html_text(table->out, entry->message);
    html_cell_end(table);
    html_row_end(table);
}

void report_left_out(const struct report *report)
{
    static const struct html_column columns[] = {{"point", false},   {"status", false},
                                                 {"method", false},  {"PET size", true},
                                                 {"model", false},   {"pretraining tokens", true},
                                                 {"examples", true}, {"learning rate", true},
                                                 {"seed", true},     {"message", false}};
    const struct observations *observations = &report->analysis->observations;
    FILE *out = report->out;
    if (!observations->omitted_count) {
        fputs("<p>Nothing: every point of the sweep is done and used.</p>\n", out);
        return;
    }
    fputs("<ul>\n", out);
    for (size_t why = 0; why < OMISSIONS; why++)
        if (observations->omitted_by[why])
            fprintf(out, "<li>%zu: %s</li>\n", observations->omitted_by[why], omission_name((enum omission)why));
    fputs("</ul>\n", out);
    write_reasons(report);
    size_t all = observations->omitted_count - observations->omitted_by[OMITTED_RATE], listed = 0;
    if (!all) return; /* other rates are measured, and in fit.json */
    struct html_table table;
    html_table_begin(&table, out, "Points that are in no fit", COLUMNS(columns));
    for (size_t i = 0; i < observations->omitted_count && listed < LISTED_LEFT_OUT; i++)
        if (observations->omitted[i].why != OMITTED_RATE) {
            left_out_row(report, &observations->omitted[i], &table);
            listed++;
        }
    html_table_end(&table);
    if (all > listed) fprintf(out, "<p>The first %zu of %zu; %s.</p>\n", listed, all, report_rest(report));
}

static void point_row(const struct report *report, const struct observation *row, const struct analysis_fit *fit,
                      struct html_table *table)
{
    double predicted = fit ? analysis_predict(fit, row) : NAN;
    html_row(table, NULL);
    identity_cell(table, row->identity);
    report_method_cell(report, table, row->task, row->method);
    html_number(table, "%g", row->pet_size > 0 ? row->pet_size : NAN);
    html_cell(table, row->model);
    html_count_cell(table, row->pretrain_tokens);
    html_count_cell(table, row->examples);
    html_number(table, "%g", row->learning_rate > 0 ? row->learning_rate : NAN);
    html_number(table, "%.0f", (double)row->seed);
    html_number(table, "%.4f", row->loss);
    html_number(table, "%.4f", predicted);
    html_number(table, "%+.4f", row->loss - predicted);
    html_cell(table, row->held_out ? "held out" : "");
    html_row_end(table);
}

void report_points(const struct report *report)
{
    static const struct html_column columns[] = {{"point", false},
                                                 {"method", false},
                                                 {"PET size", true},
                                                 {"model", false},
                                                 {"pretraining tokens", true},
                                                 {"examples", true},
                                                 {"learning rate", true},
                                                 {"seed", true},
                                                 {"loss", true},
                                                 {"predicted", true},
                                                 {"difference", true},
                                                 {"", false}};
    const struct observations *observations = &report->analysis->observations;
    size_t all = observations->base_count + observations->count, listed = all < LISTED_POINTS ? all : LISTED_POINTS;
    struct html_table table;
    fprintf(report->out,
            "<details><summary>%zu of %zu measured losses, with the prediction of the widest law that was fitted to "
            "them</summary>\n",
            listed, all);
    html_table_begin(&table, report->out, NULL, COLUMNS(columns));
    for (size_t k = 0; k < listed; k++) {
        size_t i = k * all / listed; /* evenly chosen */
        size_t row = i - observations->base_count;
        if (i < observations->base_count) {
            point_row(report, &observations->base[i], NULL, &table);
            continue;
        }
        size_t fit = report->predicting[row];
        point_row(report, &observations->rows[row], fit == SIZE_MAX ? NULL : &report->analysis->fits[fit], &table);
    }
    html_table_end(&table);
    fputs("</details>\n", report->out);
    if (listed < all)
        fprintf(report->out, "<p>%zu of %zu; %s, and <code>tunelaw export</code> writes them as CSV.</p>\n", listed,
                all, report_rest(report));
}
