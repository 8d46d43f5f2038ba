/* `tunelaw report`: the analysis of fitting/ as one HTML page. */
#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fitting/report.h"
#include "orchestrator/command.h"

struct arguments {
    const char *dir, *out;
    struct analysis_options options;
};

static const struct argp_option options[] = {
    {"out", 'o', "FILE", 0, "where the page goes (DIR/report.html)", 0},
    {"x", 'x', "NAME", 0, "model size: parameters or non_embedding_parameters (as the sweep file says)", 0},
    {"delta", 'd', "NUMBER", 0, "Huber's threshold (as the sweep file says, else 1e-3)", 0},
    {"log", 'g', NULL, 0, "fit residuals of log L instead of L", 0},
    {"bootstrap", 'b', "N", 0, "resamples for the intervals (200)", 0},
    {0},
};

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    char *end = NULL;
    switch (key) {
    case 'o':
        arguments->out = word;
        return 0;
    case 'x':
        arguments->options.x = word;
        return 0;
    case 'd':
        arguments->options.delta = strtod(word, &end);
        if (end == word || *end || !(arguments->options.delta >= 1e-12))
            argp_error(state, "--delta is \"%s\"; allowed: 1e-12 to inf", word);
        return 0;
    case 'g':
        arguments->options.log_residuals = true;
        return 0;
    case 'b':
        arguments->options.resamples = strtoul(word, &end, 10);
        if (end == word || *end || *word == '-' || arguments->options.resamples > 1000000)
            argp_error(state, "--bootstrap is \"%s\"; allowed: 0 to 1000000", word);
        return 0;
    default:
        return command_parse_path(key, word, state, &arguments->dir);
    }
}

int command_report(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "DIR",
        .doc =
            "Write the results and the laws of a sweep as one HTML page that needs nothing else; plots need gnuplot.",
    };
    struct arguments arguments = {.options = analysis_defaults()};
    struct analysis analysis;
    struct stat status;
    struct error err = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &arguments)) return 1;
    if (stat(arguments.dir, &status)) {
        error_set_errno(&err, "%s", arguments.dir);
        return command_fail(&err);
    }
    if (!S_ISDIR(status.st_mode)) {
        error_set(&err, "%s is not a run directory", arguments.dir);
        return command_fail(&err);
    }
    if (fitting_fit_store(arguments.dir, &arguments.options, &analysis, &err)) return command_fail(&err);
    int failed = analysis_write(&analysis, arguments.dir, &err);
    if (!failed) failed = report_write(arguments.dir, arguments.out, &analysis, &err);
    analysis_destroy(&analysis);
    if (failed) return command_fail(&err);
    if (arguments.out)
        printf("written: %s\n", arguments.out);
    else
        printf("written: %s/report.html\n", arguments.dir);
    return 0;
}
