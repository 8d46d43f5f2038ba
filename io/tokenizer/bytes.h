/* Growing text, and the places of pieces in it: what the steps of a tokenizer hand to each other. Private to
 * io/tokenizer. Functions return 0, or -1 out of memory, with *err. */
#ifndef TUNELAW_IO_TOKENIZER_BYTES_H
#define TUNELAW_IO_TOKENIZER_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

struct bytes {
    char *text; /* not terminated */
    size_t size, room;
};
int bytes_add(struct bytes *bytes, const char *text, size_t size, struct error *err);
/* `size` or more bytes behind the end may be written, before size is raised by hand. */
int bytes_reserve(struct bytes *bytes, size_t size, struct error *err);
void bytes_free(struct bytes *bytes);

struct span {
    size_t first, end; /* bytes */
};
struct spans {
    struct span *list;
    size_t count, room;
};
/* One of no length is left out. */
int spans_add(struct spans *spans, size_t first, size_t end, struct error *err);
void spans_free(struct spans *spans);

struct ids {
    int32_t *list;
    size_t count, room;
};
int ids_add(struct ids *ids, int32_t id, struct error *err);
void ids_free(struct ids *ids);

/* Room for `count` elements of `width` bytes in *list, doubled as it grows. */
int grow_list(void **list, size_t *room, size_t count, size_t width, struct error *err);

#endif
