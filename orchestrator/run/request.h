/* What a person asks a running master for, through a file in the run directory: the reading commands have no other way
 * to it, and a file works from every node that sees the directory. The master looks a few times a second. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_REQUEST_H
#define TUNELAW_ORCHESTRATOR_RUN_REQUEST_H

#include <stdbool.h>

#include "io/error.h"

enum request {
    REQUEST_DRAIN, /* checkpoint, and end */
    REQUEST_PAUSE  /* nothing new starts as long as the file is there */
};

bool request_present(const char *dir, enum request request);
int request_make(const char *dir, enum request request, struct error *err);
/* 0 also where there is none. */
int request_withdraw(const char *dir, enum request request, struct error *err);

#endif
