/* What a kill between a commit and its cleanup has left in checkpoints/: found by name at the next start. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "orchestrator/master_internal.h"

/* Whether a file is of no use once its point is committed: its state, its step file, weights that nobody keeps. */
static bool is_useless(const char *suffix, bool keep_weights)
{
    if (strcmp(suffix, ".h5") == 0 || strcmp(suffix, ".step") == 0) return true;
    return !keep_weights && strncmp(suffix, ".best-", strlen(".best-")) == 0;
}

static bool is_committed(const struct master *master, const char *name)
{
    struct error unknown;
    char identity[DIGEST_HEX + 1];
    snprintf(identity, sizeof identity, "%.*s", DIGEST_HEX, name);
    long row = store_find(master->store, identity, &unknown);
    return row >= 0 && master->committed[row];
}

int master_remove_leftovers(struct master *master, struct error *err)
{
    char path[PATH_MAX + 16];
    size_t removed = 0;
    snprintf(path, sizeof path, "%s/checkpoints", master->options.dir);
    DIR *folder = opendir(path);
    if (!folder) return error_set_errno(err, "%s", path);
    for (struct dirent *entry; (entry = readdir(folder));)
        if (strspn(entry->d_name, "0123456789abcdef") == DIGEST_HEX &&
            is_useless(entry->d_name + DIGEST_HEX, master->sweep->resources.keep_weights) &&
            is_committed(master, entry->d_name))
            removed += unlinkat(dirfd(folder), entry->d_name, 0) == 0;
    closedir(folder);
    if (removed) LOG("%zu checkpoint files of committed points removed", removed);
    return 0;
}
