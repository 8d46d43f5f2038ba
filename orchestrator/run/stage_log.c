/* The log of executed stages, summed up by model and method. */
#include "orchestrator/run/stage_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double number_of(const json_t *line, const char *key)
{
    double value = json_number_value(json_object_get(line, key));
    return value > 0 ? value : 0;
}

static const char *string_of(const json_t *line, const char *key)
{
    const char *text = json_string_value(json_object_get(line, key));
    return text ? text : "";
}

static struct stage_log_entry *entry_of(struct stage_log *log, const char *model, const char *method)
{
    for (size_t i = 0; i < log->count; i++)
        if (!strcmp(log->entries[i].model, model) && !strcmp(log->entries[i].method, method)) return &log->entries[i];
    struct stage_log_entry *grown = reallocarray(log->entries, log->count + 1, sizeof *grown);
    if (!grown) return NULL;
    log->entries = grown;
    struct stage_log_entry *entry = &grown[log->count++];
    *entry = (struct stage_log_entry){.stages = 0};
    snprintf(entry->model, sizeof entry->model, "%s", model);
    snprintf(entry->method, sizeof entry->method, "%s", method);
    return entry;
}

static int add_line(struct stage_log *log, const json_t *line, const char *identity)
{
    const char *status = string_of(line, "status"), *model = string_of(line, "model");
    double steps = number_of(line, "steps"), trained = number_of(line, "to_step") - number_of(line, "from_step");
    if (!*model || (strcmp(status, "done") && strcmp(status, "diverged"))) return 0;
    if (identity && strcmp(string_of(line, "stage"), identity)) return 0;
    struct stage_log_entry *entry = entry_of(log, model, string_of(line, "method"));
    if (!entry) return -1;
    entry->stages++;
    if (steps > 0 ? trained > 0 : 1) {
        entry->predicted_seconds += number_of(line, "predicted_seconds") * (steps > 0 ? trained / steps : 1);
        entry->actual_seconds += number_of(line, "seconds");
    }
    double predicted = number_of(line, "predicted_bytes"), peak = number_of(line, "peak_bytes");
    if (peak > entry->peak_bytes || (peak <= 0 && entry->peak_bytes <= 0 && predicted > entry->predicted_bytes)) {
        entry->predicted_bytes = predicted;
        entry->peak_bytes = peak;
    }
    return 0;
}

int stage_log_read(const char *dir, const char *identity, struct stage_log *log)
{
    char path[4096 + 64], *text = NULL;
    size_t size = 0;
    int result = 0;
    *log = (struct stage_log){.count = 0};
    snprintf(path, sizeof path, "%.4000s/logs/stages.jsonl", dir);
    FILE *file = fopen(path, "re");
    while (file && result == 0 && getline(&text, &size, file) >= 0) {
        json_t *line = !identity || strstr(text, identity) ? json_loads(text, 0, NULL) : NULL;
        result = add_line(log, line, identity);
        json_decref(line);
    }
    free(text);
    if (file) fclose(file);
    if (result) stage_log_free(log);
    return result;
}

void stage_log_free(struct stage_log *log)
{
    free(log->entries);
    *log = (struct stage_log){.count = 0};
}

json_t *stage_log_json(const struct stage_log *log)
{
    json_t *list = json_array();
    for (size_t i = 0; i < log->count; i++) {
        const struct stage_log_entry *entry = &log->entries[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f}", "model", entry->model, "method",
                                        entry->method, "stages", (json_int_t)entry->stages, "predicted_seconds",
                                        entry->predicted_seconds, "actual_seconds", entry->actual_seconds,
                                        "predicted_bytes", entry->predicted_bytes, "peak_bytes", entry->peak_bytes));
    }
    return list;
}
