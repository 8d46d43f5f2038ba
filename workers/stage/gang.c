/* Threads of a gang: started, joined, and stopped together when one of them fails. */
#include "workers/stage/gang.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct gang {
    struct collective_group *group;
    int (*body)(void *context, const struct collective *collective, struct error *err);
    void *context;
    pthread_mutex_t mutex;
    bool failed;
    struct error first; /* line of the rank that failed first, of those that say most */
};

struct member {
    struct gang *gang;
    struct collective collective;
    pthread_t thread;
};

/* How much a line says of why: that another rank failed, perhaps with more behind it (the library that sums), or what
 * it was. */
static int tells(const struct error *err)
{
    const char *other = strstr(err->text, GANG_FAILED);
    return !other ? 2 : other[strlen(GANG_FAILED)] != 0;
}

static void gang_fail(struct gang *gang, const struct error *err)
{
    pthread_mutex_lock(&gang->mutex);
    if (!gang->failed || tells(err) > tells(&gang->first)) gang->first = *err;
    gang->failed = true;
    pthread_mutex_unlock(&gang->mutex);
    collective_abort(gang->group);
}

static void *member_main(void *argument)
{
    struct member *member = argument;
    struct error err = {GANG_FAILED};
    if (member->gang->body(member->gang->context, &member->collective, &err)) gang_fail(member->gang, &err);
    return NULL;
}

int gang_run(int size, int (*body)(void *context, const struct collective *collective, struct error *err),
             void *context, struct error *err)
{
    struct gang gang = {.group = collective_group_create(size, err), .body = body, .context = context};
    if (!gang.group) return -1;
    struct member *members = calloc((size_t)size, sizeof *members);
    int started = 0;
    pthread_mutex_init(&gang.mutex, NULL);
    for (; members && started < size; started++) {
        members[started] =
            (struct member){.gang = &gang, .collective = {.group = gang.group, .rank = started, .size = size}};
        if (pthread_create(&members[started].thread, NULL, member_main, &members[started]) != 0) break;
    }
    if (started < size) {
        struct error line;
        error_set(&line, "cannot start %d threads", size);
        gang_fail(&gang, &line);
    }
    for (int i = 0; i < started; i++)
        pthread_join(members[i].thread, NULL);
    if (gang.failed) *err = gang.first;
    free(members);
    pthread_mutex_destroy(&gang.mutex);
    collective_group_destroy(gang.group);
    return gang.failed ? -1 : 0;
}
