/* From sources to hypotheses, batch by batch. */
#include "workers/text/generation.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "workers/model/shard.h"

size_t generation_source(const struct generation_config *config, uint32_t sequence_length)
{
    size_t half = sequence_length - sequence_length / 2;
    return sequence_length - (config->max_new_tokens < half ? config->max_new_tokens : half);
}

struct decoding decoding_of(const struct generation_config *config, int32_t end)
{
    return (struct decoding){.beams = config->beams,
                             .max_new_tokens = config->max_new_tokens,
                             .length_penalty = config->length_penalty,
                             .end = end};
}

int generation_memory(const struct model_config *model, const struct method_config *method,
                      const struct batch_capacity *capacity, const struct generation_config *config, size_t element,
                      int degree, struct memory *memory, struct error *err)
{
    struct decoding decoding = decoding_of(config, 0); /* what ends a text takes no memory */
    memory->cache = 0;
    for (int rank = 0; config->max_new_tokens && rank < degree; rank++) {
        struct shard shard;
        if (shard_of(model, rank, degree, &shard, err)) return -1;
        size_t bytes = generator_bytes(model, &shard, capacity, method, &decoding, element);
        memory->cache = bytes > memory->cache ? bytes : memory->cache;
    }
    return 0;
}

/* What one rank works with. */
struct work {
    const struct generation_config *config;
    const struct text_sources *sources;
    struct batch_buffer *buffer;
    size_t prompts;  /* a batch */
    int32_t *tokens; /* one source */
    size_t room;
    int32_t *ids; /* [prompts][max_new_tokens] */
    uint32_t *counts;
};

/* A line of one's own as examples have their sources: begin, the text, separator, as far as there are such. */
static int encode_line(struct work *work, uint64_t index, size_t *count, struct error *err)
{
    int32_t *ids = NULL;
    size_t size = 0;
    const char *line = work->sources->lines[index];
    const struct dataset_info *info = dataset_info(work->sources->dataset);
    size_t first = info->begin >= 0;
    if (tokenizer_encode(work->sources->tokenizer, line, strlen(line), &ids, &size, err)) return -1;
    if (size + 2 > work->room) {
        int32_t *tokens = realloc(work->tokens, (size + 2) * sizeof *tokens);
        if (tokens) {
            work->tokens = tokens;
            work->room = size + 2;
        }
    }
    *count = first + size + (info->separator >= 0);
    if (*count <= work->room) {
        work->tokens[0] = info->begin;
        memcpy(work->tokens + first, ids, size * sizeof *ids);
        if (info->separator >= 0) work->tokens[first + size] = info->separator;
    }
    free(ids);
    return *count <= work->room ? 0 : error_set(err, "out of memory for a source of %zu tokens", size);
}

/* The tokens of source `index` into work->tokens, cut. */
static int load(struct work *work, uint64_t index, size_t *count, struct error *err)
{
    size_t source;
    const struct text_sources *sources = work->sources;
    if (sources->lines) {
        if (encode_line(work, index, &source, err)) return -1;
    } else {
        dataset_example(sources->dataset, sources->split, index, work->room, work->tokens, &source);
    }
    size_t most = generation_source(work->config, sources->sequence_length);
    *count = source < most ? source : most;
    if (*count && *count < source) work->tokens[*count - 1] = work->tokens[source - 1]; /* the separator, if any */
    return *count ? 0 : error_set(err, "source %" PRIu64 " is empty", index);
}

/* Prompts from *next on, as many as fit. */
static int fill(struct work *work, uint64_t *next, struct error *err)
{
    struct batch_buffer *buffer = work->buffer;
    struct batch *batch = &buffer->batch;
    uint32_t prompt = method_prompt_length(work->sources->method);
    uint32_t prefix = method_prefix_length(work->sources->method);
    batch->tokens = batch->sequences = batch->longest = batch->targets = 0;
    buffer->offsets[0] = 0;
    for (; *next < work->sources->count && batch->sequences < work->prompts; ++*next) {
        size_t count, at = batch->tokens;
        if (load(work, *next, &count, err)) return -1;
        size_t length = prompt + count;
        if (length > buffer->capacity.longest) return error_set(err, "a source of %zu tokens does not fit", length);
        if (at + length > buffer->capacity.tokens || batch->sequences == buffer->capacity.sequences) break;
        for (size_t i = 0; i < length; i++) {
            buffer->ids[at + i] = i < prompt ? -1 - (int32_t)i : work->tokens[i - prompt];
            buffer->positions[at + i] = (int32_t)(prefix + i);
        }
        batch->tokens += length;
        batch->longest = length > batch->longest ? length : batch->longest;
        buffer->offsets[++batch->sequences] = (uint32_t)batch->tokens;
    }
    return 0;
}

/* A model may know more tokens than its tokenizer, up to a round number: those read as unknown, or nothing. */
static int decode(const struct text_sources *sources, int32_t *ids, size_t count, char **text, struct error *err)
{
    int64_t vocabulary = (int64_t)tokenizer_vocabulary(sources->tokenizer);
    size_t size, known = 0;
    const void *model = dataset_tokenizer(sources->dataset, &size);
    bool has_unknown = !tokenizer_is_json(model, size);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < vocabulary || has_unknown) ids[known++] = ids[i] < vocabulary ? ids[i] : TOKEN_UNKNOWN;
    return tokenizer_decode(sources->tokenizer, ids, known, text, err);
}

/* Source and reference of an example; whole, as no model sees them that cuts. */
static int example_texts(struct work *work, uint64_t index, char **source, char **reference, struct error *err)
{
    const struct text_sources *s = work->sources;
    size_t first_target, count = dataset_example(s->dataset, s->split, index, work->room, work->tokens, &first_target);
    int32_t *target = work->tokens + first_target;
    const struct dataset_info *info = dataset_info(s->dataset);
    size_t begin = first_target && work->tokens[0] == info->begin;
    size_t targets = 0; /* up to the end, as a generation: behind it a chat's template may write more */
    while (targets < count - first_target && target[targets] != info->end)
        targets++;
    size_t end = first_target - (first_target > begin && info->separator >= 0);
    return decode(s, work->tokens + begin, end - begin, source, err) || decode(s, target, targets, reference, err) ? -1
                                                                                                                   : 0;
}

static int hand_on(struct work *work, uint64_t index, size_t row, const struct text_taker *taker, struct error *err)
{
    char *source = NULL, *reference = NULL, *hypothesis = NULL;
    const char *const *lines = work->sources->lines;
    int result = lines ? 0 : example_texts(work, index, &source, &reference, err);
    if (result == 0)
        result =
            decode(work->sources, work->ids + row * work->config->max_new_tokens, work->counts[row], &hypothesis, err);
    if (result == 0) {
        struct generated_text text = {index, lines ? lines[index] : source, reference, hypothesis};
        result = taker->take(taker->context, &text, err);
    }
    free(source);
    free(reference);
    free(hypothesis);
    return result;
}

static int run(struct work *work, struct generator *generator, const struct tick *tick, const struct text_taker *taker,
               struct error *err)
{
    for (uint64_t next = 0; next < work->sources->count;) {
        uint64_t first = next;
        int stopped = tick && tick->stop ? tick->stop(tick->context) : 0;
        if (stopped) return stopped;
        if (fill(work, &next, err) ||
            generator_run(generator, &work->buffer->batch, tick, work->ids, work->counts, err))
            return -1;
        for (uint64_t i = first; taker && i < next; i++)
            if (hand_on(work, i, i - first, taker, err)) return -1;
        if (tick && tick->call) tick->call(tick->context);
    }
    return 0;
}

int generate_texts(struct model *model, uint32_t lane, const struct generation_config *config,
                   const struct text_sources *sources, struct batch_buffer *buffer, const struct tick *tick,
                   const struct text_taker *taker, struct error *err)
{
    struct decoding decoding = decoding_of(config, dataset_info(sources->dataset)->end);
    struct work work = {.config = config,
                        .sources = sources,
                        .buffer = buffer,
                        .prompts = decoding_prompts(&decoding),
                        .room = dataset_info(sources->dataset)->longest[sources->split]};
    struct generator *generator = generator_create(model, lane, &decoding, err);
    work.tokens = calloc(work.room + 1, sizeof *work.tokens);
    work.ids = calloc(work.prompts * config->max_new_tokens, sizeof *work.ids);
    work.counts = calloc(work.prompts, sizeof *work.counts);
    int result = -1;
    if (generator && (!work.tokens || !work.ids || !work.counts))
        error_set(err, "out of memory for generated texts");
    else if (generator)
        result = run(&work, generator, tick, taker, err);
    generator_destroy(generator);
    free(work.tokens);
    free(work.ids);
    free(work.counts);
    return result;
}

int generated_text_write(const struct generated_text *text, FILE *out, struct error *err)
{
    json_t *line = json_pack("{s:I, s:s, s:s*, s:s}", "example", (json_int_t)text->index, "source", text->source,
                             "reference", text->reference, "hypothesis", text->hypothesis);
    int failed = !line || json_dumpf(line, out, JSON_COMPACT | JSON_PRESERVE_ORDER) || fputc('\n', out) == EOF;
    if (!line)
        error_set(err, "the texts of example %" PRIu64 " are not UTF-8, or out of memory", text->index);
    else if (failed)
        error_set_errno(err, "writing generated texts");
    json_decref(line);
    return failed ? -1 : 0;
}
