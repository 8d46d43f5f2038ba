/* The verdict on a changed sweep file, for a person, before anything runs. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "orchestrator/plan/drift.h"

const char *drift_class_name(enum drift_class class)
{
    static const char *const names[DRIFT_CLASSES] = {"compatible", "refit only",    "evaluation",
                                                     "axis",       "reruns points", "another sweep?"};
    return (unsigned)class < DRIFT_CLASSES ? names[class] : "unknown";
}

bool drift_any(const struct drift *drift)
{
    return drift->count > 0 || drift->incomparable[0] || drift->refused[0] || drift->added > 0 || drift->left > 0;
}

static void print_value(FILE *out, const char *value)
{
    enum { SHOWN = 100 };
    if (!*value)
        fputs("-", out);
    else
        fprintf(out, "%.*s%s", SHOWN, value, strlen(value) > SHOWN ? "..." : "");
}

/* What is another than it was. */
static const char *cause(const struct drift *drift)
{
    if (drift->count || drift->incomparable[0] || drift->refused[0]) return "was run with another sweep file";
    if (drift->weights[0]) return "was run with other weights";
    if (drift->again || drift->left) return "has points that this version plans otherwise";
    return "does not have all points of the sweep";
}

void drift_print(const struct drift *drift, const char *dir, bool accepted, FILE *out)
{
    fprintf(out, "drift: %s %s:\n", dir, cause(drift));
    if (drift->refused[0]) {
        fprintf(out, "  refused: %s\n", drift->refused);
        return;
    }
    for (size_t i = 0; i < drift->count; i++) {
        const struct drift_change *change = &drift->changes[i];
        fprintf(out, "  %-14s %s: ", drift_class_name(change->class), change->field);
        print_value(out, change->before);
        fputs(" -> ", out);
        print_value(out, change->after);
        fputc('\n', out);
    }
    if (drift->incomparable[0]) fprintf(out, "  fields cannot be compared: %s\n", drift->incomparable);
    if (drift->weights[0])
        fprintf(out, "  %-14s weights of imported models have changed: %s\n", drift_class_name(DRIFT_RERUN),
                drift->weights);
    fprintf(out, "  points: %zu finished ones stay, %zu are new", drift->kept, drift->added);
    if (drift->left > 0)
        fprintf(out, ", %zu finished ones leave the sweep (they stay in the store, marked)", drift->left);
    if (drift->again > 0) fprintf(out, ", %zu of them run again as other points", drift->again);
    for (size_t i = 0; i < drift->count; i++)
        if (drift->changes[i].class == DRIFT_EVALUATION && drift->kept > 0) {
            fputs(
                "\n  metrics of texts: finished points keep what they have; `tunelaw evaluate` measures them anew from "
                "their weights",
                out);
            break;
        }
    fprintf(out, "\n  verdict: %s\n",
            drift->needs_acceptance ? accepted ? "goes on, by --accept-drift" : "needs --accept-drift"
            : drift->left > 0       ? "goes on, the sweep is narrower"
            : drift->added > 0      ? "goes on, the sweep is extended"
                                    : "goes on, nothing is run again");
}

static int verdict(const struct drift *drift, const char *dir, bool accepted, struct error *err)
{
    if (drift->refused[0]) return error_set(err, "%s: %s", dir, drift->refused);
    if (!drift->needs_acceptance || accepted) return 0;
    if (drift->left == 0)
        return error_set(err, "%s holds another sweep by its name; give another --dir, or --accept-drift to rename it",
                         dir);
    return error_set(err,
                     "%s: %zu finished points would leave the sweep, %zu of them to run again; --accept-drift goes on, "
                     "another --dir keeps both",
                     dir, drift->left, drift->again);
}

/* Print what there is to tell, unless it was told. */
static int tell(struct drift_question *question, const struct drift *drift, FILE *out, struct error *err)
{
    char *text = NULL;
    size_t size;
    FILE *memory = open_memstream(&text, &size);
    if (memory && drift_any(drift)) drift_print(drift, question->dir, question->accepted, memory);
    if (!memory || fclose(memory) != 0) {
        free(text);
        return error_set(err, "out of memory");
    }
    if (strcmp(text, question->said ? question->said : "") != 0) fputs(text, out);
    fflush(out);
    free(question->said);
    question->said = text;
    return 0;
}

int drift_check(struct drift_question *question, const struct sweep *sweep, const struct plan *plan, FILE *out,
                struct error *err)
{
    char path[PATH_MAX];
    const char *dir = question->dir;
    struct stat status;
    struct drift drift;
    if (snprintf(path, sizeof path, "%s/results.h5", dir) >= (int)sizeof path)
        return error_set(err, "%s: the path is too long", dir);
    if (stat(dir, &status) == 0 && !S_ISDIR(status.st_mode)) return error_set(err, "%s: no directory", dir);
    question->absent = stat(path, &status) != 0 && errno == ENOENT;
    if (question->absent) return 0;
    struct store *store = store_open(path, false, err);
    if (!store) return error_prefix(err, "the store cannot be read (`tunelaw verify` says what is left of it)");
    int result = drift_compare(store, sweep, plan, question->shard, &drift, err);
    store_close(store);
    if (result != 0) return -1;
    result = tell(question, &drift, out, err);
    if (result == 0) result = verdict(&drift, dir, question->accepted, err);
    drift_free(&drift);
    return result;
}
