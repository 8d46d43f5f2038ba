/* What a stage leaves in checkpoints/ beside its state, and its removal once nothing needs it. */
#include "workers/stage/stage_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"

static int make_folder(const char *dir, const char *name, struct error *err)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return error_set(err, "%s: the path is too long", dir);
    if (mkdir(path, 0777) != 0 && errno != EEXIST) return error_set_errno(err, "%s", path);
    return 0;
}

int stage_make_folders(const struct stage *stage, struct error *err)
{
    if (make_folder(stage->dir, "checkpoints", err) || make_folder(stage->dir, "logs", err)) return -1;
    return stage->generate.save && make_folder(stage->dir, "generations", err) ? -1 : 0;
}

int stage_check_owner(const struct stage *stage, struct error *err)
{
    uint64_t found = stage->generation ? store_stamp(stage->dir) : 0;
    if (found == 0 || found == stage->generation) return 0; /* where it cannot be read nobody has taken it over */
    return error_set(err, "%s: another run has taken this directory over", stage->dir);
}

bool stage_trained_read(const struct stage *stage, struct stage_trained *out)
{
    char path[PATH_MAX], digits[48] = "";
    *out = (struct stage_trained){0};
    stage_step_path(stage, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t got = read(fd, digits, sizeof digits - 1);
    close(fd);
    if (got > 0) sscanf(digits, "%20" SCNu64 " %20" SCNu64, &out->reached, &out->executed);
    return true;
}

void stage_trained_write(const struct stage *stage, const struct stage_trained *trained)
{
    char path[PATH_MAX], digits[48];
    stage_step_path(stage, path);
    int size = snprintf(digits, sizeof digits, "%020" PRIu64 " %020" PRIu64 "\n", trained->reached,
                        trained->executed); /* always as long: a write replaces it whole */
    int fd = file_open_write(path, 0);
    if (fd < 0) return;
    ssize_t written = pwrite(fd, digits, (size_t)size, 0); /* it only counts: a failure is no failure of the stage */
    (void)written;
    close(fd);
}

/* Step of "ID.best-STEP.h5", or 0. */
static uint64_t best_step(const char *name, const char *identity)
{
    uint64_t step = 0;
    int used = 0;
    if (strncmp(name, identity, DIGEST_HEX) != 0) return 0;
    if (sscanf(name + DIGEST_HEX, ".best-%20" SCNu64 ".h5%n", &step, &used) != 1 || used == 0) return 0;
    return name[DIGEST_HEX + used] == 0 ? step : 0;
}

static bool is_unfinished(const char *name, const char *identity)
{
    size_t size = strlen(name);
    return strncmp(name, identity, DIGEST_HEX) == 0 && size > 4 && strcmp(name + size - 4, ".tmp") == 0;
}

void stage_remove_best(const struct stage *stage, uint64_t keep, uint64_t keep_too)
{
    char path[PATH_MAX];
    stage_state_path(stage, path);
    *strrchr(path, '/') = 0;
    DIR *folder = opendir(path);
    if (!folder) return;
    for (struct dirent *entry; (entry = readdir(folder));) {
        uint64_t step = best_step(entry->d_name, stage->identity.hex);
        if (((step && step != keep && step != keep_too) || is_unfinished(entry->d_name, stage->identity.hex)) &&
            stage_check_owner(stage, NULL) == 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
}

void stage_cleanup(const struct stage *stage)
{
    char path[PATH_MAX];
    stage_step_path(stage, path);
    unlink(path);
    if (stage->kind != STAGE_FINETUNE) return;
    stage_state_path(stage, path);
    unlink(path);
    if (!stage->keep_weights) stage_remove_best(stage, 0, 0);
}

void stage_discard(const struct stage *stage)
{
    char path[PATH_MAX];
    if (stage_check_owner(stage, NULL)) return;
    stage_state_path(stage, path);
    unlink(path);
    stage_remove_best(stage, 0, 0);
}
