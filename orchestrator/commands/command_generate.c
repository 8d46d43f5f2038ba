/* tunelaw generate: what a finished point writes for the examples of a split, or for sources of one's own. */
#include <argp.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/text/text.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/run/rebuilt.h"
#include "orchestrator/run/view.h"
#include "workers/stage/worker.h"
#include "workers/text/metrics.h"

struct arguments {
    const char *path, *point, *text, *out;
    int split; /* -1: not given */
    uint64_t examples;
    double beams, max_new_tokens, length_penalty; /* NaN: the sweep's */
};

struct lines {
    char **list;
    size_t count, capacity;
};

static int add_line(struct lines *lines, const char *line, size_t size)
{
    if (lines->count == lines->capacity) {
        size_t capacity = lines->capacity ? 2 * lines->capacity : 256;
        char **list = realloc(lines->list, capacity * sizeof *list);
        if (!list) return -1;
        lines->list = list;
        lines->capacity = capacity;
    }
    lines->list[lines->count] = strndup(line, size);
    return lines->list[lines->count++] ? 0 : -1;
}

static int read_lines(const char *path, uint64_t most, struct lines *lines, struct error *err)
{
    const char *line;
    size_t size;
    int got = 0;
    struct text_reader *reader = text_open(path, NULL, err);
    if (!reader) return -1;
    while ((!most || lines->count < most) && (got = text_next(reader, &line, &size, err)) > 0)
        if (add_line(lines, line, size)) {
            got = error_set(err, "out of memory for the lines of %s", path);
            break;
        }
    text_close(reader);
    if (got >= 0 && lines->count == 0) return error_set(err, "%s is empty", path);
    return got < 0 ? -1 : 0;
}

static void free_lines(struct lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        free(lines->list[i]);
    free(lines->list);
}

/* What it is generated with: the sweep's settings, those of the command line over them. */
static int choose(const struct arguments *arguments, struct generation_config *generate, struct error *err)
{
    if (!generate->max_new_tokens)
        *generate = (struct generation_config){.beams = 1, .max_new_tokens = 128, .length_penalty = 1};
    generate->metrics = (1u << TEXT_METRICS) - 1;
    generate->save = false;
    if (!isnan(arguments->beams)) generate->beams = (uint32_t)arguments->beams;
    if (!isnan(arguments->max_new_tokens)) generate->max_new_tokens = (uint32_t)arguments->max_new_tokens;
    if (isnan(arguments->length_penalty)) return 0;
    generate->length_penalty = arguments->length_penalty;
    return generate->beams > 1
               ? 0
               : error_set(err, "--length-penalty is of beam search; allowed with it: --beams 2 and more");
}

/* As the result's own texts were made. */
static bool as_committed(const struct generation_request *request, const struct store_result *a,
                         const struct store_result *b)
{
    return !request->lines && request->split == SPLIT_TEST && a->generated && a->generated == b->generated &&
           a->beams == b->beams && a->max_new_tokens == b->max_new_tokens &&
           (a->length_penalty == b->length_penalty || a->beams == 1);
}

static void print_metrics(FILE *out, const struct generation_request *request, const struct store_result *committed,
                          const struct store_result *measured)
{
    const double values[TEXT_METRICS] = {measured->bleu, measured->chrf, measured->rouge1, measured->rouge2,
                                         measured->rougeL};
    fprintf(out, "%" PRIu64 " texts, %" PRIu32 " beams, at most %" PRIu32 " tokens\n", measured->generated,
            measured->beams, measured->max_new_tokens);
    for (int metric = 0; !request->lines && metric < TEXT_METRICS; metric++)
        fprintf(out, "  %-7s %.*f\n", text_metric_name((enum text_metric)metric), metric < TEXT_ROUGE1 ? 2 : 4,
                values[metric]);
    if (as_committed(request, committed, measured))
        fprintf(out, "%s\n",
                memcmp(committed->generations, measured->generations, sizeof committed->generations)
                    ? "the result was measured on other texts: another execution class, or other code"
                    : "the same texts as those of the result");
}

/* More was asked for than there is. */
static void note_fewer(const struct arguments *arguments, const struct generation_request *request, uint64_t got)
{
    if (arguments->examples <= got) return;
    fprintf(stderr, "tunelaw: %s%s has %" PRIu64 " %s%s, not %" PRIu64 ": these are all\n",
            arguments->text ? "" : "the split ", arguments->text ? arguments->text : dataset_split_name(request->split),
            got, arguments->text ? "line" : "example", got == 1 ? "" : "s", arguments->examples);
}

/* As the sweep has it; 0: all of the split. */
static uint64_t examples_wanted(const struct arguments *arguments, const struct stage *stage, enum dataset_split split)
{
    if (arguments->examples) return arguments->examples;
    if (split == SPLIT_TEST) return stage_text_examples(stage);
    return split == SPLIT_VALID ? stage->valid_examples : 0;
}

static int generate(const struct arguments *arguments, const struct stage *stage, const struct store_result *result,
                    const struct lines *lines, struct error *err)
{
    struct file_draft draft;
    struct store_result measured;
    enum dataset_split split = arguments->split < 0 ? SPLIT_TEST : (enum dataset_split)arguments->split;
    struct generation_request request = {.split = split,
                                         .lines = (const char *const *)lines->list,
                                         .count = lines->list ? lines->count : examples_wanted(arguments, stage, split),
                                         .file = stdout};
    if (arguments->out && file_draft_open_named(&draft, arguments->out, 0666, err)) return -1;
    if (arguments->out) request.file = draft.file;
    int status = stage_generate(stage, result, &request, &measured, err);
    if (arguments->out) {
        if (status == 0)
            status = file_draft_publish(&draft, false, err);
        else
            file_draft_discard(&draft);
    } else if (status == 0 && fflush(stdout)) {
        status = error_set_errno(err, "writing");
    }
    if (status) return status;
    note_fewer(arguments, &request, measured.generated);
    print_metrics(arguments->out ? stdout : stderr, &request, result, &measured);
    return 0;
}

static int run(const struct arguments *arguments, const struct view *view, struct view_row *row, struct error *err)
{
    size_t index = 0;
    struct lines lines = {0};
    struct rebuilt rebuilt;
    if (view_find(view, arguments->point, &index, err) || view_read(view, index, row, err)) return -1;
    if (!row->committed) return error_set(err, "row %zu has no result: it is %s", row->index, view_status(row));
    struct stage *stage = rebuilt_create(&rebuilt, view, err) ? NULL : rebuilt_stage(&rebuilt, view, &row->point, err);
    int result = stage ? 0 : -1;
    if (stage) {
        result = choose(arguments, &stage->generate, err);
        if (result == 0 && arguments->text) result = read_lines(arguments->text, arguments->examples, &lines, err);
        if (result == 0) result = generate(arguments, stage, &row->result, &lines, err);
        if (result) rebuilt_failed(view, row, err);
    }
    free(stage);
    free_lines(&lines);
    rebuilt_destroy(&rebuilt);
    return result;
}

static int split_of(const char *word, struct argp_state *state)
{
    for (int split = 0; split < SPLITS; split++)
        if (!strcmp(word, dataset_split_name((enum dataset_split)split))) return split;
    argp_error(state, "no split \"%s\"; allowed: train, valid, test", word);
    return -1;
}

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'p':
        arguments->point = word;
        return 0;
    case 't':
        arguments->text = word;
        return 0;
    case 's':
        arguments->split = split_of(word, state);
        return 0;
    case 'n':
        arguments->examples = (uint64_t)command_number("examples", word, 1, 1e9, state);
        return 0;
    case 'b':
        arguments->beams = command_number("beams", word, 1, 64, state);
        return 0;
    case 'm':
        arguments->max_new_tokens = command_number("max-new-tokens", word, 1, 1 << 16, state);
        return 0;
    case 'l':
        arguments->length_penalty = command_number("length-penalty", word, -10, 10, state);
        return 0;
    case 'o':
        arguments->out = word;
        return 0;
    case ARGP_KEY_END:
        if (!arguments->path) argp_usage(state);
        if (!arguments->point) argp_error(state, "--point says whose texts");
        if (arguments->text && arguments->split >= 0) argp_error(state, "either --text or --split");
        return 0;
    default:
        return command_parse_path(key, word, state, &arguments->path);
    }
}

int command_generate(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"point", 'p', "POINT", 0, "a row number, or the beginning of an identity", 0},
        {"split", 's', "SPLIT", 0, "sources and references: test (the default), valid or train", 0},
        {"text", 't', "FILE", 0, "sources of your own, one a line, empty lines left out; there are no references then",
         0},
        {"examples", 'n', "N", 0,
         "the first N examples or lines; of a split as many as the sweep file has for it, of a file all", 0},
        {"beams", 'b', "N", 0, "1: greedy; as in the sweep file, else 1", 0},
        {"max-new-tokens", 'm', "N", 0, "as in the sweep file, else 128", 0},
        {"length-penalty", 'l', "X", 0, "of beam search; as in the sweep file, else 1", 0},
        {"out", 'o', "FILE", 0, "write the texts to FILE instead of the terminal", 0},
        {0}};
    static const struct argp argp = {
        options,
        parse,
        "DIR",
        "Generate texts with the best weights of a finished point of the run in DIR, and measure them against their "
        "references.\v"
        "Texts are lines of JSON: example, source, reference, hypothesis; for BLEURT and other metrics. BLEU and chrF "
        "are those of sacrebleu, ROUGE those of rouge-score, with their defaults.",
        NULL,
        NULL,
        NULL};
    struct arguments arguments = {.split = -1, .beams = NAN, .max_new_tokens = NAN, .length_penalty = NAN};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);

    struct error err;
    struct view view;
    if (view_open(&view, arguments.path, &err)) return command_fail(&err);
    struct view_row *row = malloc(sizeof *row);
    int failed = row ? run(&arguments, &view, row, &err) : error_set(&err, "out of memory");
    free(row);
    view_close(&view);
    return failed ? command_fail(&err) : 0;
}
