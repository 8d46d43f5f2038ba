/* Times of the fitter on points from a file: one fit from a grid of starts, and the bootstrap. Started by fit_laws.py.
 *
 *   bench_fit_laws FILE RESAMPLES      FILE: lines of "X D loss"
 *
 * Prints the number of starts, the seconds of the fit, its objective, the number of resamples and their seconds; then a
 * line a start (centred axes) and the fit's end (the same axes), for the peer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fitting/fit/interval.h"
#include "fitting/fit/starts.h"

enum { ROOM = 100000 };

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void print_theta(const struct law *law, const double *theta)
{
    for (size_t i = 0; i < law->parameter_count; i++)
        printf("%s%.17g", i ? " " : "", theta[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    FILE *file = argc == 3 ? fopen(argv[1], "r") : NULL;
    struct fit_data data = {.log_x = calloc(ROOM, sizeof *data.log_x), .loss = calloc(ROOM, sizeof *data.loss)};
    double x, d, loss, theta[LAW_PARAMETERS];
    if (!file || !data.log_x || !data.loss) return fprintf(stderr, "usage: bench_fit_laws FILE RESAMPLES\n"), 1;
    while (data.count < ROOM && fscanf(file, "%lf %lf %lf", &x, &d, &loss) == 3) {
        data.log_x[data.count][LAW_X] = log(x);
        data.log_x[data.count][LAW_D] = log(d);
        data.loss[data.count++] = loss;
    }
    fclose(file);
    const struct law *law = law_find("additive", NULL);
    const struct fit_options options = {.delta = 1e-3, .log_residuals = true};
    const struct interval_options how = {strtoul(argv[2], NULL, 10), 0.9, 1, false};
    struct error err = {""};
    struct fit fit;
    struct intervals intervals;
    double began = seconds();
    if (fit_law(law, &data, &options, &fit, &err)) return fprintf(stderr, "%s\n", err.text), 1;
    double fitted = seconds();
    if (interval_bootstrap(&fit, &data, &options, &how, &intervals, &err)) return fprintf(stderr, "%s\n", err.text), 1;
    printf("%zu %.6f %.17g %zu %.6f\n", fit.starts, fitted - began, fit.objective, intervals.resamples,
           seconds() - fitted);
    struct starts_scale scale = starts_scale(&data);
    for (size_t i = 0; i < fit.starts; i++) {
        starts_get(law, &data, &scale, i, theta);
        print_theta(law, theta);
    }
    law_shift(law, fit.theta, fit.centre);
    print_theta(law, fit.theta);
    free(data.log_x);
    free(data.loss);
    return 0;
}
