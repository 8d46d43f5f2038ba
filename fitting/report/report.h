/* The report of a sweep: one HTML page that needs nothing else, for a screen of any width and for paper. */
#ifndef TUNELAW_FITTING_REPORT_REPORT_H
#define TUNELAW_FITTING_REPORT_REPORT_H

#include "fitting/analysis/analysis.h"

/* Write the page of an analysis of the store in `dir` (or of a store file NAME.h5) to `path` (NULL: DIR/report.html, or
 * NAME-report.html), beside it and renamed. Scripts, data and drawings of the plots stay in DIR/report/, or
 * NAME-report/, of a page NAME.html that was asked for, too. kept: the analysis is in DIR/fit.json, and the
 * page may say so. Needs gnuplot: without it nothing is written and *err says how to get it. */
int report_write(const char *dir, const char *path, const struct analysis *analysis, bool kept, struct error *err);

/* Where the page of a run directory or store file goes by default. */
enum { REPORT_PATH = 4096 + 64 };
void report_default_page(const char *dir, char page[REPORT_PATH]);

#endif
