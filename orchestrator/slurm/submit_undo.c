/* A submit that Slurm refuses leaves the run directory as it was: files that it forgets or replaces have a second name
 * until Slurm has taken the job. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "orchestrator/slurm/submit.h"

static const char *const folders[] = {"slurm", "checkpoints", "logs"};
static const char *const files[] = {"slurm/cancelled", "slurm/left",   "slurm/idle",      "slurm/array",
                                    "slurm/jobs",      "slurm/job.sh", "slurm/trunks.sh", "slurm/array.sh",
                                    "slurm/merge.sh",  "logs/flights"};
enum { FOLDERS = sizeof folders / sizeof *folders, FILES = sizeof files / sizeof *files, PATH = PATH_MAX + 32 };

static void paths_of(const char *dir, size_t file, char path[PATH], char kept[PATH])
{
    snprintf(path, PATH, "%s/%s", dir, files[file]);
    snprintf(kept, PATH, "%s/%s.kept", dir, files[file]);
}

/* Length of the longest part of a path that is there, at a slash or its end. */
static size_t length_there(const char *dir)
{
    char part[PATH_MAX];
    size_t length = (size_t)snprintf(part, sizeof part, "%s", dir);
    while (length > 0 && access(part, F_OK)) {
        char *slash = strrchr(part, '/');
        length = slash ? (size_t)(slash - part) : 0;
        part[length] = 0;
    }
    return length;
}

struct submit_before submit_look(const char *dir)
{
    char path[PATH];
    struct submit_before before = {.there = length_there(dir)};
    for (size_t i = 0; i < FOLDERS; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, folders[i]);
        if (!access(path, F_OK)) before.folders |= 1u << i;
    }
    snprintf(path, sizeof path, "%s/results.lock", dir);
    before.lock = !access(path, F_OK);
    return before;
}

void submit_settle(const char *dir)
{
    char path[PATH], kept[PATH];
    for (size_t i = 0; i < FILES; i++) {
        paths_of(dir, i, path, kept);
        unlink(kept);
    }
}

/* The list of jobs is appended to, the others are replaced. */
static int keep_file(size_t file, const char *path, const char *kept, struct error *err)
{
    return strcmp(files[file], "slurm/jobs") ? file_link(path, kept, err) : file_copy(path, kept, err);
}

int submit_keep(const char *dir, struct error *err)
{
    char path[PATH], kept[PATH];
    submit_settle(dir); /* of one that was killed */
    for (size_t i = 0; i < FILES; i++) {
        paths_of(dir, i, path, kept);
        if (access(path, F_OK) || !keep_file(i, path, kept, err)) continue;
        submit_settle(dir);
        return -1;
    }
    return 0;
}

void submit_put_back(const char *dir)
{
    char path[PATH], kept[PATH];
    for (size_t i = 0; i < FILES; i++) {
        paths_of(dir, i, path, kept);
        if (access(kept, F_OK)) {
            unlink(path);
        } else {
            rename(kept, path);
            unlink(kept); /* rename does nothing where both are one file */
        }
    }
}

void submit_take_back(const char *dir, const struct submit_before *before)
{
    char path[PATH];
    submit_put_back(dir);
    for (size_t i = 0; i < FOLDERS; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, folders[i]);
        if (!(before->folders & 1u << i)) rmdir(path);
    }
    snprintf(path, sizeof path, "%s", dir);
    for (char *slash = path; slash && strlen(path) > before->there && rmdir(path) == 0;)
        if ((slash = strrchr(path, '/'))) *slash = 0;
}
