/* From text to a tokenised dataset: check all input, train or load the tokenizer, tokenise into spools, assemble,
 * rename. */
#include "io/text/dataset_build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

static int check_files(const struct dataset_sources *sources, const char *const *paths, size_t count, int columns,
                       size_t *lines, struct error *err)
{
    *lines = 0;
    for (size_t i = 0; i < count; i++) {
        size_t in_file = 0;
        if (text_check(paths[i], columns, &sources->fields, &in_file, err) != 0) return -1;
        *lines += in_file;
    }
    return 0;
}

static int check_reserved(const struct dataset_sources *sources, struct error *err)
{
    size_t n = sources->sentinels, whole = sources->vocabulary;
    if (n == 0) return 0;
    if (sources->tokenizer)
        return error_set(err, "sentinels are reserved when a tokenizer is trained; this one has those that it has");
    if (sources->ids && (n > whole || sources->first_reserved > whole || sources->first_reserved + 3 + n > whole))
        return error_set(err, "3 modes and %zu sentinels from id %zu on; allowed: below the vocabulary of %zu", n,
                         sources->first_reserved, whole);
    if (!sources->ids && n > whole / 2)
        return error_set(err, "%zu sentinels; allowed: half of the vocabulary of %zu", n, whole);
    return 0;
}

static int check_sources(const struct dataset_sources *sources, struct error *err)
{
    size_t lines = 0;
    if (strlen(sources->task ? sources->task : "") >= sizeof((struct dataset_info *)0)->task)
        return error_set(err, "the task's name is too long; allowed: %zu bytes",
                         sizeof((struct dataset_info *)0)->task - 1);
    if (sources->task && !text_is_name(sources->task))
        return error_set(err, "the task's name is none; allowed: " TEXT_NAMES);
    if (strlen(sources->description ? sources->description : "") >= 1024)
        return error_set(err, "the description is too long; allowed: 1023 bytes");
    if (sources->text_count == 0 && sources->pairs[SPLIT_TRAIN].count == 0)
        return error_set(err, "nothing to build from; text files or training pairs are needed");
    if (sources->ids && (sources->vocabulary < 2 || sources->vocabulary > 1000000))
        return error_set(err, "vocabulary %zu of the ids; allowed: 2..1000000", sources->vocabulary);
    if (!sources->ids && !sources->tokenizer && (sources->vocabulary < 300 || sources->vocabulary > 1000000))
        return error_set(err, "vocabulary %zu; allowed: 300..1000000", sources->vocabulary);
    if (check_reserved(sources, err) != 0) return -1;
    if (check_files(sources, sources->valid_text, sources->valid_text_count, 1, &lines, err) != 0 ||
        check_files(sources, sources->text, sources->text_count, 1, &lines, err) != 0)
        return -1;
    if (sources->text_count > 0 && sources->valid_text_count == 0 && lines < 2)
        return error_set(err, "%s:1: one document; allowed: two or more, since some are held back for validation",
                         sources->text[0]);
    for (int split = 0; split < SPLITS; split++)
        if (check_files(sources, sources->pairs[split].paths, sources->pairs[split].count, 2, &lines, err) != 0)
            return -1;
    return 0;
}

/* Before the work, not after it: can a file be made beside `path`? */
static int check_writable(const char *path, struct error *err)
{
    struct spool spool = {0};
    int result = spool_open(&spool, &dataset_parts[PART_TOKENIZER], 0, path, err);
    spool_close(&spool);
    return result;
}

static int train_model(struct build *build, struct error *err)
{
    const struct dataset_sources *sources = build->sources;
    const struct dataset_files *pairs = &sources->pairs[SPLIT_TRAIN];
    const char **paths = calloc(sources->text_count + pairs->count + 1, sizeof *paths);
    if (!paths) return error_set(err, "out of memory");
    size_t count = 0;
    for (size_t i = 0; i < sources->text_count; i++)
        paths[count++] = sources->text[i];
    for (size_t i = 0; i < pairs->count; i++)
        paths[count++] = pairs->paths[i];
    struct tokenizer_source *source = &build->source;
    const struct tokenizer_texts texts = {paths, count, sources->text_count, &sources->fields};
    int result = tokenizer_train(&texts, sources->vocabulary, sources->sentinels, &source->bytes, &source->size, err);
    free(paths);
    if (result == 0) source->tokenizer = tokenizer_create(source->bytes, source->size, err);
    source->begin = TOKEN_BEGIN;
    source->end = TOKEN_END;
    return source->tokenizer ? 0 : -1;
}

static int find_separator(struct build *build, struct error *err)
{
    const char *wanted = build->sources->as_written ? "" : build->sources->separator;
    const struct tokenizer *tokenizer = build->source.tokenizer;
    build->separator = wanted ? -1 : tokenizer_separator(tokenizer);
    if (build->separator >= 0 || (wanted && !*wanted)) return 0;
    build->separator = tokenizer_id_of_text(tokenizer, wanted ? wanted : "\n");
    if (build->separator >= 0) return 0;
    error_set(
        err,
        "%s: %s%s%s is no single piece, to stand between source and target; --separator takes the text of one, or "
        "'' for none",
        build->source.path, wanted ? "\"" : "a newline", wanted ? wanted : "", wanted ? "\"" : "");
    return error_one_line(err);
}

static int prepare_tokenizer(struct build *build, struct error *err)
{
    const struct dataset_sources *sources = build->sources;
    build->vocabulary = sources->vocabulary;
    if (sources->ids) {
        build->source.begin = TOKEN_BEGIN; /* what no attribute says */
        build->source.end = TOKEN_END;
        build->sentinels = sources->sentinels;
        build->reserved = build->sentinels ? (int32_t)sources->first_reserved : 0;
        return 0;
    }
    if (sources->tokenizer ? tokenizer_source_open(sources->tokenizer, sources->end_token, &build->source, err)
                           : train_model(build, err))
        return -1;
    if (sources->as_written && !tokenizer_is_json(build->source.bytes, build->source.size))
        return error_set(err, "%s: sentencepiece reads no special token in a text; --as-written needs a tokenizer.json",
                         build->source.path);
    if (sources->as_written) build->source.begin = -1;
    build->vocabulary = tokenizer_vocabulary(build->source.tokenizer);
    build->sentinels = tokenizer_sentinels(build->source.tokenizer, &build->reserved);
    return find_separator(build, err);
}

static int open_spools(struct build *build, struct error *err)
{
    for (int i = 0; i < PARTS; i++)
        if (spool_open(&build->spools[i], &dataset_parts[i], build->vocabulary, build->path, err) != 0) return -1;
    if (build->source.size &&
        spool_add(&build->spools[PART_TOKENIZER], build->source.bytes, build->source.size, err) != 0)
        return -1;
    const uint64_t zero = 0;
    for (int split = 0; split < SPLITS; split++)
        if (spool_add(&build->spools[part_example(split, EXAMPLE_OFFSETS)], &zero, 1, err) != 0) return -1;
    return 0;
}

static struct digest digest_all(const struct build *build)
{
    uint64_t counts[PARTS];
    struct digest digests[PARTS];
    for (int i = 0; i < PARTS; i++) {
        counts[i] = build->spools[i].count;
        digests[i] = digest_stream_result(build->spools[i].digest);
    }
    const struct dataset_info info = {.vocabulary = build->vocabulary,
                                      .begin = build->source.begin,
                                      .end = build->source.end,
                                      .separator = build->separator,
                                      .reserved = build->reserved,
                                      .sentinels = build->sentinels};
    return dataset_digest(counts, digests, &info);
}

/* The whole file, synced. */
static int assemble(struct build *build, struct error *err)
{
    struct digest digest = digest_all(build);
    const struct dataset_sources *sources = build->sources;
    const struct tokenizer_source *source = &build->source;
    struct frozen_attribute attributes[9] = {
        {"vocabulary", NULL, build->vocabulary},
        {"separator", NULL, build->separator < 0 ? build->vocabulary : (uint64_t)build->separator},
        {"digest", digest.hex, 0},
        {"task", sources->task ? sources->task : "", 0},
        {"description", sources->description ? sources->description : "", 0}};
    size_t attribute_count = 5;
    if (source->begin != TOKEN_BEGIN || source->end != TOKEN_END) {
        attributes[attribute_count++] =
            (struct frozen_attribute){"begin", NULL, source->begin < 0 ? build->vocabulary : (uint64_t)source->begin};
        attributes[attribute_count++] = (struct frozen_attribute){"end", NULL, (uint64_t)source->end};
    }
    if (build->sentinels) {
        attributes[attribute_count++] = (struct frozen_attribute){"reserved", NULL, (uint64_t)build->reserved};
        attributes[attribute_count++] = (struct frozen_attribute){"sentinels", NULL, build->sentinels};
    }
    struct frozen_spec specs[PARTS];
    struct frozen_part parts[PARTS];
    struct frozen_block block;
    int fd;
    dataset_specs(build->vocabulary, specs);
    for (int i = 0; i < PARTS; i++)
        parts[i] = (struct frozen_part){.spec = &specs[i], .rows = build->spools[i].count};
    if (unlink(build->temporary) != 0 && errno != ENOENT)
        return error_set_errno(err, "%s: cannot remove it", build->temporary);
    if (frozen_create(build->temporary, &dataset_file, attributes, attribute_count, parts, PARTS, &block, &fd, err) !=
        0)
        return -1;
    int result = 0;
    for (int i = 0; result == 0 && i < PARTS; i++)
        result = spool_write(&build->spools[i], fd, parts[i].offset, err);
    if (result == 0) result = frozen_seal(fd, build->temporary, &block, err);
    if (result == 0 && fsync(fd) != 0) result = error_set_errno(err, "%s: cannot sync", build->temporary);
    close(fd);
    return result;
}

/* Open as any reader would, and only then give the file its name. */
static int publish(const struct build *build, struct dataset_info *info, struct error *err)
{
    struct dataset *dataset = dataset_open(build->temporary, err);
    if (!dataset) return -1;
    if (info) *info = *dataset_info(dataset);
    dataset_close(dataset);
    return file_publish(build->temporary, build->path, err);
}

int dataset_build(const char *path, const struct dataset_sources *sources, struct dataset_info *info, struct error *err)
{
    size_t repeated[SPLITS];
    struct build build = {.path = path, .sources = sources};
    if ((size_t)snprintf(build.temporary, sizeof build.temporary, "%s.tmp", path) >= sizeof build.temporary - 16)
        return error_set(err, "%s: path too long", path);
    int result = check_sources(sources, err);
    if (result == 0) result = file_check_named(path, err);
    if (result == 0) result = check_writable(path, err);
    if (result == 0) result = prepare_tokenizer(&build, err);
    if (result == 0) result = open_spools(&build, err);
    if (result == 0) result = dataset_tokenise(&build, repeated, err);
    if (result == 0) {
        result = assemble(&build, err);
        if (result == 0) result = publish(&build, info, err);
        if (result != 0) unlink(build.temporary);
    }
    if (result == 0 && info) memcpy(info->repeated, repeated, sizeof repeated);
    if (result == 0 && info) info->endless = build.endless;
    for (int i = 0; i < PARTS; i++)
        spool_close(&build.spools[i]);
    tokenizer_source_close(&build.source);
    return result;
}
