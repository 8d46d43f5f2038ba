/* Text -> denoised sequences. */
#include "workers/train/ul2.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/random.h"

int ul2_create(struct ul2 *ul2, const struct mixture *mixture, uint32_t length, const struct dataset_info *info,
               uint64_t seed, struct error *err)
{
    *ul2 = (struct ul2){.mixture = *mixture, .length = length, .seed = seed};
    uint32_t spans = 0;
    for (uint32_t i = 0; i < mixture->count; i++) {
        ul2->shapes[i] = mixture_shape(mixture, i, length);
        if (!ul2->shapes[i].text)
            return error_set(err, "sequences of %" PRIu32 " tokens are too short for a denoiser", length);
        if (ul2->shapes[i].spans > spans) spans = ul2->shapes[i].spans;
    }
    size_t wanted = spans ? spans + 1 : 0;
    if (wanted > info->sentinels || (mixture->mode_tokens && !info->sentinels))
        return error_set(err,
                         "UL2 on sequences of %" PRIu32 " tokens needs %zu sentinels, the vocabulary of the data set "
                         "reserves %zu; `tunelaw data --sentinels N` reserves them",
                         length, wanted ? wanted : 1, info->sentinels);
    ul2->modes = info->reserved;
    ul2->sentinels = info->reserved + DENOISER_MODES;
    ul2->room = 2 * (size_t)spans + 2;
    ul2->pieces = calloc(ul2->room, sizeof *ul2->pieces);
    return ul2->pieces ? 0 : error_set(err, "out of memory");
}

void ul2_destroy(struct ul2 *ul2)
{
    free(ul2->pieces);
    ul2->pieces = NULL;
}

uint32_t ul2_denoiser(const struct ul2 *ul2, uint64_t position)
{
    const struct mixture *mixture = &ul2->mixture;
    double all = 0;
    for (uint32_t i = 0; i < mixture->count; i++)
        all += mixture->denoisers[i].share;
    double at = all * random_uniform((struct random_key){ul2->seed, random_stream("ul2:denoiser")}, position);
    for (uint32_t i = 0; i + 1 < mixture->count; i++) {
        at -= mixture->denoisers[i].share;
        if (at < 0) return i;
    }
    return mixture->count - 1;
}

uint32_t ul2_offset(const struct ul2 *ul2, uint64_t position)
{
    uint32_t text = ul2->shapes[ul2_denoiser(ul2, position)].text;
    if (text >= ul2->length) return 0;
    return (uint32_t)random_below((struct random_key){ul2->seed, random_stream("ul2:offset")}, position,
                                  ul2->length - text + 1);
}

/* `total` tokens as `count` pieces of one token at least: of the total - 1 places between tokens count - 1 are chosen
 * (selection sampling, Knuth, algorithm S). Written to every second place of `pieces`. */
static void split(const struct ul2 *ul2, const char *stream, uint64_t position, uint32_t total, uint32_t count,
                  uint32_t *pieces)
{
    struct random_key key = {ul2->seed, random_stream(stream)};
    uint32_t begin = 0, piece = 0;
    for (uint32_t at = 1; at < total && piece + 1 < count; at++) {
        uint32_t places = total - at, wanted = count - 1 - piece;
        if (random_below(key, position << 21 | at, places) >= wanted) continue;
        pieces[2 * piece++] = at - begin;
        begin = at;
    }
    pieces[2 * piece] = total - begin;
}

/* Inputs, then targets. */
static size_t corrupt_spans(const struct ul2 *ul2, const struct denoiser_shape *shape, uint64_t position,
                            const int32_t *text, int32_t *out)
{
    uint32_t *pieces = ul2->pieces;
    split(ul2, "ul2:kept", position, shape->text - shape->noise, shape->spans, pieces);
    split(ul2, "ul2:spans", position, shape->noise, shape->spans, pieces + 1);
    int32_t *input = out, *target = out + shape->text - shape->noise + shape->spans, *first = target;
    for (uint32_t span = 0; span < shape->spans; span++) {
        uint32_t kept = pieces[2 * span], taken = pieces[2 * span + 1];
        memcpy(input, text, kept * sizeof *text);
        input += kept;
        *input++ = *target++ = ul2->sentinels + (int32_t)span;
        memcpy(target, text + kept, taken * sizeof *text);
        target += taken;
        text += kept + taken;
    }
    *target = ul2->sentinels + (int32_t)shape->spans;
    return (size_t)(first - out);
}

size_t ul2_corrupt(const struct ul2 *ul2, uint64_t position, const int32_t *text, int32_t *out)
{
    uint32_t denoiser = ul2_denoiser(ul2, position);
    const struct denoiser_shape *shape = &ul2->shapes[denoiser];
    size_t modes = ul2->mixture.mode_tokens;
    if (modes) *out = ul2->modes + (int32_t)ul2->mixture.denoisers[denoiser].mode;
    if (shape->spans) return modes + corrupt_spans(ul2, shape, position, text, out + modes);
    memcpy(out + modes, text, shape->text * sizeof *text);
    return modes + shape->text - shape->noise;
}
