/* What a kill between a commit and its cleanup has left in checkpoints/: found by name at the next start. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "orchestrator/run/master_internal.h"

/* Whether a file is of no use once its point is committed: its state, its step file, weights that nobody keeps. */
static bool is_useless(const char *suffix, bool keep_weights)
{
    if (strcmp(suffix, ".h5") == 0 || strcmp(suffix, ".step") == 0) return true;
    return !keep_weights && strncmp(suffix, ".best-", strlen(".best-")) == 0;
}

static int compare_identities(const void *a, const void *b)
{
    return memcmp(a, b, DIGEST_HEX);
}

/* Identities of prefixes that no open stage needs, in order; the caller frees. NULL: memory. */
static struct digest *list_prefixes(const struct master *master, size_t *count)
{
    struct digest *list = calloc(master->plan->stage_count + 1, sizeof *list);
    *count = 0;
    for (size_t i = 0; list && !master->options.only && i < master->plan->stage_count; i++)
        if (master->plan->stages[i].kind == STAGE_PREFIX && master->stages[i].state == STAGE_UNNEEDED)
            list[(*count)++] = master->plan->stages[i].identity;
    if (list) qsort(list, *count, sizeof *list, compare_identities);
    return list;
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
    size_t removed = 0, prefix_count = 0;
    struct digest *prefixes = list_prefixes(master, &prefix_count);
    if (!prefixes) return error_set(err, "out of memory");
    snprintf(path, sizeof path, "%s/checkpoints", master->options.dir);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        const char *name = entry->d_name;
        if (strspn(name, "0123456789abcdef") != DIGEST_HEX) continue;
        bool prefix = bsearch(name, prefixes, prefix_count, sizeof *prefixes, compare_identities) != NULL;
        if (prefix ||
            (is_useless(name + DIGEST_HEX, master->sweep->resources.keep_weights) && is_committed(master, name)))
            removed += unlinkat(dirfd(folder), name, 0) == 0;
    }
    int result = folder ? 0 : error_set_errno(err, "%s", path);
    if (folder) closedir(folder);
    free(prefixes);
    if (removed) LOG("%zu checkpoint files that nothing needs any more removed", removed);
    return result;
}
