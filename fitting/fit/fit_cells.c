/* How many different points a fit has: a hash table of rows, since there may be 10^5 of them. */
#include <stdlib.h>
#include <string.h>

#include "fitting/fit/fit.h"

static uint64_t mix(uint64_t hash, double value)
{
    uint64_t bits;
    double plain = value + 0.0; /* -0 and 0 are one level */
    memcpy(&bits, &plain, sizeof bits);
    hash = (hash ^ bits) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 32);
}

static bool same(const struct fit_data *data, const bool axes[LAW_AXES], size_t i, size_t j)
{
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (axes[axis] && data->log_x[i][axis] != data->log_x[j][axis]) return false;
    return true;
}

/* Different rows over the chosen axes; without memory for a table, by comparing each with those before it. */
static size_t count_rows(const struct fit_data *data, const bool axes[LAW_AXES])
{
    size_t size = 16, rows = 0;
    while (size < 2 * data->count)
        size *= 2;
    size_t *table = calloc(size, sizeof *table); /* 1 + row */
    for (size_t i = 0; i < data->count; i++) {
        uint64_t hash = 0;
        bool seen = false;
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (axes[axis]) hash = mix(hash, data->log_x[i][axis]);
        size_t at = (size_t)hash & (size - 1);
        while (table && table[at] && !(seen = same(data, axes, i, table[at] - 1)))
            at = (at + 1) & (size - 1);
        for (size_t j = 0; !table && j < i && !seen; j++)
            seen = same(data, axes, i, j);
        if (table && !seen) table[at] = i + 1;
        rows += !seen;
    }
    free(table);
    return rows;
}

size_t fit_cells(const struct law *law, const struct fit_data *data)
{
    bool axes[LAW_AXES];
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        axes[axis] = law_uses(law, (enum law_axis)axis);
    return count_rows(data, axes);
}

size_t fit_levels(const struct fit_data *data, enum law_axis axis)
{
    bool axes[LAW_AXES] = {false};
    axes[axis] = true;
    return count_rows(data, axes);
}
