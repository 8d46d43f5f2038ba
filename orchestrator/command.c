/* What every command shares on its way out: how an error reaches the person at the terminal. */
#include "orchestrator/command.h"

#include <stdio.h>

int command_fail(const struct error *err)
{
    fprintf(stderr, "tunelaw: %s\n", err->text);
    return 1;
}
