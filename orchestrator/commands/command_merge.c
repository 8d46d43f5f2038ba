/* `tunelaw merge`: stores of several jobs, shards and clusters become one, joined by point identity. */
#include <argp.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/store/store_merge.h"
#include "io/version.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/run/view.h"
#include "orchestrator/sweep/sweep.h"

#define LOCK_WAIT 5.0 /* seconds */
enum { CONFLICTS_SHOWN = 20, MISSING_SHOWN = 20, SHARDS_MOST = 100000 };

struct arguments {
    const char *out;
    char **in;
    size_t in_count;
    struct store_merge_options options;
    bool complete; /* wanted */
};

static const struct argp_option options[] = {
    {"rule", 'r', "RULE", 0,
     "which of two different results of one point is kept: fail (none, the default), earliest, newest", 0},
    {"complete", 'c', NULL, 0,
     "list the points of OUT that have no result, and end with exit code 1 where there are any", 0},
    {"tolerance", 't', "X", 0, "relative, of losses that were computed in different execution classes (0.005)", 0},
    {0}};

static enum store_rule read_rule(const char *word, struct argp_state *state)
{
    if (!strcmp(word, "earliest")) return STORE_RULE_EARLIEST;
    if (!strcmp(word, "newest")) return STORE_RULE_NEWEST;
    if (strcmp(word, "fail") != 0) argp_error(state, "no rule \"%s\"; allowed: fail, earliest, newest", word);
    return STORE_RULE_FAIL;
}

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *a = state->input;
    char *end = NULL;
    switch (key) {
    case 'r':
        a->options.rule = read_rule(word, state);
        return 0;
    case 'c':
        a->complete = true;
        return 0;
    case 't':
        a->options.tolerance = strtod(word, &end);
        if (end == word || *end || !(a->options.tolerance >= 0 && a->options.tolerance <= 1))
            argp_error(state, "--tolerance %s: allowed: 0..1", word);
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0)
            a->out = word;
        else
            return ARGP_ERR_UNKNOWN; /* the rest, below */
        return 0;
    case ARGP_KEY_ARGS:
        a->in = state->argv + state->next;
        a->in_count = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_END:
        if (a->in_count == 0) argp_error(state, "where to, and which run directories or store files?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The stores to join: those that were named, and what is at OUT already. */
struct inputs {
    struct store **stores;
    const char **names;
    size_t count;
    int lock_fd; /* of OUT's directory, where OUT is a run's store; -1 */
};

static void inputs_close(struct inputs *inputs)
{
    for (size_t i = 0; i < inputs->count; i++)
        store_close(inputs->stores[i]);
    free(inputs->stores);
    free(inputs->names);
    if (inputs->lock_fd >= 0) close(inputs->lock_fd);
}

static int inputs_add(struct inputs *inputs, const char *path, struct error *err)
{
    struct error why;
    struct store *store = store_open(path, false, &why);
    if (!store)
        return error_set(err, "%s%s", why.text,
                         strstr(why.text, "damaged") ? "; `tunelaw verify --salvage` saves what is left of it" : "");
    inputs->names[inputs->count] = path;
    inputs->stores[inputs->count++] = store;
    return 0;
}

/* No run may commit to the store that is replaced: its rows would be lost with the old file. */
static int lock_out(const char *path, struct inputs *inputs, struct error *err)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (strcmp(slash ? slash + 1 : path, "results.h5") != 0) return 0;
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    return store_lock(slash == path ? "/" : dir, LOCK_WAIT, &inputs->lock_fd, err);
}

static int inputs_open(const struct arguments *a, struct inputs *inputs, struct error *err)
{
    struct stat status;
    char path[PATH_MAX];
    bool folder = stat(a->out, &status) == 0 && S_ISDIR(status.st_mode);
    snprintf(path, sizeof path, "%s%s", a->out, folder ? "/results.h5" : "");
    inputs->stores = calloc(a->in_count + 1, sizeof(struct store *));
    inputs->names = calloc(a->in_count + 1, sizeof(char *));
    if (!inputs->stores || !inputs->names) return error_set(err, "out of memory");
    for (size_t i = 0; i < a->in_count; i++)
        if (inputs_add(inputs, a->in[i], err) != 0) return -1;
    if (stat(path, &status) != 0) return 0;
    if (lock_out(path, inputs, err) != 0) return -1;
    return inputs_add(inputs, a->out, err);
}

static void print_result(const struct inputs *inputs, size_t input, size_t row, bool kept)
{
    struct store_result result;
    struct store_execution execution;
    char class[STORE_NAME + 1] = "";
    if (store_read(inputs->stores[input], row, &result, &execution, NULL, NULL) != 1) return;
    store_text(class, sizeof class, execution.execution_class, sizeof execution.execution_class);
    printf("    %s: %s, test loss %.17g, %s, finished %.0f%s\n", inputs->names[input], store_status_name(result.status),
           result.test_loss, class, execution.finished, kept ? "  <- kept" : "");
}

static void print_conflicts(const struct inputs *inputs, const struct store_merge_report *report, bool resolved)
{
    for (size_t i = 0; i < report->listed && i < CONFLICTS_SHOWN; i++) {
        const struct store_conflict *c = &report->list[i];
        const struct store_point *point = store_point(inputs->stores[c->first_input], c->first_row);
        char what[256];
        view_describe(point, what, sizeof what);
        printf("  conflict: %.12s %s: %s\n", point->identity, what,
               c->same_class ? "results of one execution class differ" : "losses differ by more than the tolerance");
        print_result(inputs, c->first_input, c->first_row, resolved && c->kept);
        print_result(inputs, c->other_input, c->other_row, false);
    }
    if (report->conflicts > CONFLICTS_SHOWN) printf("  and %zu more conflicts\n", report->conflicts - CONFLICTS_SHOWN);
}

static void print_report(const struct arguments *a, const struct store_merge_report *report)
{
    printf("%s: %zu points, %zu with a result; %zu results were there more than once and equal, %zu within the "
           "tolerance, %zu conflicts\n",
           a->out, report->points, report->committed, report->equal, report->close, report->conflicts);
    if (report->damaged) printf("%zu damaged results were not taken\n", report->damaged);
    if (report->renamed) printf("%zu points are named or held out differently in the inputs\n", report->renamed);
    if (report->configs > 1)
        printf("%zu different sweep files: /config is the longest, all are in /provenance\n", report->configs);
}

/* Shards of a sweep that was cut into `count`, by what inputs say of themselves and of stores that they came from. */
struct shards {
    char name[STORE_NAME + 1]; /* of the sweep */
    unsigned count;
    unsigned char *there; /* [SHARDS_MOST + 1] */
};

/* Of the first sweep, cut as it is first: other ones are not counted with it. */
static int note_shard(struct shards *shards, const char *name, const char *label, struct error *err)
{
    unsigned index, count;
    if (sscanf(label, "%u/%u", &index, &count) != 2 || index == 0 || index > count || count > SHARDS_MOST) return 0;
    if (!shards->there) {
        shards->there = calloc(SHARDS_MOST + 1, 1);
        if (!shards->there) return error_set(err, "out of memory");
        snprintf(shards->name, sizeof shards->name, "%s", name);
        shards->count = count;
    }
    if (shards->count == count && strcmp(shards->name, name) == 0) shards->there[index] = 1;
    return 0;
}

/* The stores that a merged or salvaged one names: how many of them are shards, or -1. */
static int note_provenance(struct shards *shards, const char *lines, struct error *err)
{
    int found = 0;
    for (size_t length; *lines; lines += length + (lines[length] == '\n')) {
        const char *name, *label;
        length = strcspn(lines, "\n");
        json_t *line = json_loadb(lines, length, 0, NULL);
        bool shard = line && json_unpack(line, "{s:s, s:s}", "name", &name, "shard", &label) == 0 && *label;
        int result = shard ? note_shard(shards, name, label, err) : 0;
        json_decref(line);
        if (result) return -1;
        found += shard;
    }
    return found;
}

/* Whether all shards of a sweep are there, as far as inputs are shards: 0; 1: some are not, which is told; -1: *err. */
static int check_shards(const struct inputs *inputs, struct error *err)
{
    struct shards shards = {.count = 0};
    int result = 0;
    bool whole = false; /* one of them has every point of the sweep */
    for (size_t i = 0; i < inputs->count && !result; i++) {
        const struct store *store = inputs->stores[i];
        int from = note_provenance(&shards, store_provenance(store), err);
        whole = whole || (from == 0 && !store_shard(store)[0] && strcmp(store_made_by(store), "merge") != 0);
        result = from < 0 ? -1 : note_shard(&shards, store_name(store), store_shard(store), err);
    }
    size_t missing = 0;
    for (unsigned s = 1; s <= shards.count && !result && !whole; s++)
        if (!shards.there[s] && missing++ < MISSING_SHOWN)
            printf("%s%u/%u", missing > 1 ? ", " : "shards that are not there: ", s, shards.count);
    if (missing > MISSING_SHOWN) printf(" and %zu more", missing - MISSING_SHOWN);
    if (missing) printf("\n");
    free(shards.there);
    return result ? result : missing > 0;
}

/* The digest of a task's data in a store; "" where it has none. */
static struct digest data_of(const struct store *store, const char *task)
{
    char first[STORE_NAME + 1];
    store_text(first, sizeof first, store_point(store, 0)->task, sizeof store_point(store, 0)->task);
    return sweep_digest_of(store_dataset_digest(store), first, task);
}

/* A task of one name may be of other data in another store: identities keep such points apart, laws do not. */
static void warn_data(const struct inputs *inputs)
{
    const struct store *one = inputs->stores[0];
    for (size_t row = 0; row < store_count(one); row++) {
        char task[STORE_NAME + 1];
        store_text(task, sizeof task, store_point(one, row)->task, sizeof store_point(one, row)->task);
        if (row && memcmp(store_point(one, row)->task, store_point(one, row - 1)->task, STORE_NAME) == 0) continue;
        struct digest mine = data_of(one, task);
        for (size_t i = 1; i < inputs->count && mine.hex[0]; i++) {
            struct digest other = data_of(inputs->stores[i], task);
            if (!other.hex[0] || strcmp(mine.hex, other.hex) == 0) continue;
            fprintf(stderr,
                    "tunelaw: warning: task %s is of other data in %s than in %s (%.8s, %.8s): laws through both mean "
                    "nothing\n",
                    task, inputs->names[i], inputs->names[0], other.hex, mine.hex);
            return;
        }
    }
}

static void print_missing(const struct store *store, size_t row)
{
    const struct store_point *point = store_point(store, row);
    struct store_state state = {0};
    char what[256], message[STORE_MESSAGE + 1] = "";
    view_describe(point, what, sizeof what);
    if (store_read_state(store, row, &state, NULL) == 0)
        store_text(message, sizeof message, state.message, sizeof state.message);
    printf("  missing: %.12s %s%s%s\n", point->identity, what, message[0] ? ": " : "", message);
}

/* -1 with *err where the sweep at `out` has points without a result. */
static int check_complete(const char *out, struct error *err)
{
    struct store *store = store_open(out, false, err);
    if (!store) return -1;
    size_t rows = store_count(store), missing = 0;
    unsigned char *committed = malloc(rows + 1);
    int result = committed ? store_committed(store, committed, err) : error_set(err, "out of memory");
    for (size_t i = 0; i < rows && result == 0; i++) {
        if (committed[i] || store_point(store, i)->removed) continue;
        if (missing++ < MISSING_SHOWN) print_missing(store, i);
    }
    if (missing > MISSING_SHOWN) printf("  and %zu more\n", missing - MISSING_SHOWN);
    fflush(stdout);
    free(committed);
    store_close(store);
    if (missing == 0) return result;
    return error_set(err, "%s: %zu of %zu points have no result", out, missing, rows);
}

int command_merge(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse,
        "OUT IN...",
        "Join run directories and store files by point identity into OUT: FILE.h5, or a directory that gets a "
        "results.h5.\v"
        "A store that is at OUT already is one of the inputs. Equal results of a point become one row; different ones "
        "are a conflict, shown and decided by --rule, a row as a whole. Exit code 1 and nothing written where "
        "conflicts are left.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.options = {STORE_RULE_FAIL, STORE_TOLERANCE}};
    struct inputs inputs = {.lock_fd = -1};
    struct store_merge_report report = {0};
    struct error err = {""};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    int result = inputs_open(&a, &inputs, &err), missing = 0;
    if (result == 0) {
        result = store_merge((const struct store *const *)inputs.stores, inputs.count, &a.options, a.out,
                             version_string(), &report, &err);
        print_conflicts(&inputs, &report, result == 0);
        if (result == 0) print_report(&a, &report);
        if (result == 0) warn_data(&inputs);
        if (result == 0) missing = check_shards(&inputs, &err);
        if (missing < 0) result = -1;
        fflush(stdout);
    }
    store_merge_report_free(&report);
    inputs_close(&inputs);
    if (result == 0 && a.complete) result = check_complete(a.out, &err);
    if (result == 0 && a.complete && missing) result = error_set(&err, "%s: shards of the sweep are not there", a.out);
    return result == 0 ? 0 : command_fail(&err);
}
