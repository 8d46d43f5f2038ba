/* Fitting, the other beginning: observations from a CSV file (RFC 4180: quotes, doubled quotes, line breaks in quotes,
 * CRLF), for points that others have measured. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fitting/observations/observations.h"

enum { MAX_COLUMNS = 256 };
enum column { COLUMN_X, COLUMN_P, COLUMN_T, COLUMN_D, COLUMN_L, COLUMN_M, COLUMN_C, COLUMN_H, COLUMNS };
static const char letters[COLUMNS + 1] = "XPTDLMCH";

/* One record, split in place: fields[count] point into `line`. -1: a quote that does not close, or too many fields. */
static int split_record(char *line, char *fields[MAX_COLUMNS])
{
    int count = 0;
    char *read = line, *write = line;
    for (;;) {
        if (count == MAX_COLUMNS) return -1;
        fields[count++] = write;
        if (*read == '"') {
            for (read++; *read && (*read != '"' || read[1] == '"');) {
                if (*read == '"') read++;
                *write++ = *read++;
            }
            if (*read++ != '"') return -1;
            if (*read && *read != ',') return -1;
        } else {
            while (*read && *read != ',')
                *write++ = *read++;
        }
        bool more = *read == ',';
        read += more;
        *write++ = 0;
        if (!more) return count;
    }
}

static int wanted_letter(char letter)
{
    if (letter == 'N') letter = 'X';
    for (int i = 0; i < COLUMNS; i++)
        if (letters[i] == letter) return i;
    return -1;
}

static void say_columns(const char *path, char *const *header, int count, const char *wanted, struct error *err)
{
    char there[400] = "";
    size_t used = 0;
    for (int i = 0; i < count && used < sizeof there; i++)
        used += (size_t)snprintf(there + used, sizeof there - used, "%s\"%s\"", i ? ", " : "", header[i]);
    error_set(err, "%s:1: no column is called \"%s\"; there: %s", path, wanted, there);
}

/* "N=params,D=tokens" and the header's fields -> index of each column, -1 where it is not named. */
static int map_columns(const char *path, const char *columns, char *const *header, int header_count, int map[COLUMNS],
                       struct error *err)
{
    for (int i = 0; i < COLUMNS; i++)
        map[i] = -1;
    char *copy = strdup(columns), *rest = copy;
    if (!copy) return error_set(err, "out of memory");
    for (char *word; (word = strsep(&rest, ","));) {
        int column = word[0] && word[1] == '=' ? wanted_letter(word[0]) : -1, found = -1, columns_so_called = 0;
        for (int i = 0; column >= 0 && i < header_count; i++) {
            if (strcmp(header[i], word + 2)) continue;
            if (!columns_so_called++) found = i;
        }
        if (column < 0)
            error_set(err, "columns: \"%s\"; allowed: LETTER=NAME with X or N, P, T, D, L, M, C, H", word);
        else if (map[column] >= 0)
            error_set(err, "columns: %c is given twice", word[0]);
        else if (found < 0)
            say_columns(path, header, header_count, word + 2, err);
        else if (columns_so_called > 1)
            error_set(err, "%s:1: %d columns are called \"%s\"; allowed: one", path, columns_so_called, word + 2);
        if (found < 0 || map[column] >= 0 || columns_so_called > 1) {
            free(copy);
            return -1;
        }
        map[column] = found;
    }
    free(copy);
    if (map[COLUMN_L] < 0) return error_set(err, "columns: no L=NAME, the column of the loss");
    return 0;
}

static int read_number(const char *path, size_t line, const char *name, const char *text, double *out,
                       struct error *err)
{
    char *end;
    bool hexadecimal = strpbrk(text, "xX") != NULL; /* C's are none in a table */
    *out = strtod(text, &end);
    while (*end == ' ')
        end++;
    if (end == text || *end || hexadecimal || !isfinite(*out) || *out < 0)
        return error_set(err, "%s:%zu: %s is \"%.40s\"; allowed: a number from 0", path, line, name, text);
    return 0;
}

static size_t cluster_number(const struct observations *out, char (*names)[OBSERVATION_NAME], const char *name)
{
    for (size_t i = 0; i < out->count; i++)
        if (!strcmp(names[i], name)) return out->rows[i].trunk;
    return out->trunks;
}

static int read_row(const char *path, size_t line, char *const *header, char *const *fields, const int map[COLUMNS],
                    char (*clusters)[OBSERVATION_NAME], struct observations *out, struct error *err)
{
    struct observation row = {
        .trunk = out->count, .pretrain_loss = NAN, .scores = {NAN, NAN, NAN, NAN, NAN}, .replicates = 1};
    double held_out = 0;
    double *const numbers[COLUMNS] = {[COLUMN_X] = &row.parameters, [COLUMN_P] = &row.pretrain_tokens,
                                      [COLUMN_T] = &row.pet_size,   [COLUMN_D] = &row.examples,
                                      [COLUMN_L] = &row.loss,       [COLUMN_H] = &held_out};
    for (int i = 0; i < COLUMNS; i++)
        if (numbers[i] && map[i] >= 0 && read_number(path, line, header[map[i]], fields[map[i]], numbers[i], err))
            return -1;
    if (row.loss == 0)
        return error_set(err, "%s:%zu: %s is 0; allowed: above 0 (leave out the row of a run without one)", path, line,
                         header[map[COLUMN_L]]);
    row.valid_loss = row.loss;
    row.held_out = held_out != 0;
    snprintf(row.identity, sizeof row.identity, "row %zu", line);
    snprintf(row.method, sizeof row.method, "%s", map[COLUMN_M] >= 0 ? fields[map[COLUMN_M]] : "table");
    if (map[COLUMN_C] >= 0) {
        snprintf(clusters[out->count], sizeof clusters[0], "%s", fields[map[COLUMN_C]]);
        row.trunk = cluster_number(out, clusters, clusters[out->count]);
    }
    if (row.trunk >= out->trunks) out->trunks = row.trunk + 1;
    out->rows[out->count++] = row;
    return 0;
}

/* Grow both arrays of rows by one place. */
static int make_room(struct observations *out, char (**clusters)[OBSERVATION_NAME], size_t *room)
{
    if (out->count < *room) return 0;
    size_t more = *room ? 2 * *room : 256;
    struct observation *rows = realloc(out->rows, more * sizeof *rows);
    if (rows) out->rows = rows;
    char(*names)[OBSERVATION_NAME] = realloc(*clusters, more * sizeof **clusters);
    if (names) *clusters = names;
    if (!rows || !names) return -1;
    *room = more;
    return 0;
}

static bool odd_quotes(const char *text)
{
    bool odd = false;
    for (; *text; text++)
        odd ^= *text == '"';
    return odd;
}

/* A record without what ends it, of one line or, with line breaks in quotes, of several; *lines: up to its last. 1; 0:
 * nothing is left; -1 with *err. */
static int next_record(const char *path, FILE *file, char **record, size_t *size, size_t *lines, struct error *err)
{
    char *line = NULL;
    size_t room = 0;
    errno = 0;
    ssize_t length = getline(record, size, file), more;
    if (length < 0) return ferror(file) || errno == ENOMEM ? error_set_errno(err, "%s", path) : 0;
    ++*lines;
    bool quoted = odd_quotes(*record); /* a field goes on in the next line */
    while (quoted && (more = getline(&line, &room, file)) > 0) {
        size_t whole = (size_t)length + (size_t)more + 1;
        char *longer = whole > *size ? realloc(*record, whole) : *record;
        if (!longer) {
            free(line);
            return error_set(err, "%s: out of memory", path);
        }
        if (whole > *size) *size = whole;
        *record = longer;
        memcpy(*record + length, line, (size_t)more + 1);
        length += more;
        quoted ^= odd_quotes(line);
        ++*lines;
    }
    free(line);
    while (length > 0 && ((*record)[length - 1] == '\n' || (*record)[length - 1] == '\r'))
        (*record)[--length] = 0;
    return 1;
}

int observations_from_table(const char *path, const char *columns, struct observations *out, struct error *err)
{
    *out = (struct observations){0};
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return error_set(err, "%s: a directory; allowed: a CSV file", path);
    FILE *file = fopen(path, "r");
    if (!file) return error_set_errno(err, "%s", path);
    int result = -1, got, map[COLUMNS];
    char *first = NULL, *line = NULL, *header[MAX_COLUMNS], *fields[MAX_COLUMNS];
    char(*clusters)[OBSERVATION_NAME] = NULL;
    size_t first_size = 0, size = 0, room = 0, lines = 0, number;
    got = next_record(path, file, &first, &first_size, &lines, err);
    if (!got) error_set(err, "%s: empty; allowed: a header line and rows", path);
    if (got <= 0) goto done;
    char *start = strncmp(first, "\xef\xbb\xbf", 3) ? first : first + 3;
    int header_count = split_record(start, header);
    if (header_count < 0) {
        error_set(err, "%s:1: the header is not CSV", path);
        goto done;
    }
    if (map_columns(path, columns, header, header_count, map, err)) goto done;
    while (number = lines + 1, (got = next_record(path, file, &line, &size, &lines, err)) > 0) {
        if (!*line) continue;
        int count = split_record(line, fields);
        if (count != header_count) {
            error_set(err, "%s:%zu: %s; allowed: %d fields, as in the header", path, number,
                      count < 0 ? "not CSV" : "another number of fields", header_count);
            goto done;
        }
        if (make_room(out, &clusters, &room)) {
            error_set(err, "%s: out of memory", path);
            goto done;
        }
        if (read_row(path, number, header, fields, map, clusters, out, err)) goto done;
    }
    if (got < 0) goto done;
    if (!out->count) {
        error_set(err, "%s: no rows after the header", path);
        goto done;
    }
    out->config = strdup("");
    out->settings = fit_settings_default();
    out->points = out->count;
    snprintf(out->source, sizeof out->source, "%s", path);
    snprintf(out->name, sizeof out->name, "table");
    snprintf(out->x_name, sizeof out->x_name, "%s", map[COLUMN_X] >= 0 ? header[map[COLUMN_X]] : "");
    struct digest digest;
    if (!out->config || digest_of_file(path, &digest, err)) goto done;
    out->dataset_digest = strdup(digest.hex);
    result = out->dataset_digest ? 0 : error_set(err, "%s: out of memory", path);
done:
    fclose(file);
    free(first);
    free(line);
    free(clusters);
    if (result) observations_destroy(out);
    return result;
}
