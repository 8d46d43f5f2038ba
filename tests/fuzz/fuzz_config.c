/* The reader of sweep files, on any text: refused with one line, or a sweep. The data set that a file names is not
 * opened: one that has everything stands in its place. */
#include "tests/fuzz/fuzz.h"

#include "io/text/dataset.h"
#include "io/tokenizer/tokenizer_folder.h"
#include "orchestrator/sweep/sweep.h"
#include "workers/files/huggingface.h"
#include "workers/files/peft.h"
#include "workers/model/prompt_text.h"

/* Folders of imported models are the fuzzing of safetensors; here there are none. */
int huggingface_config(const char *dir, struct model_config *model, struct error *err)
{
    memset(model, 0, sizeof *model);
    return error_set(err, "%s: no such folder", dir);
}

int huggingface_identify(const char *dir, const struct model_config *model, struct digest *out, struct error *err)
{
    (void)model, (void)out;
    return error_set(err, "%s: no such folder", dir);
}

int peft_config(const char *dir, const struct model_config *model, struct method_config *method, struct error *err)
{
    (void)model;
    memset(method, 0, sizeof *method);
    return error_set(err, "%s: no such folder", dir);
}

int peft_identify(const char *dir, const struct model_config *model, const struct method_config *method,
                  struct digest *out, struct error *err)
{
    (void)model, (void)method, (void)out;
    return error_set(err, "%s: no such folder", dir);
}

/* libconfig keeps a little of a text that it refuses. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig";
}

static const struct dataset_info whole = {.digest.hex = "00112233445566778899aabbccddeeff",
                                          .task = "small",
                                          .vocabulary = 400,
                                          .text_tokens = {100000, 1000},
                                          .examples = {600, 60, 60},
                                          .example_tokens = {12000, 1200, 1200},
                                          .example_targets = {6000, 600, 600},
                                          .longest = {30, 30, 30},
                                          .separator = 4};

struct dataset *dataset_open(const char *path, struct error *err)
{
    (void)path, (void)err;
    return (struct dataset *)(uintptr_t)&whole;
}

const struct dataset_info *dataset_info(const struct dataset *dataset)
{
    (void)dataset;
    return &whole;
}

void dataset_close(struct dataset *dataset)
{
    (void)dataset;
}

int tokenizer_match_folder(const char *dir, const void *model, size_t size, enum tokenizer_match *match, char *file,
                           size_t size_of_file, struct error *err)
{
    (void)dir, (void)model, (void)size, (void)file, (void)size_of_file, (void)err;
    *match = TOKENIZERS_UNKNOWN;
    return 0;
}

const void *dataset_tokenizer(const struct dataset *dataset, size_t *size)
{
    (void)dataset;
    *size = sizeof whole;
    return &whole;
}

int prompt_text_ids(const struct dataset *dataset, const char *text, int32_t **ids, size_t *count, struct error *err)
{
    (void)dataset;
    *count = strlen(text) / 2;
    return *count ? 0 : error_set(err, "the text of a prompt has no tokens");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {""};
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    struct sweep *sweep = sweep_parse("sweep.cfg", text, size, &err);
    if (!sweep && (!err.text[0] || strchr(err.text, '\n'))) abort(); /* one line, always */
    sweep_destroy(sweep);
    free(text);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}
