/* Dropout on every backend: how much is dropped, that nothing but the place of an element decides it, and that no two
 * places share their draws. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"

enum { ROWS = 300, WIDTH = 701 };

static const struct dropout_key whole_key = {.seed = 5, .stream = 9, .first_row = 1000};
static const struct dropout whole = {.key = &whole_key, .total = WIDTH, .rate = 0.3}; /* the host's memory */

struct backend {
    const struct kernels *k;
    struct device *device;
};

static size_t open_all(struct backend out[4])
{
    const struct kernels *all[4];
    struct error err = {""};
    size_t count = kernels_available(all, 2); /* reference, cpu */
    for (size_t i = 0; i < count; i++) {
        out[i] = (struct backend){all[i], all[i]->device_create(0, 1, &err)};
        if (!out[i].device) fail_msg("%s", err.text);
    }
    return count;
}

/* out[rows][width]: the factors of ones. */
static void mask(const struct backend *b, const struct dropout *how, size_t rows, size_t width, float *out)
{
    float *x = b->k->allocate(b->device, rows * width * sizeof *x, NULL);
    for (size_t i = 0; i < rows * width; i++)
        x[i] = 1; /* the host's memory */
    b->k->dropout(b->device, how, rows, width, x, false, x);
    b->k->to_host(b->device, out, x, rows * width * sizeof *x);
    b->k->release(b->device, x);
}

/* Share of zeros within 5 deviations, as a whole, by rows' halves and by the four words of a block; the rest is exactly
 * 1 / (1 - rate). */
static void rates(void **state)
{
    (void)state;
    static float x[ROWS * WIDTH];
    struct backend backends[4];
    size_t count = open_all(backends);
    for (size_t i = 0; i < count; i++) {
        for (int percent = 1; percent < 100; percent += 14) {
            struct dropout how = whole;
            how.rate = percent / 100.0;
            mask(&backends[i], &how, ROWS, WIDTH, x);
            double zeros[6] = {0}, seen[6] = {0};
            for (size_t at = 0; at < ROWS * WIDTH; at++) {
                int parts[2] = {at < ROWS * WIDTH / 2, 2 + (int)(at % WIDTH % 4)};
                for (int p = 0; p < 2; p++) {
                    zeros[parts[p]] += x[at] == 0;
                    seen[parts[p]]++;
                }
                if (x[at] != 0 && x[at] != (float)(1 / (1 - how.rate))) fail_msg("a factor of %g", (double)x[at]);
            }
            for (int p = 0; p < 6; p++) {
                double error = zeros[p] / seen[p] - how.rate, deviation = sqrt(how.rate * (1 - how.rate) / seen[p]);
                if (fabs(error) > 5 * deviation)
                    fail_msg("%s: %d %%, part %d: off by %.1f deviations", backends[i].k->name, percent, p,
                             error / deviation);
            }
        }
        backends[i].k->device_destroy(backends[i].device);
    }
}

/* Rows in batches and columns on devices are those of the whole. */
static void places(void **state)
{
    (void)state;
    static float all[ROWS * WIDTH], part[ROWS * WIDTH];
    struct backend backends[4];
    size_t count = open_all(backends);
    for (size_t i = 0; i < count; i++) {
        mask(&backends[i], &whole, ROWS, WIDTH, all);
        static const size_t cuts[][2] = {{0, 1}, {1, 64}, {65, 130}, {195, 3}, {198, 503}, {0, 701}};
        for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
            struct dropout how = whole;
            size_t first = 37 * c, rows = ROWS - first, width = cuts[c][1];
            const struct dropout_key key = {whole_key.seed, whole_key.stream, whole_key.first_row + first};
            how.key = &key;
            how.first_column = cuts[c][0];
            mask(&backends[i], &how, rows, width, part);
            for (size_t r = 0; r < rows; r++)
                for (size_t j = 0; j < width; j++)
                    if (part[r * width + j] != all[(first + r) * WIDTH + cuts[c][0] + j])
                        fail_msg("%s: row %zu, column %zu", backends[i].k->name, first + r, cuts[c][0] + j);
        }
        backends[i].k->device_destroy(backends[i].device);
    }
}

/* Share of elements on which two masks agree: 0.7^2 + 0.3^2 where they are independent. */
static void keys(void **state)
{
    (void)state;
    static float a[ROWS * WIDTH], b[ROWS * WIDTH];
    struct backend backends[4];
    size_t count = open_all(backends);
    for (size_t i = 0; i < count; i++) {
        struct dropout_key other[] = {whole_key, whole_key, whole_key, whole_key};
        other[0].seed++;
        other[1].stream++;
        other[2].first_row++;
        other[3].first_row += UINT64_C(1) << 32; /* steps of so many tokens do not repeat */
        mask(&backends[i], &whole, ROWS, WIDTH, a);
        for (int o = 0; o < 4; o++) {
            double same = 0;
            struct dropout how = whole;
            how.key = &other[o];
            mask(&backends[i], &how, ROWS, WIDTH, b);
            for (size_t at = 0; at < ROWS * WIDTH; at++)
                same += (a[at] == 0) == (b[at] == 0);
            double n = ROWS * WIDTH;
            if (fabs(same / n - 0.58) > 5 * sqrt(0.58 * 0.42 / n)) fail_msg("key %d: %.4f agree", o, same / n);
        }
        backends[i].k->device_destroy(backends[i].device);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rates), cmocka_unit_test(places), cmocka_unit_test(keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
