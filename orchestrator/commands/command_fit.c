/* `tunelaw fit`: words in, the analysis of fitting/ out. */
#include <argp.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fitting/analysis/analysis.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/commands/fit_words.h"

struct arguments {
    const char *path;
    const char *table, *columns;
    bool json, verbose;
    double watch; /* seconds between fits; 0: once */
    const char *expression, *free, *positive, *start;
    struct analysis_options options;
};

static const struct argp_option options[] = {
    {"expression", 'e', "TEXT", 0,
     "fit the law of this expression alone, such as \"A * N^-alpha * D^-beta + E\": names are parameters, N or X, P, "
     "T, D "
     "axes; + - * / ^ ( ) exp log sqrt",
     0},
    {"free", 'f', "NAMES", 0, "parameters of the expression that may be negative, such as a,b (those in exponents)", 0},
    {"positive", 'p', "NAMES", 0, "parameters of the expression that are positive (those not in exponents)", 0},
    {"start", 's', "VALUES", 0, "where parameters of the expression start, such as A=1:100,beta=0.1:0.3", 0},
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
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->options;
        return 0;
    case 'e':
        arguments->expression = word;
        return 0;
    case 'f':
        arguments->free = word;
        return 0;
    case 'p':
        arguments->positive = word;
        return 0;
    case 's':
        arguments->start = word;
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
    case ARGP_KEY_NO_ARGS: /* --table has none */
        return 0;
    case ARGP_KEY_END:
        enum cluster_kind resample = arguments->options.resample;
        if (arguments->table && (resample == CLUSTER_SEEDS || resample == CLUSTER_RUNS))
            argp_error(state, "--resample %s: a table names no seeds; allowed: trunks (its column C), points",
                       cluster_name(resample));
        if (!arguments->path == !arguments->table) argp_error(state, "give a run directory, or --table FILE");
        if (arguments->watch > 0 && arguments->table) argp_error(state, "--watch is for a run directory");
        if (arguments->expression && arguments->options.law) argp_error(state, "give --law or --expression");
        if (!arguments->expression && (arguments->free || arguments->positive || arguments->start))
            argp_error(state, "--free, --positive and --start go with --expression");
        if (arguments->expression && arguments->options.no_offset)
            argp_error(state, "--no-offset is for laws of the table: write the expression without its offset");
        if (arguments->table && (arguments->options.x || arguments->options.seeds || arguments->options.metric))
            argp_error(state, "--x, --seeds and --metric are for a run directory; of a table --columns says it");
        if (!arguments->table != !arguments->columns) argp_error(state, "--table and --columns go together");
        return 0;
    default:
        return command_parse_path(key, word, state, &arguments->path);
    }
}

/* "a,b": make each of these parameters positive, or free. */
static int mark_names(struct user_law *law, const char *option, const char *names, bool positive, struct error *err)
{
    char *copy = names ? strdup(names) : NULL, *rest = copy;
    int result = names && !copy ? error_set(err, "out of memory") : 0;
    for (char *name; !result && (name = strsep(&rest, ","));)
        if (user_law_mark(law, name, positive, err)) result = error_prefix(err, "--%s", option);
    free(copy);
    return result;
}

/* "1:100" -> values; -1: not numbers, or too many. */
static int read_values(char *text, double values[USER_LAW_STARTS], size_t *count)
{
    *count = 0;
    for (char *word; (word = strsep(&text, ":"));) {
        char *end;
        if (*count == USER_LAW_STARTS) return -1;
        values[(*count)++] = strtod(word, &end);
        if (end == word || *end) return -1;
    }
    return 0;
}

/* "A=1:100,beta=0.1" */
static int set_starts(struct user_law *law, const char *starts, struct error *err)
{
    char *copy = starts ? strdup(starts) : NULL, *rest = copy;
    int result = starts && !copy ? error_set(err, "out of memory") : 0;
    for (char *word; !result && (word = strsep(&rest, ","));) {
        double values[USER_LAW_STARTS];
        size_t count = 0;
        char *equals = strchr(word, '=');
        if (equals) *equals = 0;
        if (!equals || read_values(equals + 1, values, &count))
            result = error_set(err, "--start: \"%s\"; allowed: NAME=NUMBER:NUMBER, up to %d numbers, separated by ','",
                               word, USER_LAW_STARTS);
        else if (user_law_start(law, word, values, count, err))
            result = error_prefix(err, "--start");
    }
    free(copy);
    return result;
}

/* The law of --expression; NULL with *err. */
static struct user_law *make_law(const struct arguments *arguments, struct error *err)
{
    struct user_law *law = user_law_create("expression", arguments->expression, err);
    if (!law) {
        error_prefix(err, "--expression");
        return NULL;
    }
    if (mark_names(law, "positive", arguments->positive, true, err) ||
        mark_names(law, "free", arguments->free, false, err) || set_starts(law, arguments->start, err)) {
        user_law_destroy(law);
        return NULL;
    }
    return law;
}

/* Points that are done, and that may still come. */
static int count_points(const char *path, size_t *done, size_t *left, struct error *err)
{
    struct observations observations;
    if (observations_from_store(path, NULL, &observations, err)) return -1;
    *left = observations.omitted_by[OMITTED_UNFINISHED] + observations.omitted_by[OMITTED_CUT];
    *done = observations.points - *left;
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
    bool kept = false, fitted = false;
    for (size_t i = 0; i < analysis.fit_count; i++)
        fitted = fitted || analysis.fits[i].fitted;
    if (!failed && arguments->path) failed = fit_keep(&analysis, arguments->path, &kept, err);
    if (kept && !arguments->json) printf("written: %s/fit.json\n", arguments->path);
    analysis_destroy(&analysis);
    fflush(stdout);
    if (!failed && !fitted && !(arguments->watch > 0)) return error_set(err, "no law could be fitted (above)");
    return failed;
}

int command_fit(int argc, char **argv)
{
    static const struct argp_child children[] = {{&fit_words, 0, "Reading and fitting:", 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .args_doc = "DIR\nSTORE.h5\n--table FILE --columns MAP",
        .doc = "Fit scaling laws to the results of a sweep, also while it runs, and write DIR/fit.json (of a store "
               "file by itself, and of a table, --json prints it and nothing is written).",
    };
    struct arguments arguments = {.options = analysis_defaults()};
    struct error err = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &arguments)) return 1;
    size_t seen = SIZE_MAX, left = 0;
    struct user_law *law = NULL;
    if (arguments.expression && !(law = make_law(&arguments, &err))) return command_fail(&err);
    arguments.options.user = law;
    int failed;
    do {
        failed = fit_once(&arguments, &seen, &left, &err);
        if (!failed && arguments.watch > 0 && left) usleep((useconds_t)(arguments.watch * 1e6));
    } while (!failed && arguments.watch > 0 && left);
    user_law_destroy(law);
    return failed ? command_fail(&err) : 0;
}
