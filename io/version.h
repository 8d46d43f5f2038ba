/* Which build this is: stored with every result, printed by `tunelaw --version`. */
#ifndef TUNELAW_IO_VERSION_H
#define TUNELAW_IO_VERSION_H

#include <stdio.h>

/* "0.1.0 4f2c9d1", or "0.1.0 4f2c9d1+" when the sources differed from that revision, or "0.1.0" outside a git checkout.
 * Shorter than STORE_NAME; static. */
const char *version_string(void);

/* The build: version, compiler and its flags, libraries; one "name value" a line. */
void version_print(FILE *out);

#endif
