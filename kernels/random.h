/* Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011). A draw is a function of (key, counter), so that it
 * does not depend on the tensor-parallel degree, the number of threads, or on where a run was interrupted. */
#ifndef TUNELAW_KERNELS_RANDOM_H
#define TUNELAW_KERNELS_RANDOM_H

#include <stdint.h>

struct random_key {
    uint64_t seed;
    uint64_t stream; /* which use: a hash of a name, such as "init:model.layers.0.mlp.up_proj.weight" */
};

void random_block(struct random_key key, uint64_t counter, uint32_t out[4]); /* 128 bits of draw number `counter` */
uint64_t random_u64(struct random_key key, uint64_t counter);
uint64_t random_below(struct random_key key, uint64_t counter, uint64_t bound); /* uniform in 0..bound-1, bound >= 1 */
double random_uniform(struct random_key key, uint64_t counter);                 /* in (0, 1) */
double random_normal(struct random_key key, uint64_t counter);                  /* mean 0, deviation 1 (Box-Muller) */
uint64_t random_stream(const char *name);

/* A permutation of 0..n-1 by Fisher-Yates from draws 0..n-2 of the key; order[n]. */
void random_permutation(struct random_key key, uint64_t n, uint64_t *order);

#endif
