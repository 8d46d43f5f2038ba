/* Which stages were in flight when earlier runs died: a file that the master appends to before it hands stages out. */
#include "orchestrator/run/losses.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"

struct flight {
    bool open; /* its end is not known */
    uint32_t lost;
    long long stamp; /* of the checkpoint with which the last of them began, in ns; 0: there was none */
};

struct losses {
    const char *dir;
    const struct plan *plan;
    struct flight *flights; /* [stages] */
    uint32_t *by_identity;  /* [stages] in the order of their identities */
    FILE *file;
    bool noted; /* something is not on disk yet */
};

static void path_of(const char *dir, char path[PATH_MAX + 32])
{
    snprintf(path, PATH_MAX + 32, "%s/logs/flights", dir);
}

static const char *identity(const struct losses *losses, uint32_t stage)
{
    return losses->plan->stages[stage].identity.hex;
}

/* When the newest checkpoint of a stage was written. */
static long long stamp_of(const struct losses *losses, uint32_t stage)
{
    struct stat status;
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/checkpoints/%s.h5", losses->dir, identity(losses, stage));
    if (stat(path, &status) != 0) return 0;
    return (long long)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
}

static int compare(const void *a, const void *b, void *context)
{
    const struct losses *losses = context;
    return strcmp(identity(losses, *(const uint32_t *)a), identity(losses, *(const uint32_t *)b));
}

static int sort(struct losses *losses, struct error *err)
{
    size_t count = losses->plan->stage_count;
    losses->flights = calloc(count + 1, sizeof *losses->flights);
    losses->by_identity = calloc(count + 1, sizeof *losses->by_identity);
    if (!losses->flights || !losses->by_identity) return error_set(err, "out of memory");
    for (size_t i = 0; i < count; i++)
        losses->by_identity[i] = (uint32_t)i;
    qsort_r(losses->by_identity, count, sizeof *losses->by_identity, compare, losses);
    return 0;
}

/* The flight of an identity, or NULL: it is no longer in the sweep. */
static struct flight *find(const struct losses *losses, const char *hex)
{
    size_t low = 0, high = losses->plan->stage_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(identity(losses, losses->by_identity[middle]), hex);
        if (order == 0) return &losses->flights[losses->by_identity[middle]];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void read_line(struct losses *losses, const char *line)
{
    char hex[DIGEST_HEX + 1];
    long long stamp = 0;
    if (sscanf(line + 1, "%32[0-9a-f] %lld", hex, &stamp) < 1) return;
    struct flight *flight = find(losses, hex);
    if (!flight) return;
    if (line[0] == '-') *flight = (struct flight){0};
    if (line[0] != '+') return;
    bool same = flight->lost && flight->stamp == stamp;
    *flight = (struct flight){true, same ? flight->lost + 1 : 1, stamp};
}

static int read_file(struct losses *losses, struct error *err)
{
    char path[PATH_MAX + 32], line[128];
    path_of(losses->dir, path);
    FILE *file = fopen(path, "re");
    if (!file) return errno == ENOENT ? 0 : error_set_errno(err, "%s", path);
    while (fgets(line, sizeof line, file))
        read_line(losses, line);
    int failed = ferror(file);
    fclose(file);
    return failed ? error_set(err, "%s: cannot be read", path) : 0;
}

static void write_start(FILE *file, const struct losses *losses, uint32_t stage, long long stamp)
{
    fprintf(file, "+%s %lld\n", identity(losses, stage), stamp);
}

/* A stage that has checkpointed since does not count. */
static void forget_progress(struct losses *losses)
{
    for (uint32_t i = 0; i < losses->plan->stage_count; i++) {
        struct flight *flight = &losses->flights[i];
        if (flight->lost && flight->stamp != stamp_of(losses, i)) *flight = (struct flight){.open = true};
    }
}

/* What still counts, in a new file in the place of the old one. */
int losses_start(struct losses *losses, struct error *err)
{
    struct file_draft draft;
    char path[PATH_MAX + 32];
    path_of(losses->dir, path);
    if (file_draft_open(&draft, path, 0666, err) != 0) return -1;
    for (uint32_t i = 0; i < losses->plan->stage_count; i++)
        for (uint32_t n = 0; n < losses->flights[i].lost; n++)
            write_start(draft.file, losses, i, losses->flights[i].stamp);
    if (file_draft_publish(&draft, true, err) != 0) return -1;
    int fd = file_open_write(path, O_APPEND);
    losses->file = fd >= 0 ? fdopen(fd, "a") : NULL;
    if (losses->file) return 0;
    error_set_errno(err, "%s", path);
    if (fd >= 0) close(fd);
    return -1;
}

struct losses *losses_open(const char *dir, const struct plan *plan, struct error *err)
{
    struct losses *losses = calloc(1, sizeof *losses);
    if (!losses) {
        error_set(err, "out of memory");
        return NULL;
    }
    *losses = (struct losses){.dir = dir, .plan = plan};
    if (sort(losses, err) == 0 && read_file(losses, err) == 0) {
        forget_progress(losses);
        return losses;
    }
    losses_close(losses);
    return NULL;
}

bool losses_open_flight(const struct losses *losses, uint32_t stage)
{
    return losses->flights[stage].open;
}

void losses_close(struct losses *losses)
{
    if (!losses) return;
    if (losses->file) fclose(losses->file);
    free(losses->flights);
    free(losses->by_identity);
    free(losses);
}

uint32_t losses_of(const struct losses *losses, uint32_t stage)
{
    return losses->flights[stage].lost;
}

void losses_begin(struct losses *losses, uint32_t stage, bool first)
{
    write_start(losses->file, losses, stage, first ? 0 : stamp_of(losses, stage));
    losses->noted = true;
}

void losses_end(struct losses *losses, uint32_t stage)
{
    losses->flights[stage] = (struct flight){0};
    if (!losses->file) return;                               /* before losses_start */
    fprintf(losses->file, "-%s\n", identity(losses, stage)); /* lost with the run, it counts as a loss: no harm */
}

int losses_sync(struct losses *losses, struct error *err)
{
    if (!losses->noted) return 0;
    losses->noted = false;
    if (fflush(losses->file) == 0 && fdatasync(fileno(losses->file)) == 0) return 0;
    return error_set_errno(err, "%s/logs/flights", losses->dir);
}

int losses_forget(const char *dir, struct error *err)
{
    char path[PATH_MAX + 32];
    path_of(dir, path);
    return unlink(path) == 0 || errno == ENOENT ? 0 : error_set_errno(err, "%s", path);
}
