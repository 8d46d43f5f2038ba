/* Writes a model or an adapter as a folder of Hugging Face's or PEFT's. Private to workers/. */
#ifndef TUNELAW_WORKERS_FILES_FOLDER_H
#define TUNELAW_WORKERS_FILES_FOLDER_H

#include "workers/model/parameters.h"

struct folder_tensor {
    char name[sizeof((struct parameter *)0)->name + 32];
    size_t dimensions; /* 1 or 2 */
    uint64_t shape[2];
};

/* A file beside the weights. */
struct folder_file {
    const char *name;
    const char *from;  /* the file that it is a copy of; NULL: */
    const void *bytes; /* what is in it */
    size_t size;
};

struct folder {
    const char *config, *text; /* name and contents of the description */
    const char *weights;       /* name of the safetensors file */
    bool (*describe)(const struct parameter *parameter, struct folder_tensor *out); /* false: it is left out */
    const struct folder_file *files;
    size_t file_count;
};

/* Write DIR, which must not exist; tensors in float32, of a gang of one. On failure nothing is left. */
int folder_save(const struct parameters *parameters, const struct folder *folder, const char *dir, struct error *err);

#endif
