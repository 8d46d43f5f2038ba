/* Methods that insert nothing. Full tuning: every tensor of the base is trained, from the start or, with gradual
 * unfreezing (Howard & Ruder 2018), from a step that its block says. BitFit (Ben Zaken et al. 2022): biases alone, also
 * those of norms. And the untuned model, which has nothing to train. */
#include <assert.h>

#include "workers/model/method.h"

const struct method method_none = {0};

const struct method method_full = {
    .trains_base = true,
    .reads_linear_inputs = true,
};

const struct method method_bitfit = {
    .trains_biases = true,
};

const struct method *method_of(enum method_kind kind)
{
    switch (kind) {
    case METHOD_NONE:
        return &method_none;
    case METHOD_FULL:
    case METHOD_UNFREEZE: /* parameters_thaw says what is trained at a step */
        return &method_full;
    case METHOD_BITFIT:
        return &method_bitfit;
    case METHOD_IA3:
        return &method_ia3;
    case METHOD_ADAPTER:
        return &method_adapter;
    case METHOD_LORA:
        return &method_lora;
    case METHOD_PROMPT:
        return &method_prompt;
    case METHOD_PREFIX:
        return &method_prefix;
    case METHODS:
        break;
    }
    assert(!"a method without functions");
    return &method_none;
}
