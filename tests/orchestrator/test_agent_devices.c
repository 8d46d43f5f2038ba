/* What is on an agent's devices: which worker takes an assignment, and who leaves for it. Workers are the ends of
 * sockets here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "orchestrator/run/agent_internal.h"
#include "orchestrator/sweep/sweep.h"
#include "workers/stage/worker.h"

#define MIB ((uint64_t)1 << 20)

enum { WORKERS = 4, DEVICES = 4 };

struct scene {
    struct agent agent;
    struct transport transport;
    struct worker workers[WORKERS];
    uint32_t failures[DEVICES];
    int ends[WORKERS]; /* the workers' own */
};

static struct scene *scene_make(uint64_t device_bytes)
{
    struct scene *scene = calloc(1, sizeof *scene);
    scene->agent = (struct agent){.transport = &scene->transport,
                                  .devices = DEVICES,
                                  .device_bytes = device_bytes,
                                  .failures = scene->failures,
                                  .workers = scene->workers,
                                  .capacity = WORKERS};
    return scene;
}

static struct worker *add(struct scene *scene, uint32_t first, uint32_t count, enum worker_state state, uint64_t bytes)
{
    int pair[2];
    size_t i = scene->agent.count++;
    assert_true(i < WORKERS);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    scene->workers[i] =
        (struct worker){.socket = pair[0], .state = state, .first = first, .count = count, .bytes = bytes};
    scene->ends[i] = pair[1];
    return &scene->workers[i];
}

/* How many times a worker was told to leave. */
static int told_to_leave(const struct scene *scene, size_t i)
{
    int told = 0;
    char byte;
    while (recv(scene->ends[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
        struct error err;
        uint32_t type;
        void *payload;
        size_t size;
        assert_int_equal(frame_receive(scene->ends[i], &type, &payload, &size, &err), 1);
        free(payload);
        told += type == FRAME_EXIT;
    }
    return told;
}

/* It has gone: the last worker takes its place, as in the agent. */
static void go(struct scene *scene, size_t i)
{
    size_t last = --scene->agent.count;
    close(scene->workers[i].socket);
    close(scene->ends[i]);
    scene->workers[i] = scene->workers[last];
    scene->ends[i] = scene->ends[last];
}

static void scene_free(struct scene *scene)
{
    while (scene->agent.count)
        go(scene, scene->agent.count - 1);
    free(scene);
}

static bool find(struct scene *scene, uint32_t first, uint32_t degree, bool shared, uint64_t bytes,
                 struct worker **worker)
{
    struct message_assign job = {.count = 1, .first = first, .degree = degree, .shared = shared, .bytes = bytes};
    struct pending assignment = {.jobs = &job, .bytes = bytes};
    return agent_find_worker(&scene->agent, &assignment, worker);
}

/* Nothing is shared: the idle worker on just these devices, and those that overlap them leave. */
static void test_whole_devices(void **state)
{
    (void)state;
    struct worker *found;
    struct scene *scene = scene_make(0);
    add(scene, 0, 1, WORKER_IDLE, MIB);
    struct worker *pair = add(scene, 2, 2, WORKER_IDLE, MIB);
    add(scene, 3, 1, WORKER_IDLE, MIB);
    add(scene, 1, 1, WORKER_BUSY, MIB);
    assert_false(find(scene, 2, 2, false, 1000 * MIB, &found)); /* not before the other has gone */
    assert_ptr_equal(found, pair);
    assert_int_equal(told_to_leave(scene, 2), 1);
    assert_int_equal(scene->workers[2].state, WORKER_LEAVING);
    assert_false(find(scene, 2, 2, false, 1000 * MIB, &found));
    assert_int_equal(told_to_leave(scene, 2), 0); /* once */
    go(scene, 2);
    assert_true(find(scene, 2, 2, false, 1000 * MIB, &found));
    assert_ptr_equal(found, pair);
    assert_false(find(scene, 0, 2, false, 1000 * MIB, &found)); /* a new one: no worker has both */
    assert_null(found);
    assert_int_equal(told_to_leave(scene, 0), 1);
    assert_int_equal(told_to_leave(scene, 1) + told_to_leave(scene, 2), 0);
    scene_free(scene);
}

/* Several on a device: idle ones keep their base as long as there is memory. Then one at a time leaves, and the
 * assignment waits until it has gone. */
static void test_room(void **state)
{
    (void)state;
    struct worker *found;
    struct scene *scene = scene_make(4 * (GPU_PROCESS_BYTES + 100 * MIB));
    add(scene, 0, 1, WORKER_BUSY, 100 * MIB);
    add(scene, 0, 1, WORKER_IDLE, 100 * MIB);
    add(scene, 0, 1, WORKER_IDLE, 100 * MIB);
    add(scene, 1, 1, WORKER_IDLE, 4000 * MIB);               /* elsewhere: it neither counts nor leaves */
    assert_true(find(scene, 0, 1, true, 200 * MIB, &found)); /* in the place of the 100 of the worker that takes it */
    assert_ptr_equal(found, &scene->workers[1]);
    assert_int_equal(told_to_leave(scene, 2), 0);
    uint64_t much = 200 * MIB + GPU_PROCESS_BYTES + 1; /* one byte more than there is beside the others */
    assert_false(find(scene, 0, 1, true, much + 100 * MIB, &found));
    assert_ptr_equal(found, &scene->workers[1]);
    assert_int_equal(told_to_leave(scene, 2), 1);
    assert_false(find(scene, 0, 1, true, much + 100 * MIB, &found)); /* it has not gone yet: nobody else is told */
    assert_int_equal(
        told_to_leave(scene, 0) + told_to_leave(scene, 1) + told_to_leave(scene, 2) + told_to_leave(scene, 3), 0);
    go(scene, 2);
    assert_true(find(scene, 0, 1, true, much + 100 * MIB, &found));
    assert_ptr_equal(found, &scene->workers[1]);
    scene_free(scene);
}

/* What is busy cannot leave: the master counted it, so nothing waits for ever. */
static void test_nobody_to_leave(void **state)
{
    (void)state;
    struct worker *found;
    struct scene *scene = scene_make(1000 * MIB);
    add(scene, 0, 1, WORKER_BUSY, 900 * MIB);
    assert_true(find(scene, 0, 1, true, 900 * MIB, &found));
    assert_null(found);
    struct worker *gone = add(scene, 0, 1, WORKER_IDLE, 900 * MIB);
    int socket = gone->socket;
    gone->socket = -1; /* its end is on the way to us: neither found nor told */
    assert_true(find(scene, 0, 1, true, 900 * MIB, &found));
    assert_null(found);
    gone->socket = socket;
    scene_free(scene);
}

static void outcome_of(struct scene *scene, struct worker *worker, enum store_status status, uint32_t device,
                       uint32_t expected)
{
    struct stage_outcome outcome = {.status = status, .failed_device = device};
    assert_int_equal(agent_judge_devices(&scene->agent, worker, &outcome), expected);
}

/* Two failures in a row set a device aside, once; a success between them forgives the first. */
static void test_failed_device(void **state)
{
    (void)state;
    struct scene *scene = scene_make(0);
    struct worker *worker = add(scene, 2, 2, WORKER_IDLE, 0);
    outcome_of(scene, worker, STORE_CRASHED, 2, 0);
    outcome_of(scene, worker, STORE_DONE, 0, 0);
    outcome_of(scene, worker, STORE_CRASHED, 2, 0);
    outcome_of(scene, worker, STORE_CRASHED, 1, 0);
    outcome_of(scene, worker, STORE_CRASHED, 2, 4);
    outcome_of(scene, worker, STORE_CRASHED, 2, 0);
    outcome_of(scene, worker, STORE_CRASHED, 3, 0); /* it has no third */
    scene_free(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_devices),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_nobody_to_leave),
        cmocka_unit_test(test_failed_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
