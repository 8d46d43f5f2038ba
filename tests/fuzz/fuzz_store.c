/* The reader of stores, on any bytes: refused, or every row is right, empty or damaged. */
#include "tests/fuzz/fuzz.h"

#include "io/store_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {""};
    fuzz_file(data, size);
    struct store *store = store_open(fuzz_path, false, &err);
    if (!store) {
        if (!err.text[0]) abort(); /* refused without a word */
        return 0;
    }
    size_t count = store_count(store);
    unsigned char *committed = malloc(count);
    if (committed) store_committed(store, committed, &err);
    for (size_t i = 0; i < count && i < 64; i++) {
        struct store_row row;
        struct store_state state;
        struct store_slots slots;
        if (store_read(store, i, &row.result, &row.execution, &row.curve, &err) == 1 && row.curve.count > STORE_CURVE)
            abort();
        store_read_slots(store, i, &slots, &err);
        store_read_state(store, i, &state, &err);
        store_find_exact(store, store_point(store, i)->identity);
    }
    store_find(store, "0123", &err);
    if (strlen(store_config(store)) > STORE_CONFIG_LIMIT || !store_name(store) || !store_dataset_digest(store)) abort();
    free(committed);
    store_close(store);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size = fuzz_mutate(data, size, max_size, seed);
    if (seed % 8) fuzz_reseal(data, size, STORE_KIND, STORE_VERSION, STORE_DATASETS - 1);
    return size;
}

/* Seeds: stores of one and of three points, with a committed row. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    const struct store_header header = {"name = \"x\";\n", "sweep.cfg", "0", "", "x"};
    if (!fuzz_seed_folder()) return 0;
    for (size_t count = 1; count <= 3; count += 2) {
        struct store_point points[3] = {0};
        char from[4096], to[4096];
        for (size_t i = 0; i < count; i++)
            memcpy(points[i].identity, digest_of(&i, sizeof i).hex, DIGEST_HEX);
        if (store_generation(fuzz_seed_folder(), &header, points, count, NULL, NULL) != 0) exit(1);
        struct store *store = store_open(fuzz_seed_folder(), true, NULL);
        struct store_row row = {.index = 0, .result.status = STORE_DONE, .curve.count = 2};
        struct store_state state = {.status = STORE_CRASHED, .attempts = 1, .message = "signal 11"};
        memcpy(row.result.identity, points[0].identity, DIGEST_HEX);
        if (!store || store_commit(store, &row, 1, NULL) != 0 || store_set_state(store, 0, &state, NULL) != 0) exit(1);
        store_close(store);
        snprintf(from, sizeof from, "%s/results.h5", fuzz_seed_folder());
        snprintf(to, sizeof to, "%s/store%zu", fuzz_seed_folder(), count);
        if (rename(from, to) != 0) exit(1);
    }
    exit(0);
}
