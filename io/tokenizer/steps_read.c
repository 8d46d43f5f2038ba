/* Steps from the JSON of a tokenizer. */
#include <oniguruma.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/steps.h"

enum { DEPTH = 8, MOST = 64 };

/* The pieces of GPT-2's tokenizer, which others have taken over. */
#define BYTE_LEVEL_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define METASPACE "\xe2\x96\x81"

static void initialise(void)
{
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
}

static int compile(const char *pattern, struct step *step, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    OnigErrorInfo info;
    UChar reason[ONIG_MAX_ERROR_MESSAGE_LEN] = "";
    const UChar *begin = (const UChar *)pattern;
    pthread_once(&once, initialise);
    int code = onig_new(&step->regex, begin, begin + strlen(pattern), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                        ONIG_SYNTAX_DEFAULT, &info);
    if (code == ONIG_NORMAL) return 0;
    step->regex = NULL;
    onig_error_code_to_str(reason, code, &info);
    return error_set(err, "the pattern \"%.80s\": %s", pattern, (const char *)reason);
}

static int copy(const char *text, char **out, struct error *err)
{
    *out = strdup(text);
    return *out ? 0 : error_set(err, "out of memory");
}

/* { "Regex": ... } or { "String": ... }. */
static int read_pattern(const json_t *object, struct step *step, struct error *err)
{
    const json_t *pattern = json_object_get(object, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *text = json_string_value(json_object_get(pattern, "String"));
    if (regex && *regex) return compile(regex, step, err);
    if (text && *text) return copy(text, &step->text, err);
    return error_set(err, "pattern is neither a Regex nor a String");
}

/* Index of a member's word in names; -1, with *err. */
static int read_word(const json_t *object, const char *key, const char *const *names, struct error *err)
{
    const char *word = json_string_value(json_object_get(object, key));
    for (int i = 0; word && names[i]; i++)
        if (!strcmp(word, names[i])) return i;
    return error_set(err, "%s is \"%.40s\"; allowed: %s, ...", key, word ? word : "", names[0]);
}

bool step_flag(const json_t *object, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static int read_replace(const json_t *object, struct step *step, struct error *err)
{
    const char *content = json_string_value(json_object_get(object, "content"));
    step->kind = STEP_REPLACE;
    return read_pattern(object, step, err) || copy(content ? content : "", &step->content, err) ? -1 : 0;
}

static int read_prepend(const json_t *object, struct step *step, struct error *err)
{
    const char *content = json_string_value(json_object_get(object, "prepend"));
    step->kind = STEP_PREPEND;
    return copy(content ? content : "", &step->content, err);
}

/* In the order of enum split_behaviour. */
static const char *const behaviours[] = {"Isolated",           "Removed",        "Contiguous",
                                         "MergedWithPrevious", "MergedWithNext", NULL};

static int read_split(const json_t *object, struct step *step, struct error *err)
{
    int behaviour = read_word(object, "behavior", behaviours, err);
    if (behaviour < 0) return -1;
    step->kind = STEP_SPLIT;
    step->behaviour = (enum split_behaviour)behaviour;
    step->invert = step_flag(object, "invert", false);
    return read_pattern(object, step, err);
}

static int split_by(const char *pattern, enum split_behaviour behaviour, bool invert, struct step *step,
                    struct error *err)
{
    step->kind = STEP_SPLIT;
    step->behaviour = behaviour;
    step->invert = invert;
    return compile(pattern, step, err);
}

static int read_digits(const json_t *object, struct step *step, struct error *err)
{
    return split_by(step_flag(object, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", SPLIT_ISOLATED, false, step,
                    err);
}

static int read_punctuation(const json_t *object, struct step *step, struct error *err)
{
    int behaviour =
        json_object_get(object, "behavior") ? read_word(object, "behavior", behaviours, err) : SPLIT_ISOLATED;
    if (behaviour < 0) return -1;
    return split_by("[\\p{P}$+<=>^`|~]", (enum split_behaviour)behaviour, false, step, err);
}

static int read_whitespace(const json_t *object, struct step *step, struct error *err)
{
    (void)object;
    return split_by("\\w+|[^\\w\\s]+", SPLIT_REMOVED, true, step, err);
}

static int read_whitespace_split(const json_t *object, struct step *step, struct error *err)
{
    (void)object;
    return split_by("\\s", SPLIT_REMOVED, false, step, err);
}

static int read_byte_level(const json_t *object, struct step *step, struct error *err)
{
    step->kind = STEP_BYTE_LEVEL;
    step->adds_space = step_flag(object, "add_prefix_space", true);
    step->splits = step_flag(object, "use_regex", true);
    return step->splits ? compile(BYTE_LEVEL_PATTERN, step, err) : 0;
}

static int read_metaspace(const json_t *object, struct step *step, struct error *err)
{
    static const char *const names[] = {"always", "first", "never", NULL};
    const char *replacement = json_string_value(json_object_get(object, "replacement"));
    int scheme = step_flag(object, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
    if (json_object_get(object, "prepend_scheme")) scheme = read_word(object, "prepend_scheme", names, err);
    if (scheme < 0) return -1;
    step->kind = STEP_METASPACE;
    step->scheme = (enum prepend_scheme)scheme;
    step->splits = step_flag(object, "split", true);
    return copy(replacement && *replacement ? replacement : METASPACE, &step->content, err);
}

static int read_strip(const json_t *object, struct step *step, struct error *err)
{
    const char *content = json_string_value(json_object_get(object, "content"));
    json_int_t start = json_integer_value(json_object_get(object, "start"));
    json_int_t stop = json_integer_value(json_object_get(object, "stop"));
    if (!content || !*content || start < 0 || stop < 0) return error_set(err, "Strip: content, start or stop");
    step->kind = STEP_STRIP;
    step->start = (size_t)start;
    step->stop = (size_t)stop;
    return copy(content, &step->content, err);
}

typedef int reader(const json_t *object, struct step *step, struct error *err);

static const struct known {
    const char *type;
    unsigned groups;
    reader *read; /* NULL: the kind says it all */
    enum step_kind kind;
} known[] = {
    {"NFC", 1u << STEPS_NORMALIZER, NULL, STEP_NFC},
    {"NFD", 1u << STEPS_NORMALIZER, NULL, STEP_NFD},
    {"NFKC", 1u << STEPS_NORMALIZER, NULL, STEP_NFKC},
    {"NFKD", 1u << STEPS_NORMALIZER, NULL, STEP_NFKD},
    {"Lowercase", 1u << STEPS_NORMALIZER, NULL, STEP_LOWERCASE},
    {"Prepend", 1u << STEPS_NORMALIZER, read_prepend, STEP_PREPEND},
    {"Replace", 1u << STEPS_NORMALIZER | 1u << STEPS_DECODER, read_replace, STEP_REPLACE},
    {"Split", 1u << STEPS_PRE_TOKENIZER, read_split, STEP_SPLIT},
    {"Digits", 1u << STEPS_PRE_TOKENIZER, read_digits, STEP_SPLIT},
    {"Punctuation", 1u << STEPS_PRE_TOKENIZER, read_punctuation, STEP_SPLIT},
    {"Whitespace", 1u << STEPS_PRE_TOKENIZER, read_whitespace, STEP_SPLIT},
    {"WhitespaceSplit", 1u << STEPS_PRE_TOKENIZER, read_whitespace_split, STEP_SPLIT},
    {"ByteLevel", 1u << STEPS_PRE_TOKENIZER | 1u << STEPS_DECODER, read_byte_level, STEP_BYTE_LEVEL},
    {"Metaspace", 1u << STEPS_PRE_TOKENIZER | 1u << STEPS_DECODER, read_metaspace, STEP_METASPACE},
    {"ByteFallback", 1u << STEPS_DECODER, NULL, STEP_BYTE_FALLBACK},
    {"Fuse", 1u << STEPS_DECODER, NULL, STEP_FUSE},
    {"Strip", 1u << STEPS_DECODER, read_strip, STEP_STRIP},
};

static const char *const group_names[] = {"normalizer", "pre_tokenizer", "decoder"};
static const char *const list_names[] = {"normalizers", "pretokenizers", "decoders"};

static int read_one(const json_t *object, enum step_group group, const char *type, struct step *step, struct error *err)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].type, type) != 0 || !(known[i].groups & 1u << group)) continue;
        step->kind = known[i].kind;
        if (!known[i].read || known[i].read(object, step, err) == 0) return 0;
        return error_prefix(err, "%s", group_names[group]);
    }
    return error_set(err, "%s \"%.40s\" is not supported", group_names[group], type);
}

static int read_below(const json_t *object, enum step_group group, int depth, struct steps *steps, struct error *err)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    if (!object || json_is_null(object)) return 0;
    if (!type || depth == DEPTH) return error_set(err, "%s: there is no type", group_names[group]);
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(object, list_names[group]);
        for (size_t i = 0; i < json_array_size(list); i++)
            if (read_below(json_array_get(list, i), group, depth + 1, steps, err)) return -1;
        return 0;
    }
    if (steps->count == MOST) return error_set(err, "%s: more than %d steps", group_names[group], MOST);
    if (!steps->list) steps->list = calloc(MOST, sizeof *steps->list);
    if (!steps->list) return error_set(err, "out of memory");
    return read_one(object, group, type, &steps->list[steps->count++], err);
}

int steps_read(const json_t *object, enum step_group group, struct steps *steps, struct error *err)
{
    *steps = (struct steps){.there = object && !json_is_null(object)};
    return read_below(object, group, 0, steps, err);
}

void steps_free(struct steps *steps)
{
    for (size_t i = 0; i < steps->count; i++) {
        if (steps->list[i].regex) onig_free(steps->list[i].regex);
        free(steps->list[i].text);
        free(steps->list[i].content);
    }
    free(steps->list);
    *steps = (struct steps){0};
}
