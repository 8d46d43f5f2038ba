/* Kinds by their names: methods, schedules, optimisers, architectures, stages. */
#include "workers/model/names.h"

#include <string.h>

int name_find(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], name)) return i;
    return -1;
}
