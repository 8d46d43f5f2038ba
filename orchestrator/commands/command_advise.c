/* `tunelaw advise`: a question about a finetuning set in, the best method and model by a sweep's laws out. */
#include <argp.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/advise.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/commands/fit_words.h"

struct arguments {
    const char *path, *model;
    bool json;
    struct advise_question question;
    struct analysis_options options;
};

static const struct argp_option option_list[] = {
    {"examples", 'e', "N", 0, "finetuning examples, such as 50000 or 50K (needed)", 0},
    {"model", 'm', "MODEL", 0,
     "a model of the sweep by its name, or parameters, such as 365832 or 8B (every model size of the sweep)", 0},
    {"budget", 'b', "SECONDS", 0, "longest training and evaluation of the point, in seconds of the sweep's devices", 0},
    {"task", 't', "NAME", 0, "of these laws (needed where the sweep has several tasks)", 0},
    {"json", 'j', NULL, 0, "print JSON in full precision", 0},
    {0},
};

/* "8B" -> 8e9; NAN: no number above 0. */
static double count_of(const char *text)
{
    static const char letters[] = "KMBT";
    char *end;
    double value = strtod(text, &end);
    if (end != text && *end && strchr(letters, *end))
        value *= pow(1000, (double)(strchr(letters, *end++) - letters + 1));
    return end == text || *end || !(value > 0) || !isfinite(value) ? NAN : value;
}

static double read_budget(const char *text, struct argp_state *state)
{
    double value = count_of(text);
    if (isnan(value)) argp_error(state, "--budget is \"%s\"; allowed: a number above 0, with K, M, B or T", text);
    return value;
}

/* 1.001K is 1001, though not in binary. */
static double read_examples(const char *text, struct argp_state *state)
{
    double value = count_of(text), whole = round(value);
    if (!(whole >= 1) || fabs(value - whole) > 1e-12 * whole)
        argp_error(state, "--examples is \"%s\"; allowed: integers from 1, with K, M, B or T", text);
    return whole;
}

/* A name of the sweep's models, else a number. */
static int find_model(const char *word, const struct observations *observations, double *parameters, struct error *err)
{
    const char *x = observations->x_name;
    char names[256] = "", name[OBSERVATION_NAME + 3];
    size_t used = 0;
    if (!strcmp(x, "trainable_parameters"))
        return error_set(err,
                         "--model: the laws are in %s, which depend on the method; allowed with it: --x parameters", x);
    for (size_t i = 0; i < observations->count; i++) {
        const struct observation *row = &observations->rows[i];
        *parameters = row->parameters;
        if (!strcmp(row->model, word)) return 0;
        snprintf(name, sizeof name, "\"%s\"", row->model);
        if (!strstr(names, name) && used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
    }
    *parameters = count_of(word);
    if (isnan(*parameters))
        return error_set(err, "--model is \"%s\"; allowed: %s, or a number above 0, with K, M, B or T", word, names);
    return strcmp(x, "parameters") ? error_set(err,
                                               "--model is a size in parameters, and the laws are in %s; allowed with "
                                               "it: a model's name, or --x parameters",
                                               x)
                                   : 0;
}

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'e':
        arguments->question.examples = read_examples(word, state);
        return 0;
    case 'm':
        arguments->model = word;
        return 0;
    case 'b':
        arguments->question.budget = read_budget(word, state);
        return 0;
    case 't':
        arguments->question.task = word;
        return 0;
    case 'j':
        arguments->json = true;
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->options;
        return 0;
    case ARGP_KEY_END:
        if (!(arguments->question.examples > 0)) argp_error(state, "give --examples N");
        if (arguments->options.intervals == INTERVAL_BOTH)
            argp_error(state, "--intervals is \"both\"; allowed: bootstrap, profile");
        return 0;
    default:
        return command_parse_path(key, word, state, &arguments->path);
    }
}

int command_advise(int argc, char **argv)
{
    static const struct argp_child children[] = {{&fit_words, 0, "Reading and fitting:", 0}, {0}};
    static const struct argp argp = {
        .options = option_list,
        .parser = parse,
        .children = children,
        .args_doc = "DIR --examples N",
        .doc = "Say which method and which model of a sweep promise the lowest loss for so many finetuning examples.",
    };
    struct arguments arguments = {.question = {.parameters = NAN, .budget = INFINITY}, .options = analysis_defaults()};
    struct analysis analysis;
    struct advice advice;
    struct error err = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &arguments)) return 1;
    if (fitting_fit_store(arguments.path, &arguments.options, &analysis, &err)) return command_fail(&err);
    int failed = 0;
    if (arguments.model)
        failed = find_model(arguments.model, &analysis.observations, &arguments.question.parameters, &err);
    if (!failed) failed = advise(&analysis, &arguments.question, &advice, &err);
    if (!failed) {
        if (arguments.json)
            failed = advice_print_json(&analysis, &arguments.question, &advice, stdout, &err);
        else
            advice_print(&analysis, &arguments.question, &advice, stdout);
        advice_destroy(&advice);
    }
    analysis_destroy(&analysis);
    return failed ? command_fail(&err) : 0;
}
