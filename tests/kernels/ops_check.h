/* One case of one operation on one backend. */
#ifndef TUNELAW_TESTS_OPS_CHECK_H
#define TUNELAW_TESTS_OPS_CHECK_H

#include "tests/kernels/ops.h"

/* A backend's device, and the precision that it stores reals in. */
struct target {
    const struct kernels *k;
    struct device *device;
    enum precision precision;
};

struct device *ops_device(const struct kernels *k, int threads); /* or ends the program */
void ops_print(const char *verdict, const struct target *target, const struct shape *shape);

/* 1 where the case fails, with a line that says why. slack: of the operation's bounds. */
int ops_check(const struct target *target, const struct shape *shape, double slack);
int ops_check_nan(const struct target *target, const struct nan_case *c);
/* The fastest of several calls: the machine may be shared. */
void ops_measure(const struct target *target, const struct shape *shape);

#endif
