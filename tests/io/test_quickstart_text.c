/* configs/quickstart_text.py without a network: commands of our own stand for apt-get and dpkg-deb. What would go wrong
 * for a user: a pair of paragraphs that do not belong together, a test row that was trained on, a half-written folder
 * taken for a whole one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "tests/io/temporary.h"

/* Pages 0..149 with one paragraph of their own, and some that must not become pairs. A page's number is told in words.
 */
static const char fake_dpkg_deb[] =
    "#!" TEST_PYTHON "\n"
    "import os, sys\n"
    "if sys.argv[1] == '-f':\n"
    "    print('1:2.3'); sys.exit()\n"
    "german, folder = '-de_' in sys.argv[2], os.path.join(sys.argv[3], 'usr', 'text', 'shared')\n"
    "os.makedirs(folder)\n"
    "def word(n):\n"
    "    return ''.join('abcdefghij'[int(d)] for d in str(n))\n"
    "for n in range(150):\n"
    "    def p(name, english, translated, more=''):\n"
    "        return f'<p id=\"par_id{name}\" class=\"paragraph{more}\" dir=\"auto\">{translated if german else "
    "english}</p>\\n'\n"
    "    mac = '<span id=\"s\"><span hidden=\"true\" id=\"MACx\" class=\"MAC\"><b>Command</b></span>"
    "<span hidden=\"true\" id=\"defaultx\">'\n"
    "    page = [p(1, f'Open the <span>file</span> {word(n)} &amp; press {mac}Ctrl</span></span> now.',\n"
    "              f'Datei {word(n)} &amp; die Taste {mac}Strg</span></span> jetzt <br>öffnen.'),\n"
    "            p(2, f'This stays {word(n)} English', f'This stays {word(n)} English'),\n"
    "            p(3, 'short one', 'kurz hier eben'),\n"
    "            p(4, 'the same sentence stands on every page of it', 'derselbe Satz steht auf jeder Seite davon'),\n"
    "            p(5, f'run the code {word(n)} here', f'Code {word(n)} hier laufen lassen', ' code'),\n"
    "            p(6, f'far too long {word(n)} ' * 9, f'lang {word(n)}')]\n"
    "    if german:\n"
    "        page = page[::-1] + [p(7, '', f'nur auf Deutsch {word(n)}')]\n"
    "    open(os.path.join(folder, f'{n}.html'), 'w').write('<html>' + ''.join(page) + '</html>')\n";

static const char fake_apt_get[] = "#!/bin/sh\n"
                                   "for package; do :; done\n"
                                   "echo \"$package\" >\"${package}_1%3a2.3_all.deb\"\n";
static const char broken_apt_get[] = "#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n";

static int run_script(const char *apt_get, const char *target)
{
    mkdir(temporary_path("bin"), 0700);
    temporary_write("bin/apt-get", apt_get, strlen(apt_get));
    temporary_write("bin/dpkg-deb", fake_dpkg_deb, strlen(fake_dpkg_deb));
    chmod(temporary_path("bin/apt-get"), 0700);
    chmod(temporary_path("bin/dpkg-deb"), 0700);
    char command[4 * PATH_MAX];
    snprintf(command, sizeof command, "PATH=%s:$PATH %s %s/../configs/quickstart_text.py %s >%s 2>%s",
             temporary_path("bin"), TEST_PYTHON, TEST_SOURCE_DIR, temporary_path(target), temporary_path("stdout"),
             temporary_path("stderr"));
    return system(command);
}

static char content[1 << 20];
static const char *content_of(const char *name)
{
    FILE *file = fopen(temporary_path(name), "r");
    if (!file) fail_msg("no %s", name);
    content[fread(content, 1, sizeof content - 1, file)] = 0;
    fclose(file);
    return content;
}

static size_t count_of(const char *text, const char *what)
{
    size_t count = 0;
    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
        count++;
    return count;
}

static int clean(void **state)
{
    (void)state;
    char command[PATH_MAX];
    snprintf(command, sizeof command, "rm -r '%s'", temporary_folder);
    return system(command);
}

static void test_pairs(void **state)
{
    (void)state;
    assert_int_equal(run_script(fake_apt_get, "out"), 0);
    size_t opened = 0, repeated = 0;
    static const char *const names[] = {"out/pairs.train.tsv", "out/pairs.valid.tsv", "out/pairs.test.tsv"};
    for (int i = 0; i < 3; i++) {
        const char *text = content_of(names[i]);
        size_t lines = count_of(text, "\n");
        assert_true(lines > 0);
        assert_int_equal(count_of(text, "\t"), lines);
        assert_int_equal(count_of(text, "& press Ctrl now.\tDatei "), count_of(text, "Open the file"));
        opened += count_of(text, "Open the file");
        repeated += count_of(text, "the same sentence stands on every page of it\tderselbe Satz");
        if (i > 0) assert_null(strstr(text, "same sentence")); /* it is in the training pages */
        assert_null(strstr(text, "Command"));
        assert_null(strstr(text, "English\t"));
        assert_null(strstr(text, "short one"));
        assert_null(strstr(text, "run the code"));
        assert_null(strstr(text, "far too long"));
    }
    assert_int_equal(opened, 150);
    assert_int_equal(repeated, 1);
}

/* Page n's English stands beside page n's German, and no held-out page is in the training text. */
static void test_alignment_and_splits(void **state)
{
    (void)state;
    assert_int_equal(run_script(fake_apt_get, "out"), 0);
    char english[64], german[64], test[1 << 16];
    snprintf(test, sizeof test, "%s", content_of("out/pairs.test.tsv"));
    for (char *line = strtok(test, "\n"); line; line = strtok(NULL, "\n")) {
        assert_int_equal(sscanf(line, "Open the file %63[a-j] & press Ctrl now.\tDatei %63[a-j] &", english, german),
                         2);
        assert_string_equal(english, german);
        char probe[128];
        snprintf(probe, sizeof probe, "Open the file %s &", english);
        assert_null(strstr(content_of("out/text.en.txt"), probe));
        snprintf(probe, sizeof probe, "nur auf Deutsch %s\n", german);
        assert_null(strstr(content_of("out/text.de.txt"), probe));
    }
    assert_true(count_of(content_of("out/text.de.txt"), "nur auf Deutsch") > 100);
    assert_null(strstr(content_of("out/text.de.txt"), "English"));
    assert_non_null(strstr(content_of("out/README.txt"), "MPL-2.0"));
    assert_non_null(strstr(content_of("out/README.txt"), "libreoffice-help-de 1:2.3"));
}

static void test_second_call_does_nothing(void **state)
{
    (void)state;
    assert_int_equal(run_script(fake_apt_get, "out"), 0);
    struct stat before, after;
    assert_int_equal(stat(temporary_path("out/pairs.train.tsv"), &before), 0);
    assert_int_equal(run_script(broken_apt_get, "out"), 0); /* needs no package any more */
    assert_int_equal(stat(temporary_path("out/pairs.train.tsv"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    unlink(temporary_path("out/text.de.txt")); /* not whole, and not ours to overwrite */
    assert_int_not_equal(run_script(fake_apt_get, "out"), 0);
    assert_non_null(strstr(content_of("stderr"), "holds something else"));
}

static void test_without_packages(void **state)
{
    (void)state;
    assert_int_not_equal(run_script(broken_apt_get, "out"), 0);
    const char *text = content_of("stderr");
    assert_int_equal(count_of(text, "\n"), 1);
    assert_non_null(strstr(text, "Unable to locate package"));
    assert_non_null(strstr(text, "TUNELAW_PAIRS=DIR ./quickstart"));
    assert_int_equal(temporary_count(), 3); /* bin, stdout, stderr */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pairs, temporary_create, clean),
        cmocka_unit_test_setup_teardown(test_alignment_and_splits, temporary_create, clean),
        cmocka_unit_test_setup_teardown(test_second_call_does_nothing, temporary_create, clean),
        cmocka_unit_test_setup_teardown(test_without_packages, temporary_create, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
