/* What the files that read a sweep share: sweep.c (the whole), sweep_tasks.c (data sets), sweep_models.c, sweep_axes.c
 * (pretraining and data sizes), sweep_methods.c, sweep_shape.c, sweep_cells.c, sweep_possible.c. Each reads its groups
 * from `root` into the sweep; errors stay in the config file. */
#ifndef TUNELAW_ORCHESTRATOR_SWEEP_SWEEP_PARTS_H
#define TUNELAW_ORCHESTRATOR_SWEEP_SWEEP_PARTS_H

#include "io/config/config.h"
#include "orchestrator/sweep/sweep.h"

#define SWEEP_NAME 47                         /* bytes of a name */
#define SWEEP_STEPS_LIMIT (UINT64_C(1) << 40) /* steps, tokens a step: keeps every product below 2^63 */

/* `name` seen from the folder of the sweep file `path`: 0, or -1 where it is too long. */
int sweep_resolve(const char *path, const char *name, char out[PATH_MAX]);

/* A name that is not on its axis: which was probably meant, and all that are allowed. */
void sweep_fail_name(const struct config_group *group, const char *key, size_t index, const char *name,
                     const char *const *axis, size_t axis_count);

/* Ascending, in place: as the axes of numbers are kept. */
void sweep_sort_axis(uint64_t *values, size_t count);

void sweep_read_tasks(const struct config_group *root, const struct sweep_task *known, size_t known_count,
                      struct sweep *sweep);
/* The key "tasks": names of tasks as bits; all where it is absent. */
uint32_t sweep_read_task_names(const struct config_group *group, const struct sweep *sweep);

void sweep_read_models(const struct config_group *root, struct sweep *sweep);
void sweep_read_pretrain(const struct config_group *root, struct sweep *sweep);
/* The finetuning axis; *recipe, *epochs and *share are what the methods start from. */
void sweep_read_finetune(const struct config_group *root, struct sweep *sweep, struct recipe *recipe, double *epochs,
                         bool *share);
/* The group "generate" of finetune. */
void sweep_read_generate(const struct config_group *finetune, struct sweep *sweep);
/* The key "examples" of finetune or of a method, ascending, no more than any of these tasks has; malloc'ed. */
uint64_t *sweep_read_examples(const struct config_group *group, const struct sweep *sweep, uint32_t tasks,
                              size_t *count);
/* The task with the fewest training examples. */
const struct sweep_task *sweep_smallest_task(const struct sweep *sweep, uint32_t tasks);
void sweep_read_methods(const struct config_group *root, struct sweep *sweep, const struct recipe *recipe,
                        double epochs, bool share);
/* What one method alone has: alpha, modules, ... */
void sweep_read_options(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method);
/* The key "start", after the options: the adapter defines those that the entry does not have. Then, in the place of the
 * sizes' key, its own. */
void sweep_read_start(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method);
void sweep_read_start_size(const struct config_group *group, const char *key, struct sweep_method *method);
/* Whether it is one of this model, too. */
int sweep_check_start(const struct model_config *model, const struct sweep_start *start, struct error *err);
/* Place of a size, the value of a key, among those of a method; 0 where it has none so, which fails. */
uint32_t sweep_size_place(const struct config_group *group, const char *key, const struct sweep_method *method,
                          uint64_t value);
/* Element `index` of the list, with the keys of its method. */
struct config_group sweep_open_method(const struct config_group *root, const struct sweep *sweep, size_t index);
/* The shape of the grid: zip, one_at_a_time. */
void sweep_read_shape(const struct config_group *root, struct sweep *sweep);
/* The methods' reference cells, once centres are known. */
void sweep_read_references(const struct config_group *root, struct sweep *sweep);
struct grid;
void sweep_check_references(const struct config_group *root, const struct sweep *sweep, const struct grid *grid);
/* Every method is possible on the models that it meets in the grid. */
void sweep_check_methods(const struct config_group *root, const struct sweep *sweep, const struct grid *grid);
/* Place of a key's value on an axis; of the model that "model" names. Absent: `usual`, or where that is negative the
 * one value of the axis. */
uint32_t sweep_read_place(const struct config_group *group, const char *key, const uint64_t *axis, size_t count,
                          long usual);
uint32_t sweep_read_model(const struct config_group *group, const struct sweep *sweep, long usual);
/* The conditions, and that each holds for some cell. */
void sweep_read_cells(const struct config_group *root, struct sweep *sweep);

/* Keys that finetuning and each method have, beside those of its length: in which order, when it is validated. */
#define PASS_KEYS "evaluations", "evaluation_steps", "patience", "order", "share"
/* Read them over what *recipe and *share hold. */
void sweep_read_passes(const struct config_group *group, struct recipe *recipe, bool *share);

/* Keys of the objective of pretraining; then that the data set whose text it is reserves enough sentinels. */
#define OBJECTIVE_KEYS "objective", "denoisers", "mode_tokens"
void sweep_read_objective(const struct config_group *group, struct recipe *recipe);
void sweep_check_objective(const struct config_group *group, const struct recipe *recipe,
                           const struct dataset_info *text);

/* Keys that every recipe has, for the lists of allowed keys. */
#define RECIPE_KEYS                                                                                                    \
    "optimiser", "momentum", "parameter_scale", "schedule", "final_ratio", "decay_share", "warmup_steps", "dropout",   \
        "label_smoothing", "weight_decay", "clip_norm", "beta1", "beta2", "epsilon"
/* Read them over what *recipe holds. */
void sweep_read_recipe(const struct config_group *group, struct recipe *recipe);

#endif
