/* The reader of data sets, on any bytes: refused, or everything that a worker reads is in the vocabulary. */
#include "tests/fuzz/fuzz.h"

#include "io/file.h"
#include "io/text/dataset_format.h"

static void check_tokens(const int32_t *tokens, size_t count, size_t vocabulary)
{
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= vocabulary) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { CAPACITY = 32, MOST = 64 };
    int32_t tokens[CAPACITY];
    struct error err = {""};
    fuzz_file(data, size);
    struct dataset *dataset = dataset_open(fuzz_path, &err);
    if (!dataset) {
        if (!err.text[0]) abort();
        return 0;
    }
    const struct dataset_info *info = dataset_info(dataset);
    for (int split = 0; split < 2; split++)
        for (size_t i = 0; i < MOST && i < info->text_tokens[split]; i++) {
            dataset_text(dataset, (enum dataset_split)split, i * 7919, CAPACITY, tokens);
            check_tokens(tokens, CAPACITY, info->vocabulary);
        }
    for (int split = 0; split < SPLITS; split++)
        for (size_t i = 0; i < MOST && i < info->examples[split]; i++) {
            size_t source, length = dataset_example(dataset, (enum dataset_split)split, i, CAPACITY, tokens, &source);
            if (length > CAPACITY || source > length) abort();
            check_tokens(tokens, length, info->vocabulary);
        }
    size_t tokenizer;
    volatile unsigned char last = 0;
    const unsigned char *bytes = dataset_tokenizer(dataset, &tokenizer);
    if (tokenizer > 0) last = bytes[tokenizer - 1];
    (void)last;
    if (strlen(dataset_description(dataset)) > 1023) abort();
    dataset_verify(dataset, &err);
    dataset_close(dataset);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_forge(data, size, max_size, seed);
}

/* Elements of a part of a seed. */
static uint64_t element(enum part part, uint64_t i)
{
    static const uint64_t example[5] = {1, 7, 4, 8, 2};
    if (part < PART_EXAMPLES) return i + 5;
    return (part - PART_EXAMPLES) % 3 == EXAMPLE_TOKENS    ? example[i % 5]
           : (part - PART_EXAMPLES) % 3 == EXAMPLE_OFFSETS ? 5 * i
                                                           : 3;
}

static void seed_write(const char *path, uint64_t vocabulary)
{
    static const uint64_t counts[PARTS] = {64, 200, 50, 30, 7, 6, 30, 7, 6, 30, 7, 6};
    const struct frozen_attribute attributes[] = {{"vocabulary", NULL, vocabulary},
                                                  {"separator", NULL, 4},
                                                  {"digest", "00112233445566778899aabbccddeeff", 0},
                                                  {"task", "small", 0},
                                                  {"description", "a seed", 0}};
    struct frozen_spec specs[PARTS];
    struct frozen_part parts[PARTS];
    struct frozen_block block;
    int fd;
    dataset_specs(vocabulary, specs);
    for (int i = 0; i < PARTS; i++)
        parts[i] = (struct frozen_part){.spec = &specs[i], .rows = counts[i]};
    if (frozen_create(path, &dataset_file, attributes, 5, parts, PARTS, &block, &fd, NULL) != 0) exit(1);
    for (int i = 0; i < PARTS; i++)
        for (uint64_t j = 0; j < counts[i]; j++) {
            uint64_t value = element((enum part)i, j);
            if (file_write_at(fd, &value, parts[i].row_size, parts[i].offset + j * parts[i].row_size) != 0) exit(1);
        }
    if (frozen_seal(fd, path, &block, NULL) != 0) exit(1);
    close(fd);
}

/* Seeds: tokens of two and of four bytes. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    if (!fuzz_seed_folder()) return 0;
    for (uint64_t vocabulary = 400; vocabulary <= 70000; vocabulary += 69600) {
        char path[4096];
        snprintf(path, sizeof path, "%s/dataset%llu", fuzz_seed_folder(), (unsigned long long)vocabulary);
        unlink(path);
        seed_write(path, vocabulary);
    }
    exit(0);
}
