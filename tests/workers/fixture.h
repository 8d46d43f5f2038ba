/* What the tests of training share: a run directory of their own, and a small dataset whose task can be learnt (each
 * word has one translation). */
#ifndef TUNELAW_TESTS_WORKERS_FIXTURE_H
#define TUNELAW_TESTS_WORKERS_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/text/dataset.h"
#include "kernels/random.h"
#include "workers/stage/stage.h"

struct fixture {
    size_t sentinels; /* to reserve; set before fixture_create */
    char dir[64];     /* absolute, removed by fixture_destroy */
    char dataset[128];
    struct dataset_info info;
};

static const char *const fixture_words[2][12] = {
    {"house", "river", "stone", "cloud", "bread", "light", "horse", "table", "green", "seven", "north", "water"},
    {"haus", "fluss", "stein", "wolke", "brot", "licht", "pferd", "tisch", "gruen", "sieben", "nord", "wasser"}};

/* `count` lines: documents (pairs = 0: English and German sentences in turn), or English TAB German. */
static inline void fixture_write(const char *path, uint64_t seed, int count, int pairs)
{
    FILE *out = fopen(path, "w");
    uint64_t draw = 0;
    struct random_key key = {.seed = seed, .stream = random_stream("fixture")};
    for (int line = 0; line < count; line++) {
        uint64_t words[6], n = 2 + random_below(key, draw++, 4);
        for (uint64_t i = 0; i < n; i++)
            words[i] = random_below(key, draw++, 12);
        for (int side = pairs ? 0 : line % 2; side < (pairs ? 2 : line % 2 + 1); side++) {
            for (uint64_t i = 0; i < n; i++)
                fprintf(out, "%s%s", i ? " " : "", fixture_words[side][words[i]]);
            fputc(pairs && side == 0 ? '\t' : '\n', out);
        }
    }
    fclose(out);
}

static inline int fixture_create(struct fixture *fixture)
{
    char text[4][96];
    const char *names[4] = {"text.txt", "train.tsv", "valid.tsv", "test.tsv"};
    const int counts[4] = {2000, 300, 24, 24};
    struct error err = {""};
    strcpy(fixture->dir, "/tmp/tunelaw-test-XXXXXX");
    if (!mkdtemp(fixture->dir)) return -1;
    for (int i = 0; i < 4; i++) {
        snprintf(text[i], sizeof text[i], "%s/%s", fixture->dir, names[i]);
        fixture_write(text[i], (uint64_t)i, counts[i], i > 0);
    }
    const char *texts[4] = {text[0], text[1], text[2], text[3]};
    struct dataset_sources sources = {.text = texts,
                                      .text_count = 1,
                                      .pairs = {{&texts[1], 1}, {&texts[2], 1}, {&texts[3], 1}},
                                      .vocabulary = 320 + (fixture->sentinels ? DATASET_MODES + fixture->sentinels : 0),
                                      .sentinels = fixture->sentinels,
                                      .task = "words",
                                      .description = "a synthetic dictionary"};
    snprintf(fixture->dataset, sizeof fixture->dataset, "%s/data.h5", fixture->dir);
    if (dataset_build(fixture->dataset, &sources, &fixture->info, &err)) {
        fprintf(stderr, "fixture: %s\n", err.text);
        return -1;
    }
    return 0;
}

static inline void fixture_destroy(const struct fixture *fixture)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", fixture->dir);
    if (system(command) != 0) fprintf(stderr, "cannot remove %s\n", fixture->dir);
}

#endif
