/* From the sweep file's text of a prompt to token ids. */
#include "workers/model/prompt_text.h"

#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/tokenizer.h"

static int read_ids(const char *text, size_t vocabulary, int32_t *ids, size_t *count, struct error *err)
{
    *count = 0;
    for (const char *at = text + strspn(text, " "); *at; at += strspn(at, " ")) {
        size_t digits = strspn(at, "0123456789");
        unsigned long id = digits && digits < 10 ? strtoul(at, NULL, 10) : vocabulary;
        if (id >= vocabulary || (at[digits] && at[digits] != ' '))
            return error_set(err,
                             "\"%.20s\" is no token id; the data set was made of ids, allowed: numbers between spaces, "
                             "0..%zu",
                             at, vocabulary - 1);
        ids[(*count)++] = (int32_t)id;
        at += digits;
    }
    return 0;
}

static int encode(const void *model, size_t size, const char *text, int32_t **ids, size_t *count, struct error *err)
{
    struct tokenizer *tokenizer = tokenizer_create(model, size, err);
    int result = tokenizer ? tokenizer_encode(tokenizer, text, strlen(text), ids, count, err) : -1;
    tokenizer_destroy(tokenizer);
    return result;
}

int prompt_text_ids(const struct dataset *dataset, const char *text, int32_t **ids, size_t *count, struct error *err)
{
    size_t size = 0;
    const void *model = dataset_tokenizer(dataset, &size);
    int result;
    *ids = NULL;
    if (size) {
        result = encode(model, size, text, ids, count, err);
    } else {
        *ids = calloc(strlen(text) + 1, sizeof **ids);
        result = *ids ? read_ids(text, dataset_info(dataset)->vocabulary, *ids, count, err)
                      : error_set(err, "out of memory for the text of a prompt");
    }
    if (!result && !*count) result = error_set(err, "the text of a prompt has no tokens");
    if (result) {
        free(*ids);
        *ids = NULL;
    }
    return result;
}
