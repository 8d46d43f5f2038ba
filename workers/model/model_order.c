/* Tokens of a batch by ascending id, on the host, while the device is busy with the step before: least significant
 * digit first, so that those of one id keep their order. 10^5 tokens take less than a millisecond. */
#include <string.h>

#include "workers/model/model_parts.h"

enum { DIGIT = 11, VALUES = 1 << DIGIT, PASSES = 3 };

static unsigned digit_of(uint64_t key, int pass)
{
    return (unsigned)(key >> (32 + pass * DIGIT)) & (VALUES - 1);
}

/* One digit; false where all have the same, and nothing was done. */
static bool sort_digit(size_t count, int pass, const uint64_t *from, uint64_t *to)
{
    size_t begin[VALUES] = {0}, at = 0;
    for (size_t i = 0; i < count; i++)
        begin[digit_of(from[i], pass)]++;
    if (begin[digit_of(from[0], pass)] == count) return false;
    for (int value = 0; value < VALUES; value++) {
        size_t here = begin[value];
        begin[value] = at;
        at += here;
    }
    for (size_t i = 0; i < count; i++)
        to[begin[digit_of(from[i], pass)]++] = from[i];
    return true;
}

void token_order(size_t count, const int32_t *ids, uint64_t *keys, uint64_t *spare, uint32_t *order)
{
    for (size_t i = 0; i < count; i++)
        keys[i] = (uint64_t)((uint32_t)ids[i] ^ 0x80000000u) << 32 | (uint32_t)i;
    for (int pass = 0; pass < PASSES && count; pass++) {
        if (!sort_digit(count, pass, keys, spare)) continue;
        uint64_t *sorted = spare;
        spare = keys;
        keys = sorted;
    }
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)keys[i];
}
