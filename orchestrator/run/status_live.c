/* Reads what a live master says of a run: the moving part of `tunelaw status`. */
#include "orchestrator/run/status_live.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "io/store/store.h"

/* A master of this host that has died has lost its lock; on another host's the lock may not be seen. */
static bool has_died(const char *dir, const json_t *live)
{
    char host[256] = "";
    struct error ignored;
    gethostname(host, sizeof host - 1);
    const json_t *first = json_array_get(json_object_get(live, "nodes"), 0); /* rank 0: the master's */
    return !strcmp(status_string(first, "host"), host) && store_lock_held(dir, &ignored) == 0;
}

json_t *status_live(const char *dir)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/status.json", dir);
    json_t *live = json_load_file(path, 0, NULL);
    double age = clock_wall() - json_number_value(json_object_get(live, "updated"));
    if (live && age < STATUS_SILENCE && !json_is_true(json_object_get(live, "finished")) && !has_died(dir, live))
        return live;
    json_decref(live);
    return NULL;
}

double status_number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

const char *status_string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}
