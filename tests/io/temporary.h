/* A private folder for a test's files, removed with all that is in it. */
#ifndef TUNELAW_TESTS_IO_TEMPORARY_H
#define TUNELAW_TESTS_IO_TEMPORARY_H

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char temporary_folder[PATH_MAX / 4];

static inline int temporary_create(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(temporary_folder, sizeof temporary_folder, "%s/tunelaw-test-XXXXXX", base ? base : "/tmp");
    return mkdtemp(temporary_folder) ? 0 : -1;
}

/* PATH of NAME in the folder; it holds for the next 63 calls. */
static inline const char *temporary_path(const char *name)
{
    static char paths[64][PATH_MAX / 2];
    static int next;
    char *path = paths[next++ % 64];
    snprintf(path, sizeof paths[0], "%s/%s", temporary_folder, name);
    return path;
}

static inline const char *temporary_write(const char *name, const void *bytes, size_t size)
{
    const char *path = temporary_path(name);
    FILE *file = fopen(path, "w");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) abort();
    return path;
}

/* Files in the folder. */
static inline int temporary_count(void)
{
    int count = 0;
    DIR *folder = opendir(temporary_folder);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static inline int temporary_remove(void **state)
{
    (void)state;
    DIR *folder = opendir(temporary_folder);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
        if (entry->d_name[0] != '.') unlink(temporary_path(entry->d_name));
    closedir(folder);
    return rmdir(temporary_folder);
}

#endif
