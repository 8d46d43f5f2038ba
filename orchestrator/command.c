/* What every command shares on its way out: how an error reaches the person at the terminal. */
#include "orchestrator/command.h"

#include <stdio.h>
#include <stdlib.h>

int command_fail(const struct error *err)
{
    fprintf(stderr, "tunelaw: %s\n", err->text);
    return 1;
}

double command_number(const char *name, const char *text, double low, double high, struct argp_state *state)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        argp_error(state, "--%s is \"%s\"; allowed: %g to %g", name, text, low, high);
    return value;
}
