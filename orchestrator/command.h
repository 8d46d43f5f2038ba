/* The commands of the program: `tunelaw NAME ...`. Each parses its own words with argp, returns the process's exit
 * code, and prints errors as "tunelaw: LINE" on stderr. */
#ifndef TUNELAW_ORCHESTRATOR_COMMAND_H
#define TUNELAW_ORCHESTRATOR_COMMAND_H

#include <argp.h>

#include "io/error.h"

int command_plan(int argc, char **argv);
int command_run(int argc, char **argv);
int command_submit(int argc, char **argv);
int command_cancel(int argc, char **argv);
int command_status(int argc, char **argv);
int command_top(int argc, char **argv);
int command_show(int argc, char **argv);
int command_export(int argc, char **argv);
int command_import(int argc, char **argv);
int command_merge(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_fit(int argc, char **argv);
int command_advise(int argc, char **argv);
int command_report(int argc, char **argv);
int command_data(int argc, char **argv);

/* Print "tunelaw: TEXT" on stderr and return the exit code of a failure (1). */
int command_fail(const struct error *err);

/* The number of an option's word; ends the program with a line that says what is allowed, where it is none. */
double command_number(const char *name, const char *text, double low, double high, struct argp_state *state);

#endif
