/* The sections of the report, each one function. Internal to fitting/. */
#ifndef TUNELAW_FITTING_REPORT_INTERNAL_H
#define TUNELAW_FITTING_REPORT_INTERNAL_H

#include "fitting/analysis.h"
#include "fitting/plots.h"

void report_overview(const struct analysis *analysis, FILE *out);
void report_laws(const struct analysis *analysis, FILE *out);
void report_methods(const struct analysis *analysis, FILE *out);
void report_staged(const struct analysis *analysis, FILE *out);
void report_crossings(const struct analysis *analysis, FILE *out);
void report_map(const struct analysis *analysis, FILE *out);
void report_forgetting(const struct analysis *analysis, FILE *out);
void report_heldout(const struct analysis *analysis, FILE *out);
void report_left_out(const struct analysis *analysis, FILE *out);
void report_points(const struct analysis *analysis, FILE *out);
/* Reads the store again, for where and with what it ran. */
void report_provenance(const struct analysis *analysis, const char *dir, FILE *out);

extern const char report_style[];

#endif
