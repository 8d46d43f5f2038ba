/* Models in Hugging Face's folders: config.json and safetensors, as a base that stages start from, and back.
 *
 * At full size: 16B parameters in bf16; each rank of a gang reads its own slice of every tensor, one tensor at a time.
 * What a folder says is checked: a kind of model, an activation, a scaling of positions that the engine does not have
 * is refused by name, and so is a tensor that the description does not explain. */
#ifndef TUNELAW_WORKERS_FILES_HUGGINGFACE_H
#define TUNELAW_WORKERS_FILES_HUGGINGFACE_H

#include "io/checkpoint/safetensors.h"
#include "io/digest.h"
#include "workers/files/folder.h"
#include "workers/model/config.h"
#include "workers/model/parameters.h"

/* The model that DIR/config.json describes; its name is left empty. One that it calls tied and whose weights hold
 * another output matrix than the embedding is untied. Errors begin with the file. */
int huggingface_config(const char *dir, struct model_config *model, struct error *err);

/* The positions that DIR/config.json says the model was trained for (max_position_embeddings); 0: not said. */
uint64_t huggingface_positions(const char *dir);

/* Weights of `model` in a folder: every tensor is there, of the right shape and a readable type, and none besides. NULL
 * with *err. */
struct safetensors *huggingface_open(const char *dir, const struct model_config *model, struct error *err);

/* The tensor of a name, or NULL; transformers 5 calls GPT-NeoX's output matrix lm_head, its files and earlier versions
 * embed_out. */
const struct safetensors_tensor *huggingface_find(const struct safetensors *weights, const char *name);

/* What the base is: a digest of the model's shape and of all tensors. Reads everything the first time; a process
 * remembers it as long as the files are the same (device, inode, size, times). */
int huggingface_digest(const struct safetensors *weights, const struct model_config *model, struct digest *out,
                       struct error *err);
/* As huggingface_open and huggingface_digest, of a folder. */
int huggingface_identify(const char *dir, const struct model_config *model, struct digest *out, struct error *err);

/* A rank's part of every tensor of the base. */
int huggingface_load(const struct parameters *parameters, const struct safetensors *weights, struct error *err);

/* The text of a config.json for the model (malloc, the caller frees), which transformers' AutoModelForCausalLM takes;
 * NULL with *err where Hugging Face has no such model. */
char *huggingface_describe(const struct model_config *model, struct error *err);

/* Files of a tokenizer, and what says how to generate, that a folder may have; NULL behind the last. */
extern const char *const huggingface_companion_files[];

/* What a model comes with beside its weights. */
struct huggingface_companions {
    const struct folder_file *files; /* [count], beside config.json */
    size_t count;
    const char *like; /* an imported folder: what its config.json says of marks and positions is said again; NULL: */
    int32_t begin, end, pad; /* ids of the marks; -1: there is none */
};

/* Write DIR, which must not exist: config.json and one model.safetensors, float32, of a gang of one, and the
 * companions' files (NULL: none). On failure nothing is left. */
int huggingface_save(const struct parameters *parameters, const struct model_config *model,
                     const struct huggingface_companions *companions, const char *dir, struct error *err);

/* Dimensions, 1 or 2, and shape of a base tensor in files. */
size_t huggingface_shape(const struct parameter *parameter, uint64_t shape[2]);

#endif
