/* tunelaw import: looks at a model in a Hugging Face folder, or an adapter in a PEFT folder, as a sweep would, and says
 * how a sweep file names it. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/text/dataset.h"
#include "io/tokenizer/tokenizer_folder.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/sweep/sweep.h"
#include "workers/files/huggingface.h"
#include "workers/files/peft.h"

struct arguments {
    const char *path, *dataset, *base;
    bool json;
    bool compared; /* the tokenizers, not the sizes of vocabularies alone */
};

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'd':
        arguments->dataset = word;
        return 0;
    case 'b':
        arguments->base = word;
        return 0;
    case 'j':
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->path) argp_error(state, "one folder, not also %s", word);
        arguments->path = word;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which folder?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The folder's tokenizer is the data set's, as far as the two can be compared. */
static int check_tokenizer(const char *dir, const struct dataset *dataset, bool *compared, struct error *err)
{
    char path[PATH_MAX];
    size_t size;
    enum tokenizer_match match;
    const void *model = dataset_tokenizer(dataset, &size);
    if (tokenizer_match_folder(dir, model, size, &match, path, sizeof path, err)) return -1;
    *compared = match == TOKENIZERS_SAME;
    return match == TOKENIZERS_DIFFER ? error_set(err, "its tokenizer is another one than %s", path) : 0;
}

static int check_dataset(struct arguments *arguments, const struct model_config *model, struct error *err)
{
    if (!arguments->dataset) return 0;
    struct dataset *dataset = dataset_open(arguments->dataset, err);
    if (!dataset) return -1;
    int result = sweep_vocabulary_check(dataset_info(dataset)->vocabulary, model, err);
    if (!result) result = check_tokenizer(arguments->path, dataset, &arguments->compared, err);
    dataset_close(dataset);
    return result ? error_prefix(err, "%s", arguments->dataset) : 0;
}

static int print_json(const struct arguments *arguments, const struct model_config *model, const struct digest *digest)
{
    char shape[MODEL_TEXT];
    model_text(model, shape, sizeof shape);
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "path", arguments->path, "digest", digest->hex, "shape", shape,
                  "vocabulary", (json_int_t)model->vocabulary, "parameters", (json_int_t)model_parameters(model),
                  "non_embedding_parameters", (json_int_t)model_non_embedding_parameters(model));
    if (!object) return -1;
    int failed = json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(object);
    return failed;
}

static void print_text(const struct arguments *arguments, const struct model_config *model, const struct digest *digest)
{
    char shape[MODEL_TEXT];
    model_text(model, shape, sizeof shape);
    printf("%s\n%" PRIu64 " parameters, %" PRIu64 " of them outside of the embeddings\ndigest %s\n"
           "in a sweep file, with the tokens that it was trained on:\n"
           "    { name = \"NAME\"; import = \"%s\"; tokens = TOKENS; }\n",
           shape, model_parameters(model), model_non_embedding_parameters(model), digest->hex, arguments->path);
    if (arguments->dataset)
        printf("%s: %s\n", arguments->dataset,
               arguments->compared ? "its tokenizer is the model's"
                                   : "its vocabulary fits the model; there are no two tokenizers to compare");
}

static bool is_adapter(const char *dir)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/adapter_config.json", dir) < (int)sizeof path && !access(path, F_OK);
}

static int print_adapter(const struct arguments *arguments, const struct method_config *method,
                         const struct digest *digest)
{
    char more[METHOD_TEXT];
    method_text(method, more, sizeof more);
    bool lora = method->kind == METHOD_LORA;
    if (!arguments->json) {
        printf("%s", method_name(method->kind));
        if (method_sizes(method->kind)) printf(", %s %u", lora ? "rank" : "size", method->size);
        if (lora) printf(", alpha %g", method->alpha);
        printf("%s", more);
        printf("\n%s%s\nin a sweep file, as it is or as what training starts from:\n"
               "    { name = \"none\"; start = \"%s\"; }\n    { name = \"%s\"; start = \"%s\"; learning_rates = [ ... "
               "]; }\n",
               arguments->base ? "digest " : "its tensors were not looked at: --base names the model", digest->hex,
               arguments->path, method_name(method->kind), arguments->path);
        return 0;
    }
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:I, s:f, s:s}", "path", arguments->path, "digest", digest->hex, "method",
                  method_name(method->kind), "size", (json_int_t)method->size, "alpha", method->alpha, "more", more);
    if (!object) return -1;
    int failed = json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(object);
    return failed;
}

/* As much of a path as a name holds. */
static const char *end_of(const char *path, size_t most)
{
    size_t length = strlen(path);
    return path + (length > most ? length - most : 0);
}

/* Without the base its description alone is checked: with it, that its tensors fit. */
static int import_adapter(const struct arguments *arguments, struct error *err)
{
    struct model_config model;
    struct method_config method;
    struct digest digest = {""};
    bool with = arguments->base != NULL;
    if (arguments->dataset)
        return error_set(err, "%s holds an adapter; --dataset goes with the folder of a model", arguments->path);
    if (with && huggingface_config(arguments->base, &model, err)) return -1;
    if (with) snprintf(model.name, sizeof model.name, "%s", end_of(arguments->base, sizeof model.name - 1));
    if (peft_config(arguments->path, with ? &model : NULL, &method, err) ||
        (with && peft_identify(arguments->path, &model, &method, &digest, err)))
        return -1;
    return print_adapter(arguments, &method, &digest) ? error_set(err, "out of memory") : 0;
}

int command_import(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"dataset", 'd', "FILE", 0,
         "of a model: also check that the data set's vocabulary fits it, and that its tokenizer is the model's, "
         "where the folder has a sentencepiece.model, tokenizer.model or tokenizer.json and the data set a tokenizer",
         0},
        {"base", 'b', "DIR", 0, "of an adapter: the model that it belongs to, so that its tensors are checked, too", 0},
        {"json", 'j', NULL, 0, "for a program", 0},
        {0}};
    static const struct argp argp = {
        options,
        parse,
        "DIR",
        "Look at a model in a Hugging Face folder (config.json; model.safetensors, or several files and their index), "
        "or at "
        "an adapter in a PEFT folder (adapter_config.json, adapter_model.safetensors).\v"
        "Everything is read and checked: that Tunelaw has such a model, that every tensor is there, of the right shape "
        "and of type F32, F16 or BF16. Nothing is written: a sweep file names the folder, and each worker reads its "
        "part of the weights from it.",
        NULL,
        NULL,
        NULL};
    struct arguments arguments = {0};
    struct model_config model;
    struct digest digest;
    struct error err;
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (is_adapter(arguments.path)) return import_adapter(&arguments, &err) ? command_fail(&err) : 0;
    if ((arguments.base && error_set(&err, "%s holds no adapter; --base goes with one", arguments.path)) ||
        huggingface_config(arguments.path, &model, &err) || check_dataset(&arguments, &model, &err) ||
        huggingface_identify(arguments.path, &model, &digest, &err))
        return command_fail(&err);
    if (!arguments.json) print_text(&arguments, &model, &digest);
    return arguments.json && print_json(&arguments, &model, &digest) ? 1 : 0;
}
