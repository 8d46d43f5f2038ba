/* The keys of dropout masks. */
#include "workers/model/dropout.h"

#include <inttypes.h>
#include <stdio.h>

#include "kernels/random.h"

struct dropout dropout_at(const struct draws *draws, double rate, const char *site, uint32_t layer,
                          const struct part *columns)
{
    char name[96];
    snprintf(name, sizeof name, "dropout:step %" PRIu64 ":layer %" PRIu32 ":%.32s", draws->step, layer, site);
    return (struct dropout){.seed = draws->seed,
                            .stream = random_stream(name),
                            .first_row = draws->first_token,
                            .first_column = columns->first,
                            .total = columns->total,
                            .rate = rate};
}
