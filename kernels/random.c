/* Philox 4x32-10, and what is drawn from it. */
#include "kernels/random.h"

#include <math.h>
#include <string.h>

#include "io/digest.h"

void random_block(struct random_key key, uint64_t counter, uint32_t out[4])
{
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)key.stream, (uint32_t)(key.stream >> 32)};
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        c[0] = n0;
        c[2] = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

uint64_t random_u64(struct random_key key, uint64_t counter)
{
    uint32_t block[4];
    random_block(key, counter, block);
    return (uint64_t)block[0] | (uint64_t)block[1] << 32;
}

uint64_t random_below(struct random_key key, uint64_t counter, uint64_t bound)
{
    /* the bias of the multiply-shift is below bound / 2^64 */
    return (uint64_t)(((unsigned __int128)random_u64(key, counter) * bound) >> 64);
}

double random_uniform(struct random_key key, uint64_t counter)
{
    return ((double)(random_u64(key, counter) >> 11) + 0.5) * 0x1p-53;
}

double random_normal(struct random_key key, uint64_t counter)
{
    uint32_t b[4];
    random_block(key, counter, b);
    double u = ((double)(((uint64_t)b[0] << 32 | b[1]) >> 11) + 0.5) * 0x1p-53;
    double v = ((double)(((uint64_t)b[2] << 32 | b[3]) >> 11) + 0.5) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

uint64_t random_stream(const char *name)
{
    return checksum_of(name, strlen(name));
}

void random_permutation(struct random_key key, uint64_t n, uint64_t *order)
{
    for (uint64_t i = 0; i < n; i++)
        order[i] = i;
    for (uint64_t i = n; i > 1; i--) {
        uint64_t j = random_below(key, n - i, i), swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
}
