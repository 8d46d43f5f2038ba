/* The report: one page that opens anywhere, shows what a store holds, and lets nothing in a store become markup. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fitting/report/html.h"
#include "fitting/report/report.h"
#include "tests/fitting/synthetic_store.h"
#include "tests/io/temporary.h"

static char folder[sizeof temporary_folder + 8];

/* gnuplot and chromium make folders deeper than temporary_remove looks */
static int remove_all(void **state)
{
    char command[2 * sizeof folder];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", temporary_folder);
    return system(command) ? -1 : 0;
}

static int create_all(void **state)
{
    if (temporary_create(state)) return -1;
    snprintf(folder, sizeof folder, "%s/run", temporary_folder);
    return mkdir(folder, 0777);
}

static const char *inside(const char *name)
{
    static char path[sizeof folder + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void analyse(const struct sweep_shape *shape, struct analysis *out)
{
    struct error err = {""};
    struct analysis_options options = analysis_defaults();
    options.resamples = 5;
    remove(inside("results.h5"));
    remove(inside("report.html"));
    if (synthetic_store(folder, shape, &err)) fail_msg("%s", err.text);
    if (fitting_fit_store(folder, &options, out, &err)) fail_msg("%s", err.text);
}

static bool have(const char *program)
{
    char command[256];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
    return system(command) == 0;
}

static char *write_and_read(const struct sweep_shape *shape)
{
    struct analysis analysis;
    struct error err = {""};
    if (!have("gnuplot")) {
        print_message("skipped: gnuplot is not installed\n");
        skip();
    }
    analyse(shape, &analysis);
    if (report_write(folder, NULL, &analysis, true, &err)) fail_msg("%s", err.text);
    analysis_destroy(&analysis);
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(inside("report.html"), "r");
    assert_non_null(file);
    assert_true(getdelim(&text, &size, '\0', file) > 0);
    fclose(file);
    return text;
}

static void check_well_formed(void)
{
    char command[2 * sizeof folder + 256];
    snprintf(command, sizeof command,
             "%s -c 'import sys, xml.etree.ElementTree as e\n"
             "ids = [x.get(\"id\") for x in e.parse(sys.argv[1]).iter() if x.get(\"id\")]\n"
             "assert len(ids) == len(set(ids)) > 0' '%s'",
             TEST_PYTHON, inside("report.html"));
    assert_int_equal(system(command), 0);
}

static void the_page_is_whole_and_alone(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 3,
                                      .pretrains = 2,
                                      .examples = 4,
                                      .noise = 2e-3,
                                      .held_out = true,
                                      .failures = true,
                                      .run = true,
                                      .short_lora = true};
    char *page = write_and_read(&shape);
    check_well_formed();
    assert_null(strstr(page, "http://"));
    assert_null(strstr(page, "https://"));
    assert_null(strstr(page, "src="));
    assert_null(strstr(page, "<link"));
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "@import"));
    assert_null(strstr(page, "'black'"));
    assert_null(strstr(page, "rgb(0,0,0)"));
    const char *const shown[] = {"multiplicative",
                                 "additive",
                                 "joint",
                                 "held out",
                                 "signal 9",
                                 "diverged",
                                 "huber_delta",
                                 "<svg role=",
                                 "Which axis helps most",
                                 "Where two methods meet",
                                 "Which method where",
                                 "Forgetting at the largest model",
                                 "BLEU of generated texts at the largest model",
                                 "<small>untuned ",
                                 "ROUGE-L",
                                 "losses during training",
                                 "Where time and FLOPs went",
                                 "The best method",
                                 "Reasons of failure",
                                 "are of several execution classes",
                                 "tested on different numbers of target tokens (full 6566, lora 2572",
                                 "Which law holds",
                                 "prefers-color-scheme: dark",
                                 "00112233445566778899aabbccddeeff",
                                 "lora rank 8",
                                 "prompt length 4"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (!strstr(page, shown[i])) fail_msg("the page does not say \"%s\"", shown[i]);
    for (const char *svg = page; (svg = strstr(svg, "<svg")); svg++)
        assert_true(strncmp(svg, "<svg role=\"img\" aria-label=", 27) == 0);
    assert_int_equal(access(inside("report/examples-1.gp"), R_OK), 0);
    assert_int_equal(access(inside("report/examples-1.dat"), R_OK), 0);
    assert_int_equal(access(inside("report.html.tmp"), F_OK), -1);
    free(page);
}

static void text_of_a_store_stays_text(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2,
                                      .pretrains = 1,
                                      .examples = 3,
                                      .failures = true,
                                      .name = "<b>\"sweep\" & 'co'</b>",
                                      .config = "# <script>alert(1)</script> ]]> &amp; \x01",
                                      .message = "<img src=x onerror=alert(2)> \xff\xfe"};
    char *page = write_and_read(&shape);
    check_well_formed();
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "<img"));
    assert_null(strstr(page, "<b>\""));
    assert_non_null(strstr(page, "&lt;script&gt;alert(1)&lt;/script&gt; ]]&gt; &amp;amp;"));
    assert_non_null(strstr(page, "&lt;b&gt;&quot;sweep&quot; &amp; &#39;co&#39;&lt;/b&gt;"));
    free(page);
}

static void a_sweep_that_has_just_begun_has_a_page_too(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 1, .pretrains = 1, .examples = 1, .failures = true};
    char *page = write_and_read(&shape);
    check_well_formed();
    assert_non_null(strstr(page, "too few points"));
    free(page);
}

static void without_gnuplot_nothing_is_written(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 3};
    struct analysis analysis;
    struct error err = {""};
    analyse(&shape, &analysis);
    char *path = strdup(getenv("PATH") ? getenv("PATH") : "");
    setenv("PATH", "/nonexistent", 1);
    int result = report_write(folder, NULL, &analysis, true, &err);
    setenv("PATH", path, 1);
    free(path);
    analysis_destroy(&analysis);
    assert_int_equal(result, -1);
    assert_non_null(strstr(err.text, "gnuplot is not installed"));
    assert_int_equal(access(inside("report.html"), F_OK), -1);
}

/* tests/fitting/check_page.py says what is looked at. */
static void the_page_is_sound_in_a_browser(void **state)
{
    (void)state;
    const struct sweep_shape shape = {
        .models = 3,
        .pretrains = 2,
        .examples = 4,
        .noise = 2e-3,
        .held_out = true,
        .failures = true,
        .run = true,
        .message =
            "a_very_long_word_that_has_no_place_to_break_and_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on"};
    char command[4 * sizeof folder];
    free(write_and_read(&shape));
    snprintf(command, sizeof command, "%s '%s/fitting/check_page.py' '%s'", TEST_PYTHON, TEST_SOURCE_DIR,
             inside("report.html"));
    int status = system(command);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("skipped: see above\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* What was not measured is absent, not invented. */
static void a_store_without_a_run_has_no_such_sections(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 3, .pretrains = 2, .examples = 4, .noise = 2e-3};
    char *page = write_and_read(&shape);
    check_well_formed();
    assert_null(strstr(page, "Forgetting"));
    assert_null(strstr(page, "Generated texts"));
    assert_null(strstr(page, "losses during training"));
    assert_null(strstr(page, "What a point cost"));
    assert_null(strstr(page, "Reasons of failure"));
    assert_non_null(strstr(page, "what pretraining cost is not known"));
    free(page);
}

static void stages_and_parameters_are_read_where_they_are(void **state)
{
    (void)state;
    static const char stages[] = "{\"kind\": \"pretrain\", \"status\": \"done\", \"from_step\": 0, \"to_step\": 9, "
                                 "\"flops\": 2e9, \"seconds\": 50}\n"
                                 "{\"kind\": \"finetune\", \"status\": \"crashed\", \"seconds\": 25}\n"
                                 "{\"kind\": \"finetune\", \"sta";
    static const char parameters[] = "# a file\nname = \"x\"\npretrain.batch = 16\npretrain.seed = 1  # default\n";
    const struct sweep_shape shape = {.models = 2, .pretrains = 1, .examples = 3, .run = true};
    mkdir(inside("logs"), 0777);
    temporary_write("run/logs/stages.jsonl", stages, strlen(stages));
    temporary_write("run/logs/parameters.txt", parameters, strlen(parameters));
    char *page = write_and_read(&shape);
    remove(inside("logs/stages.jsonl"));
    remove(inside("logs/parameters.txt"));
    assert_non_null(strstr(page, "pretraining</span></th><td class=\"n\" data-name=\"stages, points\"><span>1</span>"));
    assert_non_null(strstr(page, "50 s"));
    assert_non_null(strstr(page, "attempts that did not end well"));
    assert_non_null(strstr(page, "2 set by the sweep file, 1 at their default"));
    free(page);
}

static void no_power_is_told_that_the_points_do_not_tell(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 2, .pretrains = 2, .examples = 3, .noise = 1};
    char *page = write_and_read(&shape);
    check_well_formed();
    assert_non_null(
        strstr(page, "prompt: which axis helps most is not known; α of model size is not identified, α of"));
    assert_non_null(strstr(page, "Which axis helps most"));
    assert_null(strstr(page, "helps most: α"));
    free(page);
}

static void an_error_without_end_is_told_as_that(void **state)
{
    (void)state;
    const struct sweep_shape shape = {.models = 3, .pretrains = 1, .examples = 3, .noise = 1e-2};
    char *page = write_and_read(&shape);
    check_well_formed();
    assert_null(strstr(page, "e+06<small>"));
    assert_null(strstr(page, "e+06</span></td>"));
    assert_non_null(strstr(page, "levels; does not extrapolate</small>"));
    assert_non_null(strstr(page, "&gt;: more than 10 times that of the best constant"));
    assert_non_null(strstr(page, ">&gt;1."));
    free(page);
}

static void of_several_tasks_every_number_names_its_own(void **state)
{
    (void)state;
    struct sweep_shape shape = {.models = 3,
                                .pretrains = 2,
                                .examples = 4,
                                .tasks = 2,
                                .noise = 2e-3,
                                .held_out = true,
                                .failures = true,
                                .tuned = true,
                                .run = true};
    char *page = write_and_read(&shape);
    check_well_formed();
    const char *const shown[] = {"of its reference cell",
                                 "nats per token: copy: ",
                                 "nats per token: sort: ",
                                 "copy: full, lora, prompt; sort: full, lora, prompt",
                                 "<h3>copy: full</h3>",
                                 "<h3>sort: lora</h3>",
                                 "<li>copy: full: ",
                                 "<li>sort: full: ",
                                 "copy: loss of each method at the largest model",
                                 "sort: loss of each method at the largest model",
                                 "sort: forgetting at the largest model",
                                 "sort: BLEU of generated texts at the largest model",
                                 "sort: the best method",
                                 "sort: lora rank 8: losses during training",
                                 "<span>copy: evaluation, untuned</span>",
                                 "<span>sort: untuned</span>",
                                 "copy 00112233445566778899aabbccddeeff, sort ffeeddccbbaa99887766554433221100"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (!strstr(page, shown[i])) fail_msg("the page does not say \"%s\"", shown[i]);
    for (const char *method = page; (method = strstr(method, "<span>full</span>")); method++)
        fail_msg("a method without its task: %.200s", method);
    free(page);
    shape.tasks = 1;
    page = write_and_read(&shape);
    assert_null(strstr(page, "copy: "));
    free(page);
}

static void counts_are_short(void **state)
{
    (void)state;
    char text[32];
    assert_string_equal(html_count(250000, text, sizeof text), "250 K");
    assert_string_equal(html_count(1.5e9, text, sizeof text), "1.5 B");
    assert_string_equal(html_count(64, text, sizeof text), "64");
    assert_string_equal(html_count(365832, text, sizeof text), "365.8 K");
    assert_string_equal(html_count_short(365832, text, sizeof text), "366 K");
    assert_string_equal(html_count_short(999960, text, sizeof text), "1 M");
    assert_string_equal(html_rough(257.3, text, sizeof text), "257");
    assert_string_equal(html_rough(0.03834, text, sizeof text), "0.038");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_is_whole_and_alone),
        cmocka_unit_test(text_of_a_store_stays_text),
        cmocka_unit_test(a_sweep_that_has_just_begun_has_a_page_too),
        cmocka_unit_test(without_gnuplot_nothing_is_written),
        cmocka_unit_test(a_store_without_a_run_has_no_such_sections),
        cmocka_unit_test(stages_and_parameters_are_read_where_they_are),
        cmocka_unit_test(the_page_is_sound_in_a_browser),
        cmocka_unit_test(no_power_is_told_that_the_points_do_not_tell),
        cmocka_unit_test(an_error_without_end_is_told_as_that),
        cmocka_unit_test(of_several_tasks_every_number_names_its_own),
        cmocka_unit_test(counts_are_short),
    };
    return cmocka_run_group_tests(tests, create_all, remove_all);
}
