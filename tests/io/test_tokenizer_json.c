/* A tokenizer.json makes of texts, and of ids, what the library tokenizers of Hugging Face makes of them; what is not
 * supported is refused with a reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "io/tokenizer/tokenizer_source.h"
#include "tests/io/temporary.h"

static const char *const names[] = {"pythia", "llama3", "qwen2",      "smollm",    "llama2",    "mistral3",
                                    "gemma",  "falcon", "insertions", "lookahead", "metasplit", "metaspace"};
enum { NAMES = sizeof names / sizeof *names };

static json_t *load(const char *name, const char *end)
{
    char path[PATH_MAX];
    json_error_t fault;
    snprintf(path, sizeof path, "%s/golden/tokenizers/%s%s", TEST_SOURCE_DIR, name, end);
    json_t *root = json_load_file(path, 0, &fault);
    if (!root) fail_msg("%s: %s", path, fault.text);
    return root;
}

static struct tokenizer *create(json_t *root)
{
    struct error err = {""};
    char *text = json_dumps(root, JSON_COMPACT);
    struct tokenizer *tokenizer = tokenizer_create(text, strlen(text), &err);
    if (!tokenizer) fail_msg("%s", err.text);
    free(text);
    json_decref(root);
    return tokenizer;
}

static void assert_ids(const char *name, const char *text, const int32_t *ids, size_t count, const json_t *wanted)
{
    for (size_t i = 0; i < count || i < json_array_size(wanted); i++) {
        json_int_t id = i < json_array_size(wanted) ? json_integer_value(json_array_get(wanted, i)) : -1;
        int got = i < count ? ids[i] : -1;
        if (got != id) fail_msg("%s: \"%s\": token %zu is %d, not %d", name, text, i, got, (int)id);
    }
}

static void assert_text(const char *name, const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                        const json_t *wanted)
{
    struct error err = {""};
    char *text = NULL;
    if (tokenizer_decode(tokenizer, ids, count, &text, &err)) fail_msg("%s", err.text);
    if (strcmp(text, json_string_value(wanted)))
        fail_msg("%s: \"%s\", not \"%s\"", name, text, json_string_value(wanted));
    free(text);
}

static void texts_and_ids_are_those_of_the_library(void **state)
{
    (void)state;
    for (size_t n = 0; n < NAMES; n++) {
        struct error err = {""};
        struct tokenizer *tokenizer = create(load(names[n], ".json"));
        json_t *cases = load(names[n], ".cases.json"), *entry;
        size_t i, count;
        assert_int_equal(tokenizer_vocabulary(tokenizer), json_integer_value(json_object_get(cases, "vocabulary")));
        assert_true(json_array_size(json_object_get(cases, "texts")) > 100);
        json_array_foreach(json_object_get(cases, "texts"), i, entry)
        {
            const char *text = json_string_value(json_array_get(entry, 0));
            int32_t *ids = NULL;
            if (tokenizer_encode(tokenizer, text, strlen(text), &ids, &count, &err)) fail_msg("%s", err.text);
            assert_ids(names[n], text, ids, count, json_array_get(entry, 1));
            assert_text(names[n], tokenizer, ids, count, json_array_get(entry, 2));
            free(ids);
        }
        json_array_foreach(json_object_get(cases, "ids"), i, entry)
        {
            int32_t ids[32];
            const json_t *list = json_array_get(entry, 0);
            for (count = 0; count < json_array_size(list); count++)
                ids[count] = (int32_t)json_integer_value(json_array_get(list, count));
            assert_text(names[n], tokenizer, ids, count, json_array_get(entry, 1));
        }
        json_decref(cases);
        tokenizer_destroy(tokenizer);
    }
}

static void separators_are_single_pieces(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *piece; /* NULL: there is none */
    } cases[] = {{"pythia", "\n", "Ċ"},      {"pythia", "<|padding|>", "<|padding|>"},
                 {"pythia", " t", "Ġt"},     {"pythia", "no single piece", NULL},
                 {"llama2", "\r", "<0x0D>"}, {"llama2", "</s>", "</s>"},
                 {"metaspace", "\t\t", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *tokenizer = create(load(cases[i].name, ".json"));
        int32_t id = tokenizer_id_of_text(tokenizer, cases[i].text);
        if (!cases[i].piece)
            assert_int_equal(id, -1);
        else
            assert_string_equal(tokenizer_piece(tokenizer, (size_t)id), cases[i].piece);
        assert_int_equal(tokenizer_separator(tokenizer), -1);
        tokenizer_destroy(tokenizer);
    }
}

/* A tokenizer with a member of one of its groups (or of the root) replaced. */
static void assert_refused(const char *name, const char *group, const char *key, const char *value, const char *why)
{
    struct error err = {""};
    json_t *root = load(name, ".json");
    json_t *object = group ? json_object_get(root, group) : root;
    json_t *new_value = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(new_value);
    json_object_set_new(object, key, new_value);
    char *text = json_dumps(root, JSON_COMPACT);
    assert_null(tokenizer_create(text, strlen(text), &err));
    if (!strstr(err.text, why)) fail_msg("\"%s\" is not in: %s", why, err.text);
    free(text);
    json_decref(root);
}

static void what_is_not_supported_is_refused(void **state)
{
    (void)state;
    struct error err = {""};
    assert_refused("pythia", "model", "type", "\"Unigram\"", "model.type is \"Unigram\"; allowed: BPE");
    assert_refused("pythia", "model", "end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix is set");
    assert_refused("pythia", "model", "dropout", "0.1", "model.dropout is set");
    assert_refused("pythia", "model", "vocab", "{\"a\": -1}", "the id of \"a\"; allowed: 0..999999");
    assert_refused("pythia", "model", "vocab", "{\"a\": 1, \"b\": 1}", "two pieces have the id 1");
    assert_refused("pythia", "model", "vocab", "[]", "model.vocab is no object");
    assert_refused("pythia", "model", "merges", "[\"q\"]", "model.merges[0] is not two pieces");
    assert_refused("pythia", "model", "merges", "[[\"q\", \"%%\"]]", "make a piece that is not in model.vocab");
    assert_refused("pythia", NULL, "normalizer", "{\"type\": \"BertNormalizer\"}",
                   "normalizer \"BertNormalizer\" is not supported");
    assert_refused("pythia", NULL, "pre_tokenizer",
                   "{\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"Regex\": \"a(\"}}",
                   "the pattern \"a(\": end pattern with unmatched parenthesis");
    assert_refused("pythia", NULL, "decoder", "{\"type\": \"CTC\"}", "decoder \"CTC\" is not supported");
    assert_refused("pythia", NULL, "added_tokens", "[{\"id\": 5}]", "a token without content");
    assert_refused("pythia", NULL, "added_tokens", "[{\"id\": 450, \"content\": \"Ġ\"}]",
                   "\"Ġ\" has the id 450, in model.vocab ");
    assert_null(tokenizer_create("{\"model\": ", 10, &err));
    assert_non_null(strstr(err.text, "line 1: "));
}

static void write_folder(const char *name, const char *config, const char *model_config)
{
    json_t *root = load(name, ".json");
    assert_int_equal(json_dump_file(root, temporary_path("tokenizer.json"), JSON_COMPACT), 0);
    json_decref(root);
    unlink(temporary_path("tokenizer_config.json"));
    unlink(temporary_path("config.json"));
    if (config) temporary_write("tokenizer_config.json", config, strlen(config));
    if (model_config) temporary_write("config.json", model_config, strlen(model_config));
}

/* begin, end: pieces, or NULL. */
static void assert_marks(const char *end_token, const char *begin, const char *end)
{
    struct tokenizer_source source;
    struct error err = {""};
    if (tokenizer_source_open(temporary_folder, end_token, &source, &err)) fail_msg("%s", err.text);
    assert_string_equal(source.path, temporary_path("tokenizer.json"));
    if (begin)
        assert_string_equal(tokenizer_piece(source.tokenizer, (size_t)source.begin), begin);
    else
        assert_int_equal(source.begin, -1);
    assert_string_equal(tokenizer_piece(source.tokenizer, (size_t)source.end), end);
    tokenizer_source_close(&source);
}

static void assert_no_source(const char *path, const char *end_token, const char *why)
{
    struct tokenizer_source source;
    struct error err = {""};
    assert_int_equal(tokenizer_source_open(path, end_token, &source, &err), -1);
    if (!strstr(err.text, why)) fail_msg("\"%s\" is not in: %s", why, err.text);
}

static void a_folder_says_what_begins_and_ends_a_text(void **state)
{
    (void)state;
    assert_no_source(temporary_folder, NULL, "there is no tokenizer.json, tokenizer.model or sentencepiece.model");
    write_folder("llama3", "{\"eos_token\": \"<|im_end|>\", \"model_max_length\": 1000000000000000019884624838656}",
                 "{\"eos_token_id\": 1}"); /* that number is in most of them */
    assert_marks(NULL, "<|begin_of_text|>", "<|im_end|>");
    assert_marks("<|endoftext|>", "<|begin_of_text|>", "<|endoftext|>");
    assert_no_source(temporary_folder, "<not\nhing>", "tokenizer.json: there is no token \"<not hing>\"");
    write_folder("llama3", "{\"eos_token\": {\"content\": \"<|endoftext|>\"}, \"add_bos_token\": false}", NULL);
    assert_marks(NULL, NULL, "<|endoftext|>");
    write_folder("pythia", "{\"add_bos_token\": true, \"bos_token\": \"<|padding|>\"}", "{\"eos_token_id\": [0, 5]}");
    assert_marks(NULL, "<|padding|>", "<|endoftext|>");
    write_folder("llama2", NULL, "{\"eos_token_id\": 2}");
    assert_marks(NULL, "<s>", "</s>");
    write_folder("llama2", "{\"eos_token\": ", "{\"eos_token_id\": 2}");
    assert_no_source(temporary_folder, NULL, "tokenizer.json: tokenizer_config.json, line 1: ");
    write_folder("llama2", NULL, "{\"eos_token_id\" 2}");
    assert_no_source(temporary_folder, NULL, "tokenizer.json: config.json, line 1: ");
    write_folder("pythia", NULL, NULL);
    assert_no_source(temporary_folder, NULL, "tokenizer.json: no file beside it says which token ends a text");
    assert_no_source(temporary_path("missing"), NULL, "missing: No such file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_and_ids_are_those_of_the_library),
        cmocka_unit_test(separators_are_single_pieces),
        cmocka_unit_test(what_is_not_supported_is_refused),
        cmocka_unit_test(a_folder_says_what_begins_and_ends_a_text),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
