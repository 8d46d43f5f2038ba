/* The operations, out of the files that say how each is called. */
#include <string.h>

#include "tests/kernels/ops.h"

extern const struct op_list ops_of_products;
extern const struct op_list ops_of_elements;
extern const struct op_list ops_of_optimisers;
extern const struct op_list ops_of_norms;
extern const struct op_list ops_of_rows;
extern const struct op_list ops_of_attention;
extern const struct op_list ops_of_losses;

static const struct op_list *const lists[] = {&ops_of_products, &ops_of_elements,  &ops_of_optimisers, &ops_of_norms,
                                              &ops_of_rows,     &ops_of_attention, &ops_of_losses};

const struct op *op_at(size_t number)
{
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (number < lists[i]->count) return &lists[i]->ops[number];
        number -= lists[i]->count;
    }
    return NULL;
}

const struct op *op_find(const char *name)
{
    const struct op *op;
    for (size_t i = 0; (op = op_at(i)) != NULL; i++)
        if (strcmp(op->name, name) == 0) return op;
    return NULL;
}

bool op_there(const struct op *op, const struct kernels *k)
{
    void (*function)(void);
    memcpy(&function, (const char *)k + op->function, sizeof function);
    return function != NULL;
}
