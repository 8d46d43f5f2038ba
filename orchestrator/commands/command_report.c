/* `tunelaw report`: the analysis of fitting/ as one HTML page. */
#include <argp.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fitting/report/report.h"
#include "io/file.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/commands/fit_words.h"

struct arguments {
    const char *dir, *out;
    struct analysis_options options;
};

static const struct argp_option options[] = {
    {"out", 'o', "FILE", 0,
     "where the page goes (DIR/report.html; of a store file NAME.h5, NAME-report.html); without DIR/fit.json", 0},
    {0},
};

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'o':
        arguments->out = word;
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->options;
        return 0;
    default:
        return command_parse_path(key, word, state, &arguments->dir);
    }
}

int command_report(int argc, char **argv)
{
    static const struct argp_child children[] = {{&fit_words, 0, "Reading and fitting:", 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .args_doc = "DIR",
        .doc = "Write the results and the laws of the sweep in DIR (or of a store file) as one HTML page that needs "
               "nothing else; plots need gnuplot.",
    };
    struct arguments arguments = {.options = analysis_defaults()};
    struct analysis analysis;
    struct stat status;
    char page[REPORT_PATH];
    struct error err = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &arguments)) return 1;
    if (stat(arguments.dir, &status)) {
        error_set_errno(&err, "%s", arguments.dir);
        return command_fail(&err);
    }
    if (fitting_fit_store(arguments.dir, &arguments.options, &analysis, &err)) return command_fail(&err);
    bool kept = false; /* a page that goes elsewhere leaves fit.json to the page that is in the directory */
    int failed =
        arguments.out ? file_check_named(arguments.out, &err) : fit_keep(&analysis, arguments.dir, &kept, &err);
    if (!failed) failed = report_write(arguments.dir, arguments.out, &analysis, kept, &err);
    analysis_destroy(&analysis);
    if (failed) return command_fail(&err);
    report_default_page(arguments.dir, page);
    printf("written: %s\n", arguments.out ? arguments.out : page);
    return 0;
}
