/* The plots of a report: which series of an analysis go into which figure. Internal to fitting/.
 *
 * At full size, 10^5 points: a view draws at most PLOT_LEVELS curves and every series at most PLOT_POINTS points,
 * evenly chosen, and only the PLOT_VIEWS views with most points are drawn. What is not shown is said. */
#ifndef TUNELAW_FITTING_REPORT_PLOTS_H
#define TUNELAW_FITTING_REPORT_PLOTS_H

#include "fitting/analysis/analysis.h"
#include "fitting/report/report_run.h"

enum { PLOT_LEVELS = 7, PLOT_POINTS = 90, PLOT_VIEWS = 18 };

enum plot_kind {
    PLOT_EXAMPLES = 0,
    PLOT_SIZE,
    PLOT_RESIDUALS,
    PLOT_METHODS,
    PLOT_POWERS,
    PLOT_MAP,
    PLOT_FORGETTING,
    PLOT_TEXTS,
    PLOT_COST,
    PLOT_CURVES,
    PLOT_KINDS
};

struct plot {
    enum plot_kind kind;
    size_t fit;      /* of the first three kinds; else SIZE_MAX */
    char name[32];   /* of its files */
    char title[192]; /* text, not markup */
    char caption[640];
};

struct plots {
    struct plot *items;
    size_t count;
    size_t views, views_drawn;
};

/* Write the scripts and data of every plot that has points into `folder`, and draw them. */
int plots_make(const struct analysis *analysis, const struct run_record *run, const char *folder, struct plots *out,
               struct error *err);
void plots_destroy(struct plots *plots);

/* predicting[row]: the fit that predicts a point best supported by data, the widest view that holds it (joint, else
 * model, else any); SIZE_MAX for none. Malloc'ed, one a row of the observations. */
size_t *plots_predicting_fits(const struct analysis *analysis, struct error *err);

#endif
