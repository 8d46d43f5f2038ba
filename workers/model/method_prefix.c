/* Prefix tuning (Li & Liang 2021) without reparametrisation, as PEFT's PrefixTuningConfig: trained keys and values
 * before the tokens of every sequence, in every layer. They are as in a cache: not turned by their positions, not
 * normed; the tokens' positions begin behind them.
 *
 * One tensor as in PEFT's files, [length][layers][key, value][kv_heads][head_width]. Every rank holds all of it and
 * computes the gradient of its own key/value heads: less than a thousandth of a model's weights, for one sum a step. */
#include "workers/model/method.h"

#define PREFIX "prompt_embeddings"

static void prefix_parameters(struct tensor_walk *walk)
{
    const struct model_config *model = walk->model;
    size_t columns = (size_t)model->layers * 2 * model->kv_heads * model->head_width;
    tensor_add(walk, PREFIX, part_whole(walk->method->size), part_whole(columns), true, true);
}

static struct parameter *prefix_find(const struct parameters *parameters)
{
    return parameters_find(parameters, PREFIX);
}

/* Standard normal, as PEFT's embedding. */
static int prefix_initialise(struct parameters *parameters, const struct model_config *model,
                             const struct method_config *config, uint64_t seed, struct error *err)
{
    (void)model, (void)config, (void)err;
    parameter_fill(parameters, prefix_find(parameters), INITIAL_NORMAL, 1, seed);
    return 0;
}

const struct method method_prefix = {
    .parameters = prefix_parameters,
    .initialise = prefix_initialise,
    .prefix = prefix_find,
};
