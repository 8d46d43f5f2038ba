/* The keys of dropout masks. */
#include "workers/model/dropout.h"

#include <inttypes.h>
#include <stdio.h>

#include "kernels/random.h"

struct dropout_key dropout_key(const struct draws *draws, unsigned site, uint32_t layer)
{
    static const char *const sites[DROPOUT_INPUTS] = {"embedding", "attention", "mlp"};
    char name[96], of_inputs[16];
    snprintf(of_inputs, sizeof of_inputs, "lora %u", site - DROPOUT_INPUTS);
    snprintf(name, sizeof name, "dropout:step %" PRIu64 ":layer %" PRIu32 ":%s", draws->step, layer,
             site < DROPOUT_INPUTS ? sites[site] : of_inputs);
    return (struct dropout_key){draws->seed, random_stream(name), draws->first_token};
}
