/* The plots of a report: which series of an analysis go into which figure. Internal to fitting/. */
#ifndef TUNELAW_FITTING_PLOTS_H
#define TUNELAW_FITTING_PLOTS_H

#include "fitting/analysis.h"

enum plot_kind { PLOT_EXAMPLES = 0, PLOT_SIZE, PLOT_RESIDUALS, PLOT_METHODS };

struct plot {
    enum plot_kind kind;
    char name[32];     /* of its files */
    char caption[384]; /* text, not markup */
};

struct plots {
    struct plot *items;
    size_t count;
};

/* Write the scripts and data of every plot that has points into `folder`, and draw them. */
int plots_make(const struct analysis *analysis, const char *folder, struct plots *out, struct error *err);
void plots_destroy(struct plots *plots);

/* The fit that predicts a point best supported by data: the widest view that holds it (joint, else model, else any);
 * SIZE_MAX for none. */
size_t plots_predicting_fit(const struct analysis *analysis, size_t row);

#endif
