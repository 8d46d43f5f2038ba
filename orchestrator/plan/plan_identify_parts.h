/* What the files plan_identify*.c share. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_PLAN_IDENTIFY_PARTS_H
#define TUNELAW_ORCHESTRATOR_PLAN_PLAN_IDENTIFY_PARTS_H

#include <jansson.h>
#include <stdio.h>

#include "fitting/analysis/preflight.h"
#include "io/store/store.h"

enum { IDENTIFY_SHOWN = 5 }; /* points that would help most */

/* What a grid will tell of one law. */
struct identified {
    char task[STORE_NAME + 1], method[STORE_NAME + 1];
    struct law law;
    double theta[LAW_PARAMETERS];
    bool fitted; /* theta is of an earlier fit, not guessed */
    struct preflight errors;
    size_t points;                      /* that the law will be fitted to */
    size_t cells;                       /* of them that differ in the law's axes; `fit` needs more than parameters */
    const struct preflight_point *more; /* best first */
    size_t more_count;                  /* at most IDENTIFY_SHOWN */
};

void identified_print(const struct identified *identified, bool several_tasks, FILE *out);
json_t *identified_json(const struct identified *identified);

#endif
