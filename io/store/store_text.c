/* Names of statuses, and fixed text fields of rows. */
#include <string.h>

#include "io/store/store.h"

const char *store_status_name(enum store_status status)
{
    static const char *const names[STORE_STATUSES] = {"pending", "running",   "done", "diverged", "out-of-memory",
                                                      "crashed", "timed-out", "cut",  "skipped"};
    return (unsigned)status < STORE_STATUSES ? names[status] : "unknown";
}

void store_text(char *out, size_t out_size, const char *field, size_t field_size)
{
    if (out_size == 0) return;
    size_t size = strnlen(field, field_size);
    if (size >= out_size) size = out_size - 1;
    memcpy(out, field, size);
    out[size] = '\0';
}

void store_field(char *field, size_t field_size, const char *text)
{
    size_t size = strnlen(text, field_size);
    memcpy(field, text, size);
    memset(field + size, 0, field_size - size);
}
