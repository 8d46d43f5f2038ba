/* The reader of config files: text -> libconfig's tree -> typed, checked values, with the place of the first error.
 * Everything a user can set passes here (orchestrator/sweep*.c); values are read and formatted in
 * io/config/config_values.c.
 */
#include "io/config/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/config/config_private.h"
#include "io/config/config_scan.h"
#include "io/config/config_syntax.h"

static int read_all(int fd, const char *path, char *text, size_t *size, struct error *err)
{
    size_t used = 0;
    while (used <= CONFIG_TEXT_LIMIT) {
        ssize_t got = read(fd, text + used, CONFIG_TEXT_LIMIT + 1 - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return error_set_errno(err, "%s", path);
        if (!got) break;
        used += (size_t)got;
    }
    if (used > CONFIG_TEXT_LIMIT)
        return error_set(err, "%s: larger than a config may be; allowed: up to %u bytes", path, CONFIG_TEXT_LIMIT);
    text[used] = '\0';
    *size = used;
    return 0;
}

int config_text_read(const char *path, char **text, size_t *size, struct error *err)
{
    *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return error_set_errno(err, "%s", path);
    struct stat status;
    int rc = fstat(fd, &status) ? error_set_errno(err, "%s", path) : 0;
    if (!rc && !S_ISREG(status.st_mode)) rc = error_set(err, "%s: not a regular file", path);
    if (!rc && !(*text = malloc(CONFIG_TEXT_LIMIT + 2))) rc = error_set(err, "%s: out of memory", path);
    if (!rc) rc = read_all(fd, path, *text, size, err);
    close(fd);
    if (rc) {
        free(*text);
        *text = NULL;
    }
    return rc;
}

/* Why libconfig did not read the text. */
static void say_refused(const config_t *config, const char *path, const char *text, size_t size, struct error *err)
{
    char place[160];
    int line = config_error_line(config);
    const char *what = config_error_text(config), *hint = "";
    if (!what || strstr(what, "syntax")) {
        what = "syntax error";
        if (config_syntax(text, size, &line, place, sizeof place)) what = place;
    }
    if (strstr(what, "mismatched")) hint = " (write numbers of an array all with, or all without a point)";
    error_set(err, "%s:%d: %s%s", path, line, what, hint);
}

struct config_file *config_file_parse(const char *path, const char *text, size_t size, struct error *err)
{
    if (size > CONFIG_TEXT_LIMIT) {
        error_set(err, "%s: larger than a config may be; allowed: up to %u bytes", path, CONFIG_TEXT_LIMIT);
        return NULL;
    }
    static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8, which some editors put in front */
    if (size >= 3 && memcmp(text, mark, 3) == 0) {
        text += 3;
        size -= 3;
    }
    char *safe = config_scan(path, text, size, err);
    if (!safe) return NULL;
    struct config_file *file = calloc(1, sizeof *file);
    if (!file || !(file->path = strdup(path))) {
        free(file);
        free(safe);
        error_set(err, "%s: out of memory", path);
        return NULL;
    }
    config_init(&file->config);
    if (!config_read_string(&file->config, safe)) {
        say_refused(&file->config, path, text, size, err);
        config_file_close(file);
        file = NULL;
    }
    free(safe);
    return file;
}

void config_file_close(struct config_file *file)
{
    if (!file) return;
    config_destroy(&file->config);
    free(file->parameters);
    free(file->path);
    free(file);
}

bool config_file_failed(const struct config_file *file)
{
    return file->failed;
}

int config_file_finish(const struct config_file *file, struct error *err)
{
    if (!file->failed) return 0;
    if (err) *err = file->error;
    return -1;
}

const char *config_file_parameters(struct config_file *file)
{
    return file->parameters ? file->parameters : "";
}

void config_note(const struct config_group *group, const char *key, bool fallback, const char *format, ...)
{
    struct config_file *file = group->file;
    char value[512];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    char *line = NULL;
    int length = asprintf(&line, "%s%s%s = %s%s\n", group->path, group->path[0] ? "." : "", key, value,
                          fallback ? "  # default" : "");
    if (length < 0) return;
    char *grown = realloc(file->parameters, file->parameters_used + (size_t)length + 1);
    if (grown) {
        memcpy(grown + file->parameters_used, line, (size_t)length + 1);
        file->parameters = grown;
        file->parameters_used += (size_t)length;
    }
    free(line);
}

/* "FILE:LINE: group.key: " and the words. */
static void say_at(const struct config_group *group, const config_setting_t *setting, const char *place,
                   struct error *out, const char *format, va_list args)
{
    char text[900];
    vsnprintf(text, sizeof text, format, args);
    for (char *c = text; *c; c++) /* strings of the file may hold anything; an error is one line */
        *c = iscntrl((unsigned char)*c) ? '?' : *c;
    unsigned line = setting ? config_setting_source_line(setting) : 0;
    bool dot = group->path[0] && place[0] && place[0] != '[';
    bool named = group->path[0] || place[0];
    if (line)
        error_set(out, "%s:%u: %s%s%s%s%s", group->file->path, line, group->path, dot ? "." : "", place,
                  named ? ": " : "", text);
    else
        error_set(out, "%s: %s%s%s%s%s", group->file->path, group->path, dot ? "." : "", place, named ? ": " : "",
                  text);
}

void config_fail_at(const struct config_group *group, const config_setting_t *setting, const char *place,
                    const char *format, va_list args)
{
    if (group->file->failed) return;
    group->file->failed = true;
    say_at(group, setting, place, &group->file->error, format, args);
}

void config_describe(const struct config_group *group, const char *key, struct error *out, const char *format, ...)
{
    const config_setting_t *setting = config_member(group, key);
    va_list args;
    va_start(args, format);
    say_at(group, setting ? setting : group->setting, key, out, format, args);
    va_end(args);
}

unsigned config_line(const struct config_group *group)
{
    return group->present ? config_setting_source_line(group->setting) : 0;
}

/* The setting of a key, or NULL. */
config_setting_t *config_member(const struct config_group *group, const char *key)
{
    return group->present ? config_setting_get_member(group->setting, key) : NULL;
}

void config_fail(const struct config_group *group, const char *key, const char *format, ...)
{
    const config_setting_t *setting = key ? config_member(group, key) : NULL;
    va_list args;
    va_start(args, format);
    config_fail_at(group, setting ? setting : group->setting, key ? key : "", format, args);
    va_end(args);
}

void config_fail_element(const struct config_group *group, const char *key, size_t index, const char *format, ...)
{
    config_setting_t *setting = config_member(group, key);
    config_setting_t *element =
        setting && config_setting_is_aggregate(setting) ? config_setting_get_elem(setting, (unsigned)index) : NULL;
    char place[96];
    snprintf(place, sizeof place, element ? "%s[%zu]" : "%s", key, index);
    va_list args;
    va_start(args, format);
    config_fail_at(group, element ? element : setting ? setting : group->setting, place, format, args);
    va_end(args);
}

/* "a, b, c" into out, cut where it is full. */
void config_join(const char *const *names, size_t count, char *out, size_t size)
{
    out[0] = '\0';
    size_t used = 0;
    for (size_t i = 0; i < count && used < size; i++) {
        int n = snprintf(out + used, size - used, "%s%s", i ? ", " : "", names[i]);
        used += n > 0 ? (size_t)n : 0;
    }
}

static size_t distance(const char *a, const char *b)
{
    size_t row[64], columns = strlen(b);
    if (columns >= 63 || strlen(a) >= 63) return 64;
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t insert = row[j] + 1, drop = row[j - 1] + 1;
            row[j] = change < insert ? change : insert;
            row[j] = row[j] < drop ? row[j] : drop;
        }
    }
    return row[columns];
}

const char *config_guess(const char *word, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t least = 1 + strlen(word) / 3;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, names[i]);
        /* a singular for a plural, "rank" for "ranks", is always meant */
        size_t shorter = strlen(word) < strlen(names[i]) ? strlen(word) : strlen(names[i]);
        if (shorter > 2 && !strncmp(word, names[i], shorter) && d > 1) d = 1;
        if (d <= least && d < strlen(word) && (!best || d < least)) {
            best = names[i];
            least = d;
        }
    }
    return best;
}

static size_t key_count(const char *const *keys)
{
    size_t count = 0;
    while (keys[count])
        count++;
    return count;
}

static bool key_known(const char *const *keys, const char *key)
{
    for (; *keys; keys++)
        if (!strcmp(*keys, key)) return true;
    return false;
}

static void check_keys(const struct config_group *group)
{
    int count = config_setting_length(group->setting);
    for (int i = 0; i < count && !group->file->failed; i++) {
        config_setting_t *member = config_setting_get_elem(group->setting, (unsigned)i);
        const char *name = config_setting_name(member);
        if (key_known(group->keys, name)) continue;
        char allowed[500];
        config_join(group->keys, key_count(group->keys), allowed, sizeof allowed);
        const char *guess = config_guess(name, group->keys, key_count(group->keys));
        config_fail(group, name, "unknown key%s%s%s; allowed: %s", guess ? ", did you mean " : "", guess ? guess : "",
                    guess ? "?" : "", allowed);
    }
}

struct config_group config_open_root(struct config_file *file, const char *const *keys)
{
    struct config_group group = {.file = file, .keys = keys, .present = !file->failed};
    group.setting = config_root_setting(&file->config);
    if (group.present && keys) check_keys(&group);
    return group;
}

struct config_group config_open_group(const struct config_group *parent, const char *key, const char *const *keys,
                                      bool required)
{
    struct config_group group = {.file = parent->file, .keys = keys, .setting = parent->setting};
    snprintf(group.path, sizeof group.path, "%.80s%s%.40s", parent->path, parent->path[0] ? "." : "", key);
    config_setting_t *setting = config_member(parent, key);
    if (group.file->failed) return group;
    if (!setting) {
        if (required) config_fail(parent, NULL, "group \"%s\" is missing: %s = { ... };", key, key);
        return group;
    }
    group.setting = setting;
    if (!config_setting_is_group(setting)) {
        config_fail(parent, key, "%s where a group { ... } is expected", config_type_name(setting));
        return group;
    }
    group.present = true;
    check_keys(&group);
    group.present = !group.file->failed;
    return group;
}

size_t config_open_list(const struct config_group *parent, const char *key, bool required)
{
    config_setting_t *setting = config_member(parent, key);
    if (parent->file->failed) return 0;
    if (!setting) {
        if (required) config_fail(parent, NULL, "list \"%s\" is missing: %s = ( { ... }, ... );", key, key);
        return 0;
    }
    if (!config_setting_is_list(setting)) {
        config_fail(parent, key, "%s where a list of groups ( { ... }, ... ) is expected", config_type_name(setting));
        return 0;
    }
    size_t count = (size_t)config_setting_length(setting);
    if (!count && required) config_fail(parent, key, "an empty list; allowed: at least one group ( { ... } )");
    if (count > CONFIG_ELEMENT_LIMIT)
        config_fail(parent, key, "%zu elements; allowed: up to %u", count, CONFIG_ELEMENT_LIMIT);
    return parent->file->failed ? 0 : count;
}

struct config_group config_open_element(const struct config_group *parent, const char *key, size_t index,
                                        const char *const *keys)
{
    struct config_group group = {.file = parent->file, .keys = keys, .setting = parent->setting};
    snprintf(group.path, sizeof group.path, "%.80s%s%.40s[%zu]", parent->path, parent->path[0] ? "." : "", key, index);
    config_setting_t *setting = config_member(parent, key);
    if (group.file->failed || !setting) return group;
    group.setting = config_setting_get_elem(setting, (unsigned)index);
    if (!config_setting_is_group(group.setting)) {
        config_fail_element(parent, key, index, "%s where a group { ... } is expected",
                            config_type_name(group.setting));
        return group;
    }
    group.present = true;
    check_keys(&group);
    group.present = !group.file->failed;
    return group;
}

bool config_has(const struct config_group *group, const char *key)
{
    return config_member(group, key) != NULL;
}

bool config_is_string(const struct config_group *group, const char *key)
{
    const struct config_setting_t *setting = config_member(group, key);
    return setting && config_setting_type(setting) == CONFIG_TYPE_STRING;
}

bool config_is_list(const struct config_group *group, const char *key)
{
    const struct config_setting_t *setting = config_member(group, key);
    return setting && config_setting_type(setting) == CONFIG_TYPE_LIST;
}
