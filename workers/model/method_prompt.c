/* Prompt tuning (Lester et al. 2021): trained vectors in front of every sequence, which a batch names by the ids -1,
 * -2, ... */
#include <stdlib.h>

#include "kernels/random.h"
#include "workers/model/method.h"

#define PROMPT "prompt_embeddings"

static void prompt_parameters(struct tensor_walk *walk)
{
    /* whole on every rank, and so is its gradient: the embeddings' gradient is already summed */
    tensor_add(walk, PROMPT, part_whole(walk->method->size), part_whole(walk->model->width), true, false);
}

static struct parameter *prompt_find(const struct parameters *parameters)
{
    return parameters_find(parameters, PROMPT);
}

/* Row i becomes the embedding of ids[i % count], of (key, i) where there are none. The rank that holds the embedding
 * gives it, the others zeros. */
static int fill_rows(struct parameters *parameters, const struct model_config *model, const int32_t *ids, size_t count,
                     struct random_key key, struct error *err)
{
    const struct parameter *prompt = prompt_find(parameters);
    const struct parameter *table = parameters_find(parameters, "%s.weight", tensor_names_of(model)->embedding);
    size_t width = model->width;
    float *rows = calloc(prompt->rows * width, sizeof *rows);
    if (!rows) return error_set(err, "out of memory: a prompt of %zu tokens", prompt->rows);
    int status = 0;
    for (size_t i = 0; i < prompt->rows && !status; i++) {
        uint64_t id = ids ? (uint64_t)ids[i % count] : random_below(key, i, model->vocabulary);
        if (id < table->row_first || id >= table->row_first + table->row_count) continue;
        status = parameter_read(parameters, table, (id - table->row_first) * width, width, rows + i * width, err);
    }
    if (!status && collective_sum(&parameters->collective, prompt->rows * width, rows))
        status = error_set(err, GANG_FAILED);
    if (!status) parameter_write(parameters, prompt, 0, prompt->rows * width, rows);
    free(rows);
    return status;
}

/* Vocabulary embeddings, drawn uniformly. */
static int prompt_initialise(struct parameters *parameters, const struct model_config *model,
                             const struct method_config *config, uint64_t seed, struct error *err)
{
    (void)config;
    return fill_rows(parameters, model, NULL, 0, (struct random_key){seed, random_stream("init:" PROMPT)}, err);
}

int parameters_initialise_prompt(struct parameters *parameters, const struct model_config *model, const int32_t *ids,
                                 size_t count, struct error *err)
{
    return fill_rows(parameters, model, ids, count, (struct random_key){0, 0}, err);
}

const struct method method_prompt = {
    .parameters = prompt_parameters,
    .initialise = prompt_initialise,
    .prompt = prompt_find,
};
