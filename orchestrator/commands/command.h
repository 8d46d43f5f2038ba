/* The commands of the program: `tunelaw NAME ...`. Each parses its own words with argp, returns the process's exit
 * code, and prints errors as "tunelaw: LINE" on stderr. */
#ifndef TUNELAW_ORCHESTRATOR_COMMANDS_COMMAND_H
#define TUNELAW_ORCHESTRATOR_COMMANDS_COMMAND_H

#include <argp.h>

#include "io/error.h"

int command_plan(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_run(int argc, char **argv);
int command_submit(int argc, char **argv);
int command_cancel(int argc, char **argv);
int command_status(int argc, char **argv);
int command_top(int argc, char **argv);
int command_show(int argc, char **argv);
int command_export(int argc, char **argv);
int command_import(int argc, char **argv);
int command_generate(int argc, char **argv);
int command_evaluate(int argc, char **argv);
int command_merge(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_fit(int argc, char **argv);
int command_advise(int argc, char **argv);
int command_report(int argc, char **argv);
int command_data(int argc, char **argv);

/* Print "tunelaw: TEXT" on stderr and return the exit code of a failure (1). */
int command_fail(const struct error *err);

/* For atexit: what was printed has arrived, or the program ends with a line and 1. Silent where a command has failed.
 */
void command_close_output(void);

/* The number of an option's word; ends the program with a line that says what is allowed, where it is none. */
double command_number(const char *name, const char *text, double low, double high, struct argp_state *state);

/* The one argument of the reading commands, a run directory or a store file: for a parser's `default`. *path is NULL
 * before. */
error_t command_parse_path(int key, char *word, struct argp_state *state, const char **path);
/* As command_parse_path, for commands that need the directory of a run. */
error_t command_parse_directory(int key, char *word, struct argp_state *state, const char **dir);

/* Whether such an argument is a directory: 0, or -1 with a line that says what is wanted. */
int command_check_directory(const char *dir, struct error *err);

/* FILE and --dir of the commands that run a sweep: the children of their argp, whose parsers set
 * state->child_inputs[0] to this at ARGP_KEY_INIT. */
struct command_sweep {
    const char *file;
    const char *dir; /* NULL: runs/NAME */
};
extern const struct argp_child command_sweep_children[];

#endif
