/* Precisions by their names in sweep files. */
#include "kernels/precision.h"

static const char *const names[PRECISIONS] = {"fp32", "bf16", "bf16x3"};

const char *precision_name(enum precision precision)
{
    return (unsigned)precision < PRECISIONS ? names[precision] : "unknown";
}

int precision_find(const char *name)
{
    for (int i = 0; i < PRECISIONS; i++)
        if (!strcmp(names[i], name)) return i;
    return -1;
}
