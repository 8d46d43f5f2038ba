/* Reads what a live master says of a run: the moving part of `tunelaw status`. */
#include "orchestrator/run/status_live.h"

#include <limits.h>
#include <string.h>

#include "io/log.h"

json_t *status_live(const char *dir)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/status.json", dir);
    json_t *live = json_load_file(path, 0, NULL);
    double age = clock_wall() - json_number_value(json_object_get(live, "updated"));
    if (live && age < STATUS_SILENCE && !json_is_true(json_object_get(live, "finished"))) return live;
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
