/* From a finished point to a folder that transformers or PEFT loads. */
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/tokenizer/tokenizer.h"
#include "workers/files/huggingface.h"
#include "workers/files/peft.h"
#include "workers/stage/gang.h"
#include "workers/stage/stage_internal.h"

struct exporting {
    struct run run;
    const struct store_result *result;
    const char *dir;
    bool adapter; /* alone */
};

enum { FILES = 16 };

/* What texts are made tokens with: the files of the imported folder, else the data set's own: a tokenizer.json, or a
 * model that a library of sentencepiece reads. Not as "tokenizer.model": transformers makes another normalisation of
 * such a file. */
static size_t companion_files(const struct run *run, struct folder_file files[FILES], char paths[FILES][PATH_MAX])
{
    size_t count = 0, size = 0;
    const char *import = run->stage->import;
    for (size_t i = 0; *import && huggingface_companion_files[i] && count < FILES; i++) {
        const char *name = huggingface_companion_files[i];
        if (snprintf(paths[count], PATH_MAX, "%s/%s", import, name) >= PATH_MAX || access(paths[count], R_OK)) continue;
        files[count] = (struct folder_file){.name = name, .from = paths[count]};
        count++;
    }
    const void *bytes = dataset_tokenizer(run->dataset, &size);
    const char *name = tokenizer_is_json(bytes, size) ? "tokenizer.json" : "sentencepiece.model";
    if (!count && size) files[count++] = (struct folder_file){.name = name, .bytes = bytes, .size = size};
    return count;
}

/* NULL: none, or a piece as others, which a name as a mark would make special. */
static const char *special_piece(const struct tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && tokenizer_is_special(tokenizer, (size_t)id) ? tokenizer_piece(tokenizer, (size_t)id) : NULL;
}

/* Without it transformers takes what is usual for the architecture in place of what tokenizer.json says. malloc. */
static char *describe_tokenizer(const struct tokenizer *tokenizer, const struct huggingface_companions *companions)
{
    const char *begin = special_piece(tokenizer, companions->begin), *end = special_piece(tokenizer, companions->end);
    json_t *object = json_pack("{s:s, s:s*, s:s*}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token", begin,
                               "eos_token", end);
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    json_decref(object);
    return text;
}

static int save_model(const struct exporting *work, const struct member *member, struct error *err)
{
    struct folder_file files[FILES];
    char(*paths)[PATH_MAX] = malloc(FILES * sizeof *paths);
    if (!paths) return error_set(err, "out of memory");
    const struct stage *stage = work->run.stage;
    struct huggingface_companions companions = {.files = files,
                                                .count = companion_files(&work->run, files, paths),
                                                .like = stage->import[0] ? stage->import : NULL,
                                                .begin = -1,
                                                .end = -1,
                                                .pad = -1};
    size_t size = 0;
    const void *bytes = dataset_tokenizer(work->run.dataset, &size);
    bool ours = companions.count && files[0].bytes; /* the data set's tokenizer */
    struct tokenizer *tokenizer = ours ? tokenizer_create(bytes, size, NULL) : NULL;
    if (tokenizer) tokenizer_marks(tokenizer, &companions.begin, &companions.end, &companions.pad);
    char *config = NULL;
    if (tokenizer && tokenizer_is_json(bytes, size)) {
        companions.begin = dataset_info(work->run.dataset)->begin;
        companions.end = dataset_info(work->run.dataset)->end;
        config = describe_tokenizer(tokenizer, &companions);
        if (config)
            files[companions.count++] =
                (struct folder_file){.name = "tokenizer_config.json", .bytes = config, .size = strlen(config)};
    }
    tokenizer_destroy(tokenizer);
    int status = huggingface_save(member->parameters, &stage->model, &companions, work->dir, err);
    free(paths);
    free(config);
    return status;
}

static int export_main(void *context, const struct collective *collective, struct error *err)
{
    struct member member;
    struct exporting *work = context;
    int status = member_create(&member, &work->run, collective, err);
    member.tick = (struct tick){.call = NULL};
    if (status == 0) status = member_load_result(&member, work->result, err);
    if (status == 0 && work->adapter) {
        const struct stage *stage = work->run.stage;
        status = peft_save(member.parameters, &stage->model, &stage->method, stage->import, work->dir, err);
    } else if (status == 0) {
        status = model_merge(member.model, err);
        if (status == 0) status = save_model(work, &member, err);
    }
    member_destroy(&member);
    return status;
}

static int export(const struct stage *stage, const struct store_result *result, const char *dir, bool adapter,
                  struct error *err)
{
    struct stage alone = *stage;
    struct exporting work = {.result = result, .dir = dir, .adapter = adapter};
    alone.degree = 1;
    alone.recipe.precision = PRECISION_FP32; /* as weights are */
    if (stage->kind != STAGE_FINETUNE) return error_set(err, "only a finetuning stage has a result");
    if (result->status != STORE_DONE) return error_set(err, "the point has diverged: it has no weights to write");
    int status = run_open(&work.run, &alone, false, err);
    if (status == 0) status = run_parent(&work.run, err);
    if (status == 0) status = gang_run(1, export_main, &work, err);
    run_close(&work.run);
    return status;
}

int stage_export(const struct stage *stage, const struct store_result *result, const char *dir, struct error *err)
{
    return export(stage, result, dir, false, err);
}

int stage_export_adapter(const struct stage *stage, const struct store_result *result, const char *dir,
                         struct error *err)
{
    /* before anything is opened: whether there is such an adapter */
    char *text = peft_describe(&stage->model, &stage->method, "", err);
    free(text);
    return text ? export(stage, result, dir, true, err) : -1;
}
