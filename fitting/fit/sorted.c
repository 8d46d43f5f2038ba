/* Sorted numbers, for every box of fitting. */
#include "fitting/fit/sorted.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_numbers(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
}

size_t sort_levels(double *values, size_t count)
{
    size_t kept = 0;
    sort_numbers(values, count);
    for (size_t i = 0; i < count; i++)
        if (!i || values[i] != values[kept - 1]) values[kept++] = values[i];
    return kept;
}

double sorted_at(const double *sorted, size_t count, double share)
{
    return sorted[(size_t)(share * (double)(count - 1) + 0.5)];
}
