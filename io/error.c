/* Error texts: the one way in which a failure reaches the person at the terminal. */
#include "io/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, const char *format, ...)
{
    int saved = errno;
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    errno = saved;
    return -1;
}

int error_set_errno(struct error *err, const char *format, ...)
{
    int saved = errno;
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(saved));
    }
    errno = saved;
    return -1;
}

int error_prefix(struct error *err, const char *format, ...)
{
    int saved = errno;
    if (err) {
        char old[sizeof err->text];
        memcpy(old, err->text, sizeof old);
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", old);
    }
    errno = saved;
    return -1;
}
