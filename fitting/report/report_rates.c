/* Fitting: the report's table of learning rates: of each cell the best by validation loss is in the fits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/html_table.h"
#include "fitting/report/report_internal.h"

enum { RATES = 200 }; /* of all methods together */
#define COLUMNS(columns) columns, sizeof columns / sizeof *columns

struct rate {
    const struct observation *point; /* one that has it */
    size_t kept, other, diverged;    /* finetuned points */
};

static bool same_group(const struct observation *a, const struct observation *b)
{
    return a->pet_size == b->pet_size && !strcmp(a->method, b->method) && !strcmp(a->task, b->task);
}

static struct rate *rate_of(struct rate *rates, size_t *count, const struct observation *point)
{
    for (size_t i = 0; i < *count; i++)
        if (rates[i].point->learning_rate == point->learning_rate && same_group(rates[i].point, point))
            return &rates[i];
    if (*count == RATES) return NULL;
    rates[*count] = (struct rate){.point = point};
    return &rates[(*count)++];
}

static int compare_rates(const void *a, const void *b)
{
    const struct observation *x = ((const struct rate *)a)->point, *y = ((const struct rate *)b)->point;
    int order = strcmp(x->task, y->task);
    if (!order) order = strcmp(x->method, y->method);
    if (!order) order = (x->pet_size > y->pet_size) - (x->pet_size < y->pet_size);
    return order ? order : (x->learning_rate > y->learning_rate) - (x->learning_rate < y->learning_rate);
}

static size_t count_rates(const struct observations *observations, struct rate *rates)
{
    size_t count = 0;
    for (size_t i = 0; i < observations->count; i++) {
        struct rate *rate = rate_of(rates, &count, &observations->rows[i]);
        if (rate) rate->kept += observations->rows[i].replicates;
    }
    for (size_t i = 0; i < observations->omitted_count; i++) {
        const struct observation_omitted *entry = &observations->omitted[i];
        bool diverged = entry->why == OMITTED_DIVERGED;
        if ((!diverged && entry->why != OMITTED_RATE) || !(entry->point.examples > 0)) continue;
        struct rate *rate = rate_of(rates, &count, &entry->point);
        if (rate && diverged) rate->diverged++;
        if (rate && !diverged) rate->other++;
    }
    qsort(rates, count, sizeof *rates, compare_rates);
    return count;
}

static void rate_row(const struct report *report, const struct rate *rate, struct html_table *table)
{
    html_row(table, NULL);
    report_method_cell(report, table, rate->point->task, rate->point->method);
    html_number(table, "%g", rate->point->pet_size > 0 ? rate->point->pet_size : NAN);
    html_number(table, "%g", rate->point->learning_rate);
    html_number(table, "%.0f", (double)rate->kept);
    html_number(table, "%.0f", (double)rate->other);
    html_number(table, "%.0f", (double)rate->diverged);
    html_row_end(table);
}

void report_rates(const struct report *report)
{
    static const struct html_column columns[] = {{"method", false}, {"PET size", true}, {"learning rate", true},
                                                 {"best", true},    {"not best", true}, {"diverged", true}};
    const struct observations *observations = &report->analysis->observations;
    struct rate rates[RATES];
    struct html_table table;
    if (!observations->rate_cells) return;
    fprintf(report->out,
            "<p>Of %zu cells with several learning rates the fits have the rate with the lowest mean validation loss; "
            "in %zu of them it is the lowest or the highest that was tried. %zu points of other rates stay in the "
            "store.</p>\n",
            observations->rate_cells, observations->rate_edges, observations->omitted_by[OMITTED_RATE]);
    size_t count = count_rates(observations, rates);
    html_table_begin(&table, report->out, "Points by learning rate, where several were tried", COLUMNS(columns));
    for (size_t i = 0; i < count; i++)
        if ((i && same_group(rates[i - 1].point, rates[i].point)) ||
            (i + 1 < count && same_group(rates[i + 1].point, rates[i].point)))
            rate_row(report, &rates[i], &table);
    html_table_end(&table);
    if (count == RATES) fputs("<p>Not all rates are shown.</p>\n", report->out);
}
