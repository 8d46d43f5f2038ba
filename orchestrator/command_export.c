/* tunelaw export: every point with everything that is known about it, as CSV or JSON. */
#include <argp.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "orchestrator/column.h"
#include "orchestrator/command.h"
#include "orchestrator/view.h"

/* RFC 4180: quotes where they are needed, a quote is doubled */
static void write_field(FILE *out, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, out);
        return;
    }
    putc('"', out);
    for (; *text; text++) {
        if (*text == '"') putc('"', out);
        putc(*text, out);
    }
    putc('"', out);
}

static void write_csv_header(FILE *out)
{
    for (size_t i = 0; i < column_count; i++)
        fprintf(out, "%s%s", i ? "," : "", columns[i].name);
    fputs("\r\n", out);
}

static void write_csv_row(FILE *out, const struct view_row *row)
{
    for (size_t i = 0; i < column_count; i++) {
        char text[STORE_MESSAGE + 1];
        column_text(&columns[i], row, text, sizeof text);
        if (i) putc(',', out);
        write_field(out, text);
    }
    fputs("\r\n", out);
}

/* one row at a time, so that memory does not grow with the sweep */
static int write_json_row(FILE *out, const struct view_row *row)
{
    json_t *object = column_json_row(row);
    int failed = !object || json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    return failed;
}

static int write_rows(const struct view *view, bool json, FILE *out, struct view_row *row, struct error *err)
{
    size_t damaged = 0;
    if (json)
        fputs("[", out);
    else
        write_csv_header(out);
    for (size_t i = 0; i < store_count(view->store); i++) {
        if (view_read(view, i, row, err)) return -1;
        damaged += row->damaged;
        if (!json) {
            write_csv_row(out, row);
            continue;
        }
        fputs(i ? ",\n" : "\n", out);
        if (write_json_row(out, row)) return error_set(err, "row %zu cannot be written as JSON", i);
    }
    if (json) fputs("\n]\n", out);
    if (fflush(out) || ferror(out)) return error_set_errno(err, "writing");
    if (damaged)
        fprintf(stderr, "tunelaw: %zu damaged rows have no results here; the next `tunelaw run` repeats them\n",
                damaged);
    return 0;
}

/* written beside and renamed: FILE is whole or as it was */
static int write_file(const struct view *view, bool json, const char *path, struct view_row *row, struct error *err)
{
    char temporary[PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.tmp", path) >= (int)sizeof temporary)
        return error_set(err, "%s: the path is too long", path);
    FILE *out = fopen(temporary, "w");
    if (!out) return error_set_errno(err, "%s", temporary);
    int result = write_rows(view, json, out, row, err);
    if (result) error_prefix(err, "%s", temporary);
    if (fclose(out) && !result) result = error_set_errno(err, "%s", temporary);
    if (!result && rename(temporary, path)) result = error_set_errno(err, "%s", path);
    if (result) unlink(temporary);
    return result;
}

struct arguments {
    const char *path, *out;
    bool json;
};

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'f':
        arguments->json = !strcmp(word, "json");
        if (!arguments->json && strcmp(word, "csv")) argp_error(state, "no format \"%s\"; allowed: csv, json", word);
        return 0;
    case 'o':
        arguments->out = word;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->path) argp_error(state, "one run directory, not also %s", word);
        arguments->path = word;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which run directory?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int command_export(int argc, char **argv)
{
    static const struct argp_option options[] = {{"format", 'f', "FORMAT", 0, "csv (the default) or json", 0},
                                                 {"out", 'o', "FILE", 0, "write to FILE instead of the terminal", 0},
                                                 {0}};
    static const struct argp argp = {
        options,
        parse,
        "DIR",
        "All points of the run in DIR (or of a store file), one a row, with their results, execution and state.\v"
        "CSV is that of RFC 4180; a field is empty where a point has no result yet. JSON is an array of objects, null "
        "there and for "
        "numbers that are not finite.",
        NULL,
        NULL,
        NULL};
    struct arguments arguments = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);

    struct error err;
    struct view view;
    if (view_open(&view, arguments.path, &err)) return command_fail(&err);
    struct view_row *row = malloc(sizeof *row);
    int failed = row ? 0 : error_set(&err, "out of memory");
    if (!failed && arguments.out)
        failed = write_file(&view, arguments.json, arguments.out, row, &err);
    else if (!failed)
        failed = write_rows(&view, arguments.json, stdout, row, &err);
    free(row);
    view_close(&view);
    return failed ? command_fail(&err) : 0;
}
