/* Pieces that the analysis prints with. Internal to fitting/. */
#ifndef TUNELAW_FITTING_ANALYSIS_ANALYSIS_INTERNAL_H
#define TUNELAW_FITTING_ANALYSIS_ANALYSIS_INTERNAL_H

#include <math.h>

#include "fitting/analysis/analysis.h"

/* Fitted or held-out rows of a fit as the optimiser wants them; freed by analysis_free_data, also after a failure. */
int analysis_make_data(const struct analysis *analysis, const struct analysis_fit *fit, size_t first, size_t count,
                       struct fit_data *out);
void analysis_free_data(struct fit_data *data);

static inline struct fit_options analysis_fit_options(const struct analysis *analysis)
{
    return (struct fit_options){.delta = analysis->options.delta,
                                .log_residuals = analysis->options.log_residuals,
                                .absolute = analysis->options.absolute};
}

/* Number of what the bootstrap draws with a row: rows with equal numbers are drawn together. */
size_t analysis_cluster(const struct analysis *analysis, const struct observation *row);

/* Print text padded, or cut, to a width in characters, not bytes. */
void print_padded(FILE *out, const char *text, int width);

/* An E that the fit drives to 0 stops somewhere on the way; where it stops means nothing. */
static inline double near_zero(double value)
{
    return fabs(value) < 1e-9 ? 0 : value;
}

/* Text of a number without what a narrow column need not hold: ".0484", "1.2e5". */
void short_number(double value, int digits, char out[32]);
/* A held-out error, or the mean of some: ">3.2" where it is beyond what is told as a number. */
void short_bound(double value, bool beyond, char out[33]);
void short_heldout(const struct heldout *heldout, char out[33]);

/* Whether a row belongs to the points of a view. */
bool analysis_in_view(const struct analysis_fit *view, const struct observation *row);

/* Fit a law to the points of a view: one more entry. Too few points are not an error: the entry says so. */
int analysis_add_fit(struct analysis *analysis, const struct analysis_fit *view, const struct law *law,
                     struct error *err);

/* Fit the laws that suit a view, or `asked` alone (NULL: none is asked for) where it suits. */
int analysis_add_view(struct analysis *analysis, const struct analysis_fit *view, const struct law *asked,
                      struct error *err);

/* All views of the task and method of a row of a store. */
int analysis_add_method(struct analysis *analysis, const struct observation *row, const struct law *asked,
                        struct error *err);

/* Whether a fit is of this method of this task. */
bool analysis_of_method(const struct analysis_fit *fit, const char *task, const char *method);

/* What is made of the fits of all methods: the two stages of each, and the crossings of each pair. */
int analysis_compare(struct analysis *analysis, struct error *err);

/* Fill the warnings of an analysis whose fits are made. */
int analysis_warn(struct analysis *analysis, struct error *err);

/* The warnings, those of single fits as one line a kind. */
void print_warnings(const struct analysis *analysis, FILE *out);

/* Laws of every view side by side: held-out cells, levels left out, AICc. */
void print_choice(const struct analysis *analysis, FILE *out);

/* "lora 8", "full" */
void short_group(const struct analysis_fit *fit, char *out, size_t size);
/* Columns for it: 12, or as many more as the tasks' names need. */
int group_width(const struct analysis *analysis);

/* One line a law, at most 100 columns. */
void print_table(const struct analysis *analysis, FILE *out);

#endif
