/* A few steps of a stage, and some of its validation, timed. */
#include <math.h>

#include "io/log.h"
#include "workers/stage/gang.h"
#include "workers/stage/probe.h"
#include "workers/stage/stage_internal.h"
#include "workers/stage/trial.h"

struct work {
    struct run run;
    double seconds;
    struct trial *trial; /* rank 0's to write */
};

/* The same on every rank: rank 0's clock tells. */
static int is_over(const struct member *member, double start, double seconds, bool *over, struct error *err)
{
    double said = member->collective->rank == 0 && clock_elapsed() - start >= seconds;
    if (collective_sum_double(member->collective, &said)) return error_set(err, GANG_FAILED);
    *over = said > 0;
    return 0;
}

static int synchronise(struct member *member, struct error *err)
{
    return member->parameters->kernels->synchronise(member->device, err);
}

static int time_steps(struct member *member, double seconds, struct trial *trial, struct error *err)
{
    const struct stage *stage = member->run->stage;
    uint64_t step = stage->first_step, tokens = 0;
    struct trainer_step done;
    bool over = false;
    if (trainer_step(&member->trainer, ++step, &done, err) || synchronise(member, err)) return -1;
    double start = clock_elapsed();
    for (uint64_t count = 1; !over; count++) {
        /* steps begin anew where the stage has few: the data is what counts */
        if (++step > stage->last_step) step = stage->first_step + 1;
        if (trainer_step(&member->trainer, step, &done, err) || synchronise(member, err)) return -1;
        tokens += done.tokens;
        trial->steps = (double)count;
        trial->step_seconds = (clock_elapsed() - start) / (double)count;
        trial->step_tokens = (double)tokens / (double)count;
        if (is_over(member, start, seconds, &over, err)) return -1;
    }
    return 0;
}

/* Validation, over and over; the first pass is not timed. */
struct validation {
    struct member *member;
    double seconds, start;
    struct trial *trial;
    bool begun, over;
};

static void count_pass(void *context)
{
    struct validation *v = context;
    const struct batch *batch = &v->member->buffer.batch;
    struct error told_later;
    synchronise(v->member, &told_later); /* the pass has begun */
    if (v->begun) {
        v->trial->evaluation_tokens += (double)batch->tokens;
        v->trial->evaluation_targets += (double)batch->targets;
        v->trial->evaluation_sequences += (double)batch->sequences;
        v->trial->evaluation_seconds = clock_elapsed() - v->start;
    } else {
        v->begun = true;
        v->start = clock_elapsed();
    }
}

static int stop_pass(void *context)
{
    struct validation *v = context;
    struct error ignored;
    if (!v->begun || v->trial->evaluation_tokens <= 0) return 0;
    if (is_over(v->member, v->start, v->seconds, &v->over, &ignored)) return -1;
    return v->over;
}

static int time_validation(struct member *member, double seconds, struct trial *trial, struct error *err)
{
    struct validation v = {.member = member, .seconds = seconds, .trial = trial};
    const struct tick tick = {.call = count_pass, .stop = stop_pass, .context = &v};
    struct evaluation valid = {.feed = member->valid, .buffer = &member->buffer, .lane = member->lane};
    if (!member->valid) return 0;
    while (!v.over)
        if (evaluate_lanes(member->model, &valid, 1, member->joined, &tick, err) < 0) return -1;
    return 0;
}

static int trial_main(void *context, const struct collective *collective, struct error *err)
{
    struct work *work = context;
    struct member member;
    struct trial trial = {.steps = 0}; /* each rank's own */
    const struct stage *stage = work->run.stage;
    int status = member_create(&member, &work->run, collective, err);
    member.tick = (struct tick){.call = NULL};
    if (!status) {
        parameters_initialise_base(member.parameters, &stage->model, stage->seed);
        status = parameters_initialise_adapter(member.parameters, &stage->model, &stage->method, stage->seed, err);
    }
    if (!status && work->run.training) status = time_steps(&member, work->seconds, &trial, err);
    if (!status) status = time_validation(&member, work->seconds, &trial, err);
    gang_tell(collective, status);
    member_destroy(&member);
    if (!status && collective->rank == 0) *work->trial = trial;
    return status;
}

int trial_stage(const struct stage *stage, double seconds, struct trial *trial, struct error *err)
{
    struct work work = {.seconds = seconds, .trial = trial};
    struct stage alone = *stage;
    alone.generate.max_new_tokens = 0; /* no text is written */
    alone.import[0] = alone.start[0] = 0;
    int status = run_open(&work.run, &alone, stage->last_step > stage->first_step, err);
    if (!status) status = gang_run((int)stage->degree, trial_main, &work, err);
    run_close(&work.run);
    trial->peak_bytes = peak_bytes(work.run.kernels);
    return status;
}

int trial_products(const struct trial_request *request, struct trial *trial, struct error *err)
{
    const size_t size[3] = {request->size, request->size, request->size};
    return probe_matmul(request->backend, request->precision, (int)request->threads, size, request->seconds,
                        &trial->flops_per_second, err);
}
