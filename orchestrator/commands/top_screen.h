/* What `tunelaw top` draws: a run's status.json as a terminal page. ncurses is started; the caller refreshes.
 *
 * At full size: 10^3 nodes and 10^4 running stages are summed in the head and listed as far as the terminal is high. */
#ifndef TUNELAW_ORCHESTRATOR_COMMANDS_TOP_SCREEN_H
#define TUNELAW_ORCHESTRATOR_COMMANDS_TOP_SCREEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct top_page {
    const char *dir;
    const json_t *status; /* NULL: there is none yet */
    bool silent;          /* the master has not written for a while */
    size_t selected;      /* of the running stages */
    const char *question; /* asked in the last line, or NULL */
    const char *message;  /* said in the last line, or "" */
    const char *log;      /* path of a log whose end is shown instead of the lists; NULL: the lists */
};

void top_draw(const struct top_page *page);

#endif
