/* The run directory: its path and its folders, before the first file is written. */
#include "orchestrator/run/run_directory.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/version.h"

int run_path(const char *path, char absolute[PATH_MAX], struct error *err)
{
    char folder[PATH_MAX] = "";
    if (!path[0]) return error_set(err, "an empty path");
    if (path[0] != '/' && !getcwd(folder, sizeof folder)) return error_set_errno(err, "the current folder");
    int length = snprintf(absolute, PATH_MAX, "%s%s%s", folder, path[0] == '/' ? "" : "/", path);
    if (length < 0 || length > RUN_PATH_LIMIT)
        return error_set(err, "%.200s...: the path is too long; allowed: up to %d bytes", absolute, RUN_PATH_LIMIT);
    json_t *text = json_string(absolute); /* as a stage holds it */
    if (!text) return error_set(err, "%s: the path is not UTF-8, or there is no memory", absolute);
    json_decref(text);
    return 0;
}

static int make_folder(const char *path, struct error *err)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *slash = strchr(copy + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash) *slash = 0;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST) return error_set_errno(err, "%s", copy);
        if (!slash) return 0;
        *slash = '/';
    }
}

int run_directory_make(const char *dir, char absolute[PATH_MAX], struct error *err)
{
    char path[PATH_MAX];
    static const char *const folders[] = {"", "/checkpoints", "/logs"};
    if (run_path(dir, absolute, err) != 0) return -1;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%.*s%s", RUN_PATH_LIMIT, absolute, folders[i]);
        if (make_folder(path, err) != 0) return -1;
    }
    return 0;
}

int run_directory_store(const char *dir, const struct sweep *sweep, const struct plan *plan, const char *shard,
                        struct store_generation_report *report, struct error *err)
{
    char digests[SWEEP_DIGESTS];
    sweep_digests(sweep, digests);
    char config[PATH_MAX]; /* absolute, so that `verify` finds the data set from anywhere */
    struct store_header header = {.config_text = sweep->text,
                                  .config_path = realpath(sweep->path, config) ? config : sweep->path,
                                  .version = version_string(),
                                  .dataset_digest = digests,
                                  .name = sweep->name,
                                  .shard = shard};
    return store_generation(dir, &header, plan->points, plan->point_count, report, err);
}
