/* Full tuning: every tensor of the base is trained, nothing is inserted. And the untuned model, which has nothing to
 * train. */
#include <assert.h>

#include "workers/method.h"

const struct method method_none = {0};

const struct method method_full = {
    .trains_base = true,
    .keeps_linear_inputs = true,
    .reaches_embeddings = true,
};

const struct method *method_of(enum method_kind kind)
{
    switch (kind) {
    case METHOD_NONE:
        return &method_none;
    case METHOD_FULL:
        return &method_full;
    case METHOD_LORA:
        return &method_lora;
    case METHOD_PROMPT:
        return &method_prompt;
    case METHODS:
        break;
    }
    assert(!"a method without functions");
    return &method_none;
}
