/* Synthetic grids for the tests of fitting: losses of a known law with normal noise from a fixed seed. */
#ifndef TUNELAW_TESTS_FITTING_SYNTHETIC_H
#define TUNELAW_TESTS_FITTING_SYNTHETIC_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "fitting/fit/fit.h"

struct grid {
    size_t models, examples;
    double noise;       /* standard deviation, in log L */
    double trunk_noise; /* shared by all points of one model */
    uint64_t seed;
};

static inline double synthetic_uniform(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static inline double synthetic_normal(uint64_t *state)
{
    double u = synthetic_uniform(state), v = synthetic_uniform(state);
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

static inline struct fit_data grid_alloc(size_t count)
{
    size_t *cluster = calloc(count, sizeof *cluster);
    struct fit_data data = {.count = count, .cluster = cluster};
    data.log_x = calloc(count, sizeof *data.log_x);
    data.loss = calloc(count, sizeof *data.loss);
    return data;
}

static inline struct fit_data grid_make(const struct law *law, const double *theta, const struct grid *grid)
{
    struct fit_data data = grid_alloc(grid->models * grid->examples);
    uint64_t state = grid->seed + 7;
    for (size_t m = 0, i = 0; m < grid->models; m++) {
        double shared = grid->trunk_noise * synthetic_normal(&state);
        for (size_t d = 0; d < grid->examples; d++, i++) {
            data.log_x[i][LAW_X] = log(1e5 * pow(2.3, (double)m));
            data.log_x[i][LAW_D] = log(500 * pow(2, (double)d));
            ((size_t *)data.cluster)[i] = m;
            data.loss[i] =
                exp(law_log_value(law, theta, data.log_x[i], NULL) + shared + grid->noise * synthetic_normal(&state));
        }
    }
    return data;
}

static inline void grid_free(struct fit_data *data)
{
    free(data->log_x);
    free(data->loss);
    free((void *)data->cluster);
}

/* A file of the folder in TUNELAW_SHARED, or of the folder `shared` beside the project's root; NULL where there is
 * none. */
static inline FILE *synthetic_shared(const char *name)
{
    char path[4096];
    const char *folder = getenv("TUNELAW_SHARED");
    if (folder)
        snprintf(path, sizeof path, "%s/%s", folder, name);
    else
        snprintf(path, sizeof path, "%s/../../shared/%s", TEST_SOURCE_DIR, name);
    return fopen(path, "r");
}

#endif
