/* Some of a rank's tensors -> a folder with a description in JSON and one safetensors file. */
#include "workers/files/folder.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/safetensors.h"
#include "io/file.h"

static int write_text(const char *path, const char *text, struct error *err)
{
    struct file_draft draft;
    if (file_draft_open(&draft, path, 0666, err)) return -1;
    fprintf(draft.file, "%s\n", text);
    return file_draft_publish(&draft, true, err);
}

static int file_path(const char *dir, const struct folder_file *file, char path[PATH_MAX], struct error *err)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, file->name) < PATH_MAX) return 0;
    return error_set(err, "%s: the path is too long", dir);
}

static int write_files(const struct folder *folder, const char *dir, struct error *err)
{
    for (size_t i = 0; i < folder->file_count; i++) {
        const struct folder_file *file = &folder->files[i];
        char path[PATH_MAX];
        struct file_draft draft;
        if (file_path(dir, file, path, err)) return -1;
        if (file->from) {
            if (file_copy(file->from, path, err)) return -1;
            continue;
        }
        if (file_draft_open(&draft, path, 0666, err)) return -1;
        fwrite(file->bytes, 1, file->size, draft.file);
        if (file_draft_publish(&draft, true, err)) return -1;
    }
    return 0;
}

static int write_tensor(const struct parameters *parameters, const struct folder_tensor *tensor,
                        const struct parameter *p, struct safetensors_writer *writer, float *staging, struct error *err)
{
    const uint64_t *shape = tensor->shape;
    bool vector = tensor->dimensions == 1;
    struct safetensors_tile whole = {0, vector ? 1 : shape[0], 0, vector ? shape[0] : shape[1]};
    if (parameter_read(parameters, p, 0, p->rows * p->columns, staging, err)) return -1;
    return safetensors_writer_put(writer, tensor->name, &whole, staging, err);
}

static int write_tensors(const struct parameters *parameters, const struct folder *folder, const char *path,
                         struct error *err)
{
    struct safetensors_writer *writer = safetensors_writer_create(path, err);
    float *staging = writer ? parameters_staging(parameters, err) : NULL;
    int result = staging ? 0 : -1;
    struct folder_tensor tensor;
    for (size_t i = 0; i < parameters->count && !result; i++)
        if (folder->describe(&parameters->list[i], &tensor))
            result = safetensors_writer_declare(writer, tensor.name, tensor.dimensions, tensor.shape, err);
    for (size_t i = 0; i < parameters->count && !result; i++)
        if (folder->describe(&parameters->list[i], &tensor))
            result = write_tensor(parameters, &tensor, &parameters->list[i], writer, staging, err);
    free(staging);
    if (!result) return safetensors_writer_finish(writer, err);
    safetensors_writer_destroy(writer);
    return -1;
}

int folder_save(const struct parameters *parameters, const struct folder *folder, const char *dir, struct error *err)
{
    char config[PATH_MAX], weights[PATH_MAX];
    if (parameters->collective.size != 1) return error_set(err, "a folder is written by a gang of one");
    if (snprintf(config, sizeof config, "%s/%s", dir, folder->config) >= (int)sizeof config - 64)
        return error_set(err, "%s: the path is too long", dir);
    snprintf(weights, sizeof weights, "%s/%s", dir, folder->weights);
    if (mkdir(dir, 0777)) return error_set_errno(err, "%s", dir);
    if (!write_tensors(parameters, folder, weights, err) && !write_files(folder, dir, err) &&
        !write_text(config, folder->text, err))
        return 0;
    unlink(config);
    unlink(weights);
    for (size_t i = 0; i < folder->file_count; i++)
        if (!file_path(dir, &folder->files[i], config, NULL)) unlink(config);
    rmdir(dir);
    return -1;
}
