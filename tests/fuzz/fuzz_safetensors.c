/* The reader of safetensors, on any bytes: refused with a line, or every tensor that it lists can be read within its
 * bounds. */
#include "tests/fuzz/fuzz.h"

#include "io/checkpoint/safetensors.h"

static void read_tensor(const struct safetensors *s, const struct safetensors_tensor *tensor)
{
    enum { VALUES = 1 << 16 };
    static float values[VALUES];
    struct error err = {""};
    uint64_t rows = tensor->rows, columns = tensor->columns;
    if (tensor->bytes == 0 || rows * columns > VALUES) return;
    struct safetensors_tile whole = {0, rows, 0, columns};
    struct safetensors_tile part = {rows / 2, rows - rows / 2, columns / 2, columns - columns / 2};
    struct safetensors_tile beyond = {rows, 1, 0, columns};
    if (safetensors_read(s, tensor, &whole, values, &err) != safetensors_read(s, tensor, &part, values, &err)) abort();
    if (safetensors_read(s, tensor, &beyond, values, &err) == 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {""};
    struct digest digest;
    fuzz_file(data, size);
    struct safetensors *s = safetensors_open(fuzz_path, &err);
    if (!s) {
        if (!err.text[0]) abort();
        return 0;
    }
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(s, i);
        if (safetensors_find(s, tensor->name) != tensor || tensor->offset + tensor->bytes > size) abort();
        read_tensor(s, tensor);
    }
    if (safetensors_digest(s, &digest, &err)) abort();
    safetensors_close(s);
    return 0;
}

/* The length in front follows what was changed, so that inputs reach the JSON and what is behind it. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size = fuzz_mutate(data, size, max_size, seed);
    if (size < 9 || seed % 4 == 0) return size;
    const uint8_t *end = memrchr(data + 8, '}', size - 8);
    uint64_t length = end ? (uint64_t)(end - data) - 7 : 0;
    if (end) memcpy(data, &length, sizeof length);
    return size;
}

static void write_seed(const char *name, const char *header, size_t values)
{
    char path[4096];
    static const unsigned char zeros[64];
    uint64_t length = strlen(header);
    snprintf(path, sizeof path, "%s/%s", fuzz_seed_folder(), name);
    FILE *file = fopen(path, "w");
    if (!file || fwrite(&length, sizeof length, 1, file) != 1 || fwrite(header, length, 1, file) != 1 ||
        fwrite(zeros, values, 1, file) != 1 || fclose(file))
        abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    if (!fuzz_seed_folder()) return 0;
    write_seed("one", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}", 24);
    write_seed(
        "two",
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}}",
        20);
    exit(0);
}
