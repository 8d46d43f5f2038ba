/* Text to tokens and back: exact on ordinary text, total on any UTF-8, the same on every run, and safe on bad models.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/tokenizer_folder.h"
#include "tests/io/temporary.h"

enum { VOCABULARY = 360 };

static void train(void **model, size_t *size)
{
    static const char *const words[] = {"Wählen", "Sie",  "choose", "the", "Größe", "der",
                                        "Zelle",  "cell", "size",   "of",  "column"};
    char *text = malloc(1 << 20);
    size_t used = 0;
    for (unsigned i = 0; i < 500; i++)
        used += (size_t)sprintf(text + used, "%s %s %s %s.\n", words[i % 11], words[i / 11 % 11], words[i / 5 % 11],
                                words[i / 3 % 11]);
    const char *path = temporary_write("train.txt", text, used);
    struct error err = {0};
    if (tokenizer_train(&(struct tokenizer_texts){&path, 1, 1, NULL}, VOCABULARY, 0, model, size, &err) != 0)
        fail_msg("%s", err.text);
    free(text);
}

static struct tokenizer *make(void)
{
    void *model = NULL;
    size_t size = 0;
    struct error err = {0};
    train(&model, &size);
    struct tokenizer *tokenizer = tokenizer_create(model, size, &err);
    if (!tokenizer) fail_msg("%s", err.text);
    free(model);
    return tokenizer;
}

static void assert_round_trip(const struct tokenizer *tokenizer, const char *text)
{
    struct error err = {0};
    int32_t *ids = NULL;
    size_t count = 0;
    char *back = NULL;
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &ids, &count, &err), 0);
    for (size_t i = 0; i < count; i++)
        assert_in_range(ids[i], TOKEN_PAD + 2,
                        VOCABULARY - 1); /* never a control id: byte fallback knows every character */
    assert_int_equal(tokenizer_decode(tokenizer, ids, count, &back, &err), 0);
    assert_string_equal(back, text);
    free(ids);
    free(back);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = make();
    assert_int_equal(tokenizer_vocabulary(tokenizer), VOCABULARY);
    assert_int_equal(tokenizer_separator(tokenizer), 4);
    assert_round_trip(tokenizer, "Wählen Sie the size of der Zelle.");
    assert_round_trip(tokenizer, "Never seen: Ω 漢字 😀 {[]} #42%");
    assert_round_trip(tokenizer, "x");
    assert_round_trip(tokenizer, "");
    tokenizer_destroy(tokenizer);
}

/* Text that spells a control symbol is text: it cannot close a document or part a source from its target. */
static void test_text_cannot_forge_control(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = make();
    assert_round_trip(tokenizer, "a <sep> b </s> c <s> d <pad> e <unk>");
    tokenizer_destroy(tokenizer);
}

static void test_training_is_deterministic(void **state)
{
    (void)state;
    void *first = NULL, *second = NULL;
    size_t first_size = 0, second_size = 0;
    train(&first, &first_size);
    train(&second, &second_size);
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
    free(first);
    free(second);
}

static void test_bad_training_text(void **state)
{
    (void)state;
    struct error err = {0};
    void *model = NULL;
    size_t size = 0;
    const char *paths[2] = {temporary_write("good.txt", "good\n", 5), temporary_write("bad.txt",
                                                                                      "good\nb\xe4"
                                                                                      "d\n",
                                                                                      9)};
    assert_int_equal(tokenizer_train(&(struct tokenizer_texts){paths, 2, 2, NULL}, VOCABULARY, 0, &model, &size, &err),
                     -1);
    assert_non_null(strstr(err.text, "bad.txt:2: not UTF-8"));
    assert_int_equal(tokenizer_train(&(struct tokenizer_texts){paths, 1, 1, NULL}, VOCABULARY, 0, &model, &size, &err),
                     -1); /* five letters, 360 pieces */
    assert_non_null(strstr(err.text, "cannot train a tokenizer"));
    assert_null(model);
}

static void test_decode_checks_ids(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = make();
    struct error err = {0};
    char *text = NULL;
    const int32_t above[] = {5, VOCABULARY}, below[] = {-1};
    assert_int_equal(tokenizer_decode(tokenizer, above, 2, &text, &err), -1);
    assert_int_equal(tokenizer_decode(tokenizer, below, 1, &text, &err), -1);
    assert_null(text);
    tokenizer_destroy(tokenizer);
}

static void test_not_a_model(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(tokenizer_create("", 0, &err));
    assert_null(tokenizer_create("not a protocol buffer", 21, &err));
    assert_non_null(strstr(err.text, "sentencepiece model"));
    void *model = NULL;
    size_t size = 0;
    train(&model, &size);
    for (size_t cut = 1; cut < size; cut += size / 97) {
        struct tokenizer *tokenizer = tokenizer_create(model, size - cut, &err);
        tokenizer_destroy(tokenizer); /* a shorter list of pieces may be a model of its own; it must not crash */
    }
    free(model);
}

/* tokenizer.json of the pieces, `moved` of which have other ids; as a list (of a Unigram model) or as a table. */
static void write_pieces(const struct tokenizer *tokenizer, size_t moved, bool list)
{
    json_t *vocabulary = list ? json_array() : json_object();
    size_t count = tokenizer_vocabulary(tokenizer);
    for (size_t i = 0; i < count; i++) {
        const char *piece = tokenizer_piece(tokenizer, i < moved ? (i + 1) % moved : i);
        if (list)
            json_array_append_new(vocabulary, json_pack("[s, f]", piece, -1.0));
        else
            json_object_set_new(vocabulary, piece, json_integer((json_int_t)i));
    }
    json_t *root = json_pack("{s:{s:o}}", "model", "vocab", vocabulary);
    assert_int_equal(json_dump_file(root, temporary_path("tokenizer.json"), 0), 0);
    json_decref(root);
}

static enum tokenizer_match match_of(const void *model, size_t size)
{
    struct error err = {0};
    enum tokenizer_match match;
    char file[4096];
    if (tokenizer_match_folder(temporary_folder, model, size, &match, file, sizeof file, &err))
        fail_msg("%s", err.text);
    return match;
}

static void test_folders(void **state)
{
    (void)state;
    struct error err = {0};
    void *model = NULL;
    size_t size = 0;
    train(&model, &size);
    struct tokenizer *tokenizer = tokenizer_create(model, size, &err);
    assert_non_null(tokenizer);
    assert_int_equal(match_of(model, size), TOKENIZERS_UNKNOWN);
    for (int list = 0; list < 2; list++) {
        write_pieces(tokenizer, 0, list);
        assert_int_equal(match_of(model, size), TOKENIZERS_SAME);
        assert_int_equal(match_of(NULL, 0), TOKENIZERS_UNKNOWN);
        write_pieces(tokenizer, VOCABULARY / 30, list);
        assert_int_equal(match_of(model, size), TOKENIZERS_SAME);
        write_pieces(tokenizer, VOCABULARY / 10, list);
        assert_int_equal(match_of(model, size), TOKENIZERS_DIFFER);
    }
    temporary_write("tokenizer.json", "{\"model\": {}}", 13);
    assert_int_equal(match_of(model, size), TOKENIZERS_UNKNOWN);
    temporary_write("tokenizer.json", "{\"model\": ", 10);
    assert_int_equal(match_of(model, size), TOKENIZERS_UNKNOWN);
    temporary_write("tokenizer.model", "version https", 13); /* not every one is of sentencepiece */
    assert_int_equal(match_of(model, size), TOKENIZERS_UNKNOWN);
    temporary_write("tokenizer.model", model, size);
    assert_int_equal(match_of(model, size), TOKENIZERS_SAME);
    unsigned char *changed = memcpy(malloc(size), model, size);
    unsigned char *found = memmem(changed, size, "<sep>", 5);
    assert_non_null(found);
    memcpy(found, "<cls>", 5); /* one piece has become the separator */
    temporary_write("tokenizer.model", changed, size);
    assert_int_equal(match_of(model, size), TOKENIZERS_SAME);
    free(changed);
    static char other[1 << 16];
    size_t used = 0, other_size;
    for (unsigned i = 0; i < 2000; i++)
        used += (size_t)sprintf(other + used, "%x%x %u\n", i * 7919, i * 104729, i * i);
    const char *path = temporary_write("other.txt", other, used);
    void *another = NULL;
    if (tokenizer_train(&(struct tokenizer_texts){&path, 1, 1, NULL}, VOCABULARY, 0, &another, &other_size, &err))
        fail_msg("%s", err.text);
    temporary_write("tokenizer.model", another, other_size);
    assert_int_equal(match_of(model, size), TOKENIZERS_DIFFER);
    free(another);
    tokenizer_destroy(tokenizer);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_text_cannot_forge_control, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_training_is_deterministic, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_bad_training_text, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_decode_checks_ids, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_folders, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_not_a_model, temporary_create, temporary_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
