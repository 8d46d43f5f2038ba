/* Weights of Hugging Face's folders: what is written is read, slices and types are right to the bit, and a damaged or
 * hostile file is refused with a line that says why. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/checkpoint/safetensors.h"
#include "tests/io/temporary.h"

/* A file of this header and `size` bytes of values 0, 1, 2, ... */
static const char *file_of(const char *name, const char *header, size_t size)
{
    unsigned char bytes[4096] = {0};
    uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < size; i++)
        bytes[8 + length + i] = (unsigned char)i;
    return temporary_write(name, bytes, 8 + length + size);
}

static void assert_refused(const char *path, const char *why)
{
    struct error err = {""};
    struct safetensors *s = safetensors_open(path, &err);
    assert_null(s);
    if (!strstr(err.text, why)) fail_msg("\"%s\" does not say \"%s\"", err.text, why);
    if (strchr(err.text, '\n')) fail_msg("more than one line: %s", err.text);
}

static void hostile_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t size;
        const char *why;
    } cases[] = {
        {"[]", 0, "not a JSON object"},
        {"{", 0, "not a JSON object"},
        {"{\"a\":1}", 0, "dtype, shape and data_offsets"},
        {"{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "\"F99\" is not known"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "natural number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "natural number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "up to 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4, "more values"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "span 8 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 8, "ascending"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 8, "ascending"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "past the end"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8, "belong to no tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "leaves a hole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4, "overlaps"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, "not a JSON object: duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(file_of("hostile.safetensors", cases[i].header, cases[i].size), cases[i].why);
    assert_refused(temporary_write("hostile.safetensors", "\1\0\0\0", 4), "no header");
    assert_refused(temporary_write("hostile.safetensors", "\377\377\377\377\377\377\377\377{}", 10), "header of");
    assert_refused(temporary_write("hostile.safetensors", "\3\0\0\0\0\0\0\0{}", 10), "header of 3 bytes");
    assert_refused(temporary_path("absent"), "No such file");
    assert_refused(temporary_folder, "neither model.safetensors nor");
}

/* Every half and every bfloat16 becomes the float that it is. */
static void types(void **state)
{
    (void)state;
    enum { ALL = 1 << 16 };
    static unsigned char bytes[8 + 256 + 4 * ALL];
    static float values[ALL];
    char header[256];
    snprintf(header, sizeof header,
             "{\"b\":{\"dtype\":\"BF16\",\"shape\":[%d],\"data_offsets\":[0,%d]},"
             "\"h\":{\"dtype\":\"F16\",\"shape\":[256,256],\"data_offsets\":[%d,%d]}}",
             ALL, 2 * ALL, 2 * ALL, 4 * ALL);
    uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < 2 * ALL; i++) {
        bytes[8 + length + 2 * i] = (unsigned char)i;
        bytes[8 + length + 2 * i + 1] = (unsigned char)(i >> 8);
    }
    struct error err;
    struct safetensors *s = safetensors_open(temporary_write("t.safetensors", bytes, 8 + length + 4 * ALL), &err);
    assert_non_null(s);
    const struct safetensors_tile all = {0, 1, 0, ALL}, square = {0, 256, 0, 256};
    assert_int_equal(safetensors_read(s, safetensors_find(s, "b"), &all, values, &err), 0);
    for (uint32_t i = 0; i < ALL; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        assert_int_equal(bits, i << 16);
    }
    assert_int_equal(safetensors_read(s, safetensors_find(s, "h"), &square, values, &err), 0);
    for (uint32_t i = 0; i < ALL; i++) {
        double sign = i & 0x8000 ? -1 : 1, fraction = i & 1023;
        int exponent = (int)(i >> 10 & 31);
        double expected = exponent ? ldexp(1 + fraction / 1024, exponent - 15) : ldexp(fraction, -24);
        if (exponent == 31) expected = fraction > 0 ? NAN : INFINITY;
        if (isnan(expected))
            assert_true(isnan((double)values[i]));
        else
            assert_true((double)values[i] == sign * expected && !signbit((double)values[i]) == !(i & 0x8000));
    }
    safetensors_close(s);
}

/* Two tensors of 5 x 7 and 3 values: value [i][j] is 100 i + j + from. */
static const char *write_file(const char *name, const char *matrix, const char *vector, float from)
{
    struct error err = {""};
    float values[35];
    const char *path = temporary_path(name);
    struct safetensors_writer *writer = safetensors_writer_create(path, &err);
    assert_non_null(writer);
    assert_int_equal(safetensors_writer_declare(writer, matrix, 2, (uint64_t[]){5, 7}, &err), 0);
    assert_int_equal(safetensors_writer_declare(writer, vector, 1, (uint64_t[]){3}, &err), 0);
    for (uint64_t half = 0; half < 2; half++) { /* the columns 0..3, then 4..6 */
        struct safetensors_tile tile = {0, 5, half ? 4 : 0, half ? 3 : 4};
        for (uint64_t i = 0; i < 5; i++)
            for (uint64_t j = 0; j < tile.column_count; j++)
                values[i * tile.column_count + j] = from + (float)(100 * i + tile.column_first + j);
        assert_int_equal(safetensors_writer_put(writer, matrix, &tile, values, &err), 0);
    }
    for (int i = 0; i < 3; i++)
        values[i] = from + (float)i;
    assert_int_equal(safetensors_writer_put(writer, vector, &(struct safetensors_tile){0, 1, 0, 3}, values, &err), 0);
    if (safetensors_writer_finish(writer, &err)) fail_msg("%s", err.text);
    return path;
}

static void written_is_read(void **state)
{
    (void)state;
    struct error err;
    float values[35];
    struct safetensors *s = safetensors_open(write_file("w.safetensors", "m", "v", 0.5f), &err);
    if (!s) fail_msg("%s", err.text);
    assert_int_equal(safetensors_count(s), 2);
    const struct safetensors_tensor *m = safetensors_find(s, "m"), *v = safetensors_find(s, "v");
    assert_true(m && v && !safetensors_find(s, "x") && safetensors_at(s, 0) == m);
    assert_true(m->dimensions == 2 && m->rows == 5 && m->columns == 7 && v->dimensions == 1 && v->columns == 3);
    assert_true(m->offset % 4 == 0);
    for (uint64_t row = 0; row < 5; row++)
        for (uint64_t column = 0; column < 7; column++) {
            struct safetensors_tile tile = {row, 5 - row, column, 7 - column};
            assert_int_equal(safetensors_read(s, m, &tile, values, &err), 0);
            for (uint64_t i = 0; i < tile.row_count; i++)
                for (uint64_t j = 0; j < tile.column_count; j++)
                    assert_true(values[i * tile.column_count + j] == 0.5f + (float)(100 * (row + i) + column + j));
        }
    struct safetensors_tile beyond = {0, 6, 0, 7}, aside = {0, 5, 1, 7}, wrap = {UINT64_MAX, 2, 0, 7};
    assert_int_equal(safetensors_read(s, m, &beyond, values, &err), -1);
    assert_int_equal(safetensors_read(s, m, &aside, values, &err), -1);
    assert_int_equal(safetensors_read(s, m, &wrap, values, &err), -1);
    safetensors_close(s);
}

/* A writer that was not given every value leaves nothing, and what was there stays. */
static void writer_is_whole_or_nothing(void **state)
{
    (void)state;
    struct error err;
    struct digest before, after;
    const char *path = write_file("whole.safetensors", "m", "v", 1);
    int files = temporary_count();
    assert_int_equal(digest_of_file(path, &before, &err), 0);
    struct safetensors_writer *writer = safetensors_writer_create(path, &err);
    assert_int_equal(safetensors_writer_declare(writer, "m", 1, (uint64_t[]){2}, &err), 0);
    float value = 1;
    assert_int_equal(safetensors_writer_put(writer, "m", &(struct safetensors_tile){0, 1, 0, 1}, &value, &err), 0);
    assert_int_equal(safetensors_writer_finish(writer, &err), -1);
    assert_int_equal(digest_of_file(path, &after, &err), 0);
    assert_string_equal(before.hex, after.hex);
    assert_int_equal(temporary_count(), files);
}

static struct digest digest_at(const char *path)
{
    struct error err = {""};
    struct digest digest = {""};
    struct safetensors *s = safetensors_open(path, &err);
    if (!s) fail_msg("%s", err.text);
    assert_int_equal(safetensors_digest(s, &digest, &err), 0);
    safetensors_close(s);
    return digest;
}

static void write_index(const char *map)
{
    char text[512];
    int length = snprintf(text, sizeof text, "{\"metadata\":{},\"weight_map\":%s}", map);
    temporary_write("model.safetensors.index.json", text, (size_t)length);
}

/* A cut model is one model; its index is no way out of the folder. */
static void several_files(void **state)
{
    (void)state;
    write_file("model-1.safetensors", "b", "c", 0);
    write_file("model-2.safetensors", "a", "d", 1000);
    write_index("{\"a\":\"model-2.safetensors\",\"b\":\"model-1.safetensors\",\"c\":\"model-1.safetensors\","
                "\"d\":\"model-2.safetensors\"}");
    struct error err;
    float value;
    struct safetensors *s = safetensors_open(temporary_folder, &err);
    if (!s) fail_msg("%s", err.text);
    assert_int_equal(safetensors_count(s), 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(safetensors_at(s, i)->name[0], 'a' + (int)i);
    assert_int_equal(
        safetensors_read(s, safetensors_find(s, "a"), &(struct safetensors_tile){4, 1, 6, 1}, &value, &err), 0);
    assert_true(value == 1406);
    safetensors_close(s);

    write_index("{\"a\":\"model-2.safetensors\",\"b\":\"model-1.safetensors\",\"c\":\"model-1.safetensors\"}");
    assert_refused(temporary_folder, "the files hold 4 tensors, the index names 3");
    write_index("{\"a\":\"model-1.safetensors\",\"b\":\"model-1.safetensors\",\"c\":\"model-1.safetensors\","
                "\"d\":\"model-2.safetensors\"}");
    assert_refused(temporary_folder, "tensor a is not where the index says");
    write_index("{\"a\":\"../model-2.safetensors\"}");
    assert_refused(temporary_folder, "names no file of its folder");
    write_index("{\"a\":7}");
    assert_refused(temporary_folder, "names no file of its folder");
    write_index("[]");
    assert_refused(temporary_folder, "weight_map");

    write_file("model.safetensors", "x", "y", 0); /* what transformers takes where both are there */
    s = safetensors_open(temporary_folder, &err);
    if (!s) fail_msg("%s", err.text);
    assert_int_equal(safetensors_count(s), 2);
    assert_non_null(safetensors_find(s, "x"));
    safetensors_close(s);
    unlink(temporary_path("model.safetensors"));
    unlink(temporary_path("model.safetensors.index.json"));
}

/* One bit of one value, a name, or a shape make another digest; how the tensors are cut into files does not. */
static void digests(void **state)
{
    (void)state;
    struct digest one = digest_at(write_file("x.safetensors", "m", "v", 0));
    struct digest again = digest_at(write_file("y.safetensors", "m", "v", 0));
    struct digest other = digest_at(write_file("z.safetensors", "m", "v", 0x1p-20f));
    struct digest named = digest_at(write_file("n.safetensors", "m", "w", 0));
    assert_string_equal(one.hex, again.hex);
    assert_string_not_equal(one.hex, other.hex);
    assert_string_not_equal(one.hex, named.hex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_headers), cmocka_unit_test(types),
        cmocka_unit_test(written_is_read), cmocka_unit_test(writer_is_whole_or_nothing),
        cmocka_unit_test(several_files),   cmocka_unit_test(digests),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
