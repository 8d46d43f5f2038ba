/* Reading a tokenised dataset: checked once when it is opened, then token ids are copied out of mapped memory. */
#include "io/text/dataset.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io/text/dataset_format.h"
#include "io/tokenizer/tokenizer.h"

struct span {
    const unsigned char *bytes; /* in the map, of any alignment */
    size_t count;               /* elements */
};

struct dataset {
    struct dataset_info info;
    char description[1024];
    void *map;
    size_t map_size;
    struct span parts[PARTS];
};

static uint64_t load64(const struct span *span, size_t index)
{
    uint64_t value;
    memcpy(&value, span->bytes + 8 * index, sizeof value);
    return value;
}

static uint32_t load32(const struct span *span, size_t index)
{
    uint32_t value;
    memcpy(&value, span->bytes + 4 * index, sizeof value);
    return value;
}

static uint16_t load16(const struct span *span, size_t index)
{
    uint16_t value;
    memcpy(&value, span->bytes + 2 * index, sizeof value);
    return value;
}

static int map_file(struct dataset *dataset, int fd, uint64_t size, const char *path, struct error *err)
{
    dataset->map_size = (size_t)size;
    dataset->map = mmap(NULL, dataset->map_size, PROT_READ, MAP_SHARED, fd, 0);
    if (dataset->map != MAP_FAILED) return 0;
    dataset->map = NULL;
    return error_set_errno(err, "%s: cannot map", path);
}

static int read_text(const struct frozen_block *block, const char *path, const char *name, char *out, size_t capacity,
                     struct error *err)
{
    const char *text;
    if (frozen_get_text(block, path, name, &text, err) != 0) return -1;
    if (strlen(text) >= capacity) return error_set(err, "%s: damaged dataset: attribute %s is too long", path, name);
    strcpy(out, text);
    return 0;
}

/* Where none are reserved there are no such attributes. */
static int read_reserved(struct dataset_info *info, const struct frozen_block *block, const char *path,
                         struct error *err)
{
    uint64_t first, sentinels;
    const char *text;
    if (frozen_get_text(block, path, "sentinels", &text, NULL) != 0) return 0;
    if (frozen_get_u64(block, path, "sentinels", &sentinels, err) != 0 ||
        frozen_get_u64(block, path, "reserved", &first, err) != 0)
        return -1;
    if (sentinels == 0 || sentinels >= info->vocabulary || first >= info->vocabulary ||
        first + DATASET_MODES + sentinels > info->vocabulary)
        return error_set(err, "%s: damaged dataset: attributes reserved and sentinels", path);
    info->reserved = (int32_t)first;
    info->sentinels = (size_t)sentinels;
    return 0;
}

/* Only a tokenizer.json has marks of its own. */
static int read_marks(struct dataset_info *info, const struct frozen_block *block, const char *path, struct error *err)
{
    uint64_t begin, end;
    const char *text;
    info->begin = TOKEN_BEGIN;
    info->end = TOKEN_END;
    if (frozen_get_text(block, path, "end", &text, NULL) != 0) return 0;
    if (frozen_get_u64(block, path, "begin", &begin, err) != 0 || frozen_get_u64(block, path, "end", &end, err) != 0)
        return -1;
    if (begin > info->vocabulary || end >= info->vocabulary)
        return error_set(err, "%s: damaged dataset: attributes begin and end", path);
    info->begin = begin < info->vocabulary ? (int32_t)begin : -1;
    info->end = (int32_t)end;
    return 0;
}

static int read_attributes(struct dataset *dataset, const struct frozen_block *block, const char *path,
                           struct error *err)
{
    struct dataset_info *info = &dataset->info;
    uint64_t vocabulary, separator;
    if (frozen_get_u64(block, path, "vocabulary", &vocabulary, err) != 0 ||
        frozen_get_u64(block, path, "separator", &separator, err) != 0 ||
        read_text(block, path, "digest", info->digest.hex, sizeof info->digest.hex, err) != 0 ||
        read_text(block, path, "task", info->task, sizeof info->task, err) != 0 ||
        read_text(block, path, "description", dataset->description, sizeof dataset->description, err) != 0)
        return -1;
    if (vocabulary <= TOKEN_PAD || vocabulary > INT32_MAX)
        return error_set(err, "%s: damaged dataset: attribute vocabulary", path);
    if (separator > vocabulary) return error_set(err, "%s: damaged dataset: attribute separator", path);
    if (strspn(info->digest.hex, "0123456789abcdef") != DIGEST_HEX)
        return error_set(err, "%s: damaged dataset: attribute digest", path);
    info->vocabulary = (size_t)vocabulary;
    info->separator = separator < vocabulary ? (int32_t)separator : -1;
    return read_marks(info, block, path, err) || read_reserved(info, block, path, err) ? -1 : 0;
}

static int locate_parts(struct dataset *dataset, const struct frozen_block *block, const char *path, struct error *err)
{
    struct frozen_spec specs[PARTS];
    dataset_specs(dataset->info.vocabulary, specs);
    for (int i = 0; i < PARTS; i++) {
        struct frozen_part part = {.spec = &specs[i]};
        if (frozen_locate(block, path, &part, err) != 0) return -1;
        dataset->parts[i] = (struct span){(const unsigned char *)dataset->map + part.offset, (size_t)part.rows};
    }
    return 0;
}

/* Offsets begin at 0, ascend and end at the last token; every example has a source and at least one target token. */
static int check_examples(struct dataset *dataset, enum dataset_split split, const char *path, struct error *err)
{
    const struct span *offsets = &dataset->parts[part_example(split, EXAMPLE_OFFSETS)];
    const struct span *sources = &dataset->parts[part_example(split, EXAMPLE_SOURCES)];
    size_t tokens = dataset->parts[part_example(split, EXAMPLE_TOKENS)].count;
    const char *name = dataset_split_name(split);
    if (offsets->count == 0 || offsets->count - 1 != sources->count || load64(offsets, 0) != 0 ||
        load64(offsets, sources->count) != tokens)
        return error_set(err, "%s: damaged dataset: offsets of the %s examples do not fit their tokens", path, name);
    size_t longest = 0, targets = 0;
    uint64_t first = 0;
    for (size_t i = 0; i < sources->count; i++) {
        uint64_t end = load64(offsets, i + 1), source = load32(sources, i);
        if (end <= first || end > tokens || source == 0 || source >= end - first)
            return error_set(err, "%s: damaged dataset: offset or source count of %s example %zu", path, name, i);
        targets += (size_t)(end - first - source);
        if (end - first > longest) longest = (size_t)(end - first);
        first = end;
    }
    dataset->info.examples[split] = sources->count;
    dataset->info.example_tokens[split] = tokens;
    dataset->info.example_targets[split] = targets;
    dataset->info.longest[split] = longest;
    return 0;
}

static int open_checked(struct dataset *dataset, int fd, const char *path, struct error *err)
{
    struct frozen_block block;
    if (frozen_open(fd, path, &dataset_file, &block, err) != 0 ||
        frozen_verify(fd, path, &dataset_file, &block, err) != 0 ||
        map_file(dataset, fd, block.file_size, path, err) != 0 || read_attributes(dataset, &block, path, err) != 0 ||
        locate_parts(dataset, &block, path, err) != 0)
        return -1;
    for (int split = 0; split < SPLITS; split++)
        if (check_examples(dataset, (enum dataset_split)split, path, err) != 0) return -1;
    dataset->info.has_tokenizer = dataset->parts[PART_TOKENIZER].count > 0;
    dataset->info.text_tokens[SPLIT_TRAIN] = dataset->parts[PART_TEXT_TRAIN].count;
    dataset->info.text_tokens[SPLIT_VALID] = dataset->parts[PART_TEXT_VALID].count;
    return 0;
}

struct dataset *dataset_open(const char *path, struct error *err)
{
    struct dataset *dataset = calloc(1, sizeof *dataset);
    /* O_NONBLOCK: a fifo in its place must not block */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int result = !dataset ? error_set(err, "%s: out of memory", path)
                 : fd < 0 ? error_set_errno(err, "%s", path)
                          : open_checked(dataset, fd, path, err);
    if (fd >= 0) close(fd);
    if (result == 0) return dataset;
    dataset_close(dataset);
    return NULL;
}

void dataset_close(struct dataset *dataset)
{
    if (!dataset) return;
    if (dataset->map) munmap(dataset->map, dataset->map_size);
    free(dataset);
}

const struct dataset_info *dataset_info(const struct dataset *dataset)
{
    return &dataset->info;
}

const char *dataset_description(const struct dataset *dataset)
{
    return dataset->description;
}

const void *dataset_tokenizer(const struct dataset *dataset, size_t *size)
{
    *size = dataset->parts[PART_TOKENIZER].count;
    return dataset->parts[PART_TOKENIZER].bytes;
}

static uint32_t token_at(const struct dataset *dataset, const struct span *span, size_t index)
{
    return dataset_width(PART_TOKENS, dataset->info.vocabulary) == 2 ? load16(span, index) : load32(span, index);
}

/* out[count] = tokens from `first`; those outside the vocabulary become TOKEN_UNKNOWN. */
static void copy_tokens(const struct dataset *dataset, const struct span *span, size_t first, size_t count,
                        int32_t *out)
{
    assert(first <= span->count && count <= span->count - first);
    for (size_t i = 0; i < count; i++) {
        uint32_t token = token_at(dataset, span, first + i);
        out[i] = token < dataset->info.vocabulary ? (int32_t)token : TOKEN_UNKNOWN;
    }
}

void dataset_text(const struct dataset *dataset, enum dataset_split split, uint64_t first, size_t count, int32_t *out)
{
    assert(split == SPLIT_TRAIN || split == SPLIT_VALID);
    const struct span *text = &dataset->parts[part_text(split)];
    if (text->count == 0) {
        for (size_t i = 0; i < count; i++)
            out[i] = TOKEN_PAD;
        return;
    }
    size_t at = (size_t)(first % text->count);
    while (count > 0) {
        size_t run = count < text->count - at ? count : text->count - at;
        copy_tokens(dataset, text, at, run, out);
        out += run;
        count -= run;
        at = 0;
    }
}

size_t dataset_example_length(const struct dataset *dataset, enum dataset_split split, size_t index)
{
    const struct span *offsets = &dataset->parts[part_example(split, EXAMPLE_OFFSETS)];
    assert(index < dataset->info.examples[split]);
    return (size_t)(load64(offsets, index + 1) - load64(offsets, index));
}

size_t dataset_example_source(const struct dataset *dataset, enum dataset_split split, size_t index)
{
    const struct span *sources = &dataset->parts[part_example(split, EXAMPLE_SOURCES)];
    assert(index < dataset->info.examples[split]);
    return load32(sources, index);
}

size_t dataset_example(const struct dataset *dataset, enum dataset_split split, size_t index, size_t capacity,
                       int32_t *out, size_t *source)
{
    size_t length = dataset_example_length(dataset, split, index);
    if (length > capacity) length = capacity;
    size_t first = (size_t)load64(&dataset->parts[part_example(split, EXAMPLE_OFFSETS)], index);
    copy_tokens(dataset, &dataset->parts[part_example(split, EXAMPLE_TOKENS)], first, length, out);
    *source = dataset_example_source(dataset, split, index);
    if (*source > length) *source = length;
    return length;
}

int dataset_verify(const struct dataset *dataset, struct error *err)
{
    uint64_t counts[PARTS];
    struct digest digests[PARTS];
    for (int i = 0; i < PARTS; i++) {
        const struct span *span = &dataset->parts[i];
        counts[i] = span->count;
        digests[i] =
            digest_of(span->bytes, span->count * dataset_width(dataset_parts[i].kind, dataset->info.vocabulary));
        if (dataset_parts[i].kind != PART_TOKENS) continue;
        for (size_t j = 0; j < span->count; j++)
            if (token_at(dataset, span, j) >= dataset->info.vocabulary)
                return error_set(err, "%s[%zu] is %u; allowed: below the vocabulary of %zu", dataset_parts[i].path, j,
                                 token_at(dataset, span, j), dataset->info.vocabulary);
    }
    struct digest digest = dataset_digest(counts, digests, &dataset->info);
    if (strcmp(digest.hex, dataset->info.digest.hex) != 0)
        return error_set(err, "the content has digest %s, the file says %s: it was changed or damaged", digest.hex,
                         dataset->info.digest.hex);
    return 0;
}
