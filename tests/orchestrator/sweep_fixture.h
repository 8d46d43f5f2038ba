/* A small data set and the sweep files that tests make on it, in the test's private folder. Include after cmocka.h. */
#ifndef TUNELAW_TESTS_ORCHESTRATOR_SWEEP_FIXTURE_H
#define TUNELAW_TESTS_ORCHESTRATOR_SWEEP_FIXTURE_H

#include "orchestrator/sweep/sweep.h"
#include "tests/io/small_dataset.h"

/* Groups of the file; a test replaces one and leaves the others. NULL: leave it out. */
struct sweep_text {
    const char *head, *data, *models, *pretrain, *finetune, *methods, *tail;
};

static const struct sweep_text sweep_right = {
    .head = "name = \"test\";",
    .data = "data = { dataset = \"small.h5\"; valid_examples = 10; };",
    .models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; kv_heads = 1; ffn = 16; },\n"
              "           { name = \"m\"; layers = 2; width = 16; heads = 2; ffn = 32; } );",
    .pretrain = "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; };",
    .finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                "seeds = [ 1, 2 ]; };",
    .methods = "methods = ( { name = \"none\"; }, { name = \"full\"; learning_rates = [ 1e-3 ]; },\n"
               "            { name = \"lora\"; ranks = [ 2, 4 ]; learning_rates = [ 1e-2, 1e-3 ]; },\n"
               "            { name = \"prompt\"; lengths = [ 4 ]; learning_rates = [ 0.3 ]; } );",
    .tail = "resources = { backend = \"reference\"; };"};

static inline void sweep_write(const struct sweep_text *t, char *out, size_t size)
{
    const char *const parts[] = {t->head, t->data, t->models, t->pretrain, t->finetune, t->methods, t->tail};
    out[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i]) snprintf(out + strlen(out), size - strlen(out), "%s\n", parts[i]);
}

/* The sweep of a text that is right. */
static inline struct sweep *sweep_make(const struct sweep_text *t)
{
    static char text[1 << 16];
    struct error err = {""};
    sweep_write(t, text, sizeof text);
    struct sweep *sweep = sweep_parse(temporary_path("a.cfg"), text, strlen(text), &err);
    if (!sweep) fail_msg("%s", err.text);
    return sweep;
}

/* The text is refused with "FOLDER/a.cfg:" and this, as far as an error holds it. */
static inline void sweep_refused(const struct sweep_text *t, const char *wanted)
{
    static char text[1 << 16];
    struct error err = {""};
    sweep_write(t, text, sizeof text);
    struct sweep *sweep = sweep_parse(temporary_path("a.cfg"), text, strlen(text), &err);
    sweep_destroy(sweep);
    if (sweep) fail_msg("accepted, not refused with: %s\n%s", wanted, text);
    size_t folder = strlen(temporary_path("a.cfg"));
    size_t length = strlen(err.text);
    bool cut = length == sizeof err.text - 1;
    if (strncmp(err.text, temporary_path("a.cfg"), folder) ||
        strncmp(err.text + folder, wanted, cut ? length - folder : strlen(wanted) + 1))
        fail_msg("%s\n  gives:  %s\n  wanted: ...%s", text, err.text, wanted);
}

/* For cmocka's group: the folder and small.h5 in it. */
static inline int sweep_setup(void **state)
{
    if (temporary_create(state)) return -1;
    dataset_close(build_small(NULL));
    return 0;
}

#endif
