/* End states of pretraining: which are on disk, and which another run's directory lends to this one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint.h"
#include "io/log.h"
#include "orchestrator/master_internal.h"

/* Whether the file is the stage's end state; *missing: there is no file. */
static bool look(const char *path, const struct stage *stage, bool *missing)
{
    struct checkpoint_header header;
    struct error why;
    int found = checkpoint_peek(path, &header, &why);
    if (found < 0) LOG("%s", why.text);
    *missing = found == 0;
    return found > 0 && header.finished && strcmp(header.stage, stage->identity.hex) == 0;
}

/* Another run's file under this run's name. A state is written beside and renamed, never changed, so one file may serve
 * several runs, and each may remove its name. */
static bool borrow(struct stage *stage, const char *bases, const char *path)
{
    char from[PATH_MAX];
    bool missing;
    snprintf(stage->dir, sizeof stage->dir, "%s", bases);
    stage_state_path(stage, from);
    if (!look(from, stage, &missing)) return false;
    if (link(from, path) != 0 && (errno == EEXIST || symlink(from, path) != 0)) {
        LOG("%s cannot be linked to %s: %s", path, from, strerror(errno));
        return false;
    }
    LOG("%s is taken from %s", path, bases);
    return true;
}

bool master_state_finished(struct master *master, uint32_t index)
{
    char path[PATH_MAX];
    bool missing;
    struct stage *stage = master_describe(master, index);
    stage_state_path(stage, path);
    if (look(path, stage, &missing)) return true;
    return missing && master->options.bases && borrow(stage, master->options.bases, path);
}
