/* Greedy and beam search of one sequence, given the best next tokens of its hypotheses. */
#include "workers/text/beam.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void carve(struct hypothesis *list, size_t count, size_t tokens, char **at)
{
    for (size_t i = 0; i < count; i++) {
        list[i].ids = (int32_t *)*at;
        list[i].rows = (uint32_t *)(*at + tokens * sizeof(int32_t));
        *at += tokens * (sizeof(int32_t) + sizeof(uint32_t));
    }
}

int beam_create(struct beam_search *search, const struct decoding *decoding, struct error *err)
{
    size_t beams = decoding->beams, tokens = decoding->max_new_tokens;
    size_t each = tokens * (sizeof(int32_t) + sizeof(uint32_t));
    *search = (struct beam_search){.decoding = decoding};
    search->running = calloc(3 * beams, sizeof *search->running);
    search->candidates = calloc(decoding_candidates(decoding), sizeof *search->candidates);
    search->memory = malloc(3 * beams * each);
    if (!search->running || !search->candidates || !search->memory) {
        beam_destroy(search);
        return error_set(err, "out of memory for %zu hypotheses of %zu tokens", beams, tokens);
    }
    char *at = search->memory;
    search->next = search->running + beams;
    search->finished = search->next + beams;
    carve(search->running, 3 * beams, tokens, &at);
    return 0;
}

void beam_destroy(struct beam_search *search)
{
    /* running and next change places, the block begins with either */
    free(search->running < search->next ? search->running : search->next ? search->next : search->running);
    free(search->candidates);
    free(search->memory);
    *search = (struct beam_search){0};
}

void beam_begin(struct beam_search *search)
{
    search->done = false;
    search->running_count = 1;
    search->finished_count = search->candidate_count = 0;
    search->running[0].score = 0;
    search->running[0].count = 0;
}

/* Whether a comes before b. */
static bool before(const struct candidate *a, const struct candidate *b)
{
    if (a->score != b->score) return a->score > b->score;
    return a->beam != b->beam ? a->beam < b->beam : a->id < b->id;
}

void beam_offer(struct beam_search *search, uint32_t beam, int32_t id, double log_p)
{
    size_t room = decoding_candidates(search->decoding), at = search->candidate_count;
    struct candidate candidate = {search->running[beam].score + log_p, beam, id};
    if (isnan(candidate.score)) return;
    if (at == room && !before(&candidate, &search->candidates[room - 1])) return;
    if (at < room)
        search->candidate_count++;
    else
        at--;
    for (; at > 0 && before(&candidate, &search->candidates[at - 1]); at--)
        search->candidates[at] = search->candidates[at - 1];
    search->candidates[at] = candidate;
}

/* The parent's tokens and one more. */
static void extend(struct hypothesis *to, const struct hypothesis *parent, const struct candidate *candidate)
{
    memcpy(to->ids, parent->ids, parent->count * sizeof *to->ids);
    memcpy(to->rows, parent->rows, parent->count * sizeof *to->rows);
    to->ids[parent->count] = candidate->id;
    to->count = parent->count + 1;
    to->score = candidate->score;
}

/* Among the best `beams` finished ones, behind those of the same score. */
static void finish(struct beam_search *search, const struct candidate *candidate)
{
    const struct decoding *decoding = search->decoding;
    const struct hypothesis *parent = &search->running[candidate->beam];
    double score = candidate->score / pow(parent->count + 1, decoding->length_penalty);
    uint32_t at = search->finished_count;
    if (at == decoding->beams) {
        if (!(score > search->finished[at - 1].score)) return;
        at--;
    } else {
        search->finished_count++;
    }
    struct hypothesis place = search->finished[at]; /* its memory moves up with it */
    for (; at > 0 && score > search->finished[at - 1].score; at--)
        search->finished[at] = search->finished[at - 1];
    extend(&place, parent, candidate);
    place.score = score;
    search->finished[at] = place;
}

/* Whether no running hypothesis can be expected to end better than those that are finished. */
static bool settled(const struct beam_search *search)
{
    const struct hypothesis *best = &search->running[0];
    if (search->running_count == 0) return true;
    if (search->finished_count < search->decoding->beams) return false;
    double possible = best->score / pow(best->count, search->decoding->length_penalty);
    return !(possible > search->finished[search->finished_count - 1].score);
}

int beam_advance(struct beam_search *search, struct error *err)
{
    const struct decoding *decoding = search->decoding;
    bool last = search->running[0].count + 1 == decoding->max_new_tokens;
    uint32_t going_on = 0;
    if (search->candidate_count == 0) return error_set(err, "the model's logits are not numbers");
    for (uint32_t i = 0; i < search->candidate_count; i++) {
        const struct candidate *candidate = &search->candidates[i];
        if (candidate->id == decoding->end || last) {
            if (i < decoding->beams) finish(search, candidate);
        } else if (going_on < decoding->beams) {
            extend(&search->next[going_on++], &search->running[candidate->beam], candidate);
        }
    }
    struct hypothesis *running = search->running;
    search->running = search->next;
    search->next = running;
    search->running_count = going_on;
    search->candidate_count = 0;
    search->done = settled(search);
    return 0;
}

uint32_t beam_result(const struct beam_search *search, int32_t *out)
{
    if (search->finished_count == 0) return 0;
    const struct hypothesis *best = &search->finished[0];
    uint32_t count = best->count;
    if (count && best->ids[count - 1] == search->decoding->end) count--;
    memcpy(out, best->ids, count * sizeof *out);
    return count;
}
