/* From a finished point to a folder that transformers or PEFT loads. */
#include <stdlib.h>

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

static int export_main(void *context, const struct collective *collective, struct error *err)
{
    struct member member;
    struct exporting *work = context;
    const struct model_config *model = &work->run.stage->model;
    int status = member_create(&member, &work->run, collective, err);
    member.tick = (struct tick){.call = NULL};
    if (status == 0) status = member_load_result(&member, work->result, err);
    if (status == 0 && work->adapter) {
        const struct stage *stage = work->run.stage;
        status = peft_save(member.parameters, model, &stage->method, stage->import, work->dir, err);
    } else if (status == 0) {
        status = model_merge(member.model, err);
        if (status == 0) status = huggingface_save(member.parameters, model, work->dir, err);
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
