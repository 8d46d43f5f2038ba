/* Lists that grow. */
#include "io/tokenizer/bytes.h"

#include <stdlib.h>
#include <string.h>

int grow_list(void **list, size_t *room, size_t count, size_t width, struct error *err)
{
    if (count <= *room) return 0;
    size_t wanted = *room ? *room : 64;
    while (wanted < count && wanted <= SIZE_MAX / 2 / width)
        wanted *= 2;
    void *grown = wanted < count ? NULL : realloc(*list, wanted * width);
    if (!grown) return error_set(err, "tokenizer: out of memory");
    *list = grown;
    *room = wanted;
    return 0;
}

int bytes_reserve(struct bytes *bytes, size_t size, struct error *err)
{
    void *text = bytes->text;
    int result = grow_list(&text, &bytes->room, bytes->size + size, 1, err);
    bytes->text = text;
    return result;
}

int bytes_add(struct bytes *bytes, const char *text, size_t size, struct error *err)
{
    if (bytes_reserve(bytes, size, err) != 0) return -1;
    if (size) memcpy(bytes->text + bytes->size, text, size);
    bytes->size += size;
    return 0;
}

void bytes_free(struct bytes *bytes)
{
    free(bytes->text);
    *bytes = (struct bytes){0};
}

int spans_add(struct spans *spans, size_t first, size_t end, struct error *err)
{
    if (first == end) return 0;
    void *list = spans->list;
    int result = grow_list(&list, &spans->room, spans->count + 1, sizeof *spans->list, err);
    spans->list = list;
    if (result == 0) spans->list[spans->count++] = (struct span){first, end};
    return result;
}

void spans_free(struct spans *spans)
{
    free(spans->list);
    *spans = (struct spans){0};
}

int ids_add(struct ids *ids, int32_t id, struct error *err)
{
    void *list = ids->list;
    int result = grow_list(&list, &ids->room, ids->count + 1, sizeof *ids->list, err);
    ids->list = list;
    if (result == 0) ids->list[ids->count++] = id;
    return result;
}

void ids_free(struct ids *ids)
{
    free(ids->list);
    *ids = (struct ids){0};
}
