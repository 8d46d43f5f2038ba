/* `tunelaw advise`: a question about a finetuning set in, the best method and model by a sweep's laws out. */
#include <argp.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/advise.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/commands/fit_words.h"

struct arguments {
    const char *path;
    bool json;
    struct advise_question question;
    struct analysis_options options;
};

static const struct argp_option option_list[] = {
    {"examples", 'e', "N", 0, "finetuning examples, such as 50000 or 50K (needed)", 0},
    {"model", 'm', "SIZE", 0, "parameters of the model, such as 365832 or 8B (every model size of the sweep)", 0},
    {"budget", 'b', "SECONDS", 0, "longest training and evaluation of the point, in seconds of the sweep's devices", 0},
    {"task", 't', "NAME", 0, "of these laws (needed where the sweep has several tasks)", 0},
    {"json", 'j', NULL, 0, "print JSON in full precision", 0},
    {0},
};

/* "8B" -> 8e9 */
static double read_count(const char *name, const char *text, struct argp_state *state)
{
    static const char letters[] = "KMBT";
    char *end;
    double value = strtod(text, &end);
    if (end != text && *end && strchr(letters, *end))
        value *= pow(1000, (double)(strchr(letters, *end++) - letters + 1));
    if (end == text || *end || !(value > 0) || !isfinite(value))
        argp_error(state, "--%s is \"%s\"; allowed: a number above 0, with K, M, B or T", name, text);
    return value;
}

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'e':
        arguments->question.examples = read_count("examples", word, state);
        return 0;
    case 'm':
        arguments->question.parameters = read_count("model", word, state);
        return 0;
    case 'b':
        arguments->question.budget = read_count("budget", word, state);
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
    if (!isnan(arguments.question.parameters) && strcmp(analysis.observations.x_name, "parameters") != 0)
        failed =
            error_set(&err, "--model is a size in parameters, and the laws are in %s; allowed with it: --x parameters",
                      analysis.observations.x_name);
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
