/* Adapters in PEFT's folders (adapter_config.json, adapter_model.safetensors) <-> a method and its tensors.
 *
 * peft.PeftModel.from_pretrained loads what is written here, and what PEFT writes is read here, for LoRA, prompt
 * and prefix tuning and IA3. An adapter whose effect the engine does not have (DoRA, ranks by module, weights of the
 * base that were changed with it, ...) is refused by the name of what it asks for.
 *
 * At full size: a few hundred tensors, some 100 MB; each rank of a gang reads its slices. The files are hostile. */
#ifndef TUNELAW_WORKERS_FILES_PEFT_H
#define TUNELAW_WORKERS_FILES_PEFT_H

#include "io/checkpoint/safetensors.h"
#include "io/digest.h"
#include "workers/model/config.h"
#include "workers/model/parameters.h"

/* The method that DIR/adapter_config.json describes, with its PET size. model: the base, on which it is possible (the
 * usual matrices are modules 0); NULL: any. Errors begin with the file. */
int peft_config(const char *dir, const struct model_config *model, struct method_config *method, struct error *err);

/* The adapter's tensors in a folder: every tensor of the method beside the model is there, of the right shape and a
 * readable type, and none besides. NULL with *err. */
struct safetensors *peft_open(const char *dir, const struct model_config *model, const struct method_config *method,
                              struct error *err);
/* What the adapter is: a digest of its method and of all its tensors. Reads everything. */
int peft_digest(const struct safetensors *weights, const struct method_config *method, struct digest *out,
                struct error *err);
/* As peft_open and peft_digest, of a folder. */
int peft_identify(const char *dir, const struct model_config *model, const struct method_config *method,
                  struct digest *out, struct error *err);
/* A rank's part of every tensor of the adapter. */
int peft_load(const struct parameters *parameters, const struct safetensors *weights, struct error *err);

/* The text of an adapter_config.json (malloc, the caller frees). base: what it says of the base model; "": nothing.
 * NULL with *err where PEFT has no such adapter. */
char *peft_describe(const struct model_config *model, const struct method_config *method, const char *base,
                    struct error *err);
/* Write DIR, which must not exist: the description and the adapter's tensors, float32, of a gang of one. On failure
 * nothing is left. */
int peft_save(const struct parameters *parameters, const struct model_config *model, const struct method_config *method,
              const char *base, const char *dir, struct error *err);

#endif
