/* Words for Slurm: what a person may write, and a script that bash reads as it was meant. The jobs themselves:
 * tests/slurm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "orchestrator/slurm/array.h"
#include "orchestrator/slurm/slurm.h"

static void times_as_slurm_reads_them(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        double seconds;
    } good[] = {{"90", 5400}, {"1:30", 90}, {"2:00:01", 7201}, {"1-0", 86400}, {"1-02:30", 95400.0}, {"0-00:00:05", 5}};
    static const char *const bad[] = {
        "", "0", "x", "1:", ":1", "-1", "1-", "1:2:3:4", "1-x", "1 0", "99999999999999999999"};
    struct error err;
    double seconds;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(slurm_time_parse(good[i].word, &seconds, &err), 0);
        assert_true(seconds == good[i].seconds);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (slurm_time_parse(bad[i], &seconds, &err) == 0) fail_msg("\"%s\" is taken for %g s", bad[i], seconds);
    char text[32];
    slurm_time_format(95400.2, text);
    assert_string_equal(text, "1-02:30:01");
}

static void words_that_would_break_the_script(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(slurm_name_check("partition", "gpu_long,cpu.1", &err), 0);
    assert_int_equal(slurm_name_check("mail", "a.b@c-d.org", &err), 0);
    static const char *const names[] = {"", "-x", "a b", "a\nb", "a;b", "$(x)", "a'b"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(slurm_name_check("partition", names[i], &err), -1);
    assert_int_equal(slurm_extra_check("--constraint=a&b", &err), 0);
    assert_int_equal(slurm_extra_check("-x", &err), 0);
    static const char *const extra[] = {"word",          "-",         "--a=\"b\"", "--a=b\n#", "--a=$",
                                        "--signal=TERM", "--requeue", "--output=x"};
    for (size_t i = 0; i < sizeof extra / sizeof *extra; i++)
        assert_int_equal(slurm_extra_check(extra[i], &err), -1);
    assert_int_equal(slurm_extra_check("--no-requeue", &err), -1);
    assert_string_equal(err.text, "option --no-requeue of sbatch: the job's script sets --requeue itself");
    assert_int_equal(slurm_path_check("/a b/c'd$", &err), 0);
    assert_int_equal(slurm_path_check("/a%j", &err), -1);
    assert_int_equal(slurm_path_check("/a\nb", &err), -1);
}

/* The script's own values, with a path that quotes could break, as bash has them. */
static void script_is_good_bash(void **state)
{
    (void)state;
    char *extra[] = {"--comment=two words"};
    struct slurm_job job = {.name = "s",
                            .program = "/p/tunelaw",
                            .sweep = "/it's $HOME/a.cfg",
                            .dir = "/d",
                            .folder = "/",
                            .points = 7,
                            .nodes = 3,
                            .cpus = 8,
                            .memory_mib = 100,
                            .seconds = 90,
                            .grace = 30.5,
                            .extra = extra,
                            .extra_count = 1};
    char path[] = "/tmp/tunelaw-script-XXXXXX", command[512], line[256] = "";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    assert_int_equal(slurm_script_write(&job, file), 0);
    fclose(file);
    snprintf(command, sizeof command, "bash -n %s && sed -n '/^#SBATCH/p' %s", path, path);
    FILE *pipe = popen(command, "r");
    bool nodes = false, signal = false, quoted = false;
    while (fgets(line, sizeof line, pipe)) {
        nodes |= !strcmp(line, "#SBATCH --nodes=3\n");
        signal |= !strcmp(line, "#SBATCH --signal=B:USR1@31\n");
        quoted |= !strcmp(line, "#SBATCH \"--comment=two words\"\n");
    }
    assert_int_equal(pclose(pipe), 0);
    assert_true(nodes && signal && quoted);
    snprintf(command, sizeof command, "bash -c 'eval \"$(grep ^sweep= %s)\"; printf %%s \"$sweep\"'", path);
    pipe = popen(command, "r");
    assert_non_null(fgets(line, sizeof line, pipe));
    pclose(pipe);
    assert_string_equal(line, job.sweep);
    unlink(path);
}

static void write_file(const struct slurm_job *job, const char *path)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(slurm_script_write(job, file), 0);
    fclose(file);
}

/* Whether `pattern` (of grep) is in the script. */
static bool has(const char *path, const char *pattern)
{
    char command[512];
    snprintf(command, sizeof command, "grep -q -e '%s' %s", pattern, path);
    return system(command) == 0;
}

/* Every kind of script: bash takes it, shellcheck finds nothing, and it asks for what its kind needs. */
static void scripts_of_an_array(void **state)
{
    (void)state;
    struct slurm_job job = {.tasks = 12,
                            .task_list = "1-3,7",
                            .name = "s",
                            .program = "/p/tunelaw",
                            .sweep = "/it's $HOME/a.cfg",
                            .dir = "/d e",
                            .folder = "/",
                            .points = 7,
                            .nodes = 3,
                            .seconds = 90,
                            .grace = 30};
    static const struct {
        const char *has[4], *lacks;
    } expected[SLURM_KINDS] = {
        [SLURM_SWEEP] = {{"^part=()$", "logs/slurm-%j.out", "^kind=sweep$"}, "#SBATCH --array"},
        [SLURM_TRUNKS] = {{"^part=(--array-task 0/12)$", "^kind=trunks$", "logs/slurm-%j.out"}, "#SBATCH --array"},
        [SLURM_TASKS] = {{"^#SBATCH --array=1-3,7$", "logs/slurm-%A_%a.out", "kill-on-invalid-dep=yes",
                          "--array-task \"$task/12\" --bases \"$parent\""},
                         "^kind=sweep"},
        [SLURM_MERGE] = {{"merge --complete", "^#SBATCH --requeue$"}, "USR1"},
    };
    char path[] = "/tmp/tunelaw-script-XXXXXX", command[512];
    close(mkstemp(path));
    bool checked = system("command -v shellcheck >/dev/null") == 0;
    if (!checked) print_message("no shellcheck here: bash alone reads the scripts\n");
    for (int kind = 0; kind < SLURM_KINDS; kind++) {
        job.kind = (enum slurm_kind)kind;
        write_file(&job, path);
        snprintf(command, sizeof command, "bash -n %s && %s %s", path,
                 checked ? "shellcheck -s bash -e SC2016" : "true", path);
        if (system(command)) fail_msg("%s", slurm_script_name(job.kind));
        for (size_t i = 0; i < 4 && expected[kind].has[i]; i++)
            if (!has(path, expected[kind].has[i]))
                fail_msg("%s: no %s", slurm_script_name(job.kind), expected[kind].has[i]);
        if (has(path, expected[kind].lacks)) fail_msg("%s: %s", slurm_script_name(job.kind), expected[kind].lacks);
    }
    unlink(path);
}

/* Tasks that are left, as sbatch takes them; what was submitted, as it was written; anything else is refused. */
static void record_of_an_array(void **state)
{
    (void)state;
    struct error err = {""};
    char list[8 * 8], dir[] = "/tmp/tunelaw-array-XXXXXX", path[64];
    static const struct {
        const char *left, *list;
    } lists[] = {{"111", "1-3"}, {"10110011", "1,3-4,7-8"}, {"01000000", "2"}, {"0000", ""}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        unsigned char left[8] = {0};
        for (size_t k = 0; lists[i].left[k]; k++)
            left[k] = lists[i].left[k] == '1';
        array_list(left, (uint32_t)strlen(lists[i].left), list);
        assert_string_equal(list, lists[i].list);
    }
    assert_non_null(mkdtemp(dir));
    struct array_record record, wrote = {.tasks = 3, .array = "4711", .merge = "4712"};
    memset(wrote.plan.hex, 'a', DIGEST_HEX);
    assert_int_equal(array_read(dir, &record, &err), 0);
    snprintf(path, sizeof path, "%s/slurm", dir);
    mkdir(path, 0777);
    assert_int_equal(array_write(dir, &wrote, &err), 0);
    assert_int_equal(array_read(dir, &record, &err), 1);
    assert_memory_equal(&record, &wrote, sizeof wrote);
    snprintf(path, sizeof path, "%s/slurm/array", dir);
    FILE *file = fopen(path, "w");
    fprintf(file, "tasks 100000\n");
    fclose(file);
    assert_int_equal(array_read(dir, &record, &err), -1);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static void jobs_of_a_directory(void **state)
{
    (void)state;
    char dir[] = "/tmp/tunelaw-jobs-XXXXXX", path[64], ids[3][SLURM_ID];
    size_t count = 9;
    struct error err;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(slurm_jobs_read(dir, ids, 3, &count, &err), 0);
    assert_int_equal(count, 0);
    snprintf(path, sizeof path, "%s/slurm", dir);
    mkdir(path, 0777);
    static const char *const lines[] = {"1", "22", "not a job", "333", "4444; rm", "55555"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_int_equal(slurm_jobs_add(dir, lines[i], &err), 0);
    assert_int_equal(slurm_jobs_read(dir, ids, 3, &count, &err), 0);
    assert_int_equal(count, 3);
    assert_string_equal(ids[0], "22");
    assert_string_equal(ids[2], "55555");
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_as_slurm_reads_them), cmocka_unit_test(words_that_would_break_the_script),
        cmocka_unit_test(script_is_good_bash),       cmocka_unit_test(scripts_of_an_array),
        cmocka_unit_test(record_of_an_array),        cmocka_unit_test(jobs_of_a_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
