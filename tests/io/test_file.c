/* Files of ours come to be whole, with the modes that the umask leaves, and never through a link that somebody planted.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "io/file.h"
#include "tests/io/temporary.h"

static struct error err;

static void assert_holds(const char *path, const char *text)
{
    char found[64] = "";
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(found, 1, sizeof found - 1, file);
    fclose(file);
    assert_int_equal(size, strlen(text));
    assert_string_equal(found, text);
}

static void assert_plain(const char *path, mode_t mode)
{
    struct stat status;
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISREG(status.st_mode));
    assert_int_equal(status.st_mode & 07777, mode);
}

static void test_drafts(void **state)
{
    (void)state;
    struct file_draft draft;
    const char *path = temporary_path("whole");
    mode_t mask = umask(0027);
    assert_int_equal(file_draft_open(&draft, path, 0666, &err), 0);
    fputs("first", draft.file);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(file_draft_publish(&draft, true, &err), 0);
    assert_holds(path, "first");
    assert_plain(path, 0640);
    umask(0077);
    assert_int_equal(file_draft_open(&draft, path, 0777, &err), 0);
    assert_int_equal(file_draft_publish(&draft, false, &err), 0);
    assert_plain(path, 0700);
    umask(mask);
    assert_int_equal(file_draft_open(&draft, path, 0666, &err), 0);
    fputs("dropped", draft.file);
    file_draft_discard(&draft);
    file_draft_discard(&draft);
    assert_holds(path, "");
    assert_int_equal(temporary_count(), 1);
    assert_int_equal(file_draft_open(&draft, temporary_path("no/folder"), 0666, &err), -1);
    assert_non_null(strstr(err.text, "no/folder.tmp: No such file"));
    unlink(path);
}

/* A full device is an error, and what was there stays. */
static void test_full(void **state)
{
    (void)state;
    struct file_draft draft;
    const char *path = temporary_write("kept", "old", 3);
    assert_int_equal(file_draft_open(&draft, path, 0666, &err), 0);
    FILE *full = fopen("/dev/full", "w");
    FILE *mine = draft.file;
    draft.file = full;
    fputs("new", draft.file);
    assert_int_equal(file_draft_publish(&draft, false, &err), -1);
    assert_non_null(strstr(err.text, "No space left"));
    fclose(mine);
    assert_holds(path, "old");
    unlink(temporary_path("kept.tmp"));
    unlink(path);
}

static void test_two_at_once(void **state)
{
    (void)state;
    struct file_draft one, two;
    const char *path = temporary_path("shared");
    assert_int_equal(file_draft_open(&one, path, 0666, &err), 0);
    assert_int_equal(file_draft_open(&two, path, 0666, &err), 0);
    fputs("one", one.file);
    fputs("tw", two.file);
    assert_int_equal(file_draft_publish(&one, false, &err), -1);
    assert_non_null(strstr(err.text, "another process writes it"));
    assert_int_equal(access(path, F_OK), -1);
    fputs("o", two.file);
    assert_int_equal(file_draft_publish(&two, false, &err), 0);
    assert_holds(path, "two");
    unlink(path);
    assert_int_equal(temporary_count(), 0);
}

static void test_links(void **state)
{
    (void)state;
    struct file_draft draft;
    const char *victim = temporary_write("victim", "precious", 8);
    const char *link = temporary_path("log"), *beside = temporary_path("out.tmp"),
               *dangling = temporary_path("dangling");
    assert_int_equal(symlink(victim, link), 0);
    assert_int_equal(symlink(victim, beside), 0);
    assert_int_equal(symlink(temporary_path("not-there"), dangling), 0);
    assert_int_equal(file_open_write(link, O_APPEND), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(file_open_write(link, O_TRUNC), -1);
    assert_int_equal(file_open_write(dangling, 0), -1);
    assert_int_equal(access(temporary_path("not-there"), F_OK), -1);
    assert_int_equal(file_draft_open(&draft, temporary_path("out"), 0666, &err), 0);
    fputs("ours", draft.file);
    assert_int_equal(file_draft_publish(&draft, false, &err), 0);
    assert_holds(victim, "precious");
    assert_holds(temporary_path("out"), "ours");
    /* a name that is a link itself is replaced, what it led to stays */
    assert_int_equal(file_draft_open(&draft, link, 0666, &err), 0);
    assert_int_equal(file_draft_publish(&draft, false, &err), 0);
    assert_plain(link, 0644);
    assert_holds(victim, "precious");
}

/* Names that a user gives: nothing but a plain file is replaced, and no link followed. */
static void test_names(void **state)
{
    (void)state;
    struct file_draft draft;
    const char *file = temporary_write("target", "old", 3), *link = temporary_path("to-target"),
               *folder = temporary_path("a-folder"), *pipe = temporary_path("a-pipe");
    assert_int_equal(symlink("target", link), 0);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(file_draft_open_named(&draft, link, 0666, &err), -1);
    assert_non_null(strstr(err.text, "a symbolic link; allowed: the name of the file itself"));
    assert_holds(file, "old");
    assert_int_equal(file_check_named(folder, &err), -1);
    assert_int_equal(file_check_named(pipe, &err), -1);
    assert_non_null(strstr(err.text, "no plain file"));
    assert_int_equal(file_check_named(temporary_path("absent"), &err), 0);
    assert_int_equal(file_draft_open_named(&draft, file, 0666, &err), 0);
    fputs("new", draft.file);
    assert_int_equal(file_draft_publish(&draft, false, &err), 0);
    assert_holds(file, "new");
    rmdir(folder);
    unlink(pipe);
}

static void test_logs(void **state)
{
    (void)state;
    const char *path = temporary_path("lines"), *fifo = temporary_path("fifo");
    mode_t mask = umask(0077);
    for (int i = 0; i < 2; i++) {
        int fd = file_open_write(path, O_APPEND);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "line\n", 5), 5);
        close(fd);
    }
    umask(mask);
    assert_holds(path, "line\nline\n");
    assert_plain(path, 0600);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(file_open_write(fifo, O_APPEND), -1); /* at once */
    assert_int_equal(file_open_write("/dev/null", O_APPEND), -1);
    assert_int_equal(errno, EEXIST);
    struct file_draft draft;
    assert_int_equal(file_draft_open(&draft, fifo, 0666, &err), -1); /* it would be replaced */
    assert_non_null(strstr(err.text, "fifo: no plain file"));
    file_draft_discard(&draft);
}

int main(void)
{
    umask(0022);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drafts), cmocka_unit_test(test_full),  cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_links),  cmocka_unit_test(test_names), cmocka_unit_test(test_logs),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
