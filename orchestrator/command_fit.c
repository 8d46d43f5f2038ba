/* `tunelaw fit`: words in, the analysis of fitting/ out. */
#include <argp.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fitting/analysis.h"
#include "orchestrator/command.h"

struct arguments {
    const char *path;
    const char *table, *columns;
    bool json, verbose;
    double watch; /* seconds between fits; 0: once */
    struct analysis_options options;
};

static const struct argp_option options[] = {
    {"law", 'l', "LAW", 0,
     "fit this law alone: single, rectified, multiplicative, additive (or chinchilla), joint, joint_additive", 0},
    {"x", 'x', "NAME", 0, "model size: parameters or non_embedding_parameters (as the sweep file says)", 0},
    {"delta", 'd', "NUMBER", 0, "Huber's threshold, inf for least squares (as the sweep file says, else 1e-3)", 0},
    {"loss", 'o', "KIND", 0, "huber (default), l1 or l2", 0},
    {"no-offset", 'n', NULL, 0, "laws without the irreducible term E", 0},
    {"log", 'g', NULL, 0, "residuals of log L", 0},
    {"raw", 'r', NULL, 0, "residuals of L (default)", 0},
    {"bootstrap", 'b', "N", 0, "resamples for the intervals (200; 0: none)", 0},
    {"intervals", 'I', "KIND", 0, "bootstrap (default), profile (likelihood), or both", 0},
    {"resample", 'R', "WHAT", 0, "what the bootstrap draws: trunks (default), seeds, points", 0},
    {"level", 'c', "PERCENT", 0, "level of the intervals (90)", 0},
    {"table", 't', "FILE", 0, "fit the rows of a CSV file instead of a store", 0},
    {"columns", 'k', "MAP", 0, "columns of the table, such as N=params,D=tokens,L=loss", 0},
    {"verbose", 'v', NULL, 0, "after the table, every law with its intervals and how it was found", 0},
    {"watch", 'w', "SECONDS", OPTION_ARG_OPTIONAL, "fit again whenever points were added, looked at every 10 seconds",
     0},
    {"json", 'j', NULL, 0, "print JSON in full precision", 0},
    {0},
};

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'l':
        arguments->options.law = word;
        return 0;
    case 'x':
        arguments->options.x = word;
        return 0;
    case 'd':
        arguments->options.delta = command_number("delta", word, 1e-12, INFINITY, state);
        return 0;
    case 'o':
        if (strcmp(word, "huber") && strcmp(word, "l1") && strcmp(word, "l2"))
            argp_error(state, "--loss is \"%s\"; allowed: huber, l1, l2", word);
        arguments->options.absolute = !strcmp(word, "l1");
        if (!strcmp(word, "l2")) arguments->options.delta = INFINITY;
        return 0;
    case 'n':
        arguments->options.no_offset = true;
        return 0;
    case 'g':
    case 'r':
        arguments->options.log_residuals = key == 'g';
        return 0;
    case 'b':
        arguments->options.resamples = (size_t)command_number("bootstrap", word, 0, 1e6, state);
        return 0;
    case 'I':
        arguments->options.intervals = interval_kind_find(word);
        if (arguments->options.intervals == INTERVAL_KINDS)
            argp_error(state, "--intervals is \"%s\"; allowed: bootstrap, profile, both", word);
        return 0;
    case 'R':
        arguments->options.resample = cluster_find(word);
        if (arguments->options.resample == CLUSTERS)
            argp_error(state, "--resample is \"%s\"; allowed: trunks, seeds, points", word);
        return 0;
    case 'c':
        arguments->options.level = command_number("level", word, 1, 99.9, state) / 100;
        return 0;
    case 't':
        arguments->table = word;
        return 0;
    case 'k':
        arguments->columns = word;
        return 0;
    case 'w':
        arguments->watch = word ? command_number("watch", word, 0.1, 86400, state) : 10;
        return 0;
    case 'v':
        arguments->verbose = true;
        return 0;
    case 'j':
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->path) argp_error(state, "one run directory, not \"%s\" too", word);
        arguments->path = word;
        return 0;
    case ARGP_KEY_END:
        if (arguments->table && arguments->options.resample == CLUSTER_SEEDS)
            argp_error(state, "--resample seeds: a table names no seeds; allowed: trunks (its column C), points");
        if (!arguments->path == !arguments->table) argp_error(state, "give a run directory, or --table FILE");
        if (arguments->watch > 0 && arguments->table) argp_error(state, "--watch is for a run directory");
        if (!arguments->table != !arguments->columns) argp_error(state, "--table and --columns go together");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* fit.json lies in a run directory; a store given as a file, or a table, is only printed. */
static int keep(const struct arguments *arguments, const struct analysis *analysis, struct error *err)
{
    struct stat status;
    if (!arguments->path || stat(arguments->path, &status) || !S_ISDIR(status.st_mode)) return 0;
    if (analysis_write(analysis, arguments->path, err)) return -1;
    if (!arguments->json) printf("written: %s/fit.json\n", arguments->path);
    return 0;
}

/* Points that are done, and that may still come. */
static int count_points(const char *path, size_t *done, size_t *left, struct error *err)
{
    struct observations observations;
    if (observations_from_store(path, NULL, &observations, err)) return -1;
    *done = observations.points - observations.omitted_by[OMITTED_UNFINISHED];
    *left = observations.omitted_by[OMITTED_UNFINISHED];
    observations_destroy(&observations);
    return 0;
}

/* Fit, print and keep; where a sweep is watched, only if points were added since `seen`. */
static int fit_once(const struct arguments *arguments, size_t *seen, size_t *left, struct error *err)
{
    struct analysis analysis;
    size_t done = 0;
    if (arguments->watch > 0) {
        if (count_points(arguments->path, &done, left, err)) return -1;
        if (done == *seen) return 0;
        *seen = done;
    }
    int failed = arguments->table
                     ? fitting_fit_table(arguments->table, arguments->columns, &arguments->options, &analysis, err)
                     : fitting_fit_store(arguments->path, &arguments->options, &analysis, err);
    if (failed) return -1;
    if (arguments->json)
        failed = analysis_print_json(&analysis, stdout, err);
    else
        analysis_print(&analysis, arguments->verbose, stdout);
    if (!failed) failed = keep(arguments, &analysis, err);
    analysis_destroy(&analysis);
    fflush(stdout);
    return failed;
}

int command_fit(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "DIR\n--table FILE --columns MAP",
        .doc = "Fit scaling laws to the results of a sweep, also while it runs, and write DIR/fit.json.",
    };
    struct arguments arguments = {.options = analysis_defaults()};
    struct error err = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &arguments)) return 1;
    size_t seen = SIZE_MAX, left = 0;
    do {
        if (fit_once(&arguments, &seen, &left, &err)) return command_fail(&err);
        if (arguments.watch > 0 && left) usleep((useconds_t)(arguments.watch * 1e6));
    } while (arguments.watch > 0 && left);
    return 0;
}
