/* The sweep file's group finetune.generate: texts that are generated with each point's best weights, and their metrics.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "io/config/config.h"
#include "orchestrator/sweep/sweep_parts.h"
#include "workers/text/metrics.h"

enum { MOST_BEAMS = 64, MOST_NEW_TOKENS = 1 << 16 };

static uint32_t metric_bit(const struct config_group *group, size_t index, const char *name)
{
    int metric = text_metric_find(name);
    if (metric >= 0) return 1u << metric;
    config_fail_element(group, "metrics", index, "no metric \"%s\"; allowed: bleu, chrf, rouge1, rouge2, rougeL", name);
    return 0;
}

static uint32_t read_metrics(const struct config_group *group)
{
    size_t count;
    uint32_t metrics = 0;
    if (!config_has(group, "metrics")) return 1u << TEXT_BLEU | 1u << TEXT_CHRF;
    const char **names = config_take_strings(group, "metrics", 15, true, &count);
    for (size_t i = 0; i < count; i++)
        metrics |= metric_bit(group, i, names[i]);
    free(names);
    return metrics;
}

static void check_task(const struct config_group *group, const struct sweep *sweep, const struct sweep_task *task)
{
    uint64_t have = task->test_examples ? task->test_examples : task->data.examples[SPLIT_TEST];
    if (sweep->generate.examples > have)
        config_fail(group, "examples", "%" PRIu64 " examples, more than the test has; allowed: 0 (all) .. %" PRIu64,
                    sweep->generate.examples, have);
    if (!task->data.has_tokenizer && task->there)
        config_fail(group, NULL,
                    "the data set %.200s was made of token ids (tunelaw data --ids): there is no text to generate or "
                    "to measure",
                    task->dataset);
}

void sweep_read_generate(const struct config_group *finetune, struct sweep *sweep)
{
    static const char *const keys[] = {"metrics", "beams", "max_new_tokens", "length_penalty", "examples",
                                       "save",    NULL};
    struct generation_config *generate = &sweep->generate;
    if (!config_has(finetune, "generate")) return;
    struct config_group group = config_open_group(finetune, "generate", keys, true);
    generate->metrics = read_metrics(&group);
    generate->beams = (uint32_t)config_take_uint_or(&group, "beams", 1, MOST_BEAMS, 1);
    generate->max_new_tokens = (uint32_t)config_take_uint_or(&group, "max_new_tokens", 1, MOST_NEW_TOKENS, 128);
    if (config_has(&group, "length_penalty") && generate->beams == 1)
        config_fail(&group, "length_penalty", "search is greedy; allowed with 2 beams and more");
    generate->length_penalty = config_take_double_or(&group, "length_penalty", -10.0, 10.0, 1.0);
    generate->examples = config_take_uint_or(&group, "examples", 0, INT64_MAX, 0);
    generate->save = config_take_bool_or(&group, "save", false);
    for (size_t i = 0; i < sweep->task_count && !config_file_failed(group.file); i++)
        check_task(&group, sweep, &sweep->tasks[i]);
}
