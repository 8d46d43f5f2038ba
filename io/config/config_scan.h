/* The pass over a config's text before libconfig parses it. For whoever hands a text to libconfig. */
#ifndef TUNELAW_IO_CONFIG_CONFIG_SCAN_H
#define TUNELAW_IO_CONFIG_CONFIG_SCAN_H

#include <stddef.h>

#include "io/error.h"

/* A copy (malloc, zero-terminated) of text[size] that libconfig reads safely: bounded in nesting and settings, without
 * includes, every integer of 64 bits (libconfig reads an integer that overflows as 0, 010 as 8, and refuses arrays of
 * mixed int and int64). Lines are kept. NULL with *err. */
char *config_scan(const char *path, const char *text, size_t size, struct error *err);

#endif
