/* What a plan has to tell: examples that are cut, batches beyond the epochs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/plan_notes.h"
#include "tests/orchestrator/plan_fixture.h"
#include "workers/train/batch.h"

/* What the plan of a text has to tell. malloc. */
static char *notes_of(const struct sweep_text *t)
{
    struct error err = {""};
    struct sweep *sweep = sweep_make(t);
    struct plan *plan = plan_make(sweep);
    char *said = NULL;
    size_t size;
    FILE *out = open_memstream(&said, &size);
    assert_non_null(out);
    if (plan_notes(plan, out, &err)) fail_msg("%s", err.text);
    fclose(out);
    plan_destroy(plan);
    sweep_destroy(sweep);
    return said;
}

/* Longer examples of a split, and the target tokens that its feed leaves of all, as training and tests see them. */
static void count_cut(enum dataset_split split, uint64_t limit, uint32_t length, unsigned *longer, double *percent)
{
    struct error err = {""};
    struct dataset *dataset = dataset_open(temporary_path("small.h5"), &err);
    const uint32_t lengths[] = {length, 1000};
    uint64_t targets[2];
    *longer = 0;
    for (size_t i = 0; i < limit; i++)
        *longer += dataset_example_length(dataset, split, i) > length;
    for (size_t i = 0; i < 2; i++) {
        struct feed *feed = feed_create(
            &(struct feed_spec){.dataset = dataset, .split = split, .length = lengths[i], .limit = limit}, &err);
        if (!feed || feed_targets(feed, 0, limit, &targets[i], &err)) fail_msg("%s", err.text);
        feed_destroy(feed);
    }
    *percent = 100.0 * (double)(targets[1] - targets[0]) / (double)targets[1];
    dataset_close(dataset);
}

static void examples_that_are_cut_are_told(void **state)
{
    (void)state;
    const enum dataset_split splits[] = {SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST};
    const uint64_t limits[] = {TRAIN_PAIRS, 10, HELD_PAIRS};
    struct sweep_text t = sweep_right;
    unsigned longer[3];
    double percent[3];
    char wanted[1024];
    t.finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 120; batch = 4; max_steps = 15; };";
    t.methods =
        "methods = ( { name = \"none\"; }, { name = \"full\"; sequence_length = 12; learning_rates = [ 1e-3 ]; },\n"
        "            { name = \"lora\"; ranks = [ 2 ]; learning_rates = [ 1e-2 ]; },\n"
        "            { name = \"prompt\"; sequence_length = 12; lengths = [ 4 ]; learning_rates = [ 0.3 ]; } );";
    for (size_t i = 0; i < 3; i++) {
        count_cut(splits[i], limits[i], 12, &longer[i], &percent[i]);
        assert_true(longer[i] > 0 && percent[i] >= 10.0 && percent[i] < 100.0);
    }
    snprintf(wanted, sizeof wanted,
             "%s: data \"translation\": examples longer than sequence_length 12 of methods full, prompt are cut: %u of "
             "%d train (%.0f %% of the targets' tokens are lost), %u of 10 valid (%.0f %%), %u of %d test (%.0f %%)\n",
             temporary_path("a.cfg"), longer[0], TRAIN_PAIRS, percent[0], longer[1], percent[1], longer[2], HELD_PAIRS,
             percent[2]);
    char *said = notes_of(&t);
    assert_string_equal(said, wanted);
    free(said);
    /* no point of it, no line */
    t.tail = "resources = { backend = \"reference\"; }; exclude = ( { method = [ \"full\", \"prompt\" ]; } );";
    said = notes_of(&t);
    assert_string_equal(said, "");
    free(said);
}

static void batches_beyond_the_epochs_are_told(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    char wanted[1024];
    t.finetune = "finetune = { examples = [ 10, 40, 100, 120 ]; sequence_length = 200; batch = 80; epochs = 1.0; };";
    t.methods = "methods = ( { name = \"none\"; }, { name = \"full\"; learning_rates = [ 1e-3 ]; },\n"
                "            { name = \"lora\"; ranks = [ 2 ]; learning_rates = [ 1e-2 ]; },\n"
                "            { name = \"prompt\"; batch = 42; examples = [ 40 ]; lengths = [ 4 ]; learning_rates = "
                "[ 0.3 ]; },\n"
                "            { name = \"ia3\"; epochs = 0.0; max_steps = 9; learning_rates = [ 0.3 ]; } );";
    snprintf(
        wanted, sizeof wanted,
        "%s: batch 80 of methods full, lora: a step is a whole batch, and epochs 1 come to 8 at 10, 2 at 40, 1.6 at "
        "100, 1.33 at 120 examples\n",
        temporary_path("a.cfg"));
    char *said = notes_of(&t); /* prompt: 42 for 40 are within a tenth */
    assert_string_equal(said, wanted);
    free(said);
    t.finetune = "finetune = { examples = [ 10, 40, 100, 120 ]; sequence_length = 200; batch = 10; epochs = 1.0; };";
    said = notes_of(&t);
    assert_string_equal(said, "");
    free(said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_that_are_cut_are_told),
        cmocka_unit_test(batches_beyond_the_epochs_are_told),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
