/* A drain that is asked for before the program's main has begun: preloaded into a run, it sends SIGUSR1 to the process
 * that starts, while its libraries initialise themselves. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void strike(void)
{
    unsetenv("LD_PRELOAD"); /* once */
    kill(getpid(), SIGUSR1);
}
