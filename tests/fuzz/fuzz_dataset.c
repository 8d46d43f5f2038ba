/* The reader of data sets, on any bytes: refused, or everything that a worker reads is in the vocabulary. Seeds come
 * from seeds.py. */
#include "tests/fuzz/fuzz.h"

#include "io/dataset.h"

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
    return fuzz_mutate(data, size, max_size, seed);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}
