/* End states of pretraining: which are on disk, and which another run's directory lends to this one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "io/log.h"
#include "orchestrator/run/master_internal.h"

static bool is_end(const struct checkpoint_header *header, const struct stage *stage)
{
    return header->finished && strcmp(header->stage, stage->identity.hex) == 0;
}

/* 1: the file is the stage's end state, 0: it is not, *missing: there is no file, -1: it cannot be looked at. */
static int look(const char *path, const struct stage *stage, bool *missing, struct error *err)
{
    struct checkpoint_header header;
    struct error why;
    int found = checkpoint_peek(path, &header, &why);
    if (found < 0 && errno != EBADMSG) return error_set(err, "%s", why.text);
    if (found < 0) LOG("%s", why.text);
    *missing = found == 0;
    return found > 0 && is_end(&header, stage);
}

/* Another run's file under this run's name. A state is written beside and renamed, never changed, so one file may serve
 * several runs, and each may remove its name. */
static bool borrow(struct stage *stage, const char *bases, const char *path)
{
    char from[PATH_MAX];
    bool missing;
    snprintf(stage->dir, sizeof stage->dir, "%s", bases);
    stage_state_path(stage, from);
    if (look(from, stage, &missing, NULL) != 1) return false;
    if (link(from, path) != 0 && (errno == EEXIST || symlink(from, path) != 0)) {
        LOG("%s cannot be linked to %s: %s", path, from, strerror(errno));
        return false;
    }
    LOG("%s is taken from %s", path, bases);
    return true;
}

bool master_state_present(struct master *master, uint32_t index, struct checkpoint_header *header)
{
    char path[PATH_MAX];
    struct error ignored;
    const struct stage *stage = master_describe(master, index);
    stage_state_path(stage, path);
    return checkpoint_peek(path, header, &ignored) > 0 && is_end(header, stage);
}

int master_state_finished(struct master *master, uint32_t index, bool *finished, struct error *err)
{
    char path[PATH_MAX];
    bool missing;
    struct stage *stage = master_describe(master, index);
    stage_state_path(stage, path);
    int found = look(path, stage, &missing, err);
    if (found < 0) return -1;
    bool borrowed = missing && master->options.bases && borrow(stage, master->options.bases, path);
    if (borrowed) losses_end(master->losses, index); /* whatever was begun here has come to nothing */
    *finished = found || borrowed;
    return 0;
}
