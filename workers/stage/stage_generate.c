/* Texts at the end of a finetuning stage, or of a point that is finished: generated, measured, kept where asked. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/log.h"
#include "workers/stage/gang.h"
#include "workers/stage/stage_internal.h"
#include "workers/stage/worker.h"
#include "workers/text/generation.h"

int run_open_tokenizer(struct run *run, struct error *err)
{
    size_t size;
    const void *model = dataset_tokenizer(run->dataset, &size);
    if (size == 0)
        return error_set(err,
                         "%s: the data set was made of token ids (tunelaw data --ids): there is no text to generate or "
                         "to measure",
                         run->stage->dataset);
    run->tokenizer = tokenizer_create(model, size, err);
    return run->tokenizer ? 0 : error_prefix(err, "%s", run->stage->dataset);
}

/* What becomes of the texts. */
struct keeper {
    struct metric_sums sums;
    struct digest_stream *digest; /* of the hypotheses, each with its terminating zero */
    FILE *file;                   /* NULL: not kept */
    uint64_t texts;
};

static int keep(void *context, const struct generated_text *text, struct error *err)
{
    struct keeper *keeper = context;
    keeper->texts++;
    digest_stream_add(keeper->digest, text->hypothesis, strlen(text->hypothesis) + 1);
    if (text->reference && metrics_add(&keeper->sums, text->hypothesis, text->reference, err)) return -1;
    return keeper->file ? generated_text_write(text, keeper->file, err) : 0;
}

uint64_t stage_text_examples(const struct stage *stage)
{
    uint64_t tested = stage->test_examples, own = stage->generate.examples;
    return own && (!tested || own < tested) ? own : tested;
}

static uint64_t test_examples(const struct run *run)
{
    uint64_t have = dataset_info(run->dataset)->examples[SPLIT_TEST], wanted = stage_text_examples(run->stage);
    return wanted && wanted < have ? wanted : have;
}

static struct text_sources sources_of(const struct run *run, uint64_t count)
{
    const struct stage *stage = run->stage;
    return (struct text_sources){.dataset = run->dataset,
                                 .tokenizer = run->tokenizer,
                                 .split = SPLIT_TEST,
                                 .count = count,
                                 .sequence_length = stage->recipe.sequence_length,
                                 .method = &stage->method};
}

/* What was generated, and what it is worth, into the result. */
static void fill(const struct keeper *keeper, const struct generation_config *config, struct store_result *result)
{
    double *const values[TEXT_METRICS] = {&result->bleu, &result->chrf, &result->rouge1, &result->rouge2,
                                          &result->rougeL};
    for (int metric = 0; metric < TEXT_METRICS; metric++)
        if (config->metrics & 1u << metric) *values[metric] = metrics_value(&keeper->sums, (enum text_metric)metric);
    result->generated = keeper->texts;
    result->beams = config->beams;
    result->max_new_tokens = config->max_new_tokens;
    result->length_penalty = config->beams > 1 ? config->length_penalty : NAN;
    struct digest digest = digest_stream_result(keeper->digest);
    memcpy(result->generations, digest.hex, sizeof result->generations);
}

/* Rank 0: with somewhere to put the texts. 0, -1 or 1. */
static int generate_and_keep(struct member *member, const struct text_sources *sources, FILE *file,
                             struct store_result *result, struct error *err)
{
    const struct generation_config *config = &member->run->stage->generate;
    struct keeper keeper = {.digest = digest_stream_create(), .file = file};
    const struct text_taker taker = {keep, &keeper};
    if (!keeper.digest) return error_set(err, "out of memory");
    int stopped =
        generate_texts(member->model, member->lane, config, sources, &member->buffer, &member->tick, &taker, err);
    if (stopped == 0) {
        fill(&keeper, config, result);
    }
    digest_stream_destroy(keeper.digest);
    return stopped;
}

int member_generate(struct member *member, struct store_result *result, struct error *err)
{
    const struct run *run = member->run;
    const struct stage *stage = run->stage;
    const struct text_sources sources = sources_of(run, test_examples(run));
    if (member->collective->rank != 0)
        return generate_texts(member->model, member->lane, &stage->generate, &sources, &member->buffer, &member->tick,
                              NULL, err);
    char path[PATH_MAX];
    struct file_draft draft;
    LOG("generating %" PRIu64 " texts", sources.count);
    if (!stage->generate.save) return generate_and_keep(member, &sources, NULL, result, err);
    stage_generations_path(stage, path);
    if (file_draft_open(&draft, path, 0666, err)) return -1;
    int stopped = generate_and_keep(member, &sources, draft.file, result, err);
    if (stopped == 0) return file_draft_publish(&draft, true, err);
    file_draft_discard(&draft);
    return stopped;
}

struct generating {
    struct run run;
    const struct store_result *result;
    const struct generation_request *request;
    struct store_result *measured;
};

static int generating_main(void *context, const struct collective *collective, struct error *err)
{
    struct member member;
    struct generating *work = context;
    const struct generation_request *request = work->request;
    struct text_sources sources = {0};
    int status = member_create(&member, &work->run, collective, err);
    member.tick = (struct tick){.call = NULL};
    if (status == 0) status = member_load_result(&member, work->result, err);
    if (status == 0) {
        sources = sources_of(&work->run, request->count);
        sources.split = request->split;
        sources.lines = request->lines;
    }
    if (status == 0 && collective->rank == 0)
        status = generate_and_keep(&member, &sources, request->file, work->measured, err);
    else if (status == 0)
        status = generate_texts(member.model, 0, &work->run.stage->generate, &sources, &member.buffer, NULL, NULL, err);
    gang_tell(collective, status);
    member_destroy(&member);
    return status;
}

int stage_generate(const struct stage *stage, const struct store_result *result,
                   const struct generation_request *request, struct store_result *measured, struct error *err)
{
    struct generating work = {.result = result, .request = request, .measured = measured};
    struct generation_request whole = *request;
    if (stage->kind != STAGE_FINETUNE) return error_set(err, "only a finetuning stage generates texts");
    if (result->status != STORE_DONE) return error_set(err, "the point has diverged: it has no weights");
    *measured = *result;
    store_result_without_generations(measured);
    int status = run_open(&work.run, stage, false, err);
    if (status == 0 && !request->lines) {
        uint64_t have = dataset_info(work.run.dataset)->examples[request->split];
        if (!whole.count || whole.count > have) whole.count = have;
        work.request = &whole;
    }
    if (status == 0) status = run_parent(&work.run, err);
    if (status == 0) status = gang_run((int)stage->degree, generating_main, &work, err);
    run_close(&work.run);
    return status;
}
