/* Identities of trunks, states and points: the digest of a line of text that names everything that is computed from.
 * Private to the plan; docs/configuration.md, "What makes a point the same point", lists the fields. Doubles are
 * written %.17g. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_IDENTITY_H
#define TUNELAW_ORCHESTRATOR_PLAN_IDENTITY_H

#include "io/digest.h"
#include "orchestrator/sweep/sweep.h"

/* A model's pretraining, however long: text, shape, recipe, seed. */
struct digest identity_trunk(const struct sweep *sweep, size_t model);
/* The revisions of an imported model: shape and name. */
struct digest identity_imported(const struct model_config *model);
/* The trunk's state after `step` steps, whichever checkpoints lie on the way. */
struct digest identity_state(const struct digest *trunk, uint64_t step);

/* The part of a point's text that a task, a method and a learning rate share. */
struct identity_method {
    char text[1536];
};
/* start: digest of the adapter that the method starts from; "": initial values. */
void identity_method(const struct sweep_task *task, const struct method_config *method, const struct digest *start,
                     const struct recipe *recipe, struct identity_method *out);
/* The same of points whose learning rate is tuned at a reference cell (recipe->learning_rate: 0): it names the cell's
 * candidates in place of the number. */
void identity_tuned(struct identity_method *method, const struct digest *reference);
/* The state after `step` steps of finetuning that several points of a method, learning rate and seed begin with. */
struct digest identity_prefix(const struct digest *base, const struct identity_method *method, uint64_t seed,
                              uint64_t step);
/* recipe: of the point, with its steps. The untuned model depends on nothing but base, data and length. */
struct digest identity_point(const struct digest *base, const struct identity_method *method,
                             const struct recipe *recipe, uint64_t examples, uint64_t seed);

#endif
