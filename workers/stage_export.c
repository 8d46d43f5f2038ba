/* From a finished point to a folder that transformers loads. */
#include "workers/gang.h"
#include "workers/huggingface.h"
#include "workers/stage_internal.h"

struct exporting {
    struct run run;
    const struct store_result *result;
    const char *dir;
};

static int export_main(void *context, const struct collective *collective, struct error *err)
{
    struct member member;
    struct exporting *work = context;
    const struct model_config *model = &work->run.stage->model;
    int status = member_create(&member, &work->run, collective, err);
    member.tick = (struct tick){.call = NULL};
    if (status == 0) status = member_load_result(&member, work->result, err);
    if (status == 0) work->run.kernels->set_precision(member.device, PRECISION_FP32); /* weights are fp32 */
    if (status == 0) status = model_merge(member.model, err);
    if (status == 0) status = huggingface_save(member.parameters, model, work->dir, err);
    member_destroy(&member);
    return status;
}

int stage_export(const struct stage *stage, const struct store_result *result, const char *dir, struct error *err)
{
    struct stage alone = *stage;
    struct exporting work = {.result = result, .dir = dir};
    alone.degree = 1;
    if (stage->kind != STAGE_FINETUNE) return error_set(err, "only a finetuning stage has a result");
    if (result->status != STORE_DONE) return error_set(err, "the point has diverged: it has no weights to write");
    int status = run_open(&work.run, &alone, false, err);
    if (status == 0) status = run_parent(&work.run, err);
    if (status == 0) status = gang_run(1, export_main, &work, err);
    run_close(&work.run);
    return status;
}
