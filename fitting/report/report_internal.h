/* The sections of the report, each one function. Internal to fitting/. */
#ifndef TUNELAW_FITTING_REPORT_REPORT_INTERNAL_H
#define TUNELAW_FITTING_REPORT_REPORT_INTERNAL_H

#include "fitting/analysis/analysis.h"
#include "fitting/report/html_table.h"
#include "fitting/report/plots.h"
#include "fitting/report/report_run.h"

/* What the sections are written from. */
struct report {
    const struct analysis *analysis;
    const struct run_record *run;
    const struct plots *plots;
    const size_t *predicting; /* plots_predicting_fits */
    const char *dir, *folder; /* the run, its plots */
    const char *drawings;     /* the name of the folder of the plots when the page is there */
    bool kept;                /* DIR/fit.json is of this analysis */
    FILE *out;
    bool has_marks; /* a figure with the shapes of points has been written */
};

void report_overview(const struct report *report);
void report_in_short(const struct report *report);
void report_warnings(const struct report *report);
void report_setup(const struct report *report);
void report_rates(const struct report *report);
void report_laws(const struct report *report);
void report_choice(const struct report *report);
void report_best_cells(const struct report *report);
void report_powers(const struct report *report);
void report_crossings(const struct report *report);
void report_forgetting(const struct report *report);
void report_texts(const struct report *report);
void report_shares(const struct report *report);
void report_cost(const struct report *report);
void report_heldout(const struct report *report);
void report_left_out(const struct report *report);
void report_points(const struct report *report);
void report_provenance(const struct report *report);

/* "all are in fit.json": where those are that a table has no room for. Markup. */
const char *report_rest(const struct report *report);

/* A cell with the method of a task: "en-de: lora", of one task "lora". */
void report_method_cell(const struct report *report, struct html_table *table, const char *task, const char *method);

/* Rows are in order of method, PET size, model size: the end of those that agree with `first`. */
size_t report_end_of_cells(const struct observations *observations, size_t first);

/* Whether any method has its two stages. */
bool report_has_powers(const struct report *report);
bool report_has_forgetting(const struct report *report);

/* Whether any finetuned point has a score of generated texts; the first such score, or OBSERVATION_SCORES. */
bool report_has_score(const struct observations *observations, size_t score);
size_t report_first_score(const struct observations *observations);
/* "BLEU", "ROUGE-1" */
const char *report_score_name(size_t score);

/* Mean losses of the untuned model of a row, NAN where it was not evaluated. */
struct report_untuned {
    double loss, pretrain_loss, scores[OBSERVATION_SCORES];
};
struct report_untuned report_untuned(const struct observations *observations, const struct observation *row);

/* 95 -> "1.6 min": seconds as people read them. Returns `out`. */
const char *report_duration(double seconds, char *out, size_t size);

/* The part of a record that is read from DIR/logs; -1: memory. */
int run_record_read_logs(const char *dir, struct run_record *record);

extern const char report_style[];

#endif
