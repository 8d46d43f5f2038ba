/* Work that the threads of a device share: FOR_PARTS cuts 0 .. n-1 into as many runs as are worth a thread each.
 *
 * What is computed for an index must not depend on the runs, so that every number of threads gives the same bytes. The
 * body calls functions of their own for the vector loops: the compiler makes no versions (CLONES) of a parallel body.
 */
#ifndef TUNELAW_KERNELS_CPU_PARTS_H
#define TUNELAW_KERNELS_CPU_PARTS_H

#include "kernels/cpu/cpu.h"

/* Fewer elements than this are done before another thread is awake. */
enum { PART = 1 << 14 };

/* How many runs of `n` indices with `each` elements behind every one. */
static inline size_t part_count(const struct device *device, size_t n, size_t each)
{
    size_t most = n * each / PART, threads = (size_t)device->threads;
    if (most > n) most = n;
    if (most > threads) most = threads;
    return most ? most : 1;
}

static inline size_t part_begin(size_t n, size_t parts, size_t part, size_t unit)
{
    size_t begin = (n * part / parts + unit - 1) / unit * unit;
    return begin < n ? begin : n;
}

/* begin, end: names for the body. Runs begin at multiples of `unit` (a cache line of floats: 16). */
#define FOR_PARTS(device, n, each, unit, begin, end)                                                                   \
    const size_t parts_ = part_count(device, n, each);                                                                 \
    _Pragma(                                                                                                           \
        "omp parallel for num_threads((int)parts_) if (parts_ > 1)") for (size_t part_ = 0; part_ < parts_;            \
                                                                          part_++) for (size_t begin =                 \
                                                                                            part_begin(n, parts_,      \
                                                                                                       part_, unit),   \
                                                                                        end = part_begin(n, parts_,    \
                                                                                                         part_ + 1,    \
                                                                                                         unit),        \
                                                                                        once_ = 1;                     \
                                                                                        once_; once_ = 0)

#endif
