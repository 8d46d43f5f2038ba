/* If a denoised sequence were not its text, a trunk would learn something else: every sequence is put together again
 * and compared with the data set, the mixture's shares, corruption and spans are those that were asked for, and a trunk
 * that is interrupted is the same trunk. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "io/checkpoint/checkpoint.h"
#include "tests/workers/trained.h"
#include "workers/train/batch.h"
#include "workers/train/ul2.h"

enum { SENTINELS = 40, LENGTH = 128 };

static struct fixture fixture = {.sentinels = SENTINELS};
static struct dataset *dataset;

static int set_up(void **state)
{
    (void)state;
    struct error err = {""};
    if (fixture_create(&fixture)) return -1;
    dataset = dataset_open(fixture.dataset, &err);
    return dataset ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    dataset_close(dataset);
    fixture_destroy(&fixture);
    return 0;
}

static struct ul2 open_mixture(const struct mixture *mixture, uint32_t length, uint64_t seed)
{
    struct ul2 ul2;
    struct error err = {""};
    if (ul2_create(&ul2, mixture, length, &fixture.info, seed, &err)) fail_msg("%s", err.text);
    return ul2;
}

static bool is_sentinel(const struct ul2 *ul2, int32_t id)
{
    return id >= ul2->sentinels && id < ul2->sentinels + SENTINELS;
}

/* What a model that is right would make of a sequence: every sentinel of the inputs gives way to the target span behind
 * the same sentinel. Returns the tokens of text; *spans, *noise: as found. */
static size_t restore(const struct ul2 *ul2, const int32_t *sequence, size_t count, size_t first_target, int32_t *text,
                      size_t *spans, size_t *noise)
{
    size_t at = 0, target = first_target;
    *spans = *noise = 0;
    for (size_t i = ul2->mixture.mode_tokens; i < first_target; i++) {
        if (!is_sentinel(ul2, sequence[i])) {
            text[at++] = sequence[i];
            continue;
        }
        assert_int_equal(sequence[i], ul2->sentinels + (int32_t)*spans);
        assert_int_equal(sequence[target], sequence[i]);
        for (target++; target < count && !is_sentinel(ul2, sequence[target]); target++, ++*noise)
            text[at++] = sequence[target];
        ++*spans;
    }
    if (*spans == 0) /* the end of the text, without sentinels */
        for (; target < count; target++, ++*noise)
            text[at++] = sequence[target];
    else
        assert_int_equal(sequence[target++], ul2->sentinels + (int32_t)*spans);
    assert_int_equal(target, count);
    return at;
}

static void check_sequences(const struct mixture *mixture, uint32_t length)
{
    struct ul2 ul2 = open_mixture(mixture, length, 3);
    int32_t text[LENGTH + 1], sequence[LENGTH + 1], restored[LENGTH + 1];
    for (uint64_t position = 0; position < 400; position++) {
        uint32_t denoiser = ul2_denoiser(&ul2, position);
        const struct denoiser_shape *shape = &ul2.shapes[denoiser];
        dataset_text(dataset, SPLIT_TRAIN, 17 * position, shape->text, text);
        memset(sequence, 0xff, sizeof sequence);
        size_t spans, noise, first = ul2_corrupt(&ul2, position, text, sequence);
        if (mixture->mode_tokens) assert_int_equal(sequence[0], ul2.modes + (int32_t)mixture->denoisers[denoiser].mode);
        assert_int_equal(restore(&ul2, sequence, length + 1, first, restored, &spans, &noise), shape->text);
        assert_memory_equal(restored, text, shape->text * sizeof *text);
        assert_int_equal(spans, shape->spans);
        assert_int_equal(noise, shape->noise);
        assert_true(ul2_offset(&ul2, position) + shape->text <= length + 1);
    }
    ul2_destroy(&ul2);
}

static void text_comes_back(void **state)
{
    (void)state;
    struct mixture plain = mixture_default, dense = {.count = 1, .denoisers = {{DENOISER_X, 1, 0.5, 1}}};
    plain.mode_tokens = false;
    check_sequences(&mixture_default, LENGTH);
    check_sequences(&plain, LENGTH);
    check_sequences(&plain, 19);
    check_sequences(&mixture_default, 8);
    check_sequences(&dense, 70);
}

/* Corruption and spans as they were asked for, up to whole tokens; a mode's token, sentinels and text fill a sequence.
 */
static void shapes(void **state)
{
    (void)state;
    struct ul2 ul2 = open_mixture(&mixture_default, LENGTH, 1);
    double targets = 0;
    for (uint32_t i = 0; i < mixture_default.count; i++) {
        const struct denoiser *d = &mixture_default.denoisers[i];
        const struct denoiser_shape *s = &ul2.shapes[i];
        uint32_t sentinels = d->mode == DENOISER_S ? 0 : 2 * s->spans + 1;
        assert_int_equal(1 + s->text + sentinels, LENGTH + 1);
        assert_true(fabs(s->noise - d->corruption * s->text) <= 0.5);
        if (d->mode == DENOISER_S) assert_int_equal(s->spans, 0);
        if (d->mode != DENOISER_S) assert_true(s->spans == 1 || fabs(s->noise / d->span - s->spans) <= 1);
        targets += s->noise + (s->spans ? s->spans + 1 : 0);
    }
    assert_true(fabs(mixture_targets(&mixture_default, LENGTH) - targets / 7) < 1e-9);
    ul2_destroy(&ul2);
}

/* Shares of the denoisers, and pieces: each of c pieces of n tokens has n / c of them in the mean, whichever it is, and
 * lengths vary as those of a random division do. */
static void draws_are_fair(void **state)
{
    (void)state;
    enum { DRAWS = 20000 };
    struct mixture mixture = mixture_default;
    for (uint32_t i = 0; i < mixture.count; i++)
        mixture.denoisers[i].share = 1 + i;
    struct ul2 ul2 = open_mixture(&mixture, LENGTH, 5);
    size_t seen[DENOISERS] = {0}, positions = 0;
    double sums[3][2] = {{0}}, squares[3][2] = {{0}}, offsets = 0;
    int32_t text[LENGTH + 1] = {0}, sequence[LENGTH + 1];
    uint32_t tried = 3; /* X, spans of 3 */
    for (uint64_t position = 0; position < DRAWS; position++) {
        uint32_t denoiser = ul2_denoiser(&ul2, position);
        seen[denoiser]++;
        if (denoiser != tried) continue;
        size_t first = ul2_corrupt(&ul2, position, text, sequence), at[2] = {1, first + 1}, piece = 0;
        for (; piece < ul2.shapes[tried].spans; piece++) {
            for (int side = 0; side < 2; side++) {
                size_t begin = at[side];
                while (!is_sentinel(&ul2, sequence[at[side]]))
                    at[side]++;
                double length = (double)(at[side]++ - begin);
                int which = piece == 0 ? 0 : piece + 1 == ul2.shapes[tried].spans ? 2 : 1;
                if (which == 1 && piece != 4) continue;
                sums[which][side] += length;
                squares[which][side] += length * length;
            }
        }
        positions++;
        offsets += ul2_offset(&ul2, position);
    }
    for (uint32_t i = 0; i < mixture.count; i++) {
        double share = (1 + i) / 28.0, error = (double)seen[i] / DRAWS - share;
        if (fabs(error) > 5 * sqrt(share * (1 - share) / DRAWS)) fail_msg("denoiser %u: off by %g", i, error);
    }
    const struct denoiser_shape *s = &ul2.shapes[tried];
    double n = (double)positions, most = LENGTH - s->text;
    for (int side = 0; side < 2; side++) {
        double total = side ? s->noise : s->text - s->noise, c = s->spans, mean = total / c;
        /* variance of a part of a composition: (total - c) total (c - 1) / (c^2 (c + 1)) */
        double variance = (total - c) * total * (c - 1) / (c * c * (c + 1));
        for (int which = 0; which < 3; which++) {
            double found = sums[which][side] / n, spread = squares[which][side] / n - found * found;
            if (fabs(found - mean) > 5 * sqrt(variance / n))
                fail_msg("piece %d, side %d: %g tokens in the mean, not %g", which, side, found, mean);
            if (fabs(spread / variance - 1) > 0.2)
                fail_msg("piece %d, side %d: variance %g, not %g", which, side, spread, variance);
        }
    }
    assert_true(fabs(offsets / n - most / 2) < 5 * sqrt(most * (most + 2) / 12 / n));
    ul2_destroy(&ul2);
}

/* A sequence is a function of seed and position, in whatever order they are asked for. */
static void position_decides(void **state)
{
    (void)state;
    struct ul2 a = open_mixture(&mixture_default, LENGTH, 5), b = open_mixture(&mixture_default, LENGTH, 5),
               other = open_mixture(&mixture_default, LENGTH, 6);
    int32_t text[LENGTH + 1], x[LENGTH + 1], y[LENGTH + 1];
    int same = 0, differ = 0;
    for (int32_t i = 0; i <= LENGTH; i++)
        text[i] = i;
    for (uint64_t position = 0; position < 100; position++)
        ul2_corrupt(&a, position, text, x);
    for (uint64_t position = 100; position-- > 0;) {
        ul2_corrupt(&a, position, text, x);
        ul2_corrupt(&b, position, text, y);
        same += !memcmp(x, y, sizeof x);
        ul2_corrupt(&other, position, text, y);
        differ += memcmp(x, y, sizeof x) != 0;
    }
    assert_int_equal(same, 100);
    assert_true(differ > 90); /* S is one sequence */
    ul2_destroy(&a);
    ul2_destroy(&b);
    ul2_destroy(&other);
}

static void refuse(const struct mixture *mixture, uint32_t length, size_t sentinels, const char *word)
{
    struct ul2 ul2;
    struct error err = {""};
    struct dataset_info info = fixture.info;
    info.sentinels = sentinels;
    assert_int_equal(ul2_create(&ul2, mixture, length, &info, 1, &err), -1);
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

static void what_cannot_be(void **state)
{
    (void)state;
    struct mixture bad = mixture_default;
    struct error err = {""};
    refuse(&mixture_default, 1024, SENTINELS, "sentinels");
    refuse(&mixture_default, LENGTH, 0, "--sentinels");
    refuse(&mixture_default, 4, SENTINELS, "too short");
    assert_int_equal(mixture_check(&bad, &err), 0);
    bad.denoisers[1].corruption = 1;
    assert_int_equal(mixture_check(&bad, &err), -1);
    bad = mixture_default;
    bad.denoisers[0].span = NAN;
    assert_int_equal(mixture_check(&bad, &err), -1);
    bad.count = DENOISERS + 1;
    assert_int_equal(mixture_check(&bad, &err), -1);
}

/* Batches of a feed: a loss on targets alone, each block once an epoch, and the divisor of a step is their number. */
static void feed_gives_targets(void **state)
{
    (void)state;
    struct error err = {""};
    struct feed_spec spec = {.dataset = dataset,
                             .split = SPLIT_TRAIN,
                             .text = true,
                             .length = LENGTH,
                             .shuffle = true,
                             .seed = 7,
                             .mixture = &mixture_default};
    struct feed *feed = feed_create(&spec, &err);
    if (!feed) fail_msg("%s", err.text);
    struct ul2 ul2 = open_mixture(&mixture_default, LENGTH, 7);
    struct batch_buffer buffer;
    struct batch_capacity capacity = {.tokens = 4 * LENGTH, .sequences = 9, .targets = 4 * LENGTH, .longest = LENGTH};
    assert_int_equal(batch_buffer_create(&buffer, &capacity, &err), 0);
    uint64_t items = feed_items(feed), next = 0, targets, counted = 0;
    assert_true(items > 10);
    unsigned char *seen = calloc(items, 1);
    assert_int_equal(feed_targets(feed, 0, items, &targets, &err), 0);
    while (next < items) {
        uint64_t position = next;
        assert_int_equal(feed_fill(feed, &next, items, &buffer, &err), 0);
        const struct batch *batch = &buffer.batch;
        counted += batch->targets;
        size_t row = 0;
        for (size_t s = 0; s < batch->sequences; s++, position++) {
            uint64_t item;
            int32_t text[LENGTH + 1], sequence[LENGTH + 1];
            assert_int_equal(feed_item(feed, position, &item, &err), 0);
            seen[item]++;
            const struct denoiser_shape *shape = &ul2.shapes[ul2_denoiser(&ul2, position)];
            dataset_text(dataset, SPLIT_TRAIN, item * LENGTH + ul2_offset(&ul2, position), shape->text, text);
            size_t first = ul2_corrupt(&ul2, position, text, sequence), at = batch->offsets[s];
            assert_int_equal(batch->offsets[s + 1] - at, LENGTH);
            assert_memory_equal(batch->ids + at, sequence, LENGTH * sizeof *sequence);
            for (size_t i = first; i <= LENGTH; i++, row++) {
                assert_int_equal(batch->rows[row], at + i - 1);
                assert_int_equal(batch->labels[row], sequence[i]);
            }
        }
        assert_int_equal(row, batch->targets);
    }
    assert_int_equal(counted, targets);
    for (uint64_t i = 0; i < items; i++)
        assert_int_equal(seen[i], 1);
    free(seen);
    batch_buffer_destroy(&buffer);
    feed_destroy(feed);
    ul2_destroy(&ul2);
}

static void trunk_bytes(const struct stage *stage, struct digest *out)
{
    char path[PATH_MAX];
    struct error err = {""};
    stage_state_path(stage, path);
    struct checkpoint *state = checkpoint_open(path, &err);
    if (!state) fail_msg("%s", err.text);
    *out = checkpoint_digest(state);
    checkpoint_close(state);
}

static void stop_at(void *context, const struct stage_progress *progress)
{
    volatile int *stop = context;
    if (progress->step >= 7) *stop = 1;
}

/* A trunk learns to denoise, also what it is not trained on; interrupted, it is the same. */
static void trunks(void **state)
{
    (void)state;
    struct stage stage = stage_pretrain(&fixture, 0, 60);
    stage.recipe.objective = OBJECTIVE_UL2;
    stage.recipe.mixture = mixture_default;
    char *text = stage_encode(&stage);
    struct stage decoded;
    struct error err = {""};
    if (stage_decode(text, strlen(text), &decoded, &err)) fail_msg("%s", err.text);
    assert_memory_equal(&decoded.recipe.mixture, &stage.recipe.mixture, sizeof stage.recipe.mixture);
    free(text);
    struct stage_outcome whole, cut;
    stage_run(&stage, NULL, &whole);
    if (whole.status != STORE_DONE) fail_msg("%s", whole.message);
    struct digest one, two;
    trunk_bytes(&stage, &one);
    forget(&stage);
    volatile int stop = 0;
    const struct stage_hooks hooks = {.progress = stop_at, .context = (void *)&stop, .stop = &stop};
    stage.checkpoint_steps = 1;
    stage_run(&stage, &hooks, &cut);
    assert_int_equal(cut.status, STORE_CUT);
    stage_run(&stage, NULL, &cut);
    assert_int_equal(cut.status, STORE_DONE);
    assert_true(cut.resumed_step >= 7);
    trunk_bytes(&stage, &two);
    assert_string_equal(one.hex, two.hex);
    struct stage point = stage_finetune(&fixture, &stage, METHOD_FULL, 20);
    stage_run(&point, NULL, &whole);
    if (whole.status != STORE_DONE) fail_msg("%s", whole.message);
    assert_true(whole.row.result.test_loss < log((double)fixture.info.vocabulary) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_back),  cmocka_unit_test(shapes),         cmocka_unit_test(draws_are_fair),
        cmocka_unit_test(position_decides), cmocka_unit_test(what_cannot_be), cmocka_unit_test(feed_gives_targets),
        cmocka_unit_test(trunks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
