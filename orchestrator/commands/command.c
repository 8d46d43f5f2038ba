/* What the commands share: how the words that several of them take are read, and how an error reaches the person at the
 * terminal. */
#include "orchestrator/commands/command.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool failed;

int command_fail(const struct error *err)
{
    failed = true;
    fprintf(stderr, "tunelaw: %s\n", err->text);
    return 1;
}

void command_close_output(void)
{
    bool flushed = fflush(stdout) == 0;
    if (failed || (flushed && !ferror(stdout))) return;
    fprintf(stderr, "tunelaw: standard output: %s\n", flushed ? "not all of it could be written" : strerror(errno));
    _exit(1);
}

double command_number(const char *name, const char *text, double low, double high, struct argp_state *state)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        argp_error(state, "--%s is \"%s\"; allowed: %g to %g", name, text, low, high);
    return value;
}

static error_t parse_one(int key, char *word, struct argp_state *state, const char *what, const char **path)
{
    switch (key) {
    case ARGP_KEY_ARG:
        if (*path) argp_error(state, "one %s, not also %s", what, word);
        *path = word;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which %s?", what);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

error_t command_parse_path(int key, char *word, struct argp_state *state, const char **path)
{
    return parse_one(key, word, state, "run directory or store file", path);
}

error_t command_parse_directory(int key, char *word, struct argp_state *state, const char **dir)
{
    return parse_one(key, word, state, "run directory", dir);
}

int command_check_directory(const char *dir, struct error *err)
{
    struct stat status;
    const char *why = stat(dir, &status) ? strerror(errno) : S_ISDIR(status.st_mode) ? NULL : strerror(ENOTDIR);
    return why ? error_set(err, "%s: %s; wanted: the directory of a run", dir, why) : 0;
}

static error_t parse_sweep(int key, char *word, struct argp_state *state)
{
    struct command_sweep *sweep = state->input;
    switch (key) {
    case 'd':
        sweep->dir = word;
        return 0;
    case ARGP_KEY_ARG:
        if (sweep->file) argp_error(state, "one sweep file, not also %s", word);
        sweep->file = word;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which sweep file?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option sweep_options[] = {
    {"dir", 'd', "DIR", 0,
     "run directory: results.h5, checkpoints/, logs/ (default: runs/NAME, after the sweep's name)", 0},
    {0}};
static const struct argp sweep_argp = {.options = sweep_options, .parser = parse_sweep};
const struct argp_child command_sweep_children[] = {{&sweep_argp, 0, NULL, 0}, {0}};
