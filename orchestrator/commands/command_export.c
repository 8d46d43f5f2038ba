/* tunelaw export: every point with everything that is known about it, as CSV or JSON; or the model of one point as a
 * Hugging Face folder, or its adapter as a PEFT folder. */
#include <argp.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "orchestrator/commands/column.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/run/rebuilt.h"
#include "orchestrator/run/view.h"
#include "workers/stage/stage.h"

/* A row is put together here and written at once: 10^5 rows have millions of fields. */
struct line {
    char text[64 << 10];
    size_t used;
};

static void put(struct line *line, const char *text, size_t size)
{
    if (size > sizeof line->text - line->used) return; /* no row is that long: columns * COLUMN_JSON_SIZE */
    memcpy(line->text + line->used, text, size);
    line->used += size;
}

/* RFC 4180: quotes where they are needed, a quote is doubled */
static void put_field(struct line *line, const char *text, size_t size)
{
    if (!strpbrk(text, ",\"\r\n")) {
        put(line, text, size);
        return;
    }
    put(line, "\"", 1);
    for (; *text; text++)
        put(line, *text == '"' ? "\"\"" : text, *text == '"' ? 2 : 1);
    put(line, "\"", 1);
}

static void write_csv_header(FILE *out)
{
    for (size_t i = 0; i < column_count; i++)
        fprintf(out, "%s%s", i ? "," : "", columns[i].name);
    fputs("\r\n", out);
}

static void put_csv_row(struct line *line, const struct view_row *row)
{
    for (size_t i = 0; i < column_count; i++) {
        char text[STORE_MESSAGE + 1];
        size_t size = column_text(&columns[i], row, text, sizeof text);
        if (i) put(line, ",", 1);
        if (columns[i].kind == COLUMN_TEXT)
            put_field(line, text, size);
        else
            put(line, text, size);
    }
    put(line, "\r\n", 2);
}

static void put_json_row(struct line *line, const struct view_row *row)
{
    char text[COLUMN_JSON_SIZE];
    for (size_t i = 0; i < column_count; i++) {
        put(line, i ? ",\"" : "{\"", 2);
        put(line, columns[i].name, strlen(columns[i].name));
        put(line, "\":", 2);
        put(line, text, column_json_text(&columns[i], row, text));
    }
    put(line, "}", 1);
}

static int write_rows(const struct view *view, bool json, FILE *out, struct view_row *row, struct error *err)
{
    static struct line line;
    size_t damaged = 0;
    if (json)
        fputs("[", out);
    else
        write_csv_header(out);
    for (size_t i = 0; i < store_count(view->store) && !ferror(out); i++) {
        line.used = 0;
        if (view_read_scalars(view, i, row, err)) return -1;
        damaged += row->damaged;
        if (json) {
            put(&line, i ? ",\n" : "\n", i ? 2 : 1);
            put_json_row(&line, row);
        } else {
            put_csv_row(&line, row);
        }
        fwrite(line.text, 1, line.used, out);
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
    struct file_draft draft;
    if (file_draft_open_named(&draft, path, 0666, err)) return -1;
    if (!write_rows(view, json, draft.file, row, err)) return file_draft_publish(&draft, false, err);
    error_prefix(err, "%s", draft.temporary);
    file_draft_discard(&draft);
    return -1;
}

/* The model that a row's result was measured with. */
static int write_model(const struct view *view, const char *point, const char *dir, bool adapter, struct view_row *row,
                       struct error *err)
{
    size_t index = 0;
    struct rebuilt rebuilt;
    if (view_find(view, point, &index, err) || view_read(view, index, row, err)) return -1;
    if (!row->committed) return error_set(err, "row %zu has no result: it is %s", row->index, view_status(row));
    struct stage *stage = rebuilt_create(&rebuilt, view, err) ? NULL : rebuilt_stage(&rebuilt, view, &row->point, err);
    int result = -1;
    if (stage)
        result =
            adapter ? stage_export_adapter(stage, &row->result, dir, err) : stage_export(stage, &row->result, dir, err);
    if (stage && result) rebuilt_failed(view, row, err);
    free(stage);
    rebuilt_destroy(&rebuilt);
    return result;
}

struct arguments {
    const char *path, *out, *point, *model, *adapter; /* folders to write */
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
    case 'p':
        arguments->point = word;
        return 0;
    case 'm':
        arguments->model = word;
        return 0;
    case 'a':
        arguments->adapter = word;
        return 0;
    case ARGP_KEY_END:
        if (arguments->model && arguments->adapter) argp_error(state, "one of --hf and --peft");
        if (!arguments->point != !(arguments->model || arguments->adapter))
            argp_error(state, "--point belongs to --hf or --peft, and they to it");
        if (arguments->point && (arguments->out || arguments->json))
            argp_error(state, "--hf and --peft write a model, not rows: no --out or --format");
        return 0;
    default:
        return command_parse_path(key, word, state, &arguments->path);
    }
}

int command_export(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"format", 'f', "FORMAT", 0, "csv (the default) or json", 0},
        {"out", 'o', "FILE", 0, "write to FILE instead of the terminal", 0},
        {"point", 'p', "ROW", 0, "with --hf or --peft: a row's number, or the beginning of its identity", 0},
        {"hf", 'm', "OUT", 0, "write the model of one point to a new folder that transformers loads", 0},
        {"peft", 'a', "OUT", 0, "write the adapter of one point to a new folder that PEFT loads", 0},
        {0}};
    static const struct argp argp = {
        options,
        parse,
        "DIR",
        "All points of the run in DIR (or of a store file), one a row, with their results, execution and state.\v"
        "CSV is that of RFC 4180; a field is empty where a point has no result yet. JSON is an array of objects, null "
        "there and for "
        "numbers that are not finite.\n\n"
        "A model is written as it was tested: with its best weights, LoRA merged into them; of the method none, the "
        "base. "
        "A prompt or prefix is no part of a model that transformers has: --peft writes it, as it writes the matrices "
        "of LoRA and the vectors of IA3. Of other methods there is no PEFT folder.",
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
    if (!failed && arguments.point)
        failed = write_model(&view, arguments.point, arguments.model ? arguments.model : arguments.adapter,
                             arguments.adapter != NULL, row, &err);
    else if (!failed && arguments.out)
        failed = write_file(&view, arguments.json, arguments.out, row, &err);
    else if (!failed)
        failed = write_rows(&view, arguments.json, stdout, row, &err);
    free(row);
    view_close(&view);
    return failed ? command_fail(&err) : 0;
}
