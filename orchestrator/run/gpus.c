/* GPUs of a node's agent: from what Slurm or the person gave to names for the workers and locks against other runs. */
#include "orchestrator/run/gpus.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/log.h"

#define LOOK_NS 100000000 /* between looks at a GPU that another run has */

static bool is_number(const char *word)
{
    return *word && strspn(word, "0123456789") == strlen(word) && strlen(word) < 5;
}

static bool is_name(const char *word)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-/";
    if (is_number(word)) return true;
    return (!strncmp(word, "GPU-", 4) || !strncmp(word, "MIG-", 4)) && word[strspn(word, letters)] == 0;
}

/* "0,1", "2-4", "GPU-...,GPU-...": one name each. variable: where the text is from. */
static int read_list(const char *variable, const char *text, char names[GPUS_MOST][GPU_NAME], uint32_t *count,
                     struct error *err)
{
    *count = 0;
    for (size_t length; *text; text += length + (text[length] == ',')) {
        char word[GPU_NAME];
        unsigned first, last;
        length = strcspn(text, ",");
        snprintf(word, sizeof word, "%.*s", (int)length, text);
        int used = 0;
        bool range = sscanf(word, "%4u-%4u%n", &first, &last, &used) == 2 && word[used] == 0 && first <= last;
        if (length >= sizeof word || (!range && !is_name(word)))
            return error_set(err, "%s: \"%s\" is no GPU; allowed: numbers, GPU-UUID and MIG-UUID, with commas",
                             variable, word);
        for (unsigned number = range ? first : 0; number <= (range ? last : 0); number++) {
            if (*count == GPUS_MOST) return error_set(err, "%s: more than %d GPUs", variable, GPUS_MOST);
            if (range)
                snprintf(names[(*count)++], GPU_NAME, "%u", number);
            else
                strcpy(names[(*count)++], word);
        }
    }
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return atoi(a) - atoi(b);
}

/* Where nobody says which: all of the host. */
static void list_host(struct gpus *gpus)
{
    DIR *folder = opendir("/dev");
    for (struct dirent *entry; folder && (entry = readdir(folder)) && gpus->count < GPUS_MOST;)
        if (!strncmp(entry->d_name, "nvidia", 6) && is_number(entry->d_name + 6))
            snprintf(gpus->names[gpus->count++], GPU_NAME, "%s", entry->d_name + 6);
    if (folder) closedir(folder);
    qsort(gpus->names, gpus->count, sizeof *gpus->names, compare_names);
}

static int check_twice(const struct gpus *gpus, struct error *err)
{
    for (uint32_t i = 0; i < gpus->count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (!strcmp(gpus->names[i], gpus->names[j]))
                return error_set(err, "GPU %s is given twice (CUDA_VISIBLE_DEVICES, SLURM_STEP_GPUS)", gpus->names[i]);
    return 0;
}

int gpus_find(struct gpus *gpus, struct error *err)
{
    char slurm[GPUS_MOST][GPU_NAME];
    uint32_t slurm_count = 0;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES"), *step = getenv("SLURM_STEP_GPUS");
    const char *job = step ? step : getenv("SLURM_JOB_GPUS");
    memset(gpus, 0, sizeof *gpus);
    memset(gpus->locks, -1, sizeof gpus->locks);
    if (job && read_list(step ? "SLURM_STEP_GPUS" : "SLURM_JOB_GPUS", job, slurm, &slurm_count, err)) return -1;
    if (visible && read_list("CUDA_VISIBLE_DEVICES", visible, gpus->names, &gpus->count, err)) return -1;
    if (!visible && job) {
        memcpy(gpus->names, slurm, sizeof slurm);
        gpus->count = slurm_count;
    }
    if (!visible && !job) list_host(gpus);
    if (gpus->count == 0)
        return error_set(err,
                         visible ? "no GPU: CUDA_VISIBLE_DEVICES is empty" : "no GPU: none given, no /dev/nvidia0");
    for (uint32_t i = 0; i < gpus->count; i++) {
        bool known = slurm_count == gpus->count && is_number(gpus->names[i]);
        snprintf(gpus->keys[i], GPU_NAME, "%s", known ? slurm[i] : gpus->names[i]);
        for (char *slash; (slash = strchr(gpus->keys[i], '/'));)
            *slash = '_';
    }
    return check_twice(gpus, err);
}

/* A folder that is ours alone: locks in it are nobody else's. */
static int open_folder(struct error *err)
{
    char path[64];
    struct stat status;
    snprintf(path, sizeof path, "/dev/shm/tunelaw-gpus-%u", (unsigned)geteuid());
    if (mkdir(path, 0700) && errno != EEXIST) return error_set_errno(err, "%s", path);
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (folder < 0) return error_set_errno(err, "%s", path);
    if (fstat(folder, &status) == 0 && status.st_uid == geteuid() && !(status.st_mode & 077)) return folder;
    close(folder);
    return error_set(err, "%s: belongs to somebody else, or others may write there", path);
}

static int claim_one(struct gpus *gpus, uint32_t index, int folder, double end, bool waits, const char *dir,
                     struct error *err)
{
    const struct timespec pause = {0, LOOK_NS};
    char holder[512] = "";
    int fd = openat(folder, gpus->keys[index], O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return error_set_errno(err, "the lock of GPU %s", gpus->names[index]);
    int taken;
    while ((taken = flock(fd, LOCK_EX | LOCK_NB)) != 0 && clock_elapsed() < end)
        nanosleep(&pause, NULL);
    if (taken != 0) {
        ssize_t got = pread(fd, holder, sizeof holder - 1, 0);
        holder[got > 0 ? strcspn(holder, "\n") : 0] = 0;
        close(fd);
        return error_set(
            err, "GPU %s is in use by another run on this host (%s); give each its own (CUDA_VISIBLE_DEVICES)%s",
            gpus->names[index], holder, waits ? ", or wait longer for it (--wait)" : "");
    }
    int size = snprintf(holder, sizeof holder, "pid %d, %.400s\n", (int)getpid(), dir);
    if (ftruncate(fd, 0) == 0 && pwrite(fd, holder, (size_t)size, 0) < 0) LOG("who has the GPU is not written");
    gpus->locks[index] = fd;
    return 0;
}

int gpus_claim(struct gpus *gpus, uint32_t first, uint32_t count, double wait, const char *dir, struct error *err)
{
    int folder = open_folder(err), result = folder < 0 ? -1 : 0;
    double end = clock_elapsed() + wait;
    for (uint32_t i = first; i < first + count && result == 0; i++)
        result = claim_one(gpus, i, folder, end, wait > 0, dir, err);
    if (folder >= 0) close(folder);
    return result;
}

void gpus_release(struct gpus *gpus)
{
    for (uint32_t i = 0; i < gpus->count; i++) {
        if (gpus->locks[i] >= 0) close(gpus->locks[i]);
        gpus->locks[i] = -1;
    }
}

int gpus_text(const struct gpus *gpus, uint32_t first, uint32_t count, char out[GPUS_TEXT], struct error *err)
{
    size_t used = 0;
    out[0] = 0;
    for (uint32_t i = first; i < first + count; i++) {
        int size = snprintf(out + used, GPUS_TEXT - used, "%s%s", i > first ? "," : "", gpus->names[i]);
        used += (size_t)size;
        if (used >= GPUS_TEXT) return error_set(err, "names of %u GPUs are longer than %d bytes", count, GPUS_TEXT);
    }
    return 0;
}
