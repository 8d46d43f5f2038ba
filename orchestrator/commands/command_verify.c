/* tunelaw verify: whether what is on disk is what was committed: checksums of rows and checkpoints, and, where asked, a
 * point's loss evaluated again from its checkpoint. */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "io/version.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/run/rebuilt.h"
#include "orchestrator/run/view.h"
#include "workers/stage/worker.h"

/* Another execution class (backend, threads, library) may sum in another order. */
#define TOLERANCE 1e-5

struct findings {
    size_t committed, damaged, damaged_states, damaged_curves; /* rows */
    size_t checkpoints, damaged_checkpoints;
    size_t best, missing_best; /* of committed rows: best weights with the row's digest, and those no longer kept */
    bool *best_found;          /* [points] */
};

/* Lines of the store and of checkpoints begin with what they are about: once is enough. */
static void finding(const char *what, const char *why)
{
    const char *row = strstr(why, " is damaged: ");
    size_t length = strlen(what);
    if (row) why = row + strlen(" is damaged: ");
    if (!strncmp(why, what, length) && !strncmp(why + length, ": ", 2)) why += length + 2;
    if (!strncmp(why, "damaged: ", 9)) why += 9;
    printf("damaged: %s: %s\n", what, why);
}

static int verify_rows(const struct view *view, struct findings *findings, struct view_row *row, struct error *err)
{
    for (size_t i = 0; i < store_count(view->store); i++) {
        if (view_read_scalars(view, i, row, err)) return -1;
        /* a second look: a run that is at work may have rewritten it under the first */
        if (row->state_damaged && view_read_scalars(view, i, row, err)) return -1;
        char what[64], why[STORE_MESSAGE + 1];
        findings->committed += row->committed;
        if (row->state_damaged) {
            snprintf(what, sizeof what, "state of row %zu", i);
            finding(what, "its checksum is wrong; it reads as pending, a result is not concerned");
            findings->damaged_states++;
        }
        if (row->committed && store_check_curve(view->store, i, NULL)) {
            snprintf(what, sizeof what, "curve of row %zu", i);
            finding(what, "it is shown as empty; the result is not concerned");
            findings->damaged_curves++;
        }
        if (!row->damaged) continue;
        snprintf(what, sizeof what, "row %zu", i);
        store_text(why, sizeof why, row->state.message, sizeof row->state.message);
        finding(what, why);
        findings->damaged++;
    }
    return 0;
}

/* "ID.best-STEP.h5" of a committed row whose best step it is: the row's index, else -1 */
static long best_of(const struct view *view, const char *name, struct view_row *row)
{
    char identity[DIGEST_HEX + 1];
    unsigned long long step;
    int length = 0;
    if (sscanf(name, "%32[0-9a-f].best-%llu.h5%n", identity, &step, &length) != 2 || !length || name[length]) return -1;
    long index = strlen(identity) == DIGEST_HEX ? store_find(view->store, identity, NULL) : -1;
    if (index < 0 || view_read(view, (size_t)index, row, NULL) || !row->committed) return -1;
    return row->result.best_step == step ? index : -1;
}

static void verify_checkpoint(const struct view *view, const char *path, const char *name, struct findings *findings,
                              struct view_row *row)
{
    struct error err;
    struct checkpoint *checkpoint = checkpoint_open(path, &err);
    findings->checkpoints++;
    if (!checkpoint) {
        finding(path, err.text);
        findings->damaged_checkpoints++;
        return;
    }
    long index = best_of(view, name, row);
    if (index >= 0) {
        struct digest digest = checkpoint_digest(checkpoint);
        findings->best_found[index] = true;
        if (memcmp(digest.hex, row->result.best_digest, DIGEST_HEX)) {
            finding(path, "these are not the weights of the committed row: their digest differs");
            findings->damaged_checkpoints++;
        } else {
            findings->best++;
        }
    }
    checkpoint_close(checkpoint);
}

static int verify_checkpoints(const struct view *view, struct findings *findings, struct view_row *row,
                              struct error *err)
{
    char folder[PATH_MAX + 16];
    snprintf(folder, sizeof folder, "%s/checkpoints", view->dir);
    DIR *dir = opendir(folder);
    if (!dir && errno == ENOENT) return 0;
    if (!dir) return error_set_errno(err, "%s", folder);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[PATH_MAX + 16 + NAME_MAX];
        size_t length = strlen(entry->d_name);
        if (length < 3 || strcmp(entry->d_name + length - 3, ".h5")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        verify_checkpoint(view, path, entry->d_name, findings, row);
    }
    closedir(dir);
    return 0;
}

static int count_missing(const struct view *view, struct findings *findings, struct view_row *row, struct error *err)
{
    for (size_t i = 0; i < store_count(view->store); i++) {
        if (view_read(view, i, row, err)) return -1;
        findings->missing_best += row->committed && row->result.best_digest[0] && !findings->best_found[i];
    }
    return 0;
}

/* 0: nothing is damaged; 1: something is, it was printed; -1: *err */
static int verify(const struct view *view, struct error *err)
{
    size_t count = store_count(view->store);
    struct findings findings = {.best_found = calloc(count + 1, sizeof(bool))};
    struct view_row *row = malloc(sizeof *row);
    int result = -1;
    if (!row || !findings.best_found)
        error_set(err, "out of memory");
    else if (!verify_rows(view, &findings, row, err) && !verify_checkpoints(view, &findings, row, err) &&
             !count_missing(view, &findings, row, err))
        result = findings.damaged || findings.damaged_states || findings.damaged_curves || findings.damaged_checkpoints;
    if (result >= 0) {
        printf("rows: %zu of %zu committed, %zu damaged\n", findings.committed, count, findings.damaged);
        printf("checkpoints: %zu files, %zu damaged; best weights of %zu committed points there, of %zu not kept\n",
               findings.checkpoints, findings.damaged_checkpoints, findings.best, findings.missing_best);
    }
    free(row);
    free(findings.best_found);
    return result;
}

/* As verify: 0, 1 or -1. */
static int reevaluate(const struct view *view, const struct rebuilt *rebuilt, const struct view_row *row,
                      struct error *err)
{
    double loss;
    if (!row->committed) return error_set(err, "row %zu has no result: it is %s", row->index, view_status(row));
    struct stage *stage = rebuilt_stage(rebuilt, view, &row->point, err);
    if (!stage) return -1;
    int result = stage_reevaluate(stage, &row->result, &loss, err);
    free(stage);
    if (result) return rebuilt_failed(view, row, err);
    char what[256];
    double committed = row->result.test_loss, difference = fabs(loss - committed);
    bool same = !memcmp(&loss, &committed, sizeof loss);
    view_describe(&row->point, what, sizeof what);
    printf("row %zu (%s): committed test loss %.17g, again %.17g: ", row->index, what, committed, loss);
    if (same)
        printf("the same to the last bit\n");
    else
        printf("%.3g apart\n", difference);
    if (same || difference <= TOLERANCE * fabs(committed)) return 0;
    finding("its weights", "they do not give the committed loss");
    return 1;
}

static int reevaluate_points(const struct view *view, const char *word, struct error *err)
{
    struct rebuilt rebuilt = {0};
    size_t first = 0, last = 0;
    int result = 0;
    bool all = !strcmp(word, "all");
    if (!all && view_find(view, word, &first, err)) return -1;
    last = all ? store_count(view->store) : first + 1;
    struct view_row *row = malloc(sizeof *row);
    if (!row) return error_set(err, "out of memory");
    if (rebuilt_create(&rebuilt, view, err)) result = -1;
    size_t asked = 0, failed = 0;
    for (size_t i = first; i < last && result >= 0; i++) {
        int found = view_read(view, i, row, err);
        if (!found && all && (!row->committed || row->result.status != STORE_DONE)) continue;
        asked++;
        if (!found) found = reevaluate(view, &rebuilt, row, err);
        if (found < 0 && all) { /* the others may be there */
            printf("not evaluated: %s\n", err->text);
            failed++;
        } else if (found) {
            result = found;
        }
    }
    if (result >= 0 && failed)
        result = error_set(err, "%zu of %zu points could not be evaluated again (above)", failed, asked);
    free(row);
    rebuilt_destroy(&rebuilt);
    return result;
}

/* What is left of a store that does not open, or the good rows of one that does, as a new store. */
static int salvage(const char *path, const char *out, struct error *err)
{
    struct store_damage damage;
    struct store *store = store_open_damaged(path, &damage, err);
    if (!store) return -1;
    if (damage.header[0]) printf("damaged: %s\n", damage.header);
    if (damage.config_lost) printf("damaged: the text of the sweep file\n");
    if (damage.provenance_lost) printf("damaged: the provenance\n");
    printf("good: %zu results, %zu of %zu points described; lost: %zu results", damage.committed,
           damage.points - damage.undescribed, damage.points, damage.damaged);
    if (damage.undescribed) printf(", and those of the points not described");
    if (damage.unreadable) printf("; of %zu points none can be read, if there was one", damage.unreadable);
    if (damage.curves) printf("; the curves of %zu good ones are lost", damage.curves);
    putchar('\n');
    int result = out ? store_salvage(store, out, version_string(), err) : 0;
    if (result == 0 && out)
        printf("written: %s\n", out);
    else if (result == 0)
        printf("`tunelaw verify %s --salvage OUT` writes what is good to a new store\n", path);
    store_close(store);
    return result;
}

struct arguments {
    const char *path, *point, *salvage;
};

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'r':
        arguments->point = word;
        return 0;
    case 's':
        arguments->salvage = word;
        return 0;
    case ARGP_KEY_END:
        if (arguments->point && arguments->salvage)
            argp_error(state, "--reevaluate is of a run whose store opens, --salvage of one that is damaged; give one");
        return 0;
    default:
        return command_parse_path(key, word, state, &arguments->path);
    }
}

int command_verify(int argc, char **argv)
{
    static const struct argp_option options[] = {{"reevaluate", 'r', "POINT", 0,
                                                  "load the point's best weights and evaluate its test loss again; a "
                                                  "row number, the beginning of an identity, or all",
                                                  0},
                                                 {"salvage", 's', "OUT", 0,
                                                  "write everything that is still good to a new store: FILE.h5, or a "
                                                  "directory that gets a results.h5",
                                                  0},
                                                 {0}};
    static const struct argp argp = {
        options,
        parse,
        "DIR",
        "Check every row and every checkpoint of the run in DIR (or of a store file) against their checksums.\v"
        "Exit code 0 only where nothing is damaged. Damaged rows are run again by the next `tunelaw run`, which writes "
        "damaged states anew and leaves damaged curves empty. "
        "Of a store that no longer opens, it says what can be saved. With --salvage the exit code says whether OUT was "
        "written.",
        NULL,
        NULL,
        NULL};
    struct arguments arguments = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);

    struct error err;
    struct view view;
    if (arguments.salvage) return salvage(arguments.path, arguments.salvage, &err) ? command_fail(&err) : 0;
    if (view_open(&view, arguments.path, &err)) {
        struct error none;
        if (salvage(arguments.path, NULL, &none)) return command_fail(&err);
        return 1;
    }
    int result = verify(&view, &err);
    if (result >= 0 && arguments.point) {
        fflush(stdout);
        int again = reevaluate_points(&view, arguments.point, &err);
        if (again) result = again;
    }
    if (result < 0) command_fail(&err);
    view_close(&view);
    return result != 0;
}
