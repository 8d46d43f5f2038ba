/* The reader of config.json in Hugging Face's folders, on any text: refused with a line, or a model that the engine
 * has, and that reads again as it is described. */
#include "tests/fuzz/fuzz.h"

#include <sys/stat.h>

#include "workers/files/huggingface.h"

static char folder[64], config[96];

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

static void folder_create(void)
{
    strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/tunelaw-fuzz-XXXXXX" : "/tmp/tunelaw-fuzz-XXXXXX");
    if (!mkdtemp(folder)) abort();
    snprintf(config, sizeof config, "%s/config.json", folder);
    atexit(folder_remove);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {""};
    struct model_config model, again;
    char text[MODEL_TEXT], other[MODEL_TEXT];
    if (!folder[0]) folder_create();
    config_write(data, size);
    if (huggingface_config(folder, &model, &err)) {
        if (!err.text[0] || strchr(err.text, '\n')) abort();
        return 0;
    }
    if (model_config_check(&model, &err) || model_parameters(&model) == 0) abort();
    char *described = huggingface_describe(&model, &err);
    if (!described) return 0; /* its class has fewer choices than the engine */
    config_write(described, strlen(described));
    free(described);
    if (huggingface_config(folder, &again, &err)) abort();
    model_text(&model, text, sizeof text);
    model_text(&again, other, sizeof other);
    if (strcmp(text, other)) abort();
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate(data, size, max_size, seed);
}

/* Seeds: a model of each family. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    if (!fuzz_seed_folder()) return 0;
    for (int family = 0; family < FAMILIES; family++) {
        struct model_config model = {.layers = 2,
                                     .width = 64,
                                     .heads = 4,
                                     .kv_heads = family == FAMILY_NEOX ? 4 : 2,
                                     .head_width = 16,
                                     .ffn = 160,
                                     .vocabulary = 512,
                                     .rope_theta = 10000,
                                     .norm_epsilon = 1e-5,
                                     .architecture = architecture_of((enum model_family)family, 16)};
        char path[4096], *text = huggingface_describe(&model, NULL);
        snprintf(path, sizeof path, "%s/%s", fuzz_seed_folder(), family_name((enum model_family)family));
        FILE *file = fopen(path, "w");
        if (!text || !file || fputs(text, file) < 0 || fclose(file)) abort();
        free(text);
    }
    exit(0);
}
