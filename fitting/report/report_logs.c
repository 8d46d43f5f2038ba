/* Fitting: what a sweep took, from the files beside its store: executed stages and parameters. A store that was copied
 * alone, or a merged one, has none of them. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/report/report_internal.h"

static double number_of(const json_t *line, const char *key)
{
    double value = json_number_value(json_object_get(line, key));
    return value > 0 ? value : 0;
}

static void add_stage(struct run_record *record, const json_t *line)
{
    const char *kind = json_string_value(json_object_get(line, "kind"));
    const char *status = json_string_value(json_object_get(line, "status"));
    if (!kind || !status) return;
    struct run_stages *stages = &record->stages[strcmp(kind, "pretrain") ? RUN_FINETUNE : RUN_PRETRAIN];
    double steps = number_of(line, "to_step") - number_of(line, "from_step");
    bool recovered =
        json_is_true(json_object_get(line, "recovered")); /* it has what all attempts took: some have lines */
    record->has_stages = true;
    stages->steps += steps > 0 && !recovered ? steps : 0;
    stages->flops += recovered ? 0 : number_of(line, "flops");
    if (!strcmp(status, "done") || !strcmp(status, "diverged")) {
        stages->completed++;
        stages->recomputed_steps += number_of(line, "repeated_steps"); /* of all attempts, those that died as well */
        stages->seconds += recovered ? 0 : number_of(line, "seconds");
    } else {
        stages->ended++;
        stages->lost_seconds += number_of(line, "seconds");
    }
}

static void read_stages(const char *dir, struct run_record *record)
{
    char path[4096 + 64], *text = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%.4000s/logs/stages.jsonl", dir);
    FILE *file = fopen(path, "re");
    while (file && getline(&text, &size, file) >= 0) {
        json_t *line = json_loads(text, 0, NULL); /* a torn last line is no object */
        add_stage(record, line);
        json_decref(line);
    }
    free(text);
    if (file) fclose(file);
}

int run_record_read_logs(const char *dir, struct run_record *record)
{
    char path[4096 + 64];
    size_t size = 0;
    read_stages(dir, record);
    snprintf(path, sizeof path, "%.4000s/logs/parameters.txt", dir);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    if (getdelim(&record->parameters, &size, '\0', file) < 0) {
        free(record->parameters);
        record->parameters = NULL;
    }
    fclose(file);
    return 0;
}
