/* From the dataset to what the model takes: the order of sequences, their cutting, and packed micro-batches. */
#include "workers/train/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/random.h"
#include "workers/train/ul2.h"

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

uint32_t text_length_of(const struct model_config *model, const struct method_config *method)
{
    uint32_t window = model->architecture.window;
    uint32_t virtual = method_prompt_length(method) + method_prefix_length(method);
    if (!window || window >= TEXT_LENGTH + virtual) return TEXT_LENGTH;
    return window > virtual + 2 ? window - virtual : 2;
}

struct batch_capacity batch_capacity_of(const struct recipe *recipe, const struct model_config *model,
                                        const struct method_config *method)
{
    size_t prompt = method_prompt_length(method);
    size_t longest = larger(recipe->sequence_length, text_length_of(model, method)) + prompt;
    size_t step = (size_t)recipe->batch * (recipe->sequence_length + prompt);
    size_t tokens = larger(smaller(step, MICRO_TOKENS), longest);
    return (struct batch_capacity){.tokens = tokens,
                                   .sequences = smaller(tokens, MICRO_SEQUENCES),
                                   .targets = tokens,
                                   .longest = longest,
                                   .dropout = recipe->dropout > 0,
                                   .one_pass = step <= tokens && recipe->batch <= smaller(tokens, MICRO_SEQUENCES)};
}

int batch_buffer_create(struct batch_buffer *buffer, const struct batch_capacity *capacity, struct error *err)
{
    *buffer = (struct batch_buffer){.capacity = *capacity};
    buffer->ids = calloc(capacity->tokens, sizeof *buffer->ids);
    buffer->positions = calloc(capacity->tokens, sizeof *buffer->positions);
    buffer->offsets = calloc(capacity->sequences + 1, sizeof *buffer->offsets);
    buffer->rows = calloc(capacity->targets, sizeof *buffer->rows);
    buffer->labels = calloc(capacity->targets, sizeof *buffer->labels);
    buffer->segments = calloc(capacity->sequences, sizeof *buffer->segments);
    buffer->batch = (struct batch){.ids = buffer->ids,
                                   .positions = buffer->positions,
                                   .offsets = buffer->offsets,
                                   .rows = buffer->rows,
                                   .labels = buffer->labels};
    if (buffer->ids && buffer->positions && buffer->offsets && buffer->rows && buffer->labels && buffer->segments)
        return 0;
    batch_buffer_destroy(buffer);
    return error_set(err, "out of memory for a batch of %zu tokens", capacity->tokens);
}

void batch_buffer_destroy(struct batch_buffer *buffer)
{
    free(buffer->ids);
    free(buffer->positions);
    free(buffer->offsets);
    free(buffer->rows);
    free(buffer->labels);
    free(buffer->segments);
    *buffer = (struct batch_buffer){.ids = NULL};
}

static void buffer_clear(struct batch_buffer *buffer)
{
    buffer->batch.tokens = buffer->batch.sequences = buffer->batch.longest = buffer->batch.targets = 0;
    buffer->offsets[0] = 0;
}

/* Append prompt and tokens[0..count-1) as inputs; tokens[i] for i >= first_target are labels. */
static void buffer_add(struct batch_buffer *buffer, const struct feed_spec *spec, const int32_t *tokens, size_t count,
                       size_t first_target)
{
    uint32_t prompt = spec->prompt;
    struct batch *batch = &buffer->batch;
    size_t at = batch->tokens, length = prompt + count - 1;
    for (uint32_t i = 0; i < prompt; i++)
        buffer->ids[at + i] = -1 - (int32_t)i;
    memcpy(buffer->ids + at + prompt, tokens, (count - 1) * sizeof *tokens);
    for (size_t i = 0; i < length; i++)
        buffer->positions[at + i] = (int32_t)(spec->prefix + i);
    for (size_t i = larger(first_target, 1); i < count; i++) {
        buffer->rows[batch->targets] = (uint32_t)(at + prompt + i - 1);
        buffer->labels[batch->targets++] = tokens[i];
    }
    batch->tokens += length;
    batch->longest = larger(batch->longest, length);
    buffer->offsets[++batch->sequences] = (uint32_t)batch->tokens;
}

void batch_join_begin(struct batch_buffer *joined)
{
    buffer_clear(joined);
    joined->batch.segments = joined->segments;
    joined->batch.segment_count = 0;
}

/* Rows without meaning up to the next multiple of SEGMENT_ROWS: a sequence of token 0. */
static void join_padding(struct batch_buffer *joined, size_t rows)
{
    struct batch *all = &joined->batch;
    for (size_t i = 0; i < rows; i++) {
        joined->ids[all->tokens + i] = 0;
        joined->positions[all->tokens + i] = (int32_t)i;
    }
    all->tokens += rows;
    all->longest = larger(all->longest, rows);
    if (rows) joined->offsets[++all->sequences] = (uint32_t)all->tokens;
}

int batch_join(struct batch_buffer *joined, uint32_t lane, const struct batch *batch, struct error *err)
{
    struct batch *all = &joined->batch;
    size_t first = all->tokens, padding = (SEGMENT_ROWS - batch->tokens % SEGMENT_ROWS) % SEGMENT_ROWS;
    const struct batch_capacity *c = &joined->capacity;
    if (first + batch->tokens + padding > c->tokens || all->sequences + batch->sequences + 1 > c->sequences ||
        all->targets + batch->targets > c->targets)
        return error_set(err, "a batch of %zu tokens does not fit into that of the pack", batch->tokens);
    joined->segments[all->segment_count++] = (struct segment){
        lane, first, batch->tokens, batch->tokens + padding, all->targets, batch->targets, batch->draws};
    memcpy(joined->ids + first, batch->ids, batch->tokens * sizeof *joined->ids);
    memcpy(joined->positions + first, batch->positions, batch->tokens * sizeof *joined->positions);
    memcpy(joined->labels + all->targets, batch->labels, batch->targets * sizeof *joined->labels);
    for (size_t i = 0; i < batch->targets; i++)
        joined->rows[all->targets + i] = (uint32_t)first + batch->rows[i];
    for (size_t i = 1; i <= batch->sequences; i++)
        joined->offsets[all->sequences + i] = (uint32_t)first + batch->offsets[i];
    all->tokens += batch->tokens;
    all->targets += batch->targets;
    all->sequences += batch->sequences;
    all->longest = larger(all->longest, batch->longest);
    join_padding(joined, padding);
    return 0;
}

struct feed {
    struct feed_spec spec;
    uint64_t items;
    uint64_t *subset;     /* [items], examples of a shuffled feed */
    uint64_t *order;      /* [items], of `epoch` */
    uint64_t epoch;       /* UINT64_MAX: none yet */
    struct ul2 ul2;       /* where spec.mixture */
    int32_t *uncorrupted; /* text of one sequence, for it */
    int32_t *tokens;      /* one sequence, before and after cutting */
    size_t room;
};

uint64_t feed_items(const struct feed *feed)
{
    return feed->items;
}

static uint64_t available(const struct feed_spec *spec)
{
    const struct dataset_info *info = dataset_info(spec->dataset);
    if (!spec->text) return info->examples[spec->split];
    size_t tokens = spec->split < 2 ? info->text_tokens[spec->split] : 0;
    return tokens ? (tokens - 1) / spec->length : 0;
}

/* The first `items` of one permutation of all training examples: smaller subsets are prefixes of larger ones. */
static int choose_subset(struct feed *feed, uint64_t all, struct error *err)
{
    uint64_t *order = calloc(all, sizeof *order);
    feed->subset = calloc(feed->items, sizeof *feed->subset);
    if (!order || !feed->subset) {
        free(order);
        return error_set(err, "out of memory for the order of %" PRIu64 " examples", all);
    }
    random_permutation((struct random_key){.seed = feed->spec.seed, .stream = random_stream("subset")}, all, order);
    memcpy(feed->subset, order, feed->items * sizeof *order);
    free(order);
    return 0;
}

static int feed_allocate(struct feed *feed, uint64_t all, struct error *err)
{
    const struct feed_spec *spec = &feed->spec;
    feed->room =
        spec->text ? (size_t)spec->length + 1 : larger(dataset_info(spec->dataset)->longest[spec->split], spec->length);
    feed->tokens = calloc(feed->room, sizeof *feed->tokens);
    if (spec->shuffle) feed->order = calloc(feed->items, sizeof *feed->order);
    if (spec->mixture) {
        feed->uncorrupted = calloc(feed->room, sizeof *feed->uncorrupted);
        if (!feed->uncorrupted) return error_set(err, "out of memory for the order of data");
        if (ul2_create(&feed->ul2, spec->mixture, spec->length, dataset_info(spec->dataset), spec->seed, err))
            return -1;
    }
    if (!feed->tokens || (spec->shuffle && !feed->order)) return error_set(err, "out of memory for the order of data");
    return spec->shuffle && !spec->text ? choose_subset(feed, all, err) : 0;
}

struct feed *feed_create(const struct feed_spec *spec, struct error *err)
{
    const char *what = spec->text ? "blocks of text" : "examples", *split = dataset_split_name(spec->split);
    uint64_t all = available(spec);
    if (spec->length < 2 || all == 0 || spec->limit > all) {
        error_set(err, "the %s split has %" PRIu64 " %s of %" PRIu32 " tokens; wanted: %" PRIu64, split, all, what,
                  spec->length, spec->limit ? spec->limit : 1);
        return NULL;
    }
    struct feed *feed = calloc(1, sizeof *feed);
    if (!feed) {
        error_set(err, "out of memory for the order of data");
        return NULL;
    }
    *feed = (struct feed){.spec = *spec, .items = spec->limit ? spec->limit : all, .epoch = UINT64_MAX};
    if (feed_allocate(feed, all, err)) {
        feed_destroy(feed);
        return NULL;
    }
    return feed;
}

void feed_destroy(struct feed *feed)
{
    if (!feed) return;
    free(feed->subset);
    free(feed->order);
    ul2_destroy(&feed->ul2);
    free(feed->uncorrupted);
    free(feed->tokens);
    free(feed);
}

struct feed *feed_text_valid(const struct dataset *dataset, const struct model_config *model,
                             const struct method_config *method, struct error *err)
{
    size_t tokens = dataset_info(dataset)->text_tokens[SPLIT_VALID];
    if (tokens < 3) return NULL;
    uint32_t usual = text_length_of(model, method), length = (uint32_t)smaller(tokens - 1, usual);
    uint64_t blocks = (tokens - 1) / length, wanted = TEXT_TOKENS / usual;
    struct feed_spec spec = {.dataset = dataset,
                             .split = SPLIT_VALID,
                             .text = true,
                             .length = length,
                             .prompt = method_prompt_length(method),
                             .prefix = method_prefix_length(method),
                             .limit = blocks < wanted ? blocks : wanted};
    return feed_create(&spec, err);
}

int feed_item(struct feed *feed, uint64_t position, uint64_t *item, struct error *err)
{
    uint64_t epoch = position / feed->items, at = position % feed->items;
    if (!feed->spec.shuffle) {
        if (epoch > 0) return error_set(err, "position %" PRIu64 " is past the end of the split", position);
        *item = at;
        return 0;
    }
    if (epoch == 0 && feed->spec.stream) {
        *item = feed->subset[at];
        return 0;
    }
    if (epoch != feed->epoch) {
        char name[64];
        snprintf(name, sizeof name, "%s:epoch %" PRIu64, feed->spec.text ? "pretrain" : "finetune", epoch);
        random_permutation((struct random_key){.seed = feed->spec.seed, .stream = random_stream(name)}, feed->items,
                           feed->order);
        feed->epoch = epoch;
    }
    *item = feed->subset ? feed->subset[feed->order[at]] : feed->order[at];
    return 0;
}

size_t batch_cut(size_t count, size_t source, size_t length, size_t *kept_source)
{
    *kept_source = source;
    if (count <= length) return count;
    size_t target = count - source, half = length / 2;
    *kept_source = smaller(source, target < length - half ? length - target : half);
    return *kept_source + smaller(target, length - *kept_source);
}

/* Cut tokens[count] to `length` in place; returns the new count. *source: tokens before the first target token. */
static size_t cut_example(int32_t *tokens, size_t count, size_t *source, size_t length)
{
    size_t kept_source, kept = batch_cut(count, *source, length, &kept_source);
    if (kept == count) return count;
    int32_t separator = kept_source ? tokens[*source - 1] : 0;
    memmove(tokens + kept_source, tokens + *source, (kept - kept_source) * sizeof *tokens);
    if (kept_source) tokens[kept_source - 1] = separator;
    *source = kept_source;
    return kept;
}

/* The sequence at a position into feed->tokens. */
static int load(struct feed *feed, uint64_t position, size_t *count, size_t *first_target, struct error *err)
{
    uint64_t item;
    const struct feed_spec *spec = &feed->spec;
    if (feed_item(feed, position, &item, err)) return -1;
    if (spec->text) {
        *count = (size_t)spec->length + 1;
        *first_target = 0;
        if (spec->mixture) {
            uint64_t first = item * spec->length + ul2_offset(&feed->ul2, position);
            size_t text = feed->ul2.shapes[ul2_denoiser(&feed->ul2, position)].text;
            dataset_text(spec->dataset, spec->split, first, text, feed->uncorrupted);
            *first_target = ul2_corrupt(&feed->ul2, position, feed->uncorrupted, feed->tokens);
            return 0;
        }
        dataset_text(spec->dataset, spec->split, item * spec->length, *count, feed->tokens);
        return 0;
    }
    *count = dataset_example(spec->dataset, spec->split, item, feed->room, feed->tokens, first_target);
    if (*count < 2 || *first_target >= *count)
        return error_set(err, "example %" PRIu64 " of the %s split has no target", item,
                         dataset_split_name(spec->split));
    *count = cut_example(feed->tokens, *count, first_target, spec->length);
    return 0;
}

int feed_fill(struct feed *feed, uint64_t *next, uint64_t end, struct batch_buffer *buffer, struct error *err)
{
    struct batch *batch = &buffer->batch;
    const struct batch_capacity *capacity = &buffer->capacity;
    buffer_clear(buffer);
    while (*next < end && batch->sequences < capacity->sequences) {
        size_t count, first_target;
        if (load(feed, *next, &count, &first_target, err)) return -1;
        size_t length = feed->spec.prompt + count - 1;
        if (length > capacity->longest || length > capacity->tokens)
            return error_set(err, "a sequence of %zu tokens; at most %zu fit", length, capacity->longest);
        if (batch->tokens + length > capacity->tokens) break;
        buffer_add(buffer, &feed->spec, feed->tokens, count, first_target);
        ++*next;
    }
    return 0;
}

int feed_targets(struct feed *feed, uint64_t first, uint64_t end, uint64_t *targets, struct error *err)
{
    *targets = 0;
    for (uint64_t position = first; position < end; position++) {
        size_t count, first_target;
        if (load(feed, position, &count, &first_target, err)) return -1;
        *targets += count - larger(first_target, 1);
    }
    return 0;
}
