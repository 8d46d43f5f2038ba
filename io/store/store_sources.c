/* Where the rows of a merged or salvaged store came from: one JSON line a store, one a sweep file. */
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "io/store/store_internal.h"
#include "io/store/store_merge.h"

struct lines {
    char **line;
    size_t count, capacity;
};

static int lines_add(struct lines *lines, char *line)
{
    if (!line) return -1;
    if (lines->count == lines->capacity) {
        size_t capacity = lines->capacity ? 2 * lines->capacity : 16;
        char **grown = realloc(lines->line, capacity * sizeof *grown);
        if (!grown) {
            free(line);
            return -1;
        }
        lines->line = grown;
        lines->capacity = capacity;
    }
    lines->line[lines->count++] = line;
    return 0;
}

static void lines_free(struct lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        free(lines->line[i]);
    free(lines->line);
}

static int add_json(struct lines *lines, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return lines_add(lines, text);
}

/* Bytes that are not UTF-8 have no place in JSON. */
static json_t *text_json(const char *text)
{
    json_t *string = json_string(text);
    return string ? string : json_string("?");
}

static int add_store(struct lines *lines, const struct store *store, struct error *err)
{
    struct digest file;
    char path[PATH_MAX];
    struct digest sweep_file = digest_of(store->config, strlen(store->config));
    if (store->config[0] &&
        add_json(lines, json_pack("{s:s, s:o}", "sweep_file", sweep_file.hex, "text", text_json(store->config))) != 0)
        return error_set(err, "out of memory");
    if (strcmp(store->made_by, "merge") == 0) return 0; /* its sources are those that it lists */
    size_t committed = 0;
    unsigned char *markers = malloc(store->count);
    if (!markers) return error_set(err, "out of memory");
    if (digest_of_file(store->path, &file, err) != 0 || store_committed(store, markers, err) != 0) {
        free(markers);
        return -1;
    }
    for (size_t i = 0; i < store->count; i++)
        committed += markers[i];
    free(markers);
    const char *where = realpath(store->path, path) ? path : store->path;
    json_t *object =
        json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:I, s:I, s:I}", "source", file.hex, "path",
                  text_json(where), "name", text_json(store->name), "made_by", text_json(store->made_by), "shard",
                  text_json(store->shard), "dataset_digest", text_json(store->dataset_digest), "program_version",
                  text_json(store->program_version), "sweep_file", sweep_file.hex, "epoch", (json_int_t)store->epoch,
                  "points", (json_int_t)store->count, "committed", (json_int_t)committed);
    return add_json(lines, object) == 0 ? 0 : error_set(err, "out of memory");
}

static int add_lines(struct lines *lines, const char *text)
{
    while (*text) {
        size_t length = strcspn(text, "\n");
        if (length > 0 && lines_add(lines, strndup(text, length)) != 0) return -1;
        text += length + (text[length] == '\n');
    }
    return 0;
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Lines of one source begin alike: {"source":"DIGEST" or {"sweep_file":"DIGEST". */
static bool same_source(const char *a, const char *b)
{
    const char *end = strchr(a, ',');
    return end && strncmp(a, b, (size_t)(end - a)) == 0;
}

static char *join(const struct lines *lines)
{
    size_t size = 1;
    for (size_t i = 0; i < lines->count; i++)
        size += strlen(lines->line[i]) + 1;
    char *text = calloc(1, size), *end = text;
    for (size_t i = 0; text && i < lines->count; i++) {
        if (i > 0 && same_source(lines->line[i - 1], lines->line[i])) continue;
        end = stpcpy(stpcpy(end, lines->line[i]), "\n");
    }
    return text;
}

char *store_sources(const struct store *const *stores, size_t count, struct error *err)
{
    struct lines lines = {0};
    char *text = NULL;
    for (size_t i = 0; i < count; i++) {
        if (add_store(&lines, stores[i], err) != 0) goto done;
        if (add_lines(&lines, stores[i]->provenance) != 0) {
            error_set(err, "out of memory");
            goto done;
        }
    }
    if (lines.count > 0) qsort(lines.line, lines.count, sizeof *lines.line, compare_lines);
    text = join(&lines);
    if (!text) error_set(err, "out of memory");
done:
    lines_free(&lines);
    return text;
}
