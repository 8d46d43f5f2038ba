/* The reader of adapter_config.json in PEFT's folders, on any text: refused with a line, or a method that the engine
 * has, and that reads again as it is described. */
#include "tests/fuzz/fuzz.h"

#include <sys/stat.h>

#include "workers/files/peft.h"

static char folder[64], config[96];

static const struct model_config llama = {.name = "llama",
                                          .layers = 2,
                                          .width = 24,
                                          .heads = 6,
                                          .kv_heads = 3,
                                          .head_width = 4,
                                          .ffn = 64,
                                          .vocabulary = 97,
                                          .rope_theta = 1e4,
                                          .norm_epsilon = 1e-5};
static struct model_config neox;

static void folder_remove(void)
{
    unlink(config);
    rmdir(folder);
}

static void config_write(const void *bytes, size_t size)
{
    FILE *file = fopen(config, "w");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) abort();
}

static void create(void)
{
    strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/tunelaw-fuzz-XXXXXX" : "/tmp/tunelaw-fuzz-XXXXXX");
    if (!mkdtemp(folder)) abort();
    snprintf(config, sizeof config, "%s/adapter_config.json", folder);
    atexit(folder_remove);
    neox = llama;
    neox.kv_heads = neox.heads;
    neox.architecture = architecture_of(FAMILY_NEOX, neox.head_width);
}

static bool same(const struct method_config *a, const struct method_config *b)
{
    char text[METHOD_TEXT], other[METHOD_TEXT];
    method_text(a, text, sizeof text);
    method_text(b, other, sizeof other);
    return a->kind == b->kind && a->size == b->size && !(a->alpha < b->alpha) && !(a->alpha > b->alpha) &&
           !strcmp(text, other);
}

static void try(const uint8_t *data, size_t size, const struct model_config *model)
{
    struct error err = {""};
    struct method_config method, again;
    config_write(data, size);
    if (peft_config(folder, model, &method, &err)) {
        if (!err.text[0] || strchr(err.text, '\n')) abort();
        return;
    }
    if (!model) return;
    if (method_config_check(&method, model, &err) || method_parameters(model, &method) == 0) abort();
    char *described = peft_describe(model, &method, "base", &err);
    if (!described) abort();
    config_write(described, strlen(described));
    free(described);
    if (peft_config(folder, model, &again, &err) || !same(&method, &again)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!folder[0]) create();
    try(data, size, NULL);
    try(data, size, &llama);
    try(data, size, &neox);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate(data, size, max_size, seed);
}

static void write_seed(const char *to, const char *name, const char *text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", to, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file)) abort();
}

/* Seeds: each kind, as it is written here, and some of what PEFT has beside. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    const char *to = fuzz_seed_folder();
    if (!to) return 0;
    static const struct method_config methods[] = {
        {.kind = METHOD_LORA, .size = 4, .alpha = 8},
        {.kind = METHOD_LORA, .size = 2, .alpha = 0.5, .rank_stabilised = true, .modules = 1 << LINEAR_Q},
        {.kind = METHOD_PROMPT, .size = 5},
        {.kind = METHOD_PREFIX, .size = 5},
        {.kind = METHOD_IA3},
        {.kind = METHOD_IA3, .modules = 1 << LINEAR_O | 1 << LINEAR_UP},
    };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        char name[16], *text = peft_describe(&llama, &methods[i], "base", NULL);
        if (!text) abort();
        snprintf(name, sizeof name, "seed%zu", i);
        write_seed(to, name, text);
        free(text);
    }
    write_seed(
        to, "more",
        "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":1e300,\"target_modules\":\"all-linear\",\"use_dora\":false,"
        "\"bias\":\"none\",\"rank_pattern\":{},\"init_lora_weights\":\"gaussian\",\"task_type\":null}");
    exit(0);
}
