/* Which method and model to take for a finetuning set of a given size: the laws of a sweep, asked. Pure. */
#ifndef TUNELAW_FITTING_ANALYSIS_ADVISE_H
#define TUNELAW_FITTING_ANALYSIS_ADVISE_H

#include "fitting/analysis/analysis.h"

struct advise_question {
    const char *task;  /* of a sweep of several, which must be named; NULL: the one that there is */
    double parameters; /* NAN: every model size of the sweep */
    double examples;
    double budget; /* seconds of one device as in the sweep; INFINITY: none */
};

struct advise_option {
    size_t fit; /* the law that predicts */
    char group[3 * OBSERVATION_NAME];
    double parameters, pretrain_tokens;
    double loss, low, high;            /* interval NAN without resamples */
    double seconds;                    /* predicted training and evaluation of one point; NAN: too few to tell */
    double best;                       /* share of the resamples in which it is the best of those within the budget */
    bool within_budget;                /* also where the cost is not known */
    bool beyond_size, beyond_examples; /* outside the fitted points */
};

struct advice {
    struct advise_option *options; /* those within the budget first, then by loss */
    size_t count;
};

/* -1 with *err: nothing that predicts, a task that is not named or not there, memory. */
int advise(const struct analysis *analysis, const struct advise_question *question, struct advice *out,
           struct error *err);
void advice_destroy(struct advice *advice);

void advice_print(const struct analysis *analysis, const struct advise_question *question, const struct advice *advice,
                  FILE *out);

/* The same in full precision: one object, docs/laws.md. -1 with *err: cannot be written. */
int advice_print_json(const struct analysis *analysis, const struct advise_question *question,
                      const struct advice *advice, FILE *out, struct error *err);

#endif
