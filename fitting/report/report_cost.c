/* Fitting: where a sweep's time and FLOPs went, by stage and by method. */
#include <math.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/html_table.h"
#include "fitting/report/report_internal.h"

enum { LISTED_COSTS = 200 };
#define COLUMNS(columns) columns, sizeof columns / sizeof *columns

const char *report_duration(double seconds, char *out, size_t size)
{
    if (seconds < 100)
        snprintf(out, size, "%.3g s", seconds);
    else if (seconds < 6000)
        snprintf(out, size, "%.3g min", seconds / 60);
    else if (seconds < 2 * 86400)
        snprintf(out, size, "%.3g h", seconds / 3600);
    else
        snprintf(out, size, "%.4g days", seconds / 86400);
    return out;
}

static void duration_cell(struct html_table *table, double seconds)
{
    char text[32];
    html_cell(table, report_duration(seconds, text, sizeof text));
}

/* A share as a bar and a number. */
static void share_cell(struct html_table *table, double share, bool second)
{
    html_cell_begin(table, "share", 1);
    fprintf(table->out, "<i class=\"bar%s\" style=\"width:%.2frem\"></i>%.0f %%", second ? " b" : "", 4 * share,
            100 * share);
    html_cell_end(table);
}

struct share {
    char name[OBSERVATION_LABEL];
    size_t points;
    double seconds, flops;
};

static void share_row(struct html_table *table, const struct share *row, const struct share *all)
{
    char text[32];
    html_row(table, NULL);
    html_cell(table, row->name);
    html_number(table, "%.0f", (double)row->points);
    duration_cell(table, row->seconds);
    share_cell(table, all->seconds > 0 ? row->seconds / all->seconds : 0, false);
    html_cell(table, row->flops > 0 ? html_count_short(row->flops, text, sizeof text) : "");
    share_cell(table, all->flops > 0 ? row->flops / all->flops : 0, true);
    html_row_end(table);
}

static struct share share_of(const struct report *report, const struct run_cost *cost)
{
    struct share out = {.points = 0};
    observations_label(&report->analysis->observations, cost->task,
                       strcmp(cost->method, "none") ? cost->method : "evaluation, untuned", out.name);
    return out;
}

/* One row for pretraining, where its log is there, and one for each method of a task. */
void report_shares(const struct report *report)
{
    static const struct html_column columns[] = {{"what", false},       {"stages, points", true},
                                                 {"device time", true}, {"share of time", false},
                                                 {"FLOPs", true},       {"share of FLOPs", false}};
    enum { METHODS = 64 };
    const struct run_record *run = report->run;
    const struct share rest = {.name = "other methods"};
    struct share rows[METHODS + 2], all = {.name = "all"};
    size_t count = 0;
    const struct run_stages *pretrain = &run->stages[RUN_PRETRAIN];
    if (pretrain->completed)
        rows[count++] = (struct share){"pretraining", pretrain->completed, pretrain->seconds, pretrain->flops};
    for (size_t i = 0; i < run->cost_count; i++) {
        const struct run_cost *cost = &run->costs[i];
        bool same = i && !strcmp(run->costs[i - 1].method, cost->method) && !strcmp(run->costs[i - 1].task, cost->task);
        if (!same && count < METHODS) {
            rows[count] = count + 1 < METHODS ? share_of(report, cost) : rest;
            count++;
        }
        rows[count - 1].points += cost->points;
        rows[count - 1].seconds += cost->seconds;
        rows[count - 1].flops += cost->flops;
    }
    double lost = run->stages[0].lost_seconds + run->stages[1].lost_seconds;
    if (lost > 0)
        rows[count++] =
            (struct share){"attempts that did not end well", run->stages[0].ended + run->stages[1].ended, lost, 0};
    for (size_t i = 0; i < count; i++) {
        all.seconds += rows[i].seconds;
        all.flops += rows[i].flops;
    }
    struct html_table table;
    html_table_begin(&table, report->out, "Where time and FLOPs went", COLUMNS(columns));
    for (size_t i = 0; i < count; i++)
        share_row(&table, &rows[i], &all);
    html_table_end(&table);
    if (!run->has_stages)
        fputs("<p class=\"soft\">The log of executed stages is not beside this store: what pretraining cost is not "
              "known here.</p>\n",
              report->out);
}

static void cost_row(const struct report *report, const struct run_cost *cost, struct html_table *table)
{
    char text[32];
    html_row(table, NULL);
    report_method_cell(report, table, cost->task, strcmp(cost->method, "none") ? cost->method : "untuned");
    html_number(table, "%g", cost->pet_size > 0 ? cost->pet_size : NAN);
    html_count_cell(table, cost->parameters);
    html_count_cell(table, cost->trainable);
    html_number(table, "%.0f", (double)cost->points);
    duration_cell(table, cost->seconds / (double)cost->points);
    html_cell(table, cost->flops > 0 ? html_count_short(cost->flops / (double)cost->points, text, sizeof text) : "");
    html_number(table, "%.1f", cost->peak_bytes ? (double)cost->peak_bytes / 1048576 : NAN);
    html_number(table, "%.0f", cost->retried ? (double)cost->retried : NAN);
    html_row_end(table);
}

void report_cost(const struct report *report)
{
    static const struct html_column columns[] = {
        {"method", false},          {"PET size", true},         {"model size", true},
        {"trained weights", true},  {"points", true},           {"time of a point", true},
        {"FLOPs of a point", true}, {"peak memory, MiB", true}, {"tried again", true}};
    const struct run_record *run = report->run;
    struct html_table table;
    html_table_begin(&table, report->out, "Means of one point: training and evaluation", COLUMNS(columns));
    for (size_t i = 0; i < run->cost_count && i < LISTED_COSTS; i++)
        cost_row(report, &run->costs[i], &table);
    html_table_end(&table);
}
