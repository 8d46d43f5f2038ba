/* A disk that a test can watch, fill, break and cut off.
 *
 * The program's own pwrite, fsync, rename, ... stand before the C library's, for our code and for HDF5 alike. Calls on
 * files of disk.folder are recorded, in their order; one of them may fail. disk_replay writes what would be left after
 * a power loss behind any call: of what was not synced, any part of any sector's writes, and names as far as the
 * directory had got. Include in one file of a test. */
#ifndef TUNELAW_TESTS_IO_DISK_H
#define TUNELAW_TESTS_IO_DISK_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DISK_FILES = 512, DISK_DESCRIPTORS = 1024, DISK_SECTOR = 512, DISK_NAME = 64, DISK_DIRECTORY = -2 };
enum disk_kind { DISK_WRITE, DISK_TRUNCATE, DISK_SYNC, DISK_CREATE, DISK_RENAME, DISK_UNLINK, DISK_ACKNOWLEDGE };

struct disk_event {
    enum disk_kind kind;
    int file; /* number of a file; DISK_DIRECTORY */
    uint64_t offset, size;
    unsigned char *bytes;
    char from[DISK_NAME], to[DISK_NAME]; /* names in the folder */
    long note;                           /* of an acknowledgement */
};

static struct {
    char folder[128];
    bool recording;
    bool no_sync;    /* spares the real disk of files that are not watched */
    long fail_after; /* calls that still succeed; -1: no failure */
    int fail_errno;  /* what the next ones fail with */
    bool fail_once;
    long failures, calls;
    struct disk_event *events;
    size_t count, capacity;
    int file_of[DISK_DESCRIPTORS]; /* 0: not watched, else number + 1, or DISK_DIRECTORY */
    char names[DISK_FILES][DISK_NAME];
    int name_count; /* files ever created; names[] of those that have a name */
} disk = {.fail_after = -1};

#define DISK_REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static struct disk_event *disk_record(enum disk_kind kind, int file)
{
    if (disk.count == disk.capacity) {
        disk.capacity = disk.capacity ? 2 * disk.capacity : 1024;
        disk.events = realloc(disk.events, disk.capacity * sizeof *disk.events);
        if (!disk.events) abort();
    }
    struct disk_event *event = &disk.events[disk.count++];
    *event = (struct disk_event){.kind = kind, .file = file};
    return event;
}

/* The name in the folder, or NULL. */
static const char *disk_name(const char *path)
{
    size_t size = strlen(disk.folder);
    if (size == 0 || strncmp(path, disk.folder, size) != 0 || path[size] != '/') return NULL;
    return path + size + 1;
}

/* This call is to fail. */
static bool disk_fails(void)
{
    disk.calls++;
    if (disk.fail_after < 0) return false;
    if (disk.fail_after > 0) {
        disk.fail_after--;
        return false;
    }
    if (disk.fail_once) disk.fail_after = -1;
    disk.failures++;
    errno = disk.fail_errno;
    return true;
}

static int disk_watched(int fd)
{
    return fd >= 0 && fd < DISK_DESCRIPTORS ? disk.file_of[fd] : 0;
}

static int disk_number(const char *name)
{
    for (int i = 0; i < disk.name_count; i++)
        if (strcmp(disk.names[i], name) == 0) return i;
    return -1;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? (mode_t)va_arg(rest, int) : 0;
    va_end(rest);
    const char *name = disk_name(path);
    bool is_new = name && flags & O_CREAT && disk_number(name) < 0;
    if (is_new && disk_fails()) return -1;
    int fd = DISK_REAL(open)(path, flags, mode);
    if (fd < 0 || fd >= DISK_DESCRIPTORS) return fd;
    disk.file_of[fd] = 0;
    if (!disk.recording) return fd;
    if (strcmp(path, disk.folder) == 0) disk.file_of[fd] = DISK_DIRECTORY;
    if (!name) return fd;
    int number = disk_number(name);
    if (number < 0) {
        number = disk.name_count++;
        if (number == DISK_FILES || strlen(name) >= DISK_NAME) abort();
        strcpy(disk.names[number], name);
        strcpy(disk_record(DISK_CREATE, number)->to, name);
    }
    disk.file_of[fd] = number + 1;
    return fd;
}

int close(int fd)
{
    if (fd >= 0 && fd < DISK_DESCRIPTORS) disk.file_of[fd] = 0;
    return DISK_REAL(close)(fd);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    int file = disk_watched(fd);
    if (file > 0 && disk_fails()) { /* a disk that becomes full may first take a part, in whole sectors */
        size_t part = size / 2 / DISK_SECTOR * DISK_SECTOR;
        if (disk.fail_errno != ENOSPC || part == 0) return -1;
        return DISK_REAL(pwrite)(fd, bytes, part, offset);
    }
    ssize_t put = DISK_REAL(pwrite)(fd, bytes, size, offset);
    if (file > 0 && put > 0 && disk.recording) {
        struct disk_event *event = disk_record(DISK_WRITE, file - 1);
        event->offset = (uint64_t)offset;
        event->size = (uint64_t)put;
        event->bytes = malloc((size_t)put);
        memcpy(event->bytes, bytes, (size_t)put);
    }
    return put;
}

int ftruncate(int fd, off_t size)
{
    int file = disk_watched(fd);
    if (file > 0 && disk_fails()) return -1;
    int result = DISK_REAL(ftruncate)(fd, size);
    if (file > 0 && result == 0 && disk.recording) disk_record(DISK_TRUNCATE, file - 1)->size = (uint64_t)size;
    return result;
}

static int disk_sync(int fd, int (*real)(int))
{
    int file = disk_watched(fd);
    if (file == 0) return disk.no_sync ? 0 : real(fd);
    if (disk_fails()) return -1;
    if (disk.recording) disk_record(DISK_SYNC, file == DISK_DIRECTORY ? file : file - 1);
    return 0; /* what the replay says about it counts, not what this disk does */
}

int fsync(int fd)
{
    return disk_sync(fd, DISK_REAL(fsync));
}

int fdatasync(int fd)
{
    return disk_sync(fd, DISK_REAL(fdatasync));
}

int rename(const char *from, const char *to)
{
    const char *from_name = disk_name(from), *to_name = disk_name(to);
    if (from_name && disk_fails()) return -1;
    int result = DISK_REAL(rename)(from, to);
    if (result != 0 || !disk.recording || !from_name || !to_name) return result;
    int number = disk_number(from_name), over = disk_number(to_name);
    if (number < 0) abort();
    if (over >= 0) disk.names[over][0] = '\0';
    strcpy(disk.names[number], to_name);
    struct disk_event *event = disk_record(DISK_RENAME, number);
    strcpy(event->from, from_name);
    strcpy(event->to, to_name);
    return 0;
}

int unlink(const char *path)
{
    const char *name = disk_name(path);
    int result = DISK_REAL(unlink)(path);
    if (result != 0 || !disk.recording || !name) return result;
    int number = disk_number(name);
    if (number >= 0) disk.names[number][0] = '\0';
    strcpy(disk_record(DISK_UNLINK, number)->from, name);
    return 0;
}

static inline void disk_start(const char *folder)
{
    for (size_t i = 0; i < disk.count; i++)
        free(disk.events[i].bytes);
    memset(disk.file_of, 0, sizeof disk.file_of);
    snprintf(disk.folder, sizeof disk.folder, "%s", folder);
    disk.count = 0;
    disk.name_count = 0;
    disk.recording = true;
}

/* From here on the caller counts on what it has written. */
static inline void disk_acknowledge(long note)
{
    disk_record(DISK_ACKNOWLEDGE, -1)->note = note;
}

static inline void disk_stop(void)
{
    disk.recording = false;
    disk.folder[0] = '\0';
}

/* A file while it is replayed: what is on the disk, and the writes that wait. */
struct disk_file {
    unsigned char *bytes;
    uint64_t size, room;
    size_t *waiting; /* events */
    size_t waiting_count;
};

static inline void disk_apply(struct disk_file *file, const struct disk_event *event, const unsigned char *sectors_kept)
{
    uint64_t end = event->kind == DISK_WRITE ? event->offset + event->size : event->size;
    if (end > file->room) {
        file->bytes = realloc(file->bytes, end);
        if (!file->bytes) abort();
        memset(file->bytes + file->room, 0, end - file->room);
        file->room = end;
    }
    if (event->kind == DISK_TRUNCATE) {
        if (event->size < file->room) memset(file->bytes + event->size, 0, file->room - event->size);
        file->size = event->size;
        return;
    }
    for (uint64_t at = event->offset; at < end;) {
        uint64_t sector = at / DISK_SECTOR, next = (sector + 1) * DISK_SECTOR < end ? (sector + 1) * DISK_SECTOR : end;
        if (!sectors_kept || sectors_kept[sector])
            memcpy(file->bytes + at, event->bytes + (at - event->offset), next - at);
        at = next;
    }
    if (end > file->size) file->size = end;
}

static inline uint64_t disk_random(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x = a * 0x9e3779b97f4a7c15u + b * 0xbf58476d1ce4e5b9u + c * 0x94d049bb133111ebu;
    x ^= x >> 31;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

/* Every sector has got any number of the writes that waited for it, first to last; or, in half of the instants, all or
 * none of them. The size likewise. */
static inline void disk_lose(struct disk_file *file, uint64_t seed, uint64_t number)
{
    uint64_t most = file->size, count = file->waiting_count, size = file->size;
    uint64_t size_cut = disk_random(seed, number, ~(uint64_t)0) % (count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct disk_event *event = &disk.events[file->waiting[i]];
        uint64_t end = event->kind == DISK_WRITE ? event->offset + event->size : event->size;
        if (end > most) most = end;
        if (i < size_cut) size = event->kind == DISK_TRUNCATE || end > size ? end : size;
    }
    unsigned char *kept = malloc(most / DISK_SECTOR + 1);
    for (size_t i = 0; i < count; i++) {
        for (uint64_t sector = 0; sector <= most / DISK_SECTOR; sector++) {
            uint64_t random = disk_random(seed, number, sector);
            kept[sector] = seed % 2 ? (random & 1) != 0 : i < random % (count + 1);
        }
        if (disk.events[file->waiting[i]].kind == DISK_WRITE) disk_apply(file, &disk.events[file->waiting[i]], kept);
    }
    if (size > file->room) disk_apply(file, &(struct disk_event){.kind = DISK_TRUNCATE, .size = size}, NULL);
    file->size = size;
    free(kept);
}

struct disk_names {
    char name[DISK_FILES][DISK_NAME]; /* of file i, "" for none */
};

static inline void disk_rename(struct disk_names *names, const struct disk_event *event)
{
    const char *gone = event->kind == DISK_UNLINK ? event->from : event->to;
    for (int i = 0; i < DISK_FILES; i++)
        if (strcmp(names->name[i], gone) == 0) names->name[i][0] = '\0';
    if (event->kind != DISK_UNLINK) strcpy(names->name[event->file], event->to);
}

/* What a power loss right behind events[0..count) leaves, written to `folder` (which is empty). */
static inline void disk_replay(size_t count, uint64_t seed, const char *folder)
{
    struct disk_file *files = calloc(DISK_FILES, sizeof *files);
    struct disk_names *names = calloc(1, sizeof *names);
    size_t *waiting = calloc(count + 1, sizeof *waiting), waiting_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct disk_event *event = &disk.events[i];
        struct disk_file *file = event->file >= 0 ? &files[event->file] : NULL;
        if (event->kind == DISK_WRITE || event->kind == DISK_TRUNCATE) {
            if (!file->waiting) file->waiting = calloc(count, sizeof *file->waiting);
            file->waiting[file->waiting_count++] = i;
        } else if (event->kind == DISK_SYNC && file) {
            for (size_t j = 0; j < file->waiting_count; j++)
                disk_apply(file, &disk.events[file->waiting[j]], NULL);
            file->waiting_count = 0;
        } else if (event->kind == DISK_SYNC) {
            for (size_t j = 0; j < waiting_count; j++)
                disk_rename(names, &disk.events[waiting[j]]);
            waiting_count = 0;
        } else if (event->kind != DISK_ACKNOWLEDGE) {
            waiting[waiting_count++] = i;
        }
    }
    uint64_t names_kept = disk_random(seed, 1, 2) % (waiting_count + 1);
    for (size_t j = 0; j < names_kept; j++)
        disk_rename(names, &disk.events[waiting[j]]);
    for (int i = 0; i < DISK_FILES; i++) {
        if (names->name[i][0]) {
            char path[256];
            disk_lose(&files[i], seed, (uint64_t)i);
            snprintf(path, sizeof path, "%s/%s", folder, names->name[i]);
            FILE *out = fopen(path, "w");
            if (!out || fwrite(files[i].bytes, 1, files[i].size, out) != files[i].size || fclose(out) != 0) abort();
        }
        free(files[i].bytes);
        free(files[i].waiting);
    }
    free(waiting);
    free(names);
    free(files);
}

#endif
