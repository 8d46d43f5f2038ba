/* Threads beside the main one of a rank. */
#include "orchestrator/run/thread.h"

#include <errno.h>
#include <signal.h>

int thread_start(pthread_t *thread, void *(*main)(void *), void *argument, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(thread, NULL, main, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = number;
    return number == 0 ? 0 : error_set_errno(err, "cannot start a thread");
}
