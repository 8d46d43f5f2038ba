/* From texts to token ids: batches of lines, which all cores encode, into the spools in the order of the files. */
#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "io/text/dataset_build.h"

enum {
    HELD_BACK = 200,        /* one document in so many is validation text where no file is given for it */
    BATCH_ITEMS = 4096,     /* documents or examples, or */
    BATCH_BYTES = 16 << 20, /* of text and the last one */
    TEXTS = 2               /* of an example: source and target */
};

/* A document or an example. */
struct item {
    size_t line;              /* of its file */
    size_t first, end[TEXTS]; /* in the batch's text; of a document the first end */
    int32_t *ids[TEXTS];      /* malloc'ed */
    size_t count[TEXTS];
    bool held, failed;
};

struct batch {
    struct build *build;
    const char *path;
    size_t texts; /* an item's: 1 or TEXTS */
    char *text;
    size_t size, room;
    struct item items[BATCH_ITEMS];
    size_t count;
};

/* Up to the next space, to be shown. */
static int word_length(const char *text, size_t size)
{
    int length = 0;
    while ((size_t)length < size && length < 40 && text[length] != ' ' && isprint((unsigned char)text[length]))
        length++;
    return length;
}

static int check_unreserved(const struct build *build, int32_t id, struct error *err)
{
    int32_t last = build->reserved + 2 + (int32_t)build->sentinels;
    if (!build->sentinels || id < build->reserved || id > last) return 0;
    return error_set(err, "token id %d is reserved: modes and sentinels are %d..%d; allowed: any other", id,
                     build->reserved, last);
}

/* Decimal numbers between spaces, each below the vocabulary and none reserved. *ids is malloc'ed. */
static int parse_ids(const struct build *build, const char *text, size_t size, int32_t **ids, size_t *count,
                     struct error *err)
{
    size_t vocabulary = build->vocabulary;
    *count = 0;
    *ids = malloc((size / 2 + 1) * sizeof **ids); /* a digit and a space each */
    if (!*ids) return error_set(err, "out of memory");
    for (size_t at = 0; at < size;) {
        uint64_t id = 0;
        size_t digits = 0, first = at;
        for (; at < size && text[at] >= '0' && text[at] <= '9' && id < vocabulary; at++, digits++)
            id = 10 * id + (uint64_t)(text[at] - '0');
        if (id >= vocabulary)
            return error_set(err, "token id %.*s; allowed: 0..%zu", word_length(text + first, size - first),
                             text + first, vocabulary - 1);
        if (digits && check_unreserved(build, (int32_t)id, err) != 0) return -1;
        if (digits) (*ids)[(*count)++] = (int32_t)id;
        if (at < size && text[at] != ' ')
            return error_set(err, "\"%.*s\" is no token id; allowed: numbers and spaces",
                             word_length(text + first, size - first), text + first);
        at++;
    }
    return *count ? 0 : error_set(err, "there are no tokens");
}

static int encode_text(const struct build *build, const char *text, size_t size, int32_t **ids, size_t *count,
                       struct error *err)
{
    if (build->sources->ids) return parse_ids(build, text, size, ids, count, err);
    if (tokenizer_encode(build->source.tokenizer, text, size, ids, count, err) != 0) return -1;
    return *count ? 0 : error_set(err, "the text has no tokens");
}

/* Nothing stands between source and target: they are one text, as a chat's template writes it. The source is what it
 * begins with as the source alone does, so that a token across both is the target's. *done: it was so, else each is a
 * text of its own. */
static int encode_joint(const struct batch *batch, struct item *item, bool *done, struct error *err)
{
    const char *text = batch->text + item->first;
    int32_t *whole = NULL;
    size_t count, source = 0;
    if (encode_text(batch->build, text, item->end[1] - item->first, &whole, &count, err)) {
        free(whole);
        return -1;
    }
    while (source < item->count[0] && source + 1 < count && whole[source] == item->ids[0][source])
        source++;
    *done = source > 0;
    if (!*done) {
        free(whole);
        return 0;
    }
    item->count[0] = source;
    item->count[1] = count - source;
    memmove(whole, whole + source, item->count[1] * sizeof *whole);
    item->ids[1] = whole;
    return 0;
}

static int encode_item(struct batch *batch, size_t index, struct error *err)
{
    struct item *item = &batch->items[index];
    bool joint = batch->texts == TEXTS && batch->build->separator < 0, done = false;
    size_t first = item->first;
    for (size_t i = 0; i < batch->texts; i++) {
        free(item->ids[i]);
        item->ids[i] = NULL;
    }
    for (size_t i = 0; i < batch->texts; i++) {
        if (i && joint && encode_joint(batch, item, &done, err)) return -1;
        if (!done &&
            encode_text(batch->build, batch->text + first, item->end[i] - first, &item->ids[i], &item->count[i], err))
            return -1;
        first = item->end[i];
    }
    return 0;
}

static int batch_text(struct batch *batch, struct item *item, size_t which, const char *text, size_t size,
                      struct error *err)
{
    if (batch->size + size > batch->room) {
        size_t room = 2 * (batch->size + size);
        char *grown = realloc(batch->text, room);
        if (!grown) return error_set(err, "out of memory for a batch of texts");
        batch->text = grown;
        batch->room = room;
    }
    memcpy(batch->text + batch->size, text, size);
    batch->size += size;
    item->end[which] = batch->size;
    return 0;
}

static bool batch_full(const struct batch *batch)
{
    return batch->count == BATCH_ITEMS || batch->size >= BATCH_BYTES;
}

/* Tokens behind a part, and `close` (-1, or ids as they are: nothing). They are overwritten. */
static int append(struct build *build, enum part part, int32_t *ids, size_t count, int32_t close, size_t *added,
                  struct error *err)
{
    bool closes = close >= 0 && !build->sources->ids;
    *added = count + closes;
    if (spool_add_tokens(&build->spools[part], ids, count, err) != 0) return -1;
    return closes ? spool_add_tokens(&build->spools[part], &close, 1, err) : 0;
}

/* What is known of examples of validation and test while those of training are read. */
struct known {
    uint64_t *hashes; /* [count], ascending once they are all there */
    unsigned char *found;
    size_t count, room;
};

static uint64_t hash_of(const struct item *item)
{
    uint64_t source = XXH3_64bits(item->ids[0], item->count[0] * sizeof *item->ids[0]);
    return XXH3_64bits_withSeed(item->ids[1], item->count[1] * sizeof *item->ids[1], source);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int known_add(struct known *known, uint64_t hash, struct error *err)
{
    if (known->count == known->room) {
        size_t room = known->room ? 2 * known->room : 1024;
        uint64_t *grown = realloc(known->hashes, room * sizeof *grown);
        if (!grown) return error_set(err, "out of memory for %zu examples", room);
        known->hashes = grown;
        known->room = room;
    }
    known->hashes[known->count++] = hash;
    return 0;
}

static int known_close(struct known *known, struct error *err)
{
    if (known->count) qsort(known->hashes, known->count, sizeof *known->hashes, compare);
    known->found = calloc(known->count + 1, 1);
    return known->found ? 0 : error_set(err, "out of memory");
}

/* All of this hash are found from now on. */
static void known_look(struct known *known, uint64_t hash)
{
    size_t low = 0, high = known->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (known->hashes[middle] < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < known->count && known->hashes[low] == hash && !known->found[low]; low++)
        known->found[low] = 1;
}

static size_t known_found(const struct known *known)
{
    size_t found = 0;
    for (size_t i = 0; known->found && i < known->count; i++)
        found += known->found[i];
    return found;
}

/* What a file's items become. */
struct destination {
    bool pairs;
    enum part part;           /* of documents */
    enum dataset_split split; /* of pairs */
    struct known *known;      /* [SPLITS], of pairs */
};

static bool has(const int32_t *ids, size_t count, int32_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

static int append_pair(struct build *build, const struct destination *to, struct item *item, struct error *err)
{
    enum part tokens = part_example(to->split, EXAMPLE_TOKENS);
    bool as_written = build->sources->as_written;
    int32_t begin = build->source.begin, end = as_written ? -1 : build->source.end;
    size_t begins = !build->sources->ids && begin >= 0, source, target;
    uint64_t hash = hash_of(item);
    if (to->split != SPLIT_TRAIN && known_add(&to->known[to->split], hash, err)) return -1;
    for (int split = 0; to->split == SPLIT_TRAIN && split < SPLITS; split++)
        known_look(&to->known[split], hash);
    if (spool_add_tokens(&build->spools[tokens], &begin, begins, err) != 0 ||
        append(build, tokens, item->ids[0], item->count[0], build->separator, &source, err) != 0 ||
        append(build, tokens, item->ids[1], item->count[1], end, &target, err) != 0)
        return -1;
    build->endless += as_written && !has(item->ids[1], item->count[1], build->source.end);
    uint32_t before = (uint32_t)(source + begins);
    if (spool_add(&build->spools[part_example(to->split, EXAMPLE_SOURCES)], &before, 1, err) != 0) return -1;
    return spool_add(&build->spools[part_example(to->split, EXAMPLE_OFFSETS)], &build->spools[tokens].count, 1, err);
}

static int append_item(struct batch *batch, size_t index, const struct destination *to, struct error *err)
{
    struct item *item = &batch->items[index];
    size_t added;
    if (item->failed && encode_item(batch, index, err)) return -1; /* why */
    if (to->pairs) return append_pair(batch->build, to, item, err);
    return append(batch->build, item->held ? PART_TEXT_VALID : to->part, item->ids[0], item->count[0],
                  batch->build->source.end, &added, err);
}

/* Encode all, append in order. The batch is empty then. */
static int flush(struct batch *batch, const struct destination *to, struct error *err)
{
    int result = 0;
#pragma omp parallel for schedule(dynamic, 8)
    for (size_t i = 0; i < batch->count; i++) {
        struct error ignored;
        batch->items[i].failed = encode_item(batch, i, &ignored) != 0;
    }
    for (size_t i = 0; i < batch->count; i++) {
        if (result == 0 && append_item(batch, i, to, err))
            result = error_prefix(err, "%s:%zu", batch->path, batch->items[i].line);
        for (size_t text = 0; text < TEXTS; text++)
            free(batch->items[i].ids[text]);
        batch->items[i] = (struct item){0};
    }
    batch->count = batch->size = 0;
    return result;
}

/* One more item from the file: as text_next. */
static int take(struct batch *batch, struct text_reader *reader, const struct destination *to, struct error *err)
{
    struct item *item = &batch->items[batch->count];
    struct text_pair pair = {0};
    int got = to->pairs ? text_next_pair(reader, &pair, err) : text_next(reader, &pair.source, &pair.source_size, err);
    if (got <= 0) return got;
    item->line = text_line(reader);
    item->first = batch->size;
    if (batch_text(batch, item, 0, pair.source, pair.source_size, err) ||
        (to->pairs && batch_text(batch, item, 1, pair.target, pair.target_size, err)))
        return -1;
    batch->count++;
    return 1;
}

/* A whole file. document: counts documents over files, and decides which are held back; NULL: none. */
static int add_file(struct batch *batch, const char *path, const struct destination *to, uint64_t *document,
                    struct error *err)
{
    struct text_reader *reader = text_open(path, &batch->build->sources->fields, err);
    int got = reader ? 1 : -1;
    batch->path = path;
    batch->texts = to->pairs ? TEXTS : 1;
    while (got > 0) {
        got = take(batch, reader, to, err);
        if (got > 0 && document) batch->items[batch->count - 1].held = (*document)++ % HELD_BACK == 0;
        if (got >= 0 && (got == 0 || batch_full(batch)) && flush(batch, to, err)) got = -1;
    }
    text_close(reader);
    return got;
}

static int add_documents(struct batch *batch, struct error *err)
{
    const struct dataset_sources *sources = batch->build->sources;
    const struct destination train = {.part = PART_TEXT_TRAIN}, valid = {.part = PART_TEXT_VALID};
    uint64_t document = 0;
    for (size_t i = 0; i < sources->text_count; i++)
        if (add_file(batch, sources->text[i], &train, sources->valid_text_count ? NULL : &document, err)) return -1;
    for (size_t i = 0; i < sources->valid_text_count; i++)
        if (add_file(batch, sources->valid_text[i], &valid, NULL, err)) return -1;
    return 0;
}

/* Training last: what it repeats is known then. */
static int add_examples(struct batch *batch, struct known known[SPLITS], struct error *err)
{
    const struct dataset_sources *sources = batch->build->sources;
    for (int split = SPLITS - 1; split >= 0; split--) {
        const struct destination to = {.pairs = true, .split = (enum dataset_split)split, .known = known};
        for (size_t i = 0; i < sources->pairs[split].count; i++)
            if (add_file(batch, sources->pairs[split].paths[i], &to, NULL, err)) return -1;
        if (split != SPLIT_TRAIN && known_close(&known[split], err)) return -1;
    }
    return 0;
}

int dataset_tokenise(struct build *build, size_t repeated[SPLITS], struct error *err)
{
    struct known known[SPLITS] = {{0}};
    struct batch *batch = calloc(1, sizeof *batch);
    if (!batch) return error_set(err, "out of memory");
    batch->build = build;
    int result = add_documents(batch, err) || add_examples(batch, known, err) ? -1 : 0;
    for (int split = 0; split < SPLITS; split++) {
        repeated[split] = known_found(&known[split]);
        free(known[split].hashes);
        free(known[split].found);
    }
    for (size_t i = 0; i < batch->count; i++)
        for (size_t text = 0; text < TEXTS; text++)
            free(batch->items[i].ids[text]);
    free(batch->text);
    free(batch);
    return result;
}
