/* What io/config/config.c and io/config/config_values.c share. */
#ifndef TUNELAW_IO_CONFIG_CONFIG_PRIVATE_H
#define TUNELAW_IO_CONFIG_CONFIG_PRIVATE_H

#include <libconfig.h>
#include <stdarg.h>

#include "io/config/config.h"

struct config_file {
    config_t config;
    char *path;
    bool failed;
    struct error error;
    char *parameters;
    size_t parameters_used;
};

config_setting_t *config_member(const struct config_group *group, const char *key);
void config_note(const struct config_group *group, const char *key, bool fallback, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void config_fail_at(const struct config_group *group, const config_setting_t *setting, const char *place,
                    const char *format, va_list args);
void config_join(const char *const *names, size_t count, char *out, size_t size);
const char *config_type_name(const config_setting_t *setting); /* "a string", "an array", ... */

#endif
