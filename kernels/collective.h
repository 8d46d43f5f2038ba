/* Collectives between the devices of one gang: the threads of a worker (CPU), NCCL on GPUs.
 *
 * The interface takes (rank, size, group), so that a gang over several nodes is an addition. Sums are taken in rank
 * order on every rank, so that the result does not depend on who came first. Every rank of a gang calls the same
 * operations in the same order. A gang whose rank has failed is aborted: the others return -1 instead of waiting for
 * ever. */
#ifndef TUNELAW_KERNELS_COLLECTIVE_H
#define TUNELAW_KERNELS_COLLECTIVE_H

#include <stdbool.h>
#include <stddef.h>

#include "io/error.h"

/* The line of a rank that ends because another one has failed. */
#define GANG_FAILED "another device of the gang failed"

struct collective_group; /* shared by the ranks of one process */
struct collective_group *collective_group_create(int size, struct error *err);
void collective_group_destroy(struct collective_group *group); /* after every rank has left */
void collective_abort(struct collective_group *group);         /* from any thread */

struct collective {
    struct collective_group *group;
    int rank, size;
};

/* Whether the gang is aborted: for waits that are not in here. */
bool collective_aborted(const struct collective *c);

/* x[n] = sum over ranks of x[n], in place. A size of 1 returns at once. 0 or -1 (aborted). */
int collective_sum(const struct collective *c, size_t n, float *x);
/* all[size][n] = x[n] of every rank, in rank order. */
int collective_gather(const struct collective *c, size_t n, const float *x, float *all);
/* As collective_sum, for doubles on the host (gradient norms, losses), one or n. */
int collective_sum_doubles(const struct collective *c, size_t n, double *x);
int collective_sum_double(const struct collective *c, double *x);
int collective_barrier(const struct collective *c);

#endif
