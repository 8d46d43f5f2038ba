/* Reads the block in front of our HDF5 files, and believes none of its numbers before they are checked against the
 * file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/digest.h"
#include "io/file.h"
#include "io/frozen/frozen.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "blocks, rows and tensors are written as they lie in memory: little-endian machines only"
#endif

const char *const frozen_type_names[FROZEN_TYPES] = {"record", "text", "u1", "u2", "u4", "u8", "f4"};

size_t frozen_element_size(const struct frozen_spec *spec)
{
    static const size_t sizes[FROZEN_TYPES] = {
        [FROZEN_U8] = 1, [FROZEN_U16] = 2, [FROZEN_U32] = 4, [FROZEN_U64] = 8, [FROZEN_F32] = 4};
    return spec->type == FROZEN_RECORD ? spec->layout->size : sizes[spec->type];
}

/* A name is printed in messages: plain characters, zero-padded. */
static bool name_plain(const char name[48])
{
    size_t size = strnlen(name, 48);
    if (size == 0 || size == 48) return false;
    for (size_t i = size; i < 48; i++)
        if (name[i]) return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_/") == size;
}

/* Inside the file, behind the block; then its end does not wrap. */
static bool entry_inside(const struct frozen_entry *entry, uint64_t file_size)
{
    uint64_t size;
    if (entry->row_size == 0 || __builtin_mul_overflow(entry->rows, entry->row_size, &size)) return false;
    if (size == 0) return entry->offset == 0;
    return entry->offset >= FROZEN_BLOCK && entry->offset <= file_size && size <= file_size - entry->offset;
}

static bool entries_overlap(const struct frozen_entry *a, const struct frozen_entry *b)
{
    return a->offset < b->offset + b->rows * b->row_size && b->offset < a->offset + a->rows * a->row_size;
}

const char *frozen_misplaced(const struct frozen_block *block, const char **name)
{
    *name = "";
    if (block->part_count > FROZEN_PARTS) return "more datasets than there can be";
    for (size_t i = 0; i < block->part_count; i++) {
        const struct frozen_entry *entry = &block->parts[i];
        if (!name_plain(entry->name)) return "a dataset's name";
        *name = entry->name;
        if (entry->sealed > 1 || entry->reserved != 0 || (!entry->sealed && entry->checksum != 0)) return "seal of";
        if (!entry_inside(entry, block->file_size)) return "size or place of";
        if (entry->row_size % FROZEN_PAGE == 0 && entry->offset % FROZEN_PAGE != 0) return "alignment of";
        for (size_t j = 0; j < i; j++) {
            if (strcmp(entry->name, block->parts[j].name) == 0) return "two datasets named";
            if (entries_overlap(entry, &block->parts[j])) return "bytes of another dataset in";
        }
    }
    return NULL;
}

/* End of a zero-terminated string at `at`, 0 where it has no end. */
static size_t string_end(const struct frozen_block *block, size_t at)
{
    const char *zero = memchr(block->attributes + at, 0, (size_t)block->attribute_size - at);
    return zero ? (size_t)(zero - block->attributes) + 1 : 0;
}

/* Pairs of strings that end where the attributes end. */
static bool attributes_right(const struct frozen_block *block)
{
    if (block->attribute_size > sizeof block->attributes) return false;
    for (size_t at = 0; at < block->attribute_size;) {
        size_t value = string_end(block, at);
        if (value == 0 || value == block->attribute_size) return false;
        at = string_end(block, value);
        if (at == 0) return false;
    }
    return true;
}

static bool is_kind(const struct frozen_block *block, const char *kind)
{
    char expected[sizeof block->kind] = {0};
    memcpy(expected, kind, strlen(kind));
    return memcmp(block->kind, expected, sizeof expected) == 0;
}

static bool checksum_right(const struct frozen_block *block)
{
    return block->checksum == checksum_of(block, offsetof(struct frozen_block, checksum));
}

bool frozen_block_right(const struct frozen_block *block, const struct frozen_format *format)
{
    if (!is_kind(block, format->kind) || block->version != format->version || !checksum_right(block) ||
        block->part_count > FROZEN_PARTS || !attributes_right(block))
        return false;
    for (size_t i = 0; i < block->part_count; i++)
        if (!name_plain(block->parts[i].name)) return false;
    return true;
}

static int foreign(int fd, const char *path, const struct frozen_format *format, struct error *err)
{
    static const char signature[] = "\211HDF\r\n\032\n";
    char first[8];
    if (file_read_at(fd, first, sizeof first, 0) == 0 && memcmp(first, signature, sizeof first) == 0)
        return error_set(err, "%s: an HDF5 file, but not a %s of version %u", path, format->kind, format->version);
    return error_set(err, "%s: not a %s", path, format->kind);
}

/* In the order in which the words are the truest: what is not ours, of another version, damaged, forged. */
static int block_check(const struct frozen_block *block, uint64_t size, const char *path,
                       const struct frozen_format *format, struct error *err)
{
    const char *name, *wrong;
    if (block->version != format->version)
        return error_set(err, "%s: %s of version %u; this program reads version %u", path, format->kind, block->version,
                         format->version);
    if (size < FROZEN_BLOCK || !checksum_right(block))
        return error_set(err, "%s: damaged: the checksum of its first bytes is wrong", path);
    if (block->file_size != size)
        return error_set(err, "%s: damaged: %llu bytes long, written with %llu", path, (unsigned long long)size,
                         (unsigned long long)block->file_size);
    if ((wrong = frozen_misplaced(block, &name)))
        return error_set(err, "%s: damaged: its first bytes do not describe a %s: %s%s%s", path, format->kind, wrong,
                         name[0] ? " " : "", name);
    if (!attributes_right(block)) return error_set(err, "%s: damaged: its attributes are not pairs of texts", path);
    return 0;
}

int frozen_open(int fd, const char *path, const struct frozen_format *format, struct frozen_block *block,
                struct error *err)
{
    struct stat status;
    if (fstat(fd, &status) != 0) return error_set_errno(err, "%s", path);
    if (!S_ISREG(status.st_mode)) return error_set(err, "%s: not a regular file", path);
    uint64_t size = (uint64_t)status.st_size;
    if (size < offsetof(struct frozen_block, part_count)) return foreign(fd, path, format, err);
    memset(block, 0, sizeof *block);
    if (file_read_at(fd, block, size < sizeof *block ? (size_t)size : sizeof *block, 0) != 0)
        return error_set_errno(err, "%s: cannot read", path);
    if (!is_kind(block, format->kind)) return foreign(fd, path, format, err);
    return block_check(block, size, path, format, err);
}

int frozen_locate(const struct frozen_block *block, const char *path, struct frozen_part *part, struct error *err)
{
    const struct frozen_spec *spec = part->spec;
    char type[8] = {0};
    memcpy(type, frozen_type_names[spec->type], strlen(frozen_type_names[spec->type]));
    uint64_t record = spec->type == FROZEN_RECORD ? frozen_layout_digest(spec->layout) : 0;
    for (size_t i = 0; i < block->part_count; i++) {
        const struct frozen_entry *entry = &block->parts[i];
        if (strcmp(entry->name, spec->name) != 0) continue;
        if (memcmp(entry->type, type, sizeof type) != 0 || entry->record != record || entry->sealed != spec->sealed ||
            (spec->type == FROZEN_TEXT ? entry->rows != 1 : entry->row_size != frozen_element_size(spec)))
            return error_set(err, "%s: dataset %s has other members or types than this program writes", path,
                             spec->name);
        part->rows = entry->rows;
        part->row_size = entry->row_size;
        part->offset = entry->offset;
        part->checksum = entry->checksum;
        return 0;
    }
    return error_set(err, "%s: has no dataset %s", path, spec->name);
}

int frozen_get_text(const struct frozen_block *block, const char *path, const char *name, const char **text,
                    struct error *err)
{
    for (size_t at = 0; at < block->attribute_size;) {
        size_t value = string_end(block, at);
        if (strcmp(block->attributes + at, name) == 0) {
            *text = block->attributes + value;
            return 0;
        }
        at = string_end(block, value);
    }
    return error_set(err, "%s: has no attribute %s", path, name);
}

int frozen_get_u64(const struct frozen_block *block, const char *path, const char *name, uint64_t *value,
                   struct error *err)
{
    const char *text;
    if (frozen_get_text(block, path, name, &text, err) != 0) return -1;
    errno = 0;
    unsigned long long number = strtoull(text, NULL, 10);
    if (!text[0] || text[strspn(text, "0123456789")] || errno != 0)
        return error_set(err, "%s: attribute %s is not a number", path, name);
    *value = number;
    return 0;
}
