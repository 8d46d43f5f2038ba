/* A stage survives its way through JSON exactly; hostile text is refused; schedules give the documented rates; frames
 * are whole or refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "workers/stage/stage.h"
#include "workers/stage/worker.h"

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) fail_msg("%.17g is not %.17g", value, expected);
}

static struct stage sample(void)
{
    struct stage stage;
    memset(&stage, 0, sizeof stage);
    stage.identity = digest_of("a", 1);
    stage.parent = digest_of("b", 1);
    stage.base = stage.parent;
    stage.kind = STAGE_FINETUNE;
    strcpy(stage.dir, "/tmp/a run \"dir\"");
    strcpy(stage.dataset, "/tmp/d\xc3\xa4ta.h5");
    stage.dataset_digest = digest_of("c", 1);
    stage.model = (struct model_config){.name = "s",
                                        .layers = 2,
                                        .width = 32,
                                        .heads = 2,
                                        .kv_heads = 1,
                                        .head_width = 16,
                                        .ffn = 96,
                                        .vocabulary = 512,
                                        .tied = true,
                                        .rope_theta = 10000,
                                        .norm_epsilon = 1e-5,
                                        .architecture = architecture_of(FAMILY_NEOX, 16)};
    stage.method = (struct method_config){.kind = METHOD_LORA, .size = 4, .alpha = 16};
    stage.recipe = (struct recipe){.learning_rate = 0.1 + 0.2,
                                   .beta1 = 0.9,
                                   .beta2 = 1.0 / 3,
                                   .epsilon = 5e-324,
                                   .weight_decay = 1e308,
                                   .clip_norm = 1,
                                   .schedule = SCHEDULE_COSINE,
                                   .warmup_steps = 10,
                                   .decay_steps = 100,
                                   .final_ratio = 0.1,
                                   .sequence_length = 64,
                                   .batch = 8,
                                   .steps = 100,
                                   .evaluations = 5,
                                   .patience = 2,
                                   .order = ORDER_STREAM,
                                   .evaluation_steps = 1ull << 40};
    stage.seed = UINT64_MAX;
    stage.last_step = 100;
    stage.examples = 1ull << 62;
    stage.generate = (struct generation_config){
        .metrics = 5, .beams = 4, .max_new_tokens = 64, .length_penalty = 0.6, .examples = 1ull << 40, .save = true};
    stage.flops = 1.2345678901234567e18;
    stage.predicted_bytes = (1ull << 63) + 1;
    strcpy(stage.backend, "cpu");
    stage.degree = 2;
    stage.threads = 1;
    stage.attempt = 3;
    stage.checkpoint_seconds = 0.25;
    stage.hang_seconds = 300;
    stage.keep_weights = true;
    stage.generation = UINT64_MAX - 1;
    return stage;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct stage stage = sample(), back;
    struct error err = {""};
    char *text = stage_encode(&stage);
    assert_non_null(text);
    assert_null(strchr(text, '\n'));
    assert_int_equal(stage_decode(text, strlen(text), &back, &err), 0);
    assert_memory_equal(&stage, &back, sizeof stage); /* every byte: no field is left out of the tables */
    free(text);
}

/* Replace `from` in the sample's text by `to`; decoding must fail with a line that contains `says`. */
static void refuse(const char *from, const char *to, const char *says)
{
    struct stage stage = sample(), back;
    struct error err = {""};
    char *text = stage_encode(&stage);
    char *at = strstr(text, from);
    assert_non_null(at);
    size_t size = strlen(text) + strlen(to) + 1;
    char *changed = malloc(size);
    snprintf(changed, size, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_int_equal(stage_decode(changed, strlen(changed), &back, &err), -1);
    assert_non_null(strstr(err.text, says));
    free(changed);
    free(text);
}

static void test_hostile(void **state)
{
    (void)state;
    struct stage stage = sample(), back;
    struct error err = {""};
    refuse(stage.identity.hex, "../../../../../../etc/passwd0000", "identity");
    refuse(stage.parent.hex, "", "parent");
    refuse("\"layers\":2", "\"layers\":2.5", "layers");
    refuse("\"layers\":2", "\"layers\":-1", "layers");
    refuse("\"layers\":2", "\"layers\":99999999999", "layers");
    refuse("\"layers\":2", "\"layers\":2,\"depth\":3", "not known");
    refuse("\"layers\":2", "\"layers\":2,\"layers\":2", "duplicate");
    refuse("\"seed\":\"18446744073709551615\"", "\"seed\":\"18446744073709551616\"", "seed");
    refuse("\"seed\":\"18446744073709551615\"", "\"seed\":\"-1\"", "seed");
    refuse("\"alpha\":16.0", "\"alpha\":1e999", "overflow");
    refuse("\"kind\":\"lora\"", "\"kind\":\"lorax\"", "kind");
    refuse("\"degree\":2", "\"degree\":0", "degree");
    refuse("\"keep_weights\":true", "\"keep_weights\":1", "keep_weights");
    refuse("\"backend\":\"cpu\"", "\"backend\":\"a name that is too long\"", "backend");
    refuse("\"dir\":\"/tmp", "\"dir\":\"tmp", "absolute");

    char *text = stage_encode(&stage);
    for (size_t size = 0; size < strlen(text); size++)
        assert_int_equal(stage_decode(text, size, &back, &err), -1);
    free(text);
    char *deep = malloc(100000);
    memset(deep, '[', 100000);
    assert_int_equal(stage_decode(deep, 100000, &back, &err), -1);
    free(deep);
    stage.flops = NAN;
    assert_null(stage_encode(&stage));
}

static void test_paths(void **state)
{
    (void)state;
    struct stage stage = sample();
    char path[PATH_MAX], expected[PATH_MAX];
    snprintf(expected, sizeof expected, "/tmp/a run \"dir\"/checkpoints/%s.best-12.h5", stage.identity.hex);
    stage_best_path(&stage, 12, path);
    assert_string_equal(path, expected);
    snprintf(expected, sizeof expected, "/tmp/a run \"dir\"/checkpoints/%s.h5", stage.parent.hex);
    stage_parent_path(&stage, path);
    assert_string_equal(path, expected);
    snprintf(expected, sizeof expected, "/tmp/a run \"dir\"/logs/%s.log", stage.identity.hex);
    stage_log_path(&stage, path);
    assert_string_equal(path, expected);
}

static void test_schedules(void **state)
{
    (void)state;
    struct recipe recipe = {.learning_rate = 2, .warmup_steps = 4, .decay_steps = 12, .final_ratio = 0.5};
    for (int kind = 0; kind < SCHEDULES; kind++) {
        recipe.schedule = (enum schedule_kind)kind;
        assert_int_equal(schedule_find(schedule_name(recipe.schedule)), kind);
        assert_near(recipe_rate(&recipe, 1), 0.5, 1e-15); /* linear from 0 */
        assert_near(recipe_rate(&recipe, 3), 1.5, 1e-15);
        assert_near(recipe_rate(&recipe, 4), 2, 1e-15);
    }
    recipe.schedule = SCHEDULE_CONSTANT;
    assert_near(recipe_rate(&recipe, 1000), 2, 0);
    recipe.schedule = SCHEDULE_LINEAR;
    assert_near(recipe_rate(&recipe, 8), 1.5, 1e-15);
    assert_near(recipe_rate(&recipe, 12), 1, 1e-15);
    assert_near(recipe_rate(&recipe, 13), 1, 1e-15);
    recipe.schedule = SCHEDULE_COSINE;
    assert_near(recipe_rate(&recipe, 6), 2 * (0.5 + 0.25 * (1 + sqrt(0.5))), 1e-14);
    assert_near(recipe_rate(&recipe, 8), 1.5, 1e-15);
    assert_near(recipe_rate(&recipe, 400), 1, 1e-15);
    recipe.schedule = SCHEDULE_INVERSE_SQRT;
    assert_near(recipe_rate(&recipe, 16), 1, 1e-15);
    recipe.schedule = SCHEDULE_WSD;
    recipe.decay_share = 0.25;
    assert_near(recipe_rate(&recipe, 9), 2, 1e-15);
    assert_near(recipe_rate(&recipe, 10), 2 * (0.5 + 0.5 * 2 / 3), 1e-14);
    assert_near(recipe_rate(&recipe, 12), 1, 1e-15);
    assert_near(recipe_rate(&recipe, 13), 1, 1e-15);
    recipe.decay_share = 0.9; /* never within the warm-up */
    assert_near(recipe_rate(&recipe, 4), 2, 1e-15);
    assert_near(recipe_rate(&recipe, 8), 1.5, 1e-15);
    recipe.schedule = SCHEDULE_INVERSE_SQRT;
    recipe.warmup_steps = 0;
    assert_near(recipe_rate(&recipe, 1), 2, 1e-15);
    assert_near(recipe_rate(&recipe, 4), 1, 1e-15);
    assert_int_equal(schedule_find("Cosine"), -1);
    for (int kind = 0; kind < METHODS; kind++)
        assert_int_equal(method_find(method_name((enum method_kind)kind)), kind);
    assert_int_equal(method_find("adapters"), -1);
}

static void test_frames(void **state)
{
    (void)state;
    int pair[2];
    struct error err = {""};
    uint32_t type;
    void *payload;
    size_t size;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(frame_send(pair[0], FRAME_STAGE, "text", 4, &err), 0);
    assert_int_equal(frame_send(pair[0], FRAME_DRAIN, NULL, 0, &err), 0);
    assert_int_equal(frame_receive(pair[1], &type, &payload, &size, &err), 1);
    assert_int_equal(type, FRAME_STAGE);
    assert_int_equal(size, 4);
    assert_string_equal(payload, "text");
    free(payload);
    assert_int_equal(frame_receive(pair[1], &type, &payload, &size, &err), 1);
    assert_int_equal(type, FRAME_DRAIN);
    assert_int_equal(size, 0);
    free(payload);

    struct frame_header bad = {.magic = FRAME_MAGIC, .type = 1, .size = (uint64_t)FRAME_LIMIT + 1};
    assert_int_equal(write(pair[0], &bad, sizeof bad), sizeof bad);
    assert_int_equal(frame_receive(pair[1], &type, &payload, &size, &err), -1);
    bad = (struct frame_header){.magic = 7};
    assert_int_equal(write(pair[0], &bad, sizeof bad), sizeof bad);
    assert_int_equal(frame_receive(pair[1], &type, &payload, &size, &err), -1);
    bad = (struct frame_header){.magic = FRAME_MAGIC, .type = 1, .size = 100};
    assert_int_equal(write(pair[0], &bad, sizeof bad), sizeof bad);
    close(pair[0]);
    assert_int_equal(frame_receive(pair[1], &type, &payload, &size, &err), -1); /* closed in the middle */
    assert_int_equal(frame_receive(pair[1], &type, &payload, &size, &err), 0);
    assert_int_equal(frame_send(pair[1], FRAME_DRAIN, NULL, 0, &err), -1); /* EPIPE, and no signal */
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_hostile), cmocka_unit_test(test_paths),
        cmocka_unit_test(test_schedules),  cmocka_unit_test(test_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
