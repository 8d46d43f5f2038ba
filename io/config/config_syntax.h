/* What is wrong with a text that libconfig has refused with no more than "syntax error". */
#ifndef TUNELAW_IO_CONFIG_CONFIG_SYNTAX_H
#define TUNELAW_IO_CONFIG_CONFIG_SYNTAX_H

#include <stdbool.h>
#include <stddef.h>

/* Finds the first place of text[size] (one that config_scan has passed) where libconfig's grammar is left: its line,
 * and a few words in what[what_size]. False where none is found: then only the parser's own words are left. */
bool config_syntax(const char *text, size_t size, int *line, char *what, size_t what_size);

#endif
