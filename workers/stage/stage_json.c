/* A stage as text: from the master through an agent to a worker, and into the first line of its log. Tables of fields
 * drive both ways, so that what is written is what is read. */
#include "workers/stage/stage.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/model/names.h"
#include "workers/stage/stage_text.h"

#define U32(struct_, member, low_, high_)                                                                              \
    {                                                                                                                  \
        .key = #member, .type = FIELD_U32, .offset = offsetof(struct struct_, member), .low = (low_), .high = (high_)  \
    }
#define PLAIN(struct_, member, type_)                                                                                  \
    {                                                                                                                  \
        .key = #member, .type = (type_), .offset = offsetof(struct struct_, member)                                    \
    }
#define U64(struct_, member) PLAIN(struct_, member, FIELD_U64)
#define REAL(struct_, member) PLAIN(struct_, member, FIELD_REAL)
#define TEXT(struct_, member, size_)                                                                                   \
    {                                                                                                                  \
        .key = #member, .type = FIELD_TEXT, .offset = offsetof(struct struct_, member), .size = (size_)                \
    }
#define NAME(struct_, member, name_, find_)                                                                            \
    {                                                                                                                  \
        .key = #member, .type = FIELD_NAME, .offset = offsetof(struct struct_, member), .name = (name_),               \
        .find = (find_)                                                                                                \
    }
#define OBJECT(struct_, member, fields_)                                                                               \
    {                                                                                                                  \
        .key = #member, .type = FIELD_OBJECT, .offset = offsetof(struct struct_, member), .fields = (fields_)          \
    }

static const char *kind_name(int kind)
{
    return stage_kind_name((enum stage_kind)kind);
}

static int kind_find(const char *name)
{
    return stage_kind_find(name);
}

static const char *method_name_of(int kind)
{
    return method_name((enum method_kind)kind);
}

static const char *schedule_name_of(int kind)
{
    return schedule_name((enum schedule_kind)kind);
}

static const char *precision_name_of(int precision)
{
    return precision_name((enum precision)precision);
}

static const char *example_order_name_of(int order)
{
    return example_order_name((enum example_order)order);
}

static const char *optimiser_name_of(int kind)
{
    return optimiser_name((enum optimiser_kind)kind);
}

static const char *objective_name_of(int kind)
{
    return objective_name((enum objective)kind);
}

static const char *denoiser_mode_name_of(int mode)
{
    return denoiser_mode_name((enum denoiser_mode)mode);
}

static const char *family_name_of(int family)
{
    return family_name((enum model_family)family);
}

static const char *norm_name_of(int kind)
{
    return norm_name((enum norm_kind)kind);
}

static const char *qk_norm_name_of(int kind)
{
    return qk_norm_name((enum qk_norm)kind);
}

static const char *activation_name_of(int activation)
{
    return activation_name((enum activation)activation);
}

static const struct field architecture_fields[] = {
    NAME(architecture, family, family_name_of, family_find),
    NAME(architecture, norm, norm_name_of, norm_find),
    NAME(architecture, activation, activation_name_of, activation_find),
    PLAIN(architecture, norm_after, FIELD_BOOL),
    PLAIN(architecture, parallel, FIELD_BOOL),
    NAME(architecture, qk_norm, qk_norm_name_of, qk_norm_find),
    PLAIN(architecture, fused_qkv, FIELD_BOOL),
    PLAIN(architecture, qkv_bias, FIELD_BOOL),
    PLAIN(architecture, out_bias, FIELD_BOOL),
    PLAIN(architecture, mlp_bias, FIELD_BOOL),
    U32(architecture, rotary_width, 0, 1 << 16),
    U32(architecture, window, 0, UINT32_MAX),
    {.key = NULL},
};

static const struct field rope_scaling_fields[] = {
    REAL(rotary_scaling, factor),
    REAL(rotary_scaling, low),
    REAL(rotary_scaling, high),
    U32(rotary_scaling, original, 0, UINT32_MAX),
    {.key = NULL},
};

static const struct field model_fields[] = {
    TEXT(model_config, name, sizeof((struct model_config *)0)->name),
    U32(model_config, layers, 1, 1 << 16),
    U32(model_config, width, 1, 1 << 24),
    U32(model_config, heads, 1, 1 << 16),
    U32(model_config, kv_heads, 1, 1 << 16),
    U32(model_config, head_width, 1, 1 << 16),
    U32(model_config, ffn, 1, 1 << 24),
    U32(model_config, vocabulary, 1, 1 << 28),
    PLAIN(model_config, tied, FIELD_BOOL),
    REAL(model_config, rope_theta),
    REAL(model_config, norm_epsilon),
    OBJECT(model_config, rope_scaling, rope_scaling_fields),
    OBJECT(model_config, architecture, architecture_fields),
    {.key = NULL},
};

static const struct field method_fields[] = {
    NAME(method_config, kind, method_name_of, method_find),
    U32(method_config, size, 0, 1 << 24),
    REAL(method_config, alpha),
    REAL(method_config, dropout),
    PLAIN(method_config, rank_stabilised, FIELD_BOOL),
    U32(method_config, modules, 0, (1 << LINEARS) - 1),
    PLAIN(method_config, mlp_only, FIELD_BOOL),
    U32(method_config, thaw_layers, 0, UINT32_MAX),
    U64(method_config, thaw_steps),
    TEXT(method_config, text, PROMPT_TEXT),
    {.key = NULL},
};

static const struct field denoiser_fields[] = {
    NAME(denoiser, mode, denoiser_mode_name_of, denoiser_mode_find),
    REAL(denoiser, span),
    REAL(denoiser, corruption),
    REAL(denoiser, share),
    {.key = NULL},
};

static const struct field mixture_fields[] = {
    PLAIN(mixture, mode_tokens, FIELD_BOOL),
    {.key = "denoisers",
     .type = FIELD_LIST,
     .offset = offsetof(struct mixture, denoisers),
     .high = DENOISERS,
     .fields = denoiser_fields,
     .count = offsetof(struct mixture, count),
     .stride = sizeof(struct denoiser)},
    {.key = NULL},
};

static const struct field recipe_fields[] = {
    NAME(recipe, optimiser, optimiser_name_of, optimiser_find),
    PLAIN(recipe, parameter_scale, FIELD_BOOL),
    REAL(recipe, momentum),
    REAL(recipe, learning_rate),
    REAL(recipe, beta1),
    REAL(recipe, beta2),
    REAL(recipe, epsilon),
    REAL(recipe, weight_decay),
    REAL(recipe, clip_norm),
    NAME(recipe, schedule, schedule_name_of, schedule_find),
    U64(recipe, warmup_steps),
    U64(recipe, decay_steps),
    REAL(recipe, final_ratio),
    REAL(recipe, decay_share),
    NAME(recipe, precision, precision_name_of, precision_find),
    REAL(recipe, dropout),
    REAL(recipe, label_smoothing),
    NAME(recipe, objective, objective_name_of, objective_find),
    OBJECT(recipe, mixture, mixture_fields),
    U32(recipe, sequence_length, 2, 1 << 24),
    U32(recipe, batch, 1, 1 << 24),
    U64(recipe, steps),
    U32(recipe, evaluations, 0, UINT32_MAX),
    U32(recipe, patience, 0, UINT32_MAX),
    NAME(recipe, order, example_order_name_of, example_order_find),
    U64(recipe, evaluation_steps),
    {.key = NULL},
};

static const struct field generation_fields[] = {
    U32(generation_config, metrics, 0, UINT32_MAX),
    U32(generation_config, beams, 0, 1 << 16),
    U32(generation_config, max_new_tokens, 0, 1 << 24),
    REAL(generation_config, length_penalty),
    U64(generation_config, examples),
    PLAIN(generation_config, save, FIELD_BOOL),
    {.key = NULL},
};

static const struct field stage_fields[] = {
    PLAIN(stage, identity, FIELD_DIGEST),
    NAME(stage, kind, kind_name, kind_find),
    PLAIN(stage, parent, FIELD_DIGEST),
    PLAIN(stage, base, FIELD_DIGEST),
    PLAIN(stage, prefix, FIELD_DIGEST),
    TEXT(stage, import, PATH_MAX),
    TEXT(stage, start, PATH_MAX),
    PLAIN(stage, start_digest, FIELD_DIGEST),
    TEXT(stage, dir, STAGE_DIR_LIMIT),
    TEXT(stage, dataset, PATH_MAX),
    PLAIN(stage, dataset_digest, FIELD_DIGEST),
    OBJECT(stage, model, model_fields),
    OBJECT(stage, method, method_fields),
    OBJECT(stage, recipe, recipe_fields),
    U64(stage, seed),
    U64(stage, first_step),
    U64(stage, last_step),
    U64(stage, examples),
    U64(stage, valid_examples),
    U64(stage, test_examples),
    OBJECT(stage, generate, generation_fields),
    REAL(stage, flops),
    U64(stage, predicted_bytes),
    TEXT(stage, backend, sizeof((struct stage *)0)->backend),
    U32(stage, degree, 1, 1024),
    U32(stage, threads, 1, 4096),
    PLAIN(stage, recompute, FIELD_BOOL),
    U32(stage, attempt, 0, UINT32_MAX),
    REAL(stage, checkpoint_seconds),
    U64(stage, checkpoint_steps),
    REAL(stage, hang_seconds),
    PLAIN(stage, keep_weights, FIELD_BOOL),
    PLAIN(stage, aligned, FIELD_BOOL),
    U64(stage, generation),
    {.key = NULL},
};

char *stage_encode(const struct stage *stage)
{
    return stage_text_write(stage_fields, stage);
}

static int decode_u32(const struct field *field, const json_t *value, char *at, struct error *err)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (uint64_t)number < field->low || (uint64_t)number > field->high)
        return error_set(err, "\"%s\" must be an integer in %" PRIu64 "..%" PRIu64, field->key, field->low,
                         field->high);
    *(uint32_t *)at = (uint32_t)number;
    return 0;
}

static int decode_u64(const struct field *field, const json_t *value, char *at, struct error *err)
{
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *(uint64_t *)at = (uint64_t)json_integer_value(value);
        return 0;
    }
    const char *digits = json_string_value(value);
    if (digits && strspn(digits, "0123456789") == strlen(digits) && strlen(digits) <= 20 && *digits) {
        uint64_t number = strtoull(digits, NULL, 10);
        char again[24];
        snprintf(again, sizeof again, "%" PRIu64, number);
        if (strcmp(again, digits) == 0) {
            *(uint64_t *)at = number;
            return 0;
        }
    }
    return error_set(err, "\"%s\" must be an integer in 0..%" PRIu64, field->key, UINT64_MAX);
}

static int decode_text(const struct field *field, const json_t *value, char *at, struct error *err)
{
    const char *text = json_string_value(value);
    if (!text || strlen(text) >= field->size)
        return error_set(err, "\"%s\" must be a string of less than %zu bytes", field->key, field->size);
    strcpy(at, text);
    return 0;
}

static int decode_digest(const struct field *field, const json_t *value, char *at, struct error *err)
{
    const char *text = json_string_value(value);
    size_t size = text ? strlen(text) : 0;
    if (!text || (size != 0 && size != DIGEST_HEX) || strspn(text, "0123456789abcdef") != size)
        return error_set(err, "\"%s\" must be a string of 0 or %d hexadecimal digits", field->key, DIGEST_HEX);
    strcpy(((struct digest *)at)->hex, text);
    return 0;
}

static int decode_name(const struct field *field, const json_t *value, char *at, struct error *err)
{
    const char *text = json_string_value(value);
    int kind = text ? field->find(text) : -1;
    if (kind < 0) return error_set(err, "\"%s\" is not one of the known names", field->key);
    *(int *)at = kind;
    return 0;
}

static int decode_object(const struct field *fields, const json_t *object, char *base, struct error *err);

static int decode_list(const struct field *field, const json_t *list, char *base, struct error *err)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > field->high)
        return error_set(err, "\"%s\" must be a list of at most %" PRIu64, field->key, field->high);
    for (size_t i = 0; i < count; i++)
        if (decode_object(field->fields, json_array_get(list, i), base + field->offset + i * field->stride, err))
            return error_prefix(err, "\"%s\"", field->key);
    *(uint32_t *)(base + field->count) = (uint32_t)count;
    return 0;
}

static int decode_field(const struct field *field, const json_t *value, char *base, struct error *err)
{
    char *at = base + field->offset;
    switch (field->type) {
    case FIELD_U32:
        return decode_u32(field, value, at, err);
    case FIELD_U64:
        return decode_u64(field, value, at, err);
    case FIELD_REAL:
        if (!json_is_number(value)) return error_set(err, "\"%s\" must be a number", field->key);
        *(double *)at = json_number_value(value);
        return 0;
    case FIELD_BOOL:
        if (!json_is_boolean(value)) return error_set(err, "\"%s\" must be true or false", field->key);
        *(bool *)at = json_is_true(value);
        return 0;
    case FIELD_TEXT:
        return decode_text(field, value, at, err);
    case FIELD_DIGEST:
        return decode_digest(field, value, at, err);
    case FIELD_NAME:
        return decode_name(field, value, at, err);
    case FIELD_OBJECT:
        if (decode_object(field->fields, value, at, err)) return error_prefix(err, "\"%s\"", field->key);
        return 0;
    case FIELD_LIST:
        return decode_list(field, value, base, err);
    }
    return -1;
}

static int decode_object(const struct field *fields, const json_t *object, char *base, struct error *err)
{
    if (!json_is_object(object)) return error_set(err, "is not an object");
    size_t count = 0;
    for (const struct field *field = fields; field->key; field++, count++) {
        const json_t *value = json_object_get(object, field->key);
        if (!value) return error_set(err, "\"%s\" is missing", field->key);
        if (decode_field(field, value, base, err)) return -1;
    }
    if (json_object_size(object) != count) return error_set(err, "has keys that are not known");
    return 0;
}

static int check(const struct stage *stage, struct error *err)
{
    if (!stage->identity.hex[0]) return error_set(err, "\"identity\" is empty");
    if (stage->dir[0] != '/') return error_set(err, "\"dir\" must be an absolute path");
    if (stage->recipe.objective == OBJECTIVE_UL2 && mixture_check(&stage->recipe.mixture, err)) return -1;
    if (stage->first_step > stage->last_step) return error_set(err, "\"first_step\" is above \"last_step\"");
    if (stage->kind != STAGE_PRETRAIN && !stage->parent.hex[0] == !stage->import[0])
        return error_set(err, "finetuning starts from a pretrained state: either \"parent\" or \"import\"");
    return 0;
}

int stage_decode(const char *text, size_t size, struct stage *stage, struct error *err)
{
    memset(stage, 0, sizeof *stage);
    if (stage_text_read(stage_fields, text, size, stage)) return check(stage, err) ? error_prefix(err, "stage") : 0;
    json_error_t where;
    json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    memset(stage, 0, sizeof *stage);
    int result = -1;
    if (!object)
        error_set(err, "line %d, column %d: %s", where.line, where.column, where.text);
    else if (decode_object(stage_fields, object, (char *)stage, err) == 0)
        result = check(stage, err);
    json_decref(object);
    return result == 0 ? 0 : error_prefix(err, "stage");
}
