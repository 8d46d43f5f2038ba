/* What drift's files share: drift.c (points, verdict), drift_fields.c (fields), drift_print.c (words). */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_DRIFT_PARTS_H
#define TUNELAW_ORCHESTRATOR_PLAN_DRIFT_PARTS_H

#include "orchestrator/plan/drift.h"

/* Changes between two lists of parameters (sweep->parameters), added to out->changes. -1: memory. */
int drift_fields(const char *before, const char *after, struct drift *out);
enum drift_class drift_classify(const char *field);

#endif
