/* BLEU, chrF and ROUGE are those of sacrebleu and rouge-score, whose values tests/golden/make_metrics.py has kept: on
 * real and hostile texts of many languages, corpus by corpus. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/workers/golden.h"
#include "workers/text/metrics.h"

struct texts {
    char *text;
    uint64_t *offsets, *corpora;
    double *values;
    size_t text_size, offset_count, corpus_count, value_count;
};

static struct texts read_texts(void)
{
    struct texts texts;
    hid_t file = H5Fopen(TEST_SOURCE_DIR "/golden/evaluation/metrics.h5", H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) golden_stop("cannot open", TEST_SOURCE_DIR "/golden/evaluation/metrics.h5");
    texts.text = golden_array(file, "text", H5T_NATIVE_UCHAR, &texts.text_size);
    texts.offsets = golden_array(file, "offsets", H5T_NATIVE_UINT64, &texts.offset_count);
    texts.corpora = golden_array(file, "corpora", H5T_NATIVE_UINT64, &texts.corpus_count);
    texts.values = golden_array(file, "values", H5T_NATIVE_DOUBLE, &texts.value_count);
    H5Fclose(file);
    return texts;
}

static char *text_of(const struct texts *texts, uint64_t number)
{
    return strndup(texts->text + texts->offsets[number], texts->offsets[number + 1] - texts->offsets[number]);
}

static void add_pair(const struct texts *texts, uint64_t pair, struct metric_sums *sums)
{
    struct error err = {""};
    char *hypothesis = text_of(texts, 2 * pair), *reference = text_of(texts, 2 * pair + 1);
    if (metrics_add(sums, hypothesis, reference, &err)) fail_msg("%s", err.text);
    free(hypothesis);
    free(reference);
}

static void check_corpus(const struct texts *texts, size_t corpus, size_t wrong[TEXT_METRICS])
{
    struct metric_sums sums = {0};
    for (uint64_t pair = texts->corpora[corpus]; pair < texts->corpora[corpus + 1]; pair++)
        add_pair(texts, pair, &sums);
    for (int metric = 0; metric < TEXT_METRICS; metric++) {
        double theirs = texts->values[corpus * TEXT_METRICS + (size_t)metric];
        double ours = metrics_value(&sums, (enum text_metric)metric);
        if (fabs(ours - theirs) <= 1e-9 * fabs(theirs)) continue;
        char *hypothesis = text_of(texts, 2 * texts->corpora[corpus]),
             *reference = text_of(texts, 2 * texts->corpora[corpus] + 1);
        if (wrong[metric]++ < 3)
            print_error("corpus %zu, %s: %.17g, theirs %.17g; first pair \"%s\", \"%s\"\n", corpus,
                        text_metric_name((enum text_metric)metric), ours, theirs, hypothesis, reference);
        free(hypothesis);
        free(reference);
    }
}

static void test_goldens(void **state)
{
    (void)state;
    struct texts texts = read_texts();
    size_t wrong[TEXT_METRICS] = {0};
    assert_true(texts.corpus_count > 300 && texts.value_count == (texts.corpus_count - 1) * TEXT_METRICS);
    for (size_t corpus = 0; corpus + 1 < texts.corpus_count; corpus++)
        check_corpus(&texts, corpus, wrong);
    for (int metric = 0; metric < TEXT_METRICS; metric++)
        if (wrong[metric])
            fail_msg("%s: %zu corpora differ", text_metric_name((enum text_metric)metric), wrong[metric]);
    free(texts.text);
    free(texts.offsets);
    free(texts.corpora);
    free(texts.values);
}

/* What a model generates need not be UTF-8, and there may be nothing to measure. */
static void test_broken_texts(void **state)
{
    (void)state;
    struct error err = {""};
    struct metric_sums sums = {0};
    assert_true(isnan(metrics_value(&sums, TEXT_BLEU)) && isnan(metrics_value(&sums, TEXT_ROUGEL)));
    static const char *const broken[] = {"\xff\xfe",     "\xc3",     "\xe4\xb8", "\xf0\x9f\x99",
                                         "\xed\xa0\x80", "\xc0\x80", "a\x80z"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        if (metrics_add(&sums, broken[i], broken[i], &err)) fail_msg("%s", err.text);
    assert_true(fabs(metrics_value(&sums, TEXT_CHRF) - 100) < 1e-9);
    assert_true(metrics_value(&sums, TEXT_BLEU) == 0); /* no hypothesis has four words */
    assert_int_equal(text_metric_find("chrf"), TEXT_CHRF);
    assert_int_equal(text_metric_find("meteor"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_goldens), cmocka_unit_test(test_broken_texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
