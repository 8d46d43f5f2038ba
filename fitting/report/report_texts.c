/* Fitting: the report's section on generated texts: what metrics say of the best cell of each method and model. */
#include <math.h>

#include "fitting/report/html.h"
#include "fitting/report/html_table.h"
#include "fitting/report/report_internal.h"

enum { LISTED_CELLS = 200, FIXED = 5 };

bool report_has_score(const struct observations *observations, size_t score)
{
    for (size_t i = 0; i < observations->count; i++)
        if (isfinite(observations->rows[i].scores[score])) return true;
    return false;
}

size_t report_first_score(const struct observations *observations)
{
    size_t score = 0;
    while (score < OBSERVATION_SCORES && !report_has_score(observations, score))
        score++;
    return score;
}

const char *report_score_name(size_t score)
{
    return metric_scores[METRIC_BLEU + score];
}

/* Of the untuned model below it. */
static void score_cell(struct html_table *table, size_t score, double value, double untuned)
{
    int digits = METRIC_BLEU + score >= METRIC_ROUGE1 ? 3 : 1;
    if (!isfinite(value)) {
        html_cell(table, "");
        return;
    }
    html_cell_begin(table, "n", 1);
    fprintf(table->out, "%.*f", digits, value);
    if (isfinite(untuned)) fprintf(table->out, "<small>untuned %.*f</small>", digits, untuned);
    html_cell_end(table);
}

/* Of rows first .. end - 1 the one with the best of a score. */
static const struct observation *best_of(const struct observations *observations, size_t first, size_t end,
                                         size_t score)
{
    const struct observation *best = NULL;
    for (size_t i = first; i < end; i++) {
        const struct observation *row = &observations->rows[i];
        if (isfinite(row->scores[score]) && (!best || row->scores[score] > best->scores[score])) best = row;
    }
    return best;
}

static void write_row(const struct report *report, struct html_table *table, const struct observation *row)
{
    const struct observations *observations = &report->analysis->observations;
    const struct report_untuned untuned = report_untuned(observations, row);
    html_row(table, NULL);
    report_method_cell(report, table, row->task, row->method);
    html_number(table, "%g", row->pet_size > 0 ? row->pet_size : NAN);
    html_count_cell(table, row->parameters);
    html_count_cell(table, row->pretrain_tokens);
    html_count_cell(table, row->examples);
    for (size_t score = 0; score < OBSERVATION_SCORES; score++)
        if (report_has_score(observations, score)) score_cell(table, score, row->scores[score], untuned.scores[score]);
    html_row_end(table);
}

void report_texts(const struct report *report)
{
    struct html_column columns[FIXED + OBSERVATION_SCORES] = {
        {"method", false}, {"PET size", true}, {"model size", true}, {"pretraining tokens", true}, {"examples", true}};
    const struct observations *observations = &report->analysis->observations;
    size_t count = FIXED, first_score = report_first_score(observations);
    char title[160];
    struct html_table table;
    for (size_t score = 0; score < OBSERVATION_SCORES; score++)
        if (report_has_score(observations, score))
            columns[count++] = (struct html_column){report_score_name(score), true};
    snprintf(title, sizeof title, "Metrics of generated texts: the cell with the best %s of each method and model size",
             report_score_name(first_score));
    html_table_begin(&table, report->out, title, columns, count);
    for (size_t first = 0, end, listed = 0; first < observations->count && listed < LISTED_CELLS; first = end) {
        end = report_end_of_cells(observations, first);
        const struct observation *best = best_of(observations, first, end, first_score);
        if (!best) continue;
        listed++;
        write_row(report, &table, best);
    }
    html_table_end(&table);
}
