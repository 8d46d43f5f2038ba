/* Frequencies of rotary positions (Su et al. 2021), and how they are stretched beyond the context that a model was
 * first trained on. Plain values, computed in double; for C and CUDA's C++. */
#ifndef TUNELAW_KERNELS_ROTARY_H
#define TUNELAW_KERNELS_ROTARY_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: not stretched. high 0: every frequency is divided by `factor` (Chen et al. 2023, "linear" in Hugging Face's
 * files). Else as Llama 3.1 ("llama3"): waves longer than original / low are stretched by `factor`, those shorter than
 * original / high stay, and between them a blend. */
struct rotary_scaling {
    double factor, low, high;
    uint32_t original; /* tokens */
};

struct rotary {
    size_t turned; /* elements of a head that are turned: even, at most its width */
    float theta;
    struct rotary_scaling scaling;
};

/* Radians a position of pair i, 0 <= i < turned / 2. */
static inline double rotary_frequency(const struct rotary *rotary, size_t i)
{
    const struct rotary_scaling *s = &rotary->scaling;
    double frequency = pow((double)rotary->theta, -2.0 * (double)i / (double)rotary->turned);
    if (!(s->factor > 0)) return frequency;
    if (!(s->high > 0)) return frequency / s->factor;
    double waves = (double)s->original * frequency / 6.283185307179586476925286766559; /* in the original context */
    if (waves > s->high) return frequency;
    if (waves < s->low) return frequency / s->factor;
    double share = (waves - s->low) / (s->high - s->low);
    return (1 - share) * frequency / s->factor + share * frequency;
}

#endif
