/* The words that `fit`, `report` and `advise` share: which losses of a sweep are read, and how laws are fitted to them.
 */
#ifndef TUNELAW_ORCHESTRATOR_COMMANDS_FIT_WORDS_H
#define TUNELAW_ORCHESTRATOR_COMMANDS_FIT_WORDS_H

#include <argp.h>
#include <stdbool.h>

#include "fitting/analysis/analysis.h"

/* A child parser; its input is a struct analysis_options, which holds analysis_defaults() before. It has long names
 * alone, so that no letter of a command is taken. */
extern const struct argp fit_words;

/* DIR/fit.json, which lies in a run directory: nothing for a store given as a file or in a place that may only be read
 * (a line on stderr). */
int fit_keep(const struct analysis *analysis, const char *path, bool *kept, struct error *err);

#endif
