/* The report of a sweep: one HTML page that needs nothing else, for a screen of any width and for paper. */
#ifndef TUNELAW_FITTING_REPORT_H
#define TUNELAW_FITTING_REPORT_H

#include "fitting/analysis.h"

/* Write the page of an analysis of the store in `dir` to `path` (NULL: DIR/report.html), beside it and renamed.
 * Scripts, data and drawings of the plots stay in DIR/report/. Needs gnuplot: without it nothing is written and *err
 * says how to get it. */
int report_write(const char *dir, const char *path, const struct analysis *analysis, struct error *err);

#endif
