/* tunelaw show: everything that is known about one point. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/quantity.h"
#include "orchestrator/commands/column.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/run/stage_log.h"
#include "orchestrator/run/view.h"
#include "workers/stage/stage.h"

static const char *const curve_names[] = {"step",       "tokens",        "train_loss",
                                          "valid_loss", "gradient_norm", "learning_rate"};
enum { CURVE_COLUMNS = sizeof curve_names / sizeof *curve_names };
_Static_assert(sizeof(struct store_curve_entry) == CURVE_COLUMNS * sizeof(double),
               "a name for each column of the curve");

/* Files of the point, "" where they are not there: a stage of its own has the point's identity. */
struct files {
    char log[PATH_MAX], state[PATH_MAX], best[PATH_MAX];
};

static void find_files(const struct view *view, const struct view_row *row, struct files *files)
{
    struct stage *stage = calloc(1, sizeof *stage);
    memset(files, 0, sizeof *files);
    if (!stage) return;
    memcpy(stage->identity.hex, row->point.identity, DIGEST_HEX);
    snprintf(stage->dir, sizeof stage->dir, "%s", view->dir);
    stage_log_path(stage, files->log);
    stage_state_path(stage, files->state);
    stage_best_path(stage, row->result.best_step, files->best);
    if (access(files->log, F_OK)) files->log[0] = 0;
    if (access(files->state, F_OK)) files->state[0] = 0;
    if (!row->committed || access(files->best, F_OK)) files->best[0] = 0;
    free(stage);
}

static size_t curve_count(const struct view_row *row)
{
    if (!row->committed) return 0;
    return row->curve.count < STORE_CURVE ? (size_t)row->curve.count : STORE_CURVE;
}

static const double *curve_entry(const struct view_row *row, size_t i)
{
    return &row->curve.entries[i].step;
}

static void print_part(const char *title, enum column_part part, const struct view_row *row)
{
    printf("\n%s\n", title);
    for (size_t i = 0; i < column_count; i++) {
        char text[STORE_MESSAGE + 1], comment[64];
        if (columns[i].part != part) continue;
        column_text(&columns[i], row, text, sizeof text);
        column_comment(&columns[i], row, comment, sizeof comment);
        bool none = !*text || !strcmp(text, "nan");
        printf("  %-25s %s%s%s%s\n", columns[i].name, none ? "-" : text, *comment ? " (" : "", comment,
               *comment ? ")" : "");
    }
}

/* Nothing where the log has no such stage. */
static void print_measured(const struct stage_log *log)
{
    char plan[QUANTITY_TEXT], peak[QUANTITY_TEXT];
    if (!log->count) return;
    const struct stage_log_entry *entry = log->entries;
    printf("\nplan and measured\n");
    printf("  %-25s %.4g by the plan, %.4g measured\n", "seconds", entry->predicted_seconds, entry->actual_seconds);
    printf("  %-25s %s by the plan, %s%s\n", "memory", quantity_bytes(entry->predicted_bytes, plan),
           entry->peak_bytes > 0 ? quantity_bytes(entry->peak_bytes, peak) : "its peak is not known",
           entry->peak_bytes > 0 ? " at the peak of its process" : "");
}

static void print_text(const struct view *view, const struct view_row *row, const struct files *files,
                       const struct stage_log *log)
{
    char what[256], tuning[512];
    view_describe(&row->point, what, sizeof what);
    printf("%s: %s\n", what, view_status(row));
    print_part("point", COLUMN_POINT, row);
    view_tuning(view, row, tuning, sizeof tuning);
    if (*tuning) printf("  %-25s %s\n", "learning_rate is", tuning);
    print_part("state", COLUMN_STATE, row);
    if (row->committed) {
        print_part("result (losses in nats per token)", COLUMN_RESULT, row);
        print_part("execution", COLUMN_EXECUTION, row);
    }
    print_measured(log);
    if (curve_count(row)) {
        printf("\ncurve\n ");
        for (size_t column = 0; column < CURVE_COLUMNS; column++)
            printf(" %14s", curve_names[column]);
        for (size_t i = 0; i < curve_count(row); i++) {
            printf("\n ");
            for (size_t column = 0; column < CURVE_COLUMNS; column++)
                printf(" %14.6g", curve_entry(row, i)[column]);
        }
        printf("\n");
    }
    printf("\nfiles\n");
    printf("  %-25s %s\n", "log", *files->log ? files->log : "-");
    printf("  %-25s %s\n", "best checkpoint", *files->best ? files->best : "-");
    printf("  %-25s %s\n", "state checkpoint", *files->state ? files->state : "-");
}

static json_t *curve_json(const struct view_row *row)
{
    json_t *list = json_array();
    for (size_t i = 0; i < curve_count(row); i++) {
        json_t *entry = json_object();
        for (size_t column = 0; column < CURVE_COLUMNS; column++) {
            json_t *number = json_real(curve_entry(row, i)[column]); /* NULL where it is not finite */
            json_object_set_new(entry, curve_names[column], number ? number : json_null());
        }
        json_array_append_new(list, entry);
    }
    return list;
}

static json_t *path_json(const char *path)
{
    return *path ? json_string(path) : json_null();
}

static int print_json(const struct view *view, const struct view_row *row, const struct files *files,
                      const struct stage_log *log)
{
    char tuning[512];
    json_t *root = column_json_row(row);
    view_tuning(view, row, tuning, sizeof tuning);
    if (*tuning) json_object_set_new(root, "tuning", json_string(tuning));
    json_object_set_new(root, "curve", curve_json(row));
    json_object_set_new(root, "measured", stage_log_json(log));
    json_object_set_new(root, "log", path_json(files->log));
    json_object_set_new(root, "best_checkpoint", path_json(files->best));
    json_object_set_new(root, "state_checkpoint", path_json(files->state));
    int failed = !root || json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(root);
    printf("\n");
    return failed;
}

struct arguments {
    const char *path, *point;
    bool json;
};

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'j':
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0) return command_parse_path(key, word, state, &arguments->path);
        if (state->arg_num > 1) argp_error(state, "one point, not also %s", word);
        arguments->point = word;
        return 0;
    case ARGP_KEY_END:
        if (arguments->path && !arguments->point)
            argp_error(state, "which point? A row number or the beginning of an identity");
        return 0;
    default:
        return command_parse_path(key, word, state, &arguments->path);
    }
}

int command_show(int argc, char **argv)
{
    static const struct argp_option options[] = {{"json", 'j', NULL, 0, "for a program", 0}, {0}};
    static const struct argp argp = {options,
                                     parse,
                                     "DIR POINT",
                                     "Everything about one point of the run in DIR (or of a store file).\vPOINT is a "
                                     "row number or the beginning of an identity.",
                                     NULL,
                                     NULL,
                                     NULL};
    struct arguments arguments = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);

    struct error err;
    struct view view;
    size_t index;
    int code = 0;
    if (view_open(&view, arguments.path, &err)) return command_fail(&err);
    struct view_row *row = malloc(sizeof *row);
    struct files *files = malloc(sizeof *files);
    if (!row || !files) {
        error_set(&err, "out of memory");
        code = command_fail(&err);
    } else if (view_find(&view, arguments.point, &index, &err) || view_read(&view, index, row, &err)) {
        code = command_fail(&err);
    } else {
        char identity[DIGEST_HEX + 1];
        struct stage_log log;
        store_text(identity, sizeof identity, row->point.identity, sizeof row->point.identity);
        find_files(&view, row, files);
        stage_log_read(view.dir, identity, &log);
        if (arguments.json)
            code = print_json(&view, row, files, &log);
        else
            print_text(&view, row, files, &log);
        stage_log_free(&log);
    }
    free(files);
    free(row);
    view_close(&view);
    return code;
}
