/* If the model's gradients were wrong, every loss of every sweep would be: they are compared with finite differences,
 * for every method, tensor by tensor. And a packed batch must be the sequences that it is made of. */
#include "model_fixture.h"
#include "workers/train/optimiser.h"

static bool dropping; /* losses are those of training, under the masks of the batch's draws */

static double loss_here(struct rank *r, const struct batch *batch)
{
    struct error err = {""};
    double loss = NAN;
    if (!dropping) return loss_of(r, batch);
    struct parameters *p = r->parameters;
    float *kept = malloc(p->gradient_count * sizeof *kept);
    r->kernels->to_host(r->device, kept, p->gradients, p->gradient_count * sizeof *kept);
    if (model_train(r->model, batch, 1, &loss, &err)) fail_msg("%s", err.text);
    r->kernels->to_device(r->device, p->gradients, kept, p->gradient_count * sizeof *kept);
    free(kept);
    return loss;
}

/* Derivative of the loss along `direction` (host, of one tensor), by central differences at two steps (Richardson);
 * where it is steep the steps are shorter, since it bends as well. */
static double slope(struct rank *r, const struct parameter *p, const float *direction, double expected,
                    const struct batch *batch)
{
    size_t n = p->row_count * p->column_count;
    float *value = malloc(n * sizeof *value), *moved = malloc(n * sizeof *moved);
    struct error err = {""};
    if (parameter_read(r->parameters, p, 0, n, value, &err)) fail_msg("%s", err.text);
    double slopes[2];
    for (int i = 0; i < 2; i++) {
        float step = (i ? 0.005f : 0.01f) / (float)fmax(1, fabs(expected) / 2);
        double losses[2];
        for (int side = 0; side < 2; side++) {
            for (size_t j = 0; j < n; j++)
                moved[j] = value[j] + (side ? step : -step) * direction[j];
            parameter_write(r->parameters, p, 0, n, moved);
            losses[side] = loss_here(r, batch);
        }
        slopes[i] = (losses[1] - losses[0]) / (2 * (double)step);
    }
    parameter_write(r->parameters, p, 0, n, value);
    free(value);
    free(moved);
    return (4 * slopes[1] - slopes[0]) / 3;
}

static double worst; /* error over tolerance, printed */

static void assert_slope(const char *name, const char *where, double got, double want, double size)
{
    double tolerance = 2e-3 * fabs(want) + 1e-3 * size + (dropping ? 5e-4 : 2e-4), error = fabs(got - want);
    if (error / tolerance > worst) worst = error / tolerance;
    if (!(error <= tolerance)) fail_msg("%s, %s: gradient %.6g, finite differences %.6g", name, where, got, want);
}

/* Single entries (a missing contribution is seen) and the gradient's own direction (all entries at once). */
static void check_tensor(struct rank *r, const struct parameter *p, const struct batch *batch)
{
    size_t n = p->row_count * p->column_count;
    float *gradient = malloc(n * sizeof *gradient), *direction = calloc(n, sizeof *direction);
    r->kernels->to_host(r->device, gradient, p->gradient, n * sizeof *gradient);
    double squares = 0;
    for (size_t i = 0; i < n; i++)
        squares += (double)gradient[i] * (double)gradient[i];
    double norm = sqrt(squares), size = norm / sqrt((double)n);
    if (!(norm > 1e-3)) fail_msg("%s has almost no gradient: %g", p->name, norm);
    for (uint64_t draw = 0; draw < 4; draw++) {
        size_t at = (size_t)random_below((struct random_key){3, random_stream(p->name)}, draw, n);
        direction[at] = 1;
        assert_slope(p->name, "an entry", (double)gradient[at], slope(r, p, direction, (double)gradient[at], batch),
                     size);
        direction[at] = 0;
    }
    for (size_t i = 0; i < n; i++)
        direction[i] = (float)((double)gradient[i] / norm);
    assert_slope(p->name, "all entries", norm, slope(r, p, direction, norm, batch), size);
    free(gradient);
    free(direction);
}

/* dropout: of the recipe */
static void check_gradients_with(const struct model_config *config, const struct method_config *method, double dropout)
{
    struct sample *s = sample_default(method, config->vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    capacity.dropout = dropout > 0;
    s->batch.draws = (struct draws){7, 3, 100};
    dropping = dropout > 0 || method->dropout > 0;
    struct rank r = rank_alone("reference", config, method, &capacity, true);
    model_dropout(r.model, dropout);
    double loss = gradients_of(&r, &s->batch, 1);
    assert_true((loss == loss_of(&r, &s->batch)) == !dropping);
    assert_true(loss == loss_here(&r, &s->batch));
    size_t checked = 0;
    worst = 0;
    for (size_t i = 0; i < r.parameters->count; i++) {
        const struct parameter *p = &r.parameters->list[i];
        assert_int_equal(p->trainable, p->gradient != NULL);
        if (!p->trainable) continue;
        check_tensor(&r, p, &s->batch);
        checked++;
    }
    print_message("%zu tensors, worst error %.2g of the tolerance\n", checked, worst);
    assert_true(checked > 0);
    rank_destroy(&r);
    free(s);
}

static void check_gradients(const struct model_config *config, const struct method_config *method)
{
    check_gradients_with(config, method, 0);
}

/* Of every architecture, with masks that stay the same while weights are moved. */
static void dropout_gradients(void **state)
{
    (void)state;
    for (int i = 0; i < (METHOD_CASES - 1) * (VARIANTS + 1); i++) {
        int variant = i / (METHOD_CASES - 1);
        struct method_config method = method_cases[1 + i % (METHOD_CASES - 1)];
        if (method.kind == METHOD_LORA) method.dropout = 0.4;
        struct model_config config = variant < VARIANTS ? variant_model(variant, 4, 2, i % 2) : small_model(4, 2, true);
        if (method_fits(&method, &config)) check_gradients_with(&config, &method, 0.2);
    }
    struct model_config config = small_model(4, 2, false);
    struct method_config lora = method_lora_config();
    lora.dropout = 0.4;
    check_gradients_with(&config, &lora, 0);
    dropping = false;
}

static void full_tied(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config method = method_full_config();
    check_gradients(&config, &method);
}

static void full_untied_multi_query(void **state)
{
    (void)state;
    struct model_config config = small_model(3, 1, false);
    struct method_config method = method_full_config();
    check_gradients(&config, &method);
}

static void lora(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, false);
    struct method_config method = method_lora_config();
    check_gradients(&config, &method);
}

static void lora_multi_query(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 1, true);
    struct method_config method = method_lora_config();
    check_gradients(&config, &method);
}

static void prompt(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config method = method_prompt_config();
    check_gradients(&config, &method);
    config = small_model(2, 1, false);
    check_gradients(&config, &method);
}

/* Each architecture, each method. */
static void variants_of_the_architecture(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++) {
        struct model_config config = variant_model(i, 4, 2, i % 2);
        print_message("%s\n", variants[i].what);
        for (int m = 1; m < METHOD_CASES; m++)
            if (method_fits(&method_cases[m], &config)) check_gradients(&config, &method_cases[m]);
    }
}

/* What is not thawed has neither gradient nor step; what is has the bytes of full tuning's. */
static void unfreezing(void **state)
{
    (void)state;
    struct error err;
    struct model_config config = small_model(4, 2, true);
    struct method_config full = method_full_config(),
                         method = {.kind = METHOD_UNFREEZE, .thaw_layers = 1, .thaw_steps = 2};
    struct sample *s = sample_default(&full, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct rank all = rank_alone("cpu", &config, &full, &capacity, true),
                some = rank_alone("cpu", &config, &method, &capacity, true);
    gradients_of(&all, &s->batch, 1);
    parameters_thaw(some.parameters, 2);
    gradients_of(&some, &s->batch, 1);
    size_t frozen = 0;
    for (size_t i = 0; i < some.parameters->count; i++) {
        const struct parameter *a = &all.parameters->list[i], *b = &some.parameters->list[i];
        size_t bytes = b->row_count * b->column_count * sizeof(float);
        bool top = strstr(b->name, "layers.1.") || !strcmp(b->name, "model.norm.weight");
        assert_int_equal(b->gradient != NULL, top);
        if (top) assert_memory_equal(a->gradient, b->gradient, bytes);
        frozen += !top;
    }
    assert_true(frozen > 5);
    assert_int_equal(optimiser_step(some.parameters, &fixture_adamw, 2, 0.1, 1, &err), 0);
    for (size_t i = 0; i < some.parameters->count; i++) {
        const struct parameter *a = &all.parameters->list[i], *b = &some.parameters->list[i];
        size_t bytes = b->row_count * b->column_count * sizeof(float);
        assert_int_equal(!memcmp(a->value, b->value, bytes), b->gradient == NULL);
    }
    parameters_thaw(some.parameters, 3);
    for (size_t i = 0; i < some.parameters->count; i++)
        assert_non_null(some.parameters->list[i].gradient);
    rank_destroy(&all);
    rank_destroy(&some);
    free(s);
}

/* A sequence that is longer than the window is refused, not computed otherwise. */
static void window(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config method = method_prompt_config();
    struct batch_capacity capacity = {.tokens = 40, .sequences = 4, .targets = 30, .longest = 11};
    struct memory memory;
    struct error err = {""};
    config.architecture.window = 11;
    assert_int_equal(model_memory(&config, &method, &capacity, &fixture_adamw, kernels_storage("cpu", PRECISION_FP32),
                                  1, &memory, &err),
                     0);
    config.architecture.window = 10;
    assert_int_equal(model_memory(&config, &method, &capacity, &fixture_adamw, kernels_storage("cpu", PRECISION_FP32),
                                  1, &memory, &err),
                     -1);
    assert_non_null(strstr(err.text, "sequences of 11 tokens are longer than the 10 that attention sees"));
}

/* A model with its adapter merged is the base alone, with the same losses; a prompt cannot be merged. */
static void check_merged(const struct method_config *adapted_by, double nothing)
{
    struct method_config method = *adapted_by;
    struct error err = {""};
    for (int i = 0; i < VARIANTS; i++) {
        struct model_config config = variant_model(i, 4, 2, true);
        struct sample *s = sample_default(&method, config.vocabulary);
        struct batch_capacity capacity = capacity_of(&s->batch);
        struct rank r = rank_alone("reference", &config, &method, &capacity, false);
        double adapted = loss_of(&r, &s->batch);
        if (model_merge(r.model, &err)) fail_msg("%s", err.text);
        double both = loss_of(&r, &s->batch);
        for (size_t p = 0; p < r.parameters->count; p++)
            if (r.parameters->list[p].adapter)
                parameter_fill(r.parameters, &r.parameters->list[p], INITIAL_CONSTANT, nothing, 0);
        double merged = loss_of(&r, &s->batch);
        if (!(fabs(both / adapted - 1) > 2e-5)) fail_msg("%s: the adapter does nothing: %.9g", variants[i].what, both);
        if (!(fabs(merged / adapted - 1) < 1e-5)) fail_msg("%s: %.9g, not %.9g", variants[i].what, merged, adapted);
        rank_destroy(&r);
        free(s);
    }
}

static void merged_adapters(void **state)
{
    (void)state;
    struct error err = {""};
    for (int m = 0; m < METHOD_CASES; m++)
        if (method_cases[m].kind == METHOD_LORA || method_cases[m].kind == METHOD_IA3)
            check_merged(&method_cases[m], method_cases[m].kind == METHOD_IA3 ? 1 : 0);
    struct method_config prompt_method = method_prompt_config();
    struct model_config config = small_model(4, 2, true);
    struct sample *s = sample_default(&prompt_method, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct rank r = rank_alone("reference", &config, &prompt_method, &capacity, false);
    assert_int_equal(model_merge(r.model, &err), -1);
    assert_non_null(strstr(err.text, "prompt"));
    rank_destroy(&r);
    free(s);
}

/* Gradients are those of scale * loss, and add up over micro-batches. */
static void scale_and_accumulation(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config method = method_full_config();
    struct sample *s = sample_default(&method, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct rank r = rank_alone("reference", &config, &method, &capacity, true);
    struct error err;
    double once, three, loss;
    gradients_of(&r, &s->batch, 1);
    assert_int_equal(parameters_gradient_norm(r.parameters, &once, &err), 0);
    gradients_of(&r, &s->batch, 2);
    assert_int_equal(model_train(r.model, &s->batch, 1, &loss, &err), 0);
    assert_int_equal(parameters_gradient_norm(r.parameters, &three, &err), 0);
    assert_true(fabs(three - 3 * once) < 1e-5 * three);
    rank_destroy(&r);
    free(s);
}

/* The batch's sequence `index` alone. */
static struct sample *sequence_of(const struct batch *batch, size_t index)
{
    struct sample *s = calloc(1, sizeof *s);
    uint32_t first = batch->offsets[index], end = batch->offsets[index + 1];
    struct batch *b = &s->batch;
    *b = (struct batch){.tokens = end - first,
                        .sequences = 1,
                        .longest = end - first,
                        .ids = s->ids,
                        .positions = s->positions,
                        .offsets = s->offsets,
                        .rows = s->rows,
                        .labels = s->labels};
    memcpy(s->ids, batch->ids + first, b->tokens * sizeof *s->ids);
    memcpy(s->positions, batch->positions + first, b->tokens * sizeof *s->positions);
    s->offsets[1] = (uint32_t)b->tokens;
    for (size_t i = 0; i < batch->targets; i++) {
        if (batch->rows[i] < first || batch->rows[i] >= end) continue;
        s->rows[b->targets] = batch->rows[i] - first;
        s->labels[b->targets++] = batch->labels[i];
    }
    return s;
}

static void packed_batch_is_its_sequences(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, false);
    struct method_config method = method_full_config();
    struct sample *s = sample_default(&method, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct rank r = rank_alone("reference", &config, &method, &capacity, true);
    struct parameters *p = r.parameters;
    size_t n = p->gradient_count;
    float *packed = malloc(n * sizeof *packed);
    double loss = gradients_of(&r, &s->batch, 1), sum = 0;
    r.kernels->to_host(r.device, packed, p->gradients, n * sizeof *packed);
    parameters_zero_gradients(p);
    for (size_t i = 0; i < s->batch.sequences; i++) {
        struct sample *one = sequence_of(&s->batch, i);
        struct error err;
        double part;
        assert_int_equal(model_train(r.model, &one->batch, 1, &part, &err), 0);
        sum += part;
        free(one);
    }
    assert_true(fabs(sum - loss) < 1e-6 * loss);
    assert_true(relative_error(n, p->gradients, packed) < 1e-5);
    free(packed);
    rank_destroy(&r);
    free(s);
}

/* A later token must not leak into an earlier prediction, nor one sequence into another. */
static void causality(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config method = method_full_config();
    struct sample *s = sample_default(&method, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct rank r = rank_alone("reference", &config, &method, &capacity, false);
    size_t changed = 9; /* in the second sequence, rows 5 .. 13 */
    for (size_t i = 0; i < s->batch.targets; i++) {
        struct batch one = s->batch;
        one.rows = &s->rows[i];
        one.labels = &s->labels[i];
        one.targets = 1;
        int32_t id = s->ids[changed];
        double before = loss_of(&r, &one);
        s->ids[changed] = (id + 1) % (int32_t)config.vocabulary;
        double after = loss_of(&r, &one);
        s->ids[changed] = id;
        bool sees = s->rows[i] >= changed && s->rows[i] < s->offsets[2];
        if ((before != after) != sees) fail_msg("row %u: %.9g became %.9g", s->rows[i], before, after);
    }
    rank_destroy(&r);
    free(s);
}

/* More targets than logits are held at a time. */
static void targets_in_chunks(void **state)
{
    (void)state;
    struct model_config config = small_model(2, 1, true);
    struct method_config method = method_full_config();
    size_t lengths[20];
    for (size_t i = 0; i < 20; i++)
        lengths[i] = 90;
    struct sample *s = sample_create(20, lengths, 0, config.vocabulary, 2);
    struct batch_capacity capacity = capacity_of(&s->batch);
    assert_true(capacity.targets > 1024 + 100);
    struct rank r = rank_alone("reference", &config, &method, &capacity, true);
    struct parameters *p = r.parameters;
    size_t n = p->gradient_count, half = s->batch.targets / 2;
    float *whole = malloc(n * sizeof *whole);
    double loss = gradients_of(&r, &s->batch, 1), parts[2];
    r.kernels->to_host(r.device, whole, p->gradients, n * sizeof *whole);
    parameters_zero_gradients(p);
    for (int i = 0; i < 2; i++) {
        struct batch part = s->batch;
        struct error err;
        part.rows += i ? half : 0;
        part.labels += i ? half : 0;
        part.targets = i ? s->batch.targets - half : half;
        assert_int_equal(model_train(r.model, &part, 1, &parts[i], &err), 0);
    }
    assert_true(fabs(parts[0] + parts[1] - loss) < 1e-6 * loss);
    assert_true(relative_error(n, p->gradients, whole) < 1e-4);
    free(whole);
    rank_destroy(&r);
    free(s);
}

/* A step that is cut into micro-batches has the masks of one that is not; another step, seed or place has others;
 * evaluation has none. */
static void dropout_of_micro_batches(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config method = method_lora_config();
    method.dropout = 0.3;
    struct sample *s = sample_default(&method, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    capacity.dropout = true;
    struct rank r = rank_alone("reference", &config, &method, &capacity, true);
    double plain = loss_of(&r, &s->batch), off = gradients_of(&r, &s->batch, 1);
    model_dropout(r.model, 0.25);
    s->batch.draws = (struct draws){7, 3, 0};
    size_t n = r.parameters->gradient_count;
    float *whole = malloc(n * sizeof *whole);
    double loss = gradients_of(&r, &s->batch, 1), parts = 0;
    r.kernels->to_host(r.device, whole, r.parameters->gradients, n * sizeof *whole);
    assert_true(off != plain && loss != off && loss_of(&r, &s->batch) == plain);
    parameters_zero_gradients(r.parameters);
    for (size_t i = 0; i < s->batch.sequences; i++) {
        struct error err;
        double part;
        struct sample *one = sequence_of(&s->batch, i);
        one->batch.draws = (struct draws){7, 3, s->offsets[i]};
        assert_int_equal(model_train(r.model, &one->batch, 1, &part, &err), 0);
        parts += part;
        free(one);
    }
    assert_true(fabs(parts - loss) < 1e-6 * loss);
    assert_true(relative_error(n, r.parameters->gradients, whole) < 1e-5);
    const struct draws others[] = {{8, 3, 0}, {7, 4, 0}, {7, 3, 1}};
    for (size_t i = 0; i < 3; i++) {
        s->batch.draws = others[i];
        assert_true(fabs(gradients_of(&r, &s->batch, 1) - loss) > 1e-4 * loss);
    }
    free(whole);
    rank_destroy(&r);
    free(s);
}

/* A model for steps of one pass: the second one would lose what the first has left, and is refused; the next step's is
 * not, whether or not the one between had targets; nor are evaluations. Parameters of another kind are refused. */
static void steps_of_one_pass(void **state)
{
    (void)state;
    struct error err = {""};
    struct model_config config = small_model(4, 2, true);
    struct method_config method = method_full_config();
    struct sample *s = sample_default(&method, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct rank any = rank_alone("reference", &config, &method, &capacity, true);
    capacity.one_pass = true;
    struct rank r = rank_alone("reference", &config, &method, &capacity, true);
    assert_null(model_create(&config, &method, any.parameters, &capacity, true, &err));
    assert_non_null(strstr(err.text, "steps of one pass"));
    double wanted = gradients_of(&any, &s->batch, 1), norm, same, loss;
    assert_int_equal(parameters_gradient_norm(any.parameters, &norm, &err), 0);
    for (int step = 0; step < 2; step++) {
        assert_true(gradients_of(&r, &s->batch, 1) == wanted);
        assert_int_equal(model_train(r.model, &s->batch, 1, &loss, &err), -1);
        assert_non_null(strstr(err.text, "second pass"));
        assert_int_equal(parameters_gradient_norm(r.parameters, &same, &err), 0);
        assert_true(same == norm);
        assert_true(loss_of(&r, &s->batch) == wanted);
        struct batch empty = s->batch;
        empty.targets = 0;
        gradients_of(&r, &empty, 1);
        assert_int_equal(parameters_gradient_norm(r.parameters, &same, &err), 0);
        assert_true(same == 0);
    }
    rank_destroy(&r);
    rank_destroy(&any);
    free(s);
}

/* A model made for evaluation shares buffers among its layers: the loss is the same, and training is refused. */
static void evaluation_model(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    config.layers = 3;
    for (size_t i = 1; i < METHOD_CASES; i++) {
        if (!method_fits(&method_cases[i], &config)) continue;
        struct sample *s = sample_default(&method_cases[i], config.vocabulary);
        struct batch_capacity capacity = capacity_of(&s->batch);
        struct rank training = rank_alone("reference", &config, &method_cases[i], &capacity, true);
        struct rank evaluation = rank_alone("reference", &config, &method_cases[i], &capacity, false);
        assert_true(loss_of(&training, &s->batch) == loss_of(&evaluation, &s->batch));
        struct error err = {""};
        double loss;
        assert_int_equal(model_train(evaluation.model, &s->batch, 1, &loss, &err), -1);
        assert_non_null(strstr(err.text, "evaluation"));
        rank_destroy(&training);
        rank_destroy(&evaluation);
        free(s);
    }
}

/* In bf16 every backend rounds the factors of its matrix products and nothing else, for training and evaluation. */
static void bf16(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, false);
    struct method_config methods[] = {method_full_config(), method_lora_config(), method_prompt_config()};
    for (size_t i = 0; i < 3; i++) {
        struct method_config method = methods[i];
        struct sample *s = sample_default(&method, config.vocabulary);
        struct batch_capacity capacity = capacity_of(&s->batch);
        struct rank plain = rank_alone("reference", &config, &method, &capacity, true);
        struct rank rounded = rank_alone("reference", &config, &method, &capacity, true);
        struct rank fast = rank_alone("cpu", &config, &method, &capacity, true);
        rounded.kernels->set_precision(rounded.device, PRECISION_BF16);
        fast.kernels->set_precision(fast.device, PRECISION_BF16);
        double exact = gradients_of(&plain, &s->batch, 1), expected = gradients_of(&rounded, &s->batch, 1);
        assert_true(fabs(expected / exact - 1) > 1e-6 && fabs(expected / exact - 1) < 1e-2);
        /* a sum that falls on the other side of a rounding boundary moves what follows by half a unit */
        assert_true(fabs(gradients_of(&fast, &s->batch, 1) / expected - 1) < 1e-4);
        double difference = 0, norm = 0, effect = 0;
        for (size_t p = 0; p < rounded.parameters->count; p++) {
            const struct parameter *a = &rounded.parameters->list[p], *b = &fast.parameters->list[p];
            for (size_t e = 0; a->gradient && e < a->row_count * a->column_count; e++) {
                difference += pow((double)a->gradient[e] - b->gradient[e], 2);
                effect += pow((double)a->gradient[e] - plain.parameters->list[p].gradient[e], 2);
                norm += pow(a->gradient[e], 2);
            }
        }
        assert_true(difference < 1e-5 * norm && difference < 0.1 * effect);
        rank_destroy(&plain);
        rank_destroy(&rounded);
        rank_destroy(&fast);
        free(s);
    }
}

/* Smoothing is of training alone: the mean over what a target and every other token would cost. */
static void label_smoothing(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, false);
    struct method_config method = method_full_config();
    struct sample *s = sample_default(&method, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct rank r = rank_alone("reference", &config, &method, &capacity, true);
    double plain = gradients_of(&r, &s->batch, 1), every = 0;
    int32_t *labels = malloc(s->batch.targets * sizeof *labels);
    memcpy(labels, s->labels, s->batch.targets * sizeof *labels);
    for (uint32_t token = 0; token < config.vocabulary; token++) {
        for (size_t i = 0; i < s->batch.targets; i++)
            s->labels[i] = (int32_t)token;
        every += loss_of(&r, &s->batch) / config.vocabulary;
    }
    memcpy(s->labels, labels, s->batch.targets * sizeof *labels);
    model_smooth_labels(r.model, 0.2);
    double smoothed = gradients_of(&r, &s->batch, 1);
    assert_true(fabs(smoothed - (0.8 * plain + 0.2 * every)) < 1e-6 * plain);
    assert_true(fabs(smoothed - plain) > 1e-3 * plain);
    assert_true(loss_of(&r, &s->batch) == plain);
    free(labels);
    rank_destroy(&r);
    free(s);
}

/* A fresh adapter leaves the base's function as it is (LoRA), and a base without training is evaluated as it is. */
static void fresh_lora_is_the_base(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config none = {.kind = METHOD_NONE}, method = method_lora_config();
    struct sample *s = sample_default(&none, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct rank base = rank_alone("reference", &config, &none, &capacity, false);
    struct rank adapted = rank_alone("reference", &config, &method, &capacity, true);
    struct error err;
    assert_true(loss_of(&base, &s->batch) != loss_of(&adapted, &s->batch));
    assert_int_equal(parameters_initialise_adapter(adapted.parameters, &config, &method, 3, &err), 0);
    assert_true(loss_of(&base, &s->batch) == loss_of(&adapted, &s->batch));
    rank_destroy(&base);
    rank_destroy(&adapted);
    free(s);
}

static void assert_refused(struct rank *r, const struct batch *batch, const char *word)
{
    struct error err = {""};
    double loss;
    assert_int_equal(model_evaluate(r->model, batch, &loss, &err), -1);
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

/* Ids come from a file: one outside the vocabulary is an error, not a read outside a table. */
static void bad_batches(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config method = method_prompt_config();
    struct sample *s = sample_default(&method, config.vocabulary);
    struct batch_capacity capacity = capacity_of(&s->batch);
    struct rank r = rank_alone("reference", &config, &method, &capacity, false);
    int32_t id = s->ids[4], label = s->labels[2];
    s->ids[4] = (int32_t)config.vocabulary;
    assert_refused(&r, &s->batch, "vocabulary");
    s->ids[4] = -(int32_t)method.size - 1;
    assert_refused(&r, &s->batch, "vocabulary");
    s->ids[4] = id;
    s->labels[2] = -1;
    assert_refused(&r, &s->batch, "label");
    s->labels[2] = label;
    uint32_t row = s->rows[1];
    s->rows[1] = s->rows[0];
    assert_refused(&r, &s->batch, "ascending");
    s->rows[1] = row;
    struct sample *larger = sample_create(3, (size_t[]){5, 9, 4}, method.size, config.vocabulary, 1);
    assert_refused(&r, &larger->batch, "larger");
    assert_true(isfinite(loss_of(&r, &s->batch)));
    rank_destroy(&r);
    free(larger);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_tied),
        cmocka_unit_test(full_untied_multi_query),
        cmocka_unit_test(lora),
        cmocka_unit_test(lora_multi_query),
        cmocka_unit_test(prompt),
        cmocka_unit_test(variants_of_the_architecture),
        cmocka_unit_test(unfreezing),
        cmocka_unit_test(window),
        cmocka_unit_test(merged_adapters),
        cmocka_unit_test(scale_and_accumulation),
        cmocka_unit_test(packed_batch_is_its_sequences),
        cmocka_unit_test(causality),
        cmocka_unit_test(targets_in_chunks),
        cmocka_unit_test(steps_of_one_pass),
        cmocka_unit_test(evaluation_model),
        cmocka_unit_test(bf16),
        cmocka_unit_test(label_smoothing),
        cmocka_unit_test(dropout_gradients),
        cmocka_unit_test(dropout_of_micro_batches),
        cmocka_unit_test(fresh_lora_is_the_base),
        cmocka_unit_test(bad_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
