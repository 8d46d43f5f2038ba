/* What runs now: a master's status.json. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_STATUS_LIVE_H
#define TUNELAW_ORCHESTRATOR_RUN_STATUS_LIVE_H

#include <jansson.h>

#define STATUS_DOUBT 4.0    /* seconds after which a reader is told */
#define STATUS_SILENCE 15.0 /* seconds without a word after which a master is taken for gone: it writes each second */

/* DIR/status.json where a master keeps it; NULL where there is none, it is damaged, old, of this host without the
 * directory's lock, or says that the sweep has ended. */
json_t *status_live(const char *dir);

/* A member of status.json, or of an object in it: 0 and "" where it is not there. Owned by the object. */
double status_number(const json_t *object, const char *key);
const char *status_string(const json_t *object, const char *key);

#endif
