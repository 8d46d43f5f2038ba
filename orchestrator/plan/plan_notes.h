/* What a plan does that its sweep file does not show at first sight: examples that sequence_length cuts, steps that
 * see examples more often than `epochs` asks for, and sequences beyond the positions of an imported model.
 *
 * At full size: a data set of which something is cut (its longest example tells) is opened again, and the lengths of
 * its examples are gone over once, for all its methods; no token is read. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_PLAN_NOTES_H
#define TUNELAW_ORCHESTRATOR_PLAN_PLAN_NOTES_H

#include "orchestrator/plan/plan.h"

/* One line for each sequence_length of a data set that cuts examples, for each batch that is too large, and for each
 * imported model whose positions end too early. A data set
 * that is only declared has no lengths. -1 with *err: one cannot be read, out of memory. */
int plan_notes(const struct plan *plan, FILE *out, struct error *err);

#endif
