/* Sizes and names of denoisers. */
#include "workers/model/mixture.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "workers/model/names.h"

static const char *const mode_names[DENOISER_MODES] = {"R", "S", "X"};

const char *denoiser_mode_name(enum denoiser_mode mode)
{
    return (unsigned)mode < DENOISER_MODES ? mode_names[mode] : "unknown";
}

int denoiser_mode_find(const char *name)
{
    return name_find(mode_names, DENOISER_MODES, name);
}

/* Tay et al. 2022, table 1 and section 3.1.2. */
const struct mixture mixture_default = {.count = 7,
                                        .mode_tokens = true,
                                        .denoisers = {{DENOISER_R, 3, 0.15, 1},
                                                      {DENOISER_R, 8, 0.15, 1},
                                                      {DENOISER_S, 0, 0.25, 1},
                                                      {DENOISER_X, 3, 0.5, 1},
                                                      {DENOISER_X, 8, 0.5, 1},
                                                      {DENOISER_X, 64, 0.15, 1},
                                                      {DENOISER_X, 64, 0.5, 1}}};

int mixture_check(const struct mixture *mixture, struct error *err)
{
    if (mixture->count < 1 || mixture->count > DENOISERS)
        return error_set(err, "%" PRIu32 " denoisers; allowed: 1..%d", mixture->count, DENOISERS);
    for (uint32_t i = 0; i < mixture->count; i++) {
        const struct denoiser *d = &mixture->denoisers[i];
        if (d->mode != DENOISER_S && !(d->span >= 1 && d->span <= 1e6))
            return error_set(err, "a mean span of %g tokens; allowed: 1 and more", d->span);
        if (!(d->corruption > 0 && d->corruption < 1))
            return error_set(err, "corruption %g; allowed: above 0, below 1", d->corruption);
        if (!(d->share > 0 && d->share <= 1e6)) return error_set(err, "share %g; allowed: above 0", d->share);
    }
    return 0;
}

int mixture_text(const struct mixture *mixture, char *out, size_t size)
{
    int used = snprintf(out, size, "mode_tokens=%d denoisers=", mixture->mode_tokens);
    for (uint32_t i = 0; i < mixture->count && used >= 0 && (size_t)used < size; i++) {
        const struct denoiser *d = &mixture->denoisers[i];
        used += snprintf(out + used, size - (size_t)used, "%s%s:%.17g:%.17g:%.17g", i ? "," : "",
                         denoiser_mode_name(d->mode), d->span, d->corruption, d->share);
    }
    return used;
}

static uint32_t clamped(double x, uint32_t low, uint32_t high)
{
    uint32_t n = x < 1 ? 1 : (uint32_t)lround(x);
    return n < low ? low : n > high ? high : n;
}

static struct denoiser_shape shape_of_text(const struct denoiser *d, uint32_t text)
{
    struct denoiser_shape shape = {.text = text, .noise = clamped(d->corruption * text, 1, text - 1)};
    uint32_t kept = text - shape.noise;
    if (d->mode != DENOISER_S) shape.spans = clamped(shape.noise / d->span, 1, shape.noise < kept ? shape.noise : kept);
    return shape;
}

/* The most text that fits, with the spans that it has: the rest of the sequence is filled with text. */
struct denoiser_shape mixture_shape(const struct mixture *mixture, uint32_t index, uint32_t length)
{
    const struct denoiser *d = &mixture->denoisers[index];
    uint32_t room = length + 1 - mixture->mode_tokens;
    if (d->mode == DENOISER_S) return room < 2 ? (struct denoiser_shape){0} : shape_of_text(d, room);
    for (uint32_t text = room; text >= 2; text--) {
        struct denoiser_shape shape = shape_of_text(d, text);
        uint32_t sentinels = 2 * shape.spans + 1;
        if (text + sentinels > room) continue;
        shape.text = room - sentinels;
        shape.noise = clamped(d->corruption * shape.text, shape.spans, shape.text - shape.spans);
        return shape;
    }
    return (struct denoiser_shape){0};
}

static uint32_t targets_of(const struct denoiser_shape *shape)
{
    return shape->noise + (shape->spans ? shape->spans + 1 : 0);
}

double mixture_targets(const struct mixture *mixture, uint32_t length)
{
    double targets = 0, shares = 0;
    for (uint32_t i = 0; i < mixture->count; i++) {
        struct denoiser_shape shape = mixture_shape(mixture, i, length);
        targets += mixture->denoisers[i].share * targets_of(&shape);
        shares += mixture->denoisers[i].share;
    }
    return shares > 0 ? targets / shares : 0;
}
