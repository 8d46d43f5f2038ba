/* What the parts of the safetensors reader share. */
#ifndef TUNELAW_IO_CHECKPOINT_SAFETENSORS_INTERNAL_H
#define TUNELAW_IO_CHECKPOINT_SAFETENSORS_INTERNAL_H

#include "io/checkpoint/safetensors.h"

struct safetensors_file {
    char *path;
    int fd;
    uint64_t size;
};

struct safetensors {
    struct safetensors_file *files;
    size_t file_count;
    struct safetensors_tensor *tensors; /* sorted by name */
    size_t count, capacity;
};

/* Bytes of a value of a type, 0: no such type. */
size_t safetensors_type_size(const char *dtype);
/* rows and columns of a shape. */
void safetensors_matrix(struct safetensors_tensor *tensor);

/* Read the header of files[file] and add its tensors, unsorted. */
int safetensors_header(struct safetensors *s, size_t file, struct error *err);
int safetensors_compare(const void *a, const void *b); /* of struct safetensors_tensor, by name */

#endif
