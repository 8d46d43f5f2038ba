/* The reader of checkpoints, on any bytes: refused, or every tensor that it lists can be read. */
#include "tests/fuzz/fuzz.h"

#include "io/checkpoint/checkpoint_internal.h"

enum { VALUES = 1 << 16 };

static void read_tile(const struct checkpoint *checkpoint, const char *name, size_t rows, size_t columns)
{
    static float values[VALUES];
    struct error err;
    if (rows * columns > VALUES) return;
    struct checkpoint_tile whole = {name, rows, columns, 0, rows, 0, columns};
    struct checkpoint_tile part = {name, rows, columns, rows / 2, rows - rows / 2, columns / 2, columns - columns / 2};
    checkpoint_get(checkpoint, &whole, values, &err);
    checkpoint_get(checkpoint, &part, values, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {""};
    struct checkpoint_header header;
    const struct store_curve_entry *curve;
    fuzz_file(data, size);
    int peeked = checkpoint_peek(fuzz_path, &header, &err);
    if (peeked == 0 || (peeked < 0 && !err.text[0])) abort();
    struct checkpoint *checkpoint = checkpoint_open(fuzz_path, &err);
    if (!checkpoint) return 0;
    if (peeked != 1) abort(); /* what opens can be peeked at */
    volatile double sum = 0;
    for (size_t i = 0, count = checkpoint_curve(checkpoint, &curve); i < count; i++)
        sum = sum + curve[i].valid_loss;
    if (strlen(checkpoint_header(checkpoint)->stage) > DIGEST_HEX) abort();
    checkpoint_digest(checkpoint);
    checkpoint_has(checkpoint, "value/none");
    read_tile(checkpoint, "value/a", 6, 8);
    read_tile(checkpoint, "moment1/a", 6, 8);
    read_tile(checkpoint, "value/b", 1, 5);
    checkpoint_close(checkpoint);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_forge(data, size, max_size, seed);
}

/* Seeds: a checkpoint without tensors and curve, and one with both. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const struct {
        const char *name;
        size_t rows, columns;
    } tensors[] = {{"value/a", 6, 8}, {"moment1/a", 6, 8}, {"value/b", 1, 5}};
    static const struct store_curve_entry curve[2] = {{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 11, 12}};
    static const float values[48] = {1, 2, 3};
    (void)argc, (void)argv;
    if (!fuzz_seed_folder()) return 0;
    for (int full = 0; full < 2; full++) {
        char path[4096];
        struct checkpoint_header header = {.step = 40, .finished = 1};
        snprintf(path, sizeof path, "%s/checkpoint%d", fuzz_seed_folder(), full);
        struct checkpoint_writer *writer = checkpoint_writer_create(path, &header, curve, full ? 2 : 0, NULL);
        for (size_t i = 0; full && i < 3; i++)
            checkpoint_writer_declare(writer, tensors[i].name, tensors[i].rows, tensors[i].columns, NULL);
        for (size_t i = 0; full && i < 3; i++) {
            struct checkpoint_tile tile = {
                tensors[i].name, tensors[i].rows, tensors[i].columns, 0, tensors[i].rows, 0, tensors[i].columns};
            checkpoint_writer_put(writer, &tile, values, NULL);
        }
        if (checkpoint_writer_finish(writer, NULL, NULL) != 0) exit(1);
    }
    exit(0);
}
