/* Initial values: drawn by tensor name and global element index, so that every degree begins with the same model. */
#include <math.h>
#include <string.h>

#include "kernels/random.h"
#include "workers/model/method.h"

#define BASE_DEVIATION 0.02
#define BLOCK 1024

static float draw(enum initial initial, double size, struct random_key key, uint64_t index)
{
    switch (initial) {
    case INITIAL_UNIFORM:
        return (float)(size * (2 * random_uniform(key, index) - 1));
    case INITIAL_NORMAL:
        return (float)(size * random_normal(key, index));
    default:
        return (float)size;
    }
}

void parameter_fill(const struct parameters *parameters, const struct parameter *p, enum initial initial, double size,
                    uint64_t seed)
{
    char name[sizeof p->name + 5] = "init:";
    strcat(name, p->name);
    struct random_key key = {seed, random_stream(name)};
    float block[BLOCK];
    for (size_t row = 0; row < p->row_count; row++) {
        uint64_t global = (uint64_t)(p->row_first + row) * p->columns + p->column_first;
        for (size_t first = 0; first < p->column_count; first += BLOCK) {
            size_t n = p->column_count - first < BLOCK ? p->column_count - first : BLOCK;
            for (size_t i = 0; i < n; i++)
                block[i] = draw(initial, size, key, global + first + i);
            parameter_write(parameters, p, row * p->column_count + first, n, block);
        }
    }
}

void parameters_initialise_base(struct parameters *parameters, const struct model_config *model, uint64_t seed)
{
    const struct tensor_names *names = tensor_names_of(model);
    double residual = BASE_DEVIATION / sqrt(2.0 * model->layers); /* of layers that write into the residual stream */
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        if (p->adapter) continue;
        if (!p->decay)
            parameter_fill(parameters, p, INITIAL_CONSTANT, parameter_is_bias(p->name) ? 0 : 1, seed);
        else if (strstr(p->name, names->linears[LINEAR_O]) || strstr(p->name, names->linears[LINEAR_DOWN]))
            parameter_fill(parameters, p, INITIAL_NORMAL, residual, seed);
        else
            parameter_fill(parameters, p, INITIAL_NORMAL, BASE_DEVIATION, seed);
    }
}

int parameters_initialise_adapter(struct parameters *parameters, const struct model_config *model,
                                  const struct method_config *method, uint64_t seed, struct error *err)
{
    const struct method *hooks = method_of(method->kind);
    return hooks->initialise ? hooks->initialise(parameters, model, method, seed, err) : 0;
}
