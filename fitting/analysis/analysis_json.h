/* Pieces of fit.json and of other answers to programs. Internal to fitting/. */
#ifndef TUNELAW_FITTING_ANALYSIS_ANALYSIS_JSON_H
#define TUNELAW_FITTING_ANALYSIS_ANALYSIS_JSON_H

#include <jansson.h>

#include "fitting/analysis/analysis.h"

/* JSON has no infinity and no NAN: null. */
json_t *as_number(double value);

/* Names in a store are bytes; jansson wants UTF-8. */
json_t *as_text(const char *bytes);

/* An object, which this frees, as indented lines in full precision. */
int write_json(json_t *json, FILE *out, struct error *err);

json_t *as_span(const struct span *span);
json_t *as_heldout(const struct heldout *heldout);

json_t *analysis_json_staged(const struct analysis *analysis);
json_t *analysis_json_crossings(const struct analysis *analysis);
json_t *analysis_json_choice(const struct analysis *analysis);
json_t *analysis_json_noise(const struct analysis *analysis);
json_t *analysis_json_warnings(const struct analysis *analysis);

#endif
