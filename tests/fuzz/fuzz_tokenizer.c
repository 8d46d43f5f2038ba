/* A tokenizer.json: refused with one line, or a tokenizer whose ids are all below its vocabulary, for any text, and
 * which decodes any of them to UTF-8. */
#include "tests/fuzz/fuzz.h"

#include "io/text/text.h"
#include "io/tokenizer/tokenizer_json.h"

static void decode(const struct tokenizer_json *tokenizer, const int32_t *ids, size_t count)
{
    struct error err = {""};
    char *text = NULL;
    if (tokenizer_json_decode(tokenizer, ids, count, &text, &err)) {
        if (strstr(err.text, "outside the vocabulary")) abort();
        return;
    }
    if (!text_is_utf8(text, strlen(text))) abort();
    free(text);
}

static void use(const struct tokenizer_json *tokenizer)
{
    static const char *const texts[] = {"", " ", "Hello  wor\n\nld's 12345 e\xcc\x81 \xf0\x9f\x98\x80!<|end|> <s>",
                                        "\xe2\x96\x81 a\xe2\x96\x81\tb",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    size_t vocabulary = tokenizer_json_vocabulary(tokenizer);
    int32_t some[16];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct error err = {""};
        int32_t *ids = NULL;
        size_t count = 0;
        if (tokenizer_json_encode(tokenizer, texts[i], strlen(texts[i]), &ids, &count, &err)) continue;
        for (size_t t = 0; t < count; t++)
            if (ids[t] < 0 || (size_t)ids[t] >= vocabulary) abort();
        decode(tokenizer, ids, count);
        free(ids);
    }
    for (size_t i = 0; i < 16; i++)
        some[i] = (int32_t)(i * 2654435761u % vocabulary);
    decode(tokenizer, some, 16);
    if (tokenizer_json_begin(tokenizer) >= (int32_t)vocabulary ||
        tokenizer_json_id_of_text(tokenizer, "\n") >= (int32_t)vocabulary)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {""};
    char *text = malloc(size + 1); /* with nothing behind it that may be read */
    if (!text) return 0;
    memcpy(text, data, size);
    struct tokenizer_json *tokenizer = tokenizer_json_create(text, size, &err);
    free(text);
    if (!tokenizer && (!err.text[0] || strchr(err.text, '\n'))) abort(); /* one line, always */
    if (tokenizer) use(tokenizer);
    tokenizer_json_destroy(tokenizer);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}
