/* A stage that ends the run, or kills its node, is not started for ever: starts without an end are counted across
 * runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "orchestrator/run/losses.h"

enum { STAGES = 5 };
static char dir[64];
static struct plan_stage stages[STAGES];
static const struct plan plan = {.stages = stages, .stage_count = STAGES};

static int set_up(void **state)
{
    (void)state;
    char path[96];
    strcpy(dir, "/tmp/tunelaw-losses-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/logs", dir);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    mkdir(path, 0777);
    for (int i = 0; i < STAGES; i++)
        stages[i].identity = digest_of(&i, sizeof i); /* in no order */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static struct losses *open_losses(void)
{
    struct error err;
    struct losses *losses = losses_open(dir, &plan, &err);
    if (!losses || losses_start(losses, &err) != 0) fail_msg("%s", err.text);
    return losses;
}

/* A run that begins some stages, sees the end of others, and dies. */
static void dying_run(uint32_t begun, uint32_t ended)
{
    struct error err;
    struct losses *losses = open_losses();
    for (uint32_t i = 0; i < STAGES; i++)
        if (begun & 1u << i) losses_begin(losses, i, false);
    for (uint32_t i = 0; i < STAGES; i++)
        if (ended & 1u << i) losses_end(losses, i);
    assert_int_equal(losses_sync(losses, &err), 0);
    losses_close(losses);
}

static void expect(const uint32_t wanted[STAGES])
{
    struct losses *losses = open_losses();
    for (uint32_t i = 0; i < STAGES; i++)
        if (losses_of(losses, i) != wanted[i]) fail_msg("stage %u: %u, not %u", i, losses_of(losses, i), wanted[i]);
    losses_close(losses);
}

static void checkpoint(uint32_t stage, long second)
{
    char path[128];
    snprintf(path, sizeof path, "%s/checkpoints/%s.h5", dir, stages[stage].identity.hex);
    fclose(fopen(path, "w"));
    const struct timespec times[2] = {{second, 0}, {second, 0}};
    assert_int_equal(utimensat(-1, path, times, 0), 0);
}

static void starts_without_an_end_are_counted(void **state)
{
    (void)state;
    expect((uint32_t[STAGES]){0});
    dying_run(0x0f, 0x03);
    expect((uint32_t[STAGES]){0, 0, 1, 1, 0});
    expect((uint32_t[STAGES]){0, 0, 1, 1, 0}); /* looking changes nothing */
    dying_run(0x14, 0x00);
    expect((uint32_t[STAGES]){0, 0, 2, 1, 1});
    dying_run(0x1c, 0x10);
    expect((uint32_t[STAGES]){0, 0, 3, 2, 0});
}

static void who_checkpoints_gets_on(void **state)
{
    (void)state;
    dying_run(0x03, 0);
    dying_run(0x03, 0);
    checkpoint(0, 100);
    expect((uint32_t[STAGES]){0, 2, 0, 0, 0});
    dying_run(0x03, 0);
    dying_run(0x03, 0); /* each from the same checkpoint */
    expect((uint32_t[STAGES]){2, 4, 0, 0, 0});
    checkpoint(0, 101);
    dying_run(0x03, 0);
    expect((uint32_t[STAGES]){1, 5, 0, 0, 0});
}

static void damage_is_passed_over(void **state)
{
    (void)state;
    char path[96];
    struct error err;
    dying_run(0x02, 0);
    snprintf(path, sizeof path, "%s/logs/flights", dir);
    FILE *file = fopen(path, "a");
    fprintf(file, "+0123456789abcdef0123456789abcdef 5\n+\n\n-x\nrubbish\n+%s", stages[3].identity.hex); /* cut off */
    fclose(file);
    expect((uint32_t[STAGES]){0, 1, 0, 1, 0});
    assert_int_equal(losses_forget(dir, &err), 0);
    assert_int_equal(losses_forget(dir, &err), 0);
    expect((uint32_t[STAGES]){0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(starts_without_an_end_are_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_checkpoints_gets_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_passed_over, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
