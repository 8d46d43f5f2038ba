/* Bytes of a stage on the fullest device of its gang: the allocating walks of parameters and model, while counting. */
#include <stdlib.h>
#include <string.h>

#include "workers/model/model_parts.h"

/* One rank, without a device. */
static int rank_memory(const struct model_config *config, const struct lane *lanes, const struct recipe *recipes,
                       size_t count, struct kernels_storage storage, int rank, int size, struct memory *memory,
                       struct error *err)
{
    memset(memory, 0, sizeof *memory);
    enum parameters_form first = count == 1 && lanes[0].capacity.one_pass ? PARAMETERS_ONE_PASS : PARAMETERS_ALONE;
    for (size_t i = 0; i < count; i++)
        if (parameters_memory(config, &lanes[i].method, recipes ? &recipes[i] : NULL, i ? PARAMETERS_BESIDE : first,
                              storage.element, rank, size, memory, err))
            return -1;
    struct model *model = calloc(1, sizeof *model);
    if (!model) return error_set(err, "out of memory");
    model->loss_room = storage.loss_rows;
    struct arena activations = {.element = storage.element}, workspace = {.element = storage.element};
    int rc = model_prepare(model, config, lanes, count, recipes != NULL, rank, size, err);
    if (!rc) model_layout(model, &activations, &workspace);
    memory->gradients += model_overlaid_bytes(model);
    memory->activations = activations.used - model_overlaid_bytes(model);
    memory->workspace = workspace.used;
    model_destroy(model);
    return rc;
}

int model_pack_memory(const struct model_config *config, const struct lane *lanes, const struct recipe *recipes,
                      size_t count, struct kernels_storage storage, int degree, struct memory *memory,
                      struct error *err)
{
    memset(memory, 0, sizeof *memory);
    if (degree < 1) return error_set(err, "a gang of %d devices; allowed: 1 and more", degree);
    for (int rank = 0; rank < degree; rank++) {
        struct memory one;
        if (rank_memory(config, lanes, recipes, count, storage, rank, degree, &one, err)) return -1;
        if (memory_total(&one) > memory_total(memory)) *memory = one;
    }
    return 0;
}

int model_memory(const struct model_config *config, const struct method_config *method,
                 const struct batch_capacity *capacity, const struct recipe *recipe, struct kernels_storage storage,
                 int degree, struct memory *memory, struct error *err)
{
    const struct lane alone = {*method, NULL, *capacity};
    return model_pack_memory(config, &alone, recipe, 1, storage, degree, memory, err);
}
