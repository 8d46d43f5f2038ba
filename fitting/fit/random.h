/* Random numbers of the bootstrap: splitmix64, the same on every machine. Internal to fitting/. */
#ifndef TUNELAW_FITTING_FIT_RANDOM_H
#define TUNELAW_FITTING_FIT_RANDOM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* As if `count` numbers had been drawn. */
static inline void random_skip(uint64_t *state, size_t count)
{
    *state += 0x9e3779b97f4a7c15u * count;
}

/* Uniform in (0, 1). */
static inline double random_uniform(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return ((double)(z >> 11) + 0.5) / 9007199254740992.0;
}

/* Exponential with mean 1. */
static inline double random_exponential(uint64_t *state)
{
    return -log(random_uniform(state));
}

#endif
