/* A small dataset of made-up sentences, in the test's private folder. Include after cmocka.h. */
#ifndef TUNELAW_TESTS_IO_SMALL_DATASET_H
#define TUNELAW_TESTS_IO_SMALL_DATASET_H

#include "io/text/dataset.h"
#include "tests/io/temporary.h"

enum { DOCUMENTS = 401, TRAIN_PAIRS = 120, HELD_PAIRS = 15, VOCABULARY = 400 };

static const char *const nouns[] = {"cell",        "table",    "window", "Schaltfläche",
                                    "Überschrift", "document", "chart",  "formula"};
static const char *const verbs[] = {"opens", "closes", "selects", "moves", "löscht", "ändert", "copies", "draws"};

static inline void sentence(char *out, size_t size, unsigned n)
{
    snprintf(out, size, "The %s %s the %s number %u.", nouns[n % 8], verbs[n / 8 % 8], nouns[n / 64 % 8], n);
}

static inline void write_text(const char *name, unsigned first, unsigned count)
{
    FILE *file = fopen(temporary_path(name), "w");
    char line[256];
    for (unsigned i = 0; i < count; i++) {
        sentence(line, sizeof line, first + i);
        fprintf(file, "%s\n", line);
    }
    fclose(file);
}

static inline void write_pairs(const char *name, unsigned first, unsigned count)
{
    FILE *file = fopen(temporary_path(name), "w");
    char source[256], target[256];
    for (unsigned i = 0; i < count; i++) {
        sentence(source, sizeof source, first + i);
        sentence(target, sizeof target, 3 * (first + i) + 1);
        fprintf(file, "%s\t%s\n", source, target);
    }
    fclose(file);
}

static inline struct dataset_sources small_sources(void)
{
    static const char *text_files[1];
    static char text[PATH_MAX], train[PATH_MAX], valid[PATH_MAX], test[PATH_MAX];
    static const char *const pairs[SPLITS] = {train, valid, test};
    write_text("text.txt", 0, DOCUMENTS);
    write_pairs("train.tsv", 0, TRAIN_PAIRS);
    write_pairs("valid.tsv", 500, HELD_PAIRS);
    write_pairs("test.tsv", 600, HELD_PAIRS);
    snprintf(text, sizeof text, "%s", temporary_path("text.txt"));
    snprintf(train, sizeof train, "%s", temporary_path("train.tsv"));
    snprintf(valid, sizeof valid, "%s", temporary_path("valid.tsv"));
    snprintf(test, sizeof test, "%s", temporary_path("test.tsv"));
    text_files[0] = text;
    return (struct dataset_sources){.text = text_files,
                                    .text_count = 1,
                                    .pairs = {{&pairs[0], 1}, {&pairs[1], 1}, {&pairs[2], 1}},
                                    .vocabulary = VOCABULARY,
                                    .task = "translation",
                                    .description = "made by a test"};
}

static inline struct dataset *build_small(struct dataset_info *info)
{
    struct dataset_sources sources = small_sources();
    struct error err = {0};
    if (dataset_build(temporary_path("small.h5"), &sources, info, &err) != 0) fail_msg("%s", err.text);
    struct dataset *dataset = dataset_open(temporary_path("small.h5"), &err);
    if (!dataset) fail_msg("%s", err.text);
    return dataset;
}

#endif
