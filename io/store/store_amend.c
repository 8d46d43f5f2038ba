/* The next generation of a store in which finished rows get metrics of texts that were generated after they had been
 * committed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/store/store_internal.h"

/* The row's own result with the members on generated texts of another. */
static struct store_result joined(const struct store_result *own, const struct store_result *texts)
{
    struct store_result result = *own;
    result.bleu = texts->bleu;
    result.chrf = texts->chrf;
    result.rouge1 = texts->rouge1;
    result.rouge2 = texts->rouge2;
    result.rougeL = texts->rougeL;
    result.length_penalty = texts->length_penalty;
    result.generated = texts->generated;
    result.beams = texts->beams;
    result.max_new_tokens = texts->max_new_tokens;
    memcpy(result.generations, texts->generations, sizeof result.generations);
    return result;
}

struct amendment {
    struct store *old;
    struct store_origin *origins; /* [rows] */
    struct store_result *results; /* [count] */
};

static int carry(struct amendment *amendment, struct error *err)
{
    const struct store *old = amendment->old;
    struct store_slots slots;
    for (size_t i = 0; i < old->count; i++) {
        int found = store_read_slots(old, i, &slots, NULL); /* a damaged row is run again, as after any start */
        amendment->origins[i] = (struct store_origin){
            .store = old, .row = i, .committed = found == 1, .state = store_state_carried(old, i, found == 1)};
    }
    return store_index_build(old, err);
}

static int place(struct amendment *amendment, const struct store_result *texts, struct store_result *result,
                 struct error *err)
{
    const struct store *old = amendment->old;
    long row = store_find_exact(old, texts->identity);
    if (row < 0 || !amendment->origins[row].committed)
        return error_set(err, "%s: no finished row has the identity %.*s", old->path, DIGEST_HEX, texts->identity);
    if (store_read(old, (size_t)row, result, NULL, NULL, err) != 1) return -1;
    *result = joined(result, texts);
    amendment->origins[row].result = result;
    return 0;
}

static int amend(struct amendment *amendment, const struct store_result *results, size_t count, const char *version,
                 struct error *err)
{
    const struct store *old = amendment->old;
    const struct store_header header = {.config_text = old->config,
                                        .config_path = old->config_path,
                                        .version = version,
                                        .dataset_digest = old->dataset_digest,
                                        .name = old->name,
                                        .shard = old->shard,
                                        .made_by = old->made_by,
                                        .provenance = old->provenance};
    if (carry(amendment, err)) return -1;
    for (size_t i = 0; i < count; i++)
        if (place(amendment, &results[i], &amendment->results[i], err)) return -1;
    return store_assemble(old->path, &header, old->epoch + 1, old->points, amendment->origins, old->count, err);
}

int store_amend(const char *dir, const struct store_result *results, size_t count, const char *version,
                struct error *err)
{
    char *path = NULL;
    struct amendment amendment = {0};
    int result = -1;
    if (asprintf(&path, "%s/%s", dir, STORE_FILE) < 0) return error_set(err, "out of memory");
    amendment.old = store_open(path, false, err);
    if (amendment.old) {
        amendment.origins = calloc(amendment.old->count, sizeof *amendment.origins);
        amendment.results = calloc(count + 1, sizeof *amendment.results);
        if (!amendment.origins || !amendment.results)
            error_set(err, "out of memory for %zu points", amendment.old->count);
        else
            result = amend(&amendment, results, count, version, err);
    }
    store_close(amendment.old);
    free(amendment.origins);
    free(amendment.results);
    free(path);
    return result;
}
