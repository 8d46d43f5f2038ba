/* tunelaw data: turns text into a tokenised data set, or says what a data set holds. */
#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "io/text/dataset.h"
#include "io/tokenizer/tokenizer.h"
#include "orchestrator/commands/command.h"

enum { DEFAULT_VOCABULARY = 8192, FILES = 4096 };

struct arguments {
    struct dataset_sources sources;
    const char *text[FILES], *valid_text[FILES], *pairs[SPLITS][FILES];
    char source_field[128];
    const char *out;  /* build this */
    const char *path; /* describe this */
    bool builds;      /* a word was given that only building takes */
    bool verify, json, has_vocabulary, has_first;
};

enum {
    KEY_PAIRS_TRAIN = 0x100,
    KEY_PAIRS_VALID,
    KEY_PAIRS_TEST,
    KEY_TEXT,
    KEY_VALID_TEXT,
    KEY_TEXT_FIELD,
    KEY_PAIR_FIELDS,
    KEY_TOKENIZER,
    KEY_SEPARATOR,
    KEY_END_TOKEN,
    KEY_AS_WRITTEN,
    KEY_VOCABULARY,
    KEY_IDS,
    KEY_SENTINELS,
    KEY_TASK,
    KEY_DESCRIPTION,
    KEY_VERIFY
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Building a data set:", 1},
    {"pairs-train", KEY_PAIRS_TRAIN, "FILE", 0,
     "finetuning examples: UTF-8, one a line, source TAB target, or JSON lines; may be given again", 1},
    {"pairs-valid", KEY_PAIRS_VALID, "FILE", 0, "examples that choose the best checkpoint; may be given again", 1},
    {"pairs-test", KEY_PAIRS_TEST, "FILE", 0,
     "examples that the losses of the laws are measured on; may be given again", 1},
    {"text", KEY_TEXT, "FILE", 0, "pretraining text: UTF-8, one document a line, or JSON lines; may be given again", 1},
    {"valid-text", KEY_VALID_TEXT, "FILE", 0,
     "validation text; without it documents 1, 201, 401... of the text are held back", 1},
    {"pair-fields", KEY_PAIR_FIELDS, "SOURCE,TARGET", 0,
     "members of JSON lines that are examples (source,target; prompt,completion; or, without instruction, "
     "input,output)",
     1},
    {"text-field", KEY_TEXT_FIELD, "NAME", 0, "member of JSON lines that is a document (text)", 1},
    {"tokenizer", KEY_TOKENIZER, "MODEL", 0,
     "a sentencepiece model, a tokenizer.json, or the folder of a Hugging Face model with one of them; without it one "
     "is "
     "trained",
     1},
    {"separator", KEY_SEPARATOR, "TEXT", 0,
     "what stands between source and target: the text of one piece of MODEL, or '' for nothing, both being one text "
     "then (" TOKENIZER_SEPARATOR " where MODEL has that, else a newline)",
     1},
    {"end-token", KEY_END_TOKEN, "TOKEN", 0,
     "what ends a text, of a tokenizer.json beside which no tokenizer_config.json or config.json says it", 1},
    {"as-written", KEY_AS_WRITTEN, NULL, 0,
     "pairs spell their special tokens themselves, as a chat's template writes them (configs/chat_pairs.py): no begin, "
     "separator or end is added, and source and target are one text; for a tokenizer.json",
     1},
    {"vocabulary", KEY_VOCABULARY, "N", 0,
     "pieces of a trained tokenizer (8192; 300 to 1,000,000); with --ids those of the ids", 1},
    {"ids", KEY_IDS, NULL, 0,
     "all files hold token ids of another tokenizer, numbers between spaces, that are taken as they are", 1},
    {"sentinels", KEY_SENTINELS, "N", 0,
     "reserve N sentinels and three modes for the objective ul2 in a trained tokenizer; with --ids FIRST:N says that "
     "the ids FIRST .. FIRST + N + 2 are not used: a file that has one is refused",
     1},
    {"task", KEY_TASK, "NAME", 0, "name of the task in results: letters, digits, _-.+ (translation)", 1},
    {"description", KEY_DESCRIPTION, "TEXT", 0, "kept with the data, not part of its digest", 1},
    {"out", 'o', "FILE", 0, "the data set to write, HDF5", 1},
    {NULL, 0, NULL, 0, "Looking at one:", 2},
    {"verify", KEY_VERIFY, NULL, 0, "check its digest and every token", 2},
    {NULL, 0, NULL, 0, "Both:", 3},
    {"json", 'j', NULL, 0, "for a program", 3},
    {0}};

static const char about[] = "Turn text into a tokenised data set, or say what a data set holds.\v"
                            "A file whose name ends in .jsonl or .ndjson has an object a line, whose texts may hold "
                            "tabs and newlines; empty lines of --text are passed over. Other malformed input (not "
                            "UTF-8, a missing column, an empty example or file) is refused with file and line, and "
                            "nothing is written.\n\n"
                            "Examples:\n"
                            "  tunelaw data --text en.txt --text de.txt --pairs-train train.tsv\n"
                            "      --pairs-valid valid.tsv --pairs-test test.tsv --out data/ende.h5\n"
                            "  tunelaw data --text more.txt --tokenizer my.model --out data/more.h5\n"
                            "  tunelaw data --tokenizer pythia-70m --pairs-train train.jsonl\n"
                            "      --pairs-valid valid.jsonl --pairs-test test.jsonl --out data/mine.h5\n"
                            "  tunelaw data --ids --vocabulary 50304 --text ids.txt --pairs-train ids.tsv\n"
                            "      --pairs-valid valid.tsv --pairs-test test.tsv --out data/pythia.h5\n"
                            "  tunelaw data data/ende.h5 --verify\n"
                            "  tunelaw data data/ende.h5 --json";

static void add_file(const char **files, size_t *count, const char *word, const struct argp_state *state)
{
    if (*count == FILES) argp_error(state, "more than %d files", FILES);
    files[(*count)++] = word;
}

static size_t parse_count(const char *word, const struct argp_state *state)
{
    char *end = NULL;
    unsigned long long value = strtoull(word, &end, 10);
    if (*word < '0' || *word > '9' || *end || value > 1000000)
        argp_error(state, "vocabulary %s; allowed: 300..1000000", word);
    return (size_t)value;
}

static void parse_sentinels(const char *word, struct arguments *arguments, const struct argp_state *state)
{
    char *end = NULL;
    unsigned long long first = 0, count = strtoull(word, &end, 10);
    arguments->has_first = *end == ':';
    if (arguments->has_first) {
        first = count;
        word = end + 1;
        count = strtoull(word, &end, 10);
    }
    if (*word < '0' || *word > '9' || *end || count < 1 || count > 100000 || first > 1000000)
        argp_error(state, "sentinels %s; allowed: N, with --ids FIRST:N, of 1..100000", word);
    arguments->sources.sentinels = (size_t)count;
    arguments->sources.first_reserved = (size_t)first;
}

static void parse_fields(const char *word, struct arguments *arguments, const struct argp_state *state)
{
    const char *comma = strchr(word, ',');
    size_t size = comma ? (size_t)(comma - word) : 0;
    if (size == 0 || size >= sizeof arguments->source_field || !comma[1] || strchr(comma + 1, ','))
        argp_error(state, "pair fields \"%s\"; allowed: SOURCE,TARGET", word);
    memcpy(arguments->source_field, word, size);
    arguments->sources.fields.source = arguments->source_field;
    arguments->sources.fields.target = comma + 1;
}

static bool parse_build(struct arguments *arguments, int key, const char *word, const struct argp_state *state)
{
    struct dataset_sources *sources = &arguments->sources;
    switch (key) {
    case KEY_PAIRS_TRAIN:
    case KEY_PAIRS_VALID:
    case KEY_PAIRS_TEST:
        add_file(arguments->pairs[key - KEY_PAIRS_TRAIN], &sources->pairs[key - KEY_PAIRS_TRAIN].count, word, state);
        return true;
    case KEY_TEXT:
        add_file(arguments->text, &sources->text_count, word, state);
        return true;
    case KEY_VALID_TEXT:
        add_file(arguments->valid_text, &sources->valid_text_count, word, state);
        return true;
    case KEY_TOKENIZER:
        sources->tokenizer = word;
        return true;
    case KEY_SEPARATOR: /* a shell's quotes leave these as they are */
        sources->separator = !strcmp(word, "\\n") ? "\n" : !strcmp(word, "\\t") ? "\t" : word;
        return true;
    case KEY_END_TOKEN:
        sources->end_token = word;
        return true;
    case KEY_AS_WRITTEN:
        sources->as_written = true;
        return true;
    case KEY_TEXT_FIELD:
        sources->fields.text = word;
        return true;
    case KEY_PAIR_FIELDS:
        parse_fields(word, arguments, state);
        return true;
    case KEY_VOCABULARY:
        sources->vocabulary = parse_count(word, state);
        arguments->has_vocabulary = true;
        return true;
    case KEY_IDS:
        sources->ids = true;
        return true;
    case KEY_SENTINELS:
        parse_sentinels(word, arguments, state);
        return true;
    case KEY_TASK:
        sources->task = word;
        return true;
    case KEY_DESCRIPTION:
        sources->description = word;
        return true;
    case 'o':
        arguments->out = word;
        return true;
    default:
        return false;
    }
}

static bool any_json_lines(const char *const *files, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (text_is_json_lines(files[i])) return true;
    return false;
}

static void check_fields(const struct arguments *arguments, const struct argp_state *state)
{
    const struct dataset_sources *sources = &arguments->sources;
    bool pairs = false;
    bool texts = any_json_lines(arguments->text, sources->text_count) ||
                 any_json_lines(arguments->valid_text, sources->valid_text_count);
    for (int split = 0; split < SPLITS; split++)
        pairs = pairs || any_json_lines(arguments->pairs[split], sources->pairs[split].count);
    if (sources->fields.source && !pairs)
        argp_error(state, "--pair-fields is for pairs in files that end in .jsonl or .ndjson");
    if (sources->fields.text && !texts)
        argp_error(state, "--text-field is for texts in files that end in .jsonl or .ndjson");
}

static void check_words(const struct arguments *arguments, const struct argp_state *state)
{
    if (!arguments->builds && !arguments->path)
        argp_error(state, "a data set to look at, or --out FILE and text to build it from");
    if (arguments->builds && arguments->path)
        argp_error(state, "%s: building takes options only (--text, --pairs-train...)", arguments->path);
    if (arguments->builds && !arguments->out) argp_error(state, "--out FILE says where the data set goes");
    if (arguments->builds && arguments->verify) argp_error(state, "--verify is for a data set that is there");
    if (arguments->sources.ids && (arguments->sources.tokenizer || !arguments->has_vocabulary))
        argp_error(state, "--ids wants --vocabulary N of the tokenizer that made them, and no --tokenizer");
    if (arguments->sources.sentinels && arguments->sources.ids != arguments->has_first)
        argp_error(state, "--sentinels is N, with --ids FIRST:N");
    check_fields(arguments, state);
    if ((arguments->sources.separator || arguments->sources.end_token || arguments->sources.as_written) &&
        !arguments->sources.tokenizer)
        argp_error(state, "--separator, --end-token and --as-written go with --tokenizer");
    if (arguments->sources.separator && arguments->sources.as_written)
        argp_error(state, "--separator: with --as-written nothing is added");
    if (arguments->sources.tokenizer && arguments->has_vocabulary)
        argp_error(state, "--vocabulary is for a trained tokenizer, --tokenizer brings its own");
}

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    if (parse_build(arguments, key, word, state)) {
        arguments->builds = true;
        return 0;
    }
    switch (key) {
    case KEY_VERIFY:
        arguments->verify = true;
        return 0;
    case 'j':
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->path) argp_error(state, "one data set, not also %s", word);
        arguments->path = word;
        return 0;
    case ARGP_KEY_END:
        check_words(arguments, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static json_t *describe_json(const char *path, const struct dataset_info *info, const char *description)
{
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I}}", "path", path, "digest", info->digest.hex,
        "task", info->task, "description", description, "vocabulary", (json_int_t)info->vocabulary, "begin",
        (json_int_t)info->begin, "end", (json_int_t)info->end, "separator", (json_int_t)info->separator, "reserved",
        (json_int_t)info->reserved, "sentinels", (json_int_t)info->sentinels, "text_tokens", "train",
        (json_int_t)info->text_tokens[SPLIT_TRAIN], "valid", (json_int_t)info->text_tokens[SPLIT_VALID]);
    json_t *examples = json_object();
    for (int i = 0; i < SPLITS; i++)
        json_object_set_new(examples, dataset_split_name((enum dataset_split)i),
                            json_pack("{s:I, s:I, s:I}", "count", (json_int_t)info->examples[i], "tokens",
                                      (json_int_t)info->example_tokens[i], "longest", (json_int_t)info->longest[i]));
    json_object_set_new(object, "examples", examples);
    return object;
}

/* Ids that stand around texts, with their pieces. */
static void describe_marks(const struct dataset *dataset)
{
    const struct dataset_info *info = dataset_info(dataset);
    const char *const names[] = {"begin", "separator", "end"};
    const int32_t ids[] = {info->begin, info->separator, info->end};
    size_t size;
    struct error ignored;
    const void *bytes = dataset_tokenizer(dataset, &size);
    struct tokenizer *tokenizer = size ? tokenizer_create(bytes, size, &ignored) : NULL;
    if (size) printf("  marks       ");
    for (size_t i = 0; size && i < 3; i++) {
        bool known = tokenizer && ids[i] >= 0 && (size_t)ids[i] < tokenizer_vocabulary(tokenizer);
        const char *piece = known ? tokenizer_piece(tokenizer, (size_t)ids[i]) : NULL;
        json_t *string = json_string(piece ? piece : "?"); /* it may hold anything */
        char *quoted = json_dumps(string, JSON_ENCODE_ANY);
        printf("%s%s ", i ? ", " : "", names[i]);
        if (ids[i] < 0)
            printf("none");
        else
            printf("%d %s", ids[i], quoted ? quoted : "?");
        free(quoted);
        json_decref(string);
    }
    if (size) printf("\n");
    tokenizer_destroy(tokenizer);
}

static void describe_text(const char *path, const struct dataset *dataset)
{
    const struct dataset_info *info = dataset_info(dataset);
    const char *description = dataset_description(dataset);
    printf("%s\n", path);
    printf("  task        %s\n", *info->task ? info->task : "(none)");
    if (*description) printf("  about       %s\n", description);
    printf("  digest      %s\n", info->digest.hex);
    printf("  vocabulary  %zu\n", info->vocabulary);
    describe_marks(dataset);
    if (info->sentinels)
        printf("  reserved    %zu sentinels and 3 modes, from id %d on\n", info->sentinels, info->reserved);
    printf("  text        %zu tokens, %zu held back for validation\n", info->text_tokens[SPLIT_TRAIN],
           info->text_tokens[SPLIT_VALID]);
    for (int i = 0; i < SPLITS; i++)
        printf("  %-5s       %zu examples, %zu tokens, longest %zu\n", dataset_split_name((enum dataset_split)i),
               info->examples[i], info->example_tokens[i], info->longest[i]);
}

static int describe(const struct arguments *arguments, const char *path, double seconds, struct error *err)
{
    struct dataset *dataset = dataset_open(path, err);
    if (!dataset) return -1;
    int result = arguments->verify ? dataset_verify(dataset, err) : 0;
    if (result != 0) {
        error_prefix(err, "%s", path);
    } else if (arguments->json) {
        json_t *object = describe_json(path, dataset_info(dataset), dataset_description(dataset));
        if (arguments->verify) json_object_set_new(object, "verified", json_true());
        if (json_dumpf(object, stdout, JSON_INDENT(2)) != 0)
            result = error_set(err, "%s: cannot be written as JSON", path);
        printf("\n");
        json_decref(object);
    } else {
        describe_text(path, dataset);
        if (arguments->verify) printf("  verified    the content has this digest\n");
        if (seconds >= 0) printf("  built in    %.1f s\n", seconds);
    }
    dataset_close(dataset);
    return result;
}

static int build(struct arguments *arguments, struct error *err)
{
    double start = clock_elapsed();
    arguments->sources.text = arguments->text;
    arguments->sources.valid_text = arguments->valid_text;
    for (int split = 0; split < SPLITS; split++)
        arguments->sources.pairs[split].paths = arguments->pairs[split];
    struct dataset_info info;
    struct error none;
    struct dataset *old = dataset_open(arguments->out, &none);
    struct digest replaced = old ? dataset_info(old)->digest : (struct digest){""};
    if (old) dataset_close(old);
    if (dataset_build(arguments->out, &arguments->sources, &info, err) != 0) return -1;
    if (*replaced.hex && strcmp(replaced.hex, info.digest.hex) != 0)
        fprintf(stderr, "tunelaw: %s is replaced; it was another data set, of digest %.12s\n", arguments->out,
                replaced.hex);
    for (int split = SPLIT_VALID; split < SPLITS; split++)
        if (info.repeated[split])
            fprintf(stderr,
                    "tunelaw: %zu of %zu %s examples are training examples, too: their loss is not that of what a "
                    "model has not seen\n",
                    info.repeated[split], info.examples[split], dataset_split_name((enum dataset_split)split));
    if (info.endless)
        fprintf(stderr,
                "tunelaw: %zu examples have no end token in their targets: what is learnt of them does not end (the "
                "last lines below name it, --end-token another one)\n",
                info.endless);
    return describe(arguments, arguments->out, clock_elapsed() - start, err);
}

int command_data(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse, "FILE.h5\n--out FILE.h5 --text FILE... --pairs-train FILE...", about, NULL, NULL, NULL};
    struct arguments *arguments = calloc(1, sizeof *arguments);
    struct error err = {""};
    int result = -1;
    if (!arguments) {
        error_set(&err, "out of memory");
        return command_fail(&err);
    }
    arguments->sources.vocabulary = DEFAULT_VOCABULARY;
    arguments->sources.task = "translation";
    argp_parse(&argp, argc, argv, 0, NULL, arguments);
    result = arguments->builds ? build(arguments, &err) : describe(arguments, arguments->path, -1, &err);
    free(arguments);
    return result == 0 ? 0 : command_fail(&err);
}
