/* What the files of the plan share: plan_build.c (the tree), plan.c (the whole), plan_cost.c (FLOPs, memory, devices of
 * a stage). */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_PLAN_PARTS_H
#define TUNELAW_ORCHESTRATOR_PLAN_PLAN_PARTS_H

#include "orchestrator/plan/plan.h"
#include "orchestrator/sweep/grid.h"

/* Model `model` trained (or, with METHOD_NONE, evaluated) with a method: what all its stages share. */
struct plan_shape {
    uint32_t degree;
    uint64_t bytes; /* on one device */
    bool recompute;
};
/* The sweep's tensor_parallel, or the smallest degree that fits resources.device_bytes; with recomputation where the
 * sweep asks for it, or leaves it to the plan and it does not fit without. */
int plan_shape(const struct sweep *sweep, const struct model_config *model, const struct method_config *method,
               const struct recipe *recipe, bool trains, struct plan_shape *shape, struct error *err);

/* plan_references.c. From the candidates that the plan has: its references; that of a method in a task, by the cell
 * that the sweep names. */
int plan_make_references(struct plan *plan, struct error *err);
uint32_t plan_find_reference(const struct plan *plan, uint32_t method, uint32_t task);

/* Sums, longest chains and the digest over all stages; that no two stages are the same. */
int plan_finish(struct plan *plan, struct error *err);

/* Operations that a device launches one after another: in training steps (first, last], and in so many validations and,
 * with `test`, the test, the pretraining text and what is generated. One micro-batch through one layer is a dozen. */
double plan_pretrain_operations(const struct sweep *sweep, const struct model_config *model, uint64_t steps,
                                bool recompute);
double plan_finetune_operations(const struct sweep_task *task, const struct model_config *model,
                                const struct method_config *method, const struct recipe *recipe, uint64_t steps,
                                bool recompute);
double plan_evaluation_operations(const struct sweep *sweep, const struct sweep_task *task,
                                  const struct model_config *model, const struct method_config *method,
                                  const struct recipe *recipe, double validations, bool test);

/* FLOPs of training steps (first, last]: which they are matters where more and more of the model is trained. */
double plan_pretrain_flops(const struct sweep *sweep, const struct model_config *model, uint64_t first, uint64_t last);
double plan_finetune_flops(const struct sweep_task *task, const struct model_config *model,
                           const struct method_config *method, const struct recipe *recipe, uint64_t first,
                           uint64_t last);
/* FLOPs that recomputation adds to these. */
double plan_pretrain_recompute(const struct sweep *sweep, const struct model_config *model, uint64_t first,
                               uint64_t last);
double plan_finetune_recompute(const struct sweep_task *task, const struct model_config *model,
                               const struct method_config *method, const struct recipe *recipe);
/* FLOPs of so many validations and, with `test`, of the test and the pretraining text: for the predicted time. */
double plan_evaluation_flops(const struct sweep_task *task, const struct model_config *model,
                             const struct method_config *method, const struct recipe *recipe, double validations,
                             bool test);

/* Finetuning that several points begin with, one stage from one point's leaving to the next one's. */
struct plan_prefix {
    uint32_t point;  /* of the grid: the largest that shares it */
    uint32_t parent; /* index of a prefix that comes before, or PLAN_NONE */
    uint32_t stage;  /* in the plan, once it is there */
    uint64_t first_step, last_step;
};
struct plan_prefixes {
    struct plan_prefix *list;
    size_t count;
    uint32_t *of; /* [points] the prefix that a point goes on from, or PLAN_NONE */
};
int plan_prefixes_find(const struct sweep *sweep, const struct grid *grid, struct plan_prefixes *out,
                       struct error *err);
void plan_prefixes_free(struct plan_prefixes *prefixes);

/* FLOPs of the texts that are generated at its end: sources and, at most, new tokens, each through the model once. */
double plan_generation_flops(const struct sweep *sweep, const struct sweep_task *task, const struct model_config *model,
                             const struct method_config *method, const struct recipe *recipe);

/* The recipe of a point: its learning rate, its steps; evaluations no more than steps. */
struct recipe plan_recipe(const struct sweep_method *method, uint32_t rate, uint64_t examples);
/* The method of a point, of one of its sizes. */
struct method_config plan_method(const struct sweep *sweep, uint32_t method, uint32_t size);

#endif
