/* Threads beside the main one of a rank. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_THREAD_H
#define TUNELAW_ORCHESTRATOR_RUN_THREAD_H

#include <pthread.h>

#include "io/error.h"

/* As pthread_create, with every signal blocked: signals are for the main thread, whose waiting they end. 0, or -1 with
 * *err. */
int thread_start(pthread_t *thread, void *(*main)(void *), void *argument, struct error *err);

#endif
