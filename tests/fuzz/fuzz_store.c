/* The reader of stores, on any bytes: refused, or every row is right, empty or damaged. A few of those of which
 * anything is left are salvaged. */
#include "tests/fuzz/fuzz.h"

#include "io/store/store_internal.h"

enum { ROWS = 64 };

static void read_rows(const struct store *store)
{
    struct error err;
    size_t count = store_count(store);
    unsigned char *committed = malloc(count);
    if (committed) store_committed(store, committed, &err);
    for (size_t i = 0; i < count && i < ROWS; i++) {
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
    if (strlen(store_config(store)) > STORE_CONFIG_LIMIT || strlen(store_provenance(store)) > STORE_CONFIG_LIMIT ||
        !store_name(store) || !store_dataset_digest(store))
        abort();
    free(committed);
}

/* What a salvage writes can be opened. */
static void salvage(const struct store *store)
{
    char out[sizeof fuzz_path + 16];
    struct error err = {""};
    snprintf(out, sizeof out, "%s.salvaged.h5", fuzz_path);
    if (store_salvage(store, out, "fuzz", &err) == 0) {
        struct store *salvaged = store_open(out, false, &err);
        if (!salvaged) abort();
        store_close(salvaged);
        unlink(out);
    } else if (!err.text[0])
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {""};
    struct store_damage damage;
    fuzz_file(data, size);
    struct store *store = store_open(fuzz_path, false, &err);
    if (store)
        read_rows(store);
    else if (!err.text[0])
        abort(); /* refused without a word */
    store_close(store);
    store = store_open_damaged(fuzz_path, &damage, &err);
    if (store) read_rows(store);
    if (store && checksum_of(data, size) % 64 == 0) salvage(store); /* a new file costs a hundred times a read */
    store_close(store);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_forge(data, size, max_size, seed);
}

/* The file without the time of its creation, so that seeds are the same every time. */
static void timeless(const char *from, const char *to)
{
    static uint8_t bytes[1 << 17];
    struct frozen_block block;
    const char *created;
    FILE *file = fopen(from, "rb");
    size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (size < sizeof block || size == sizeof bytes || fclose(file) != 0) exit(1);
    memcpy(&block, bytes, sizeof block);
    if (frozen_get_text(&block, from, "created", &created, NULL) != 0) exit(1);
    for (uint8_t *at; (at = memmem(bytes, size, created, strlen(created)));) /* in the block and in HDF5's attribute */
        memcpy(at, "2000-01-01T00:00:00Z", 20);
    forge(bytes, size);
    file = fopen(to, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0 || unlink(from) != 0) exit(1);
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
        timeless(from, to);
    }
    exit(0);
}
