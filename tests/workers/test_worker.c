/* A worker process over its socket: stages, progress, outcomes, a drain, an agent that goes away, and SIGKILL at random
 * moments. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/workers/trained.h"
#include "workers/stage/worker.h"

static struct fixture fixture;
static struct stage trunk;

struct child {
    pid_t pid;
    int fd;
};

static struct child child_start(void)
{
    int pair[2];
    struct child child;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) abort();
    child.pid = fork();
    if (child.pid == 0) {
        close(pair[0]);
        _exit(worker_main(pair[1]));
    }
    close(pair[1]);
    child.fd = pair[0];
    return child;
}

static int child_wait(const struct child *child)
{
    int status = -1;
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static void child_exit(const struct child *child)
{
    struct error err;
    assert_int_equal(frame_send(child->fd, FRAME_EXIT, NULL, 0, &err), 0);
    assert_int_equal(child_wait(child), 0);
    close(child->fd);
}

static void send_stage(const struct child *child, const struct stage *stage)
{
    struct error err;
    char *text = stage_encode(stage);
    assert_int_equal(frame_send(child->fd, FRAME_STAGE, text, strlen(text), &err), 0);
    free(text);
}

/* The next frame: true for an outcome, false for progress. */
static bool next(const struct child *child, struct stage_progress *progress, struct stage_outcome *outcome)
{
    struct error err = {"closed"};
    uint32_t type;
    void *payload;
    size_t size;
    if (frame_receive(child->fd, &type, &payload, &size, &err) != 1) fail_msg("%s", err.text);
    bool ended = type == FRAME_OUTCOME;
    assert_int_equal(size, ended ? sizeof *outcome : sizeof *progress);
    memcpy(ended ? (void *)outcome : (void *)progress, payload, size);
    free(payload);
    return ended;
}

static struct stage_outcome outcome_of(const struct child *child)
{
    struct stage_progress progress;
    struct stage_outcome outcome;
    while (!next(child, &progress, &outcome))
        ;
    return outcome;
}

static struct stage_outcome run_on(const struct child *child, const struct stage *stage)
{
    send_stage(child, stage);
    return outcome_of(child);
}

static struct stage_outcome run_fresh(const struct stage *stage)
{
    struct child child = child_start();
    struct stage_outcome outcome = run_on(&child, stage);
    child_exit(&child);
    return outcome;
}

static void expect(const struct stage_outcome *outcome, enum store_status status)
{
    if (outcome->status != status) fail_msg("%s: %s", store_status_name(outcome->status), outcome->message);
}

static int set_up(void **state)
{
    (void)state;
    if (fixture_create(&fixture)) return -1;
    trunk = stage_pretrain(&fixture, 0, 40);
    struct stage_outcome outcome = run_fresh(&trunk);
    if (outcome.status != STORE_DONE) fprintf(stderr, "pretraining: %s\n", outcome.message);
    return outcome.status == STORE_DONE ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

/* A worker that has run other stages gives the bytes of a fresh one. */
static void test_reused(void **state)
{
    (void)state;
    struct stage_outcome fresh[METHODS], reused;
    for (int method = 0; method < METHODS; method++) {
        struct stage stage = stage_finetune(&fixture, &trunk, (enum method_kind)method, 30);
        fresh[method] = run_fresh(&stage);
        expect(&fresh[method], STORE_DONE);
        forget(&stage);
    }
    struct child child = child_start();
    for (int round = 0; round < 2; round++) {
        for (int method = METHODS - 1; method >= 0; method--) {
            struct stage stage = stage_finetune(&fixture, &trunk, (enum method_kind)method, 30);
            reused = run_on(&child, &stage);
            expect(&reused, STORE_DONE);
            assert_memory_equal(&reused.row.result, &fresh[method].row.result, sizeof reused.row.result);
            assert_memory_equal(&reused.row.curve, &fresh[method].row.curve, sizeof reused.row.curve);
            forget(&stage);
        }
    }
    child_exit(&child);
}

static const struct setting {
    enum method_kind method;
    const char *backend;
    uint32_t threads, degree;
    enum precision precision;
} settings[] = {
    {METHOD_LORA, "cpu", 1, 1, PRECISION_FP32},       {METHOD_FULL, "cpu", 2, 1, PRECISION_FP32},
    {METHOD_PROMPT, "cpu", 1, 2, PRECISION_FP32},     {METHOD_LORA, "cpu", 2, 1, PRECISION_BF16},
    {METHOD_FULL, "reference", 1, 1, PRECISION_FP32}, {METHOD_FULL, "cpu", 1, 1, PRECISION_BF16},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static struct stage stage_of(const struct setting *setting)
{
    struct stage stage = stage_finetune(&fixture, &trunk, setting->method, 4);
    strcpy(stage.backend, setting->backend);
    stage.threads = setting->threads;
    stage.degree = setting->degree;
    stage.recipe.precision = setting->precision;
    return stage;
}

/* Nothing of a stage stays behind in the process for the next: neither the number of threads, nor the precision, nor
 * how denormals are taken (the reference backend keeps them, cpu does not), nor a buffer of another model's size. */
static void test_reused_in_other_settings(void **state)
{
    (void)state;
    struct stage_outcome fresh[SETTINGS], reused;
    for (int i = 0; i < SETTINGS; i++) {
        struct stage stage = stage_of(&settings[i]);
        fresh[i] = run_fresh(&stage);
        expect(&fresh[i], STORE_DONE);
        forget(&stage);
    }
    struct child child = child_start();
    for (int turn = 0; turn < SETTINGS; turn++) {
        int i = (turn * 5 + 3) % SETTINGS;
        struct stage other = stage_pretrain(&fixture, 0, 1), stage = stage_of(&settings[i]);
        other.identity = digest_of("another model", 13);
        other.model.layers = 1;
        other.model.width = 72;
        other.model.heads = other.model.kv_heads = 3;
        other.model.head_width = 24;
        other.threads = 1 + (uint32_t)turn % 2;
        other.recipe.precision = (enum precision)(turn % PRECISIONS);
        reused = run_on(&child, &other);
        expect(&reused, STORE_DONE);
        forget(&other);
        reused = run_on(&child, &stage);
        expect(&reused, STORE_DONE);
        assert_memory_equal(&reused.row.result, &fresh[i].row.result, sizeof reused.row.result);
        assert_memory_equal(&reused.row.curve, &fresh[i].row.curve, sizeof reused.row.curve);
        assert_string_equal(reused.row.execution.execution_class, fresh[i].row.execution.execution_class);
        forget(&stage);
    }
    child_exit(&child);
}

static void test_log_and_progress(void **state)
{
    (void)state;
    struct child child = child_start();
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_LORA, 20), logged;
    struct stage_progress progress;
    struct stage_outcome outcome;
    struct error err = {""};
    send_stage(&child, &stage);
    assert_false(next(&child, &progress, &outcome)); /* a sign of life at the start */
    assert_string_equal(progress.identity.hex, stage.identity.hex);
    assert_int_equal(progress.step, 0);
    assert_int_equal(progress.steps, 20);
    while (!next(&child, &progress, &outcome))
        ;
    assert_int_equal(progress.step, 20);
    assert_string_equal(outcome.identity.hex, stage.identity.hex);
    child_exit(&child);

    char path[PATH_MAX], line[8192], evaluated[64] = "step 20 of 20: train loss";
    bool found = false;
    stage_log_path(&stage, path);
    FILE *log = fopen(path, "r");
    assert_non_null(log);
    assert_non_null(fgets(line, sizeof line, log));
    assert_int_equal(stage_decode(line, strlen(line), &logged, &err), 0);
    assert_memory_equal(&logged, &stage, sizeof stage);
    while (fgets(line, sizeof line, log))
        found |= strstr(line, evaluated) != NULL;
    fclose(log);
    assert_true(found);
    forget(&stage);
}

static void test_bad_stage(void **state)
{
    (void)state;
    struct error err;
    struct child child = child_start();
    assert_int_equal(frame_send(child.fd, FRAME_STAGE, "{\"identity\":", 12, &err), 0);
    struct stage_outcome outcome = outcome_of(&child);
    expect(&outcome, STORE_CRASHED);
    assert_non_null(strstr(outcome.message, "stage"));
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_NONE, 0); /* the worker lives on */
    outcome = run_on(&child, &stage);
    expect(&outcome, STORE_DONE);
    child_exit(&child);
    forget(&stage);
}

/* Wait until at least `steps` are done. false: the stage ended before. */
static bool wait_for_steps(const struct child *child, uint64_t steps, struct stage_outcome *outcome)
{
    struct stage_progress progress = {.step = 0};
    while (progress.step < steps)
        if (next(child, &progress, outcome)) return false;
    return true;
}

static struct stage long_stage(void)
{
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 1000);
    stage.recipe.evaluations = 30;
    stage.checkpoint_seconds = 0.05;
    return stage;
}

static void test_drain_and_kill(void **state)
{
    (void)state;
    struct error err;
    struct stage stage = long_stage();
    struct stage_outcome whole = run_fresh(&stage), outcome;
    expect(&whole, STORE_DONE);
    forget(&stage);

    struct child child = child_start();
    send_stage(&child, &stage);
    assert_true(wait_for_steps(&child, 20, &outcome));
    assert_int_equal(frame_send(child.fd, FRAME_DRAIN, NULL, 0, &err), 0);
    outcome = outcome_of(&child);
    expect(&outcome, STORE_CUT);
    assert_true(outcome.end_step >= 20 && outcome.end_step < 1000);
    uint64_t drained = outcome.end_step;
    outcome = run_on(&child, &stage); /* the drain is over with the stage that it ended */
    expect(&outcome, STORE_DONE);
    assert_int_equal(outcome.resumed_step, drained);
    assert_int_equal(outcome.recomputed_steps, 0);
    assert_memory_equal(&outcome.row.result, &whole.row.result, sizeof whole.row.result);
    assert_memory_equal(&outcome.row.curve, &whole.row.curve, sizeof whole.row.curve);
    child_exit(&child);
    forget(&stage);

    struct random_key key = {.seed = (uint64_t)getpid(), .stream = 1};
    int killed = 0;
    for (uint64_t attempt = 0; attempt < 8; attempt++) {
        child = child_start();
        send_stage(&child, &stage);
        bool running = wait_for_steps(&child, 0, &outcome);
        usleep((useconds_t)random_below(key, attempt, 120000)); /* anywhere: in a step, in a validation, in a file */
        kill(child.pid, SIGKILL);
        child_wait(&child);
        close(child.fd);
        killed += running;
    }
    assert_int_equal(killed, 8);
    outcome = run_fresh(&stage);
    expect(&outcome, STORE_DONE);
    assert_true(outcome.end_step - outcome.resumed_step >= outcome.recomputed_steps);
    assert_int_equal(outcome.executed_steps, outcome.end_step + outcome.repeated_steps);
    assert_true(outcome.repeated_steps >= outcome.recomputed_steps);
    assert_memory_equal(&outcome.row.result, &whole.row.result, sizeof whole.row.result);
    assert_memory_equal(&outcome.row.curve, &whole.row.curve, sizeof whole.row.curve);
    forget(&stage);
}

/* The agent is gone: its worker does not train on. */
static void test_closed(void **state)
{
    (void)state;
    struct stage_outcome outcome;
    struct stage stage = long_stage();
    stage.recipe.steps = stage.last_step = 1000000;
    struct child child = child_start();
    send_stage(&child, &stage);
    assert_true(wait_for_steps(&child, 1, &outcome));
    close(child.fd);
    assert_int_not_equal(child_wait(&child), 0);
    child = child_start(); /* idle: a closed socket is the end, and no failure */
    close(child.fd);
    assert_int_equal(child_wait(&child), 0);
    forget(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_and_progress),         cmocka_unit_test(test_reused),
        cmocka_unit_test(test_reused_in_other_settings), cmocka_unit_test(test_bad_stage),
        cmocka_unit_test(test_drain_and_kill),           cmocka_unit_test(test_closed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
