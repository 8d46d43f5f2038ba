/* Field by field: the parameters of two sweep files, as they were taken, become a list of changes with a class each. */
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/drift_parts.h"

struct parameter {
    char *field, *value;
    bool is_default;
};

struct parameters {
    struct parameter *list;
    size_t count, capacity;
};

static void parameters_free(struct parameters *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->list[i].field);
        free(p->list[i].value);
    }
    free(p->list);
}

static struct parameter *find(const struct parameters *p, const char *field)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->list[i].field, field) == 0) return &p->list[i];
    return NULL;
}

static int add(struct parameters *p, char *field, char *value, bool is_default)
{
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 128;
        struct parameter *grown = realloc(p->list, capacity * sizeof *grown);
        if (grown) {
            p->list = grown;
            p->capacity = capacity;
        }
    }
    if (!field || !value || p->count == p->capacity) {
        free(field);
        free(value);
        return -1;
    }
    p->list[p->count++] = (struct parameter){field, value, is_default};
    return 0;
}

/* Conditions have no names: a list of them is one value. */
static int append(struct parameters *p, const char *list, const char *member, const char *value)
{
    struct parameter *found = find(p, list);
    char *joined = NULL;
    if (!found) return asprintf(&joined, "%s = %s", member, value) < 0 ? -1 : add(p, strdup(list), joined, false);
    if (asprintf(&joined, "%s; %s = %s", found->value, member, value) < 0) return -1;
    free(found->value);
    found->value = joined;
    return 0;
}

/* "models[1].width" -> "models.NAME.width": a list may be in another order. *name is that of the current member; of a
 * method with tasks of its own, which comes before its name, with these. The list of data sets is that of tasks. */
static int take(struct parameters *p, char *key, char *value, bool is_default, char *name, size_t name_size)
{
    static const char *const lists[] = {"exclude", "held_out", "only", "zip", "one_at_a_time", "pretrain.denoisers"};
    static char tasks[] = "tasks";
    char *field = NULL, *open = strchr(key, '['), *member = open ? strstr(open, "].") : NULL;
    if (!member) return add(p, strdup(key), strdup(value), is_default);
    *open = '\0';
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strcmp(key, lists[i]) == 0) return append(p, lists[i], member + 2, value);
    member += 2;
    if (strcmp(key, "data") == 0) key = tasks;
    if (strcmp(key, "methods") == 0 && strcmp(member, "tasks") == 0) {
        snprintf(name, name_size, " for %s", value);
        return 0;
    }
    if (strcmp(member, "name") == 0) {
        size_t length = strlen(value);
        char suffix[SWEEP_DIGESTS] = "";
        if (strcmp(key, "methods") == 0 && name[0] == ' ') snprintf(suffix, sizeof suffix, "%s", name);
        if (length >= 2) snprintf(name, name_size, "%.*s%s", (int)length - 2, value + 1, suffix);
        return asprintf(&field, "%s.%s", key, name) < 0 ? -1 : add(p, field, strdup(""), false);
    }
    return asprintf(&field, "%s.%s.%s", key, name, member) < 0 ? -1 : add(p, field, strdup(value), is_default);
}

static int parse(const char *text, struct parameters *p)
{
    static const char mark[] = "  # default";
    char name[SWEEP_DIGESTS + 64] = "";
    while (*text) {
        size_t length = strcspn(text, "\n");
        char *line = strndup(text, length), *equals = line ? strstr(line, " = ") : NULL;
        text += length + (text[length] == '\n');
        int result = line ? 0 : -1;
        if (equals) {
            size_t end = strlen(line), tail = sizeof mark - 1;
            bool is_default = end > tail && strcmp(line + end - tail, mark) == 0;
            if (is_default) line[end - tail] = '\0';
            *equals = '\0';
            result = take(p, line, equals + 3, is_default, name, sizeof name);
        }
        free(line);
        if (result != 0) return -1;
    }
    return 0;
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
    size_t a = strlen(text), b = strlen(with);
    return a >= b && strcmp(text + a - b, with) == 0;
}

static bool is_listed(const char *field)
{
    return begins(field, "models.") || begins(field, "methods.") || begins(field, "tasks.");
}

/* "models.NAME", "methods.NAME": a member of a list. */
static bool is_member(const char *field)
{
    const char *dot = strchr(field, '.');
    return dot && is_listed(field) && !strchr(dot + 1, '.');
}

enum drift_class drift_classify(const char *field)
{
    static const char *const axes[] = {
        "pretrain.tokens", "finetune.examples", "finetune.seeds", "exclude", "only", "zip"};
    static const char *const method_axes[] = {".ranks", ".lengths", ".widths", ".learning_rates", ".examples"};
    if (strcmp(field, "name") == 0) return DRIFT_RENAME;
    if (begins(field, "resources.") || strcmp(field, "data.dataset") == 0) return DRIFT_COMPATIBLE;
    if (begins(field, "tasks.") && ends(field, ".dataset")) return DRIFT_COMPATIBLE;
    if (strcmp(field, "finetune.share") == 0 || (begins(field, "methods.") && ends(field, ".share")))
        return DRIFT_COMPATIBLE;
    if (begins(field, "finetune.generate")) return DRIFT_EVALUATION;
    if (begins(field, "one_at_a_time")) return DRIFT_AXIS;
    if (begins(field, "fit.") || strcmp(field, "held_out") == 0) return DRIFT_REFIT;
    for (size_t i = 0; i < sizeof axes / sizeof *axes; i++)
        if (strcmp(field, axes[i]) == 0) return DRIFT_AXIS;
    for (size_t i = 0; i < sizeof method_axes / sizeof *method_axes; i++)
        if (begins(field, "methods.") && ends(field, method_axes[i])) return DRIFT_AXIS;
    if (begins(field, "models.") && (ends(field, ".tasks") || ends(field, ".pretrain_tokens"))) return DRIFT_AXIS;
    /* where a base lies and how much it has seen; what is there, its digest says (drift.weights) */
    if (begins(field, "models.") && (ends(field, ".import") || ends(field, ".path"))) return DRIFT_COMPATIBLE;
    if (begins(field, "models.") && ends(field, ".tokens")) return DRIFT_AXIS;
    return is_member(field) ? DRIFT_AXIS : DRIFT_RERUN;
}

/* Of a member that only one side has, its name alone is a change. */
static bool member_missing(const struct parameters *other, const char *field)
{
    if (!is_listed(field)) return false;
    char *member = strdup(field), *last;
    bool missing = member && !is_member(field);
    /* a field may be one of a group, or of an entry of a list, of the member */
    while (missing && !is_member(member) && (last = strrchr(member, '.'))) {
        *last = '\0';
        missing = !find(other, member);
    }
    free(member);
    return missing;
}

static int add_change(struct drift *out, const char *field, const char *before, const char *after)
{
    struct drift_change *grown = realloc(out->changes, (out->count + 1) * sizeof *grown);
    if (!grown) return -1;
    out->changes = grown;
    out->changes[out->count] =
        (struct drift_change){strdup(field), strdup(before), strdup(after), drift_classify(field)};
    const struct drift_change *added = &out->changes[out->count++];
    return added->field && added->before && added->after ? 0 : -1;
}

static const char *shown(const struct parameter *parameter)
{
    if (!parameter) return "";
    return is_member(parameter->field) ? "there" : parameter->value;
}

static int compare(const struct parameters *old, const struct parameters *new, struct drift *out)
{
    for (size_t i = 0; i < old->count; i++) {
        const struct parameter *before = &old->list[i], *after = find(new, before->field);
        if (after && strcmp(before->value, after->value) == 0) continue;
        if (after && before->is_default && after->is_default && begins(before->field, "methods.")) continue;
        if (!after && member_missing(new, before->field)) continue;
        if (add_change(out, before->field, shown(before), shown(after)) != 0) return -1;
    }
    for (size_t i = 0; i < new->count; i++) {
        const struct parameter *after = &new->list[i];
        if (find(old, after->field) || member_missing(old, after->field)) continue;
        if (add_change(out, after->field, "", shown(after)) != 0) return -1;
    }
    return 0;
}

int drift_fields(const char *before, const char *after, struct drift *out)
{
    struct parameters old = {0}, new = {0};
    int result = parse(before, &old) != 0 || parse(after, &new) != 0 || compare(&old, &new, out) != 0 ? -1 : 0;
    parameters_free(&old);
    parameters_free(&new);
    return result;
}
