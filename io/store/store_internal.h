/* What the store's files share: the layout of the datasets, the open store, and the calls that a test may replace. */
#ifndef TUNELAW_IO_STORE_STORE_INTERNAL_H
#define TUNELAW_IO_STORE_STORE_INTERNAL_H

#include <sys/types.h>

#include "io/frozen/frozen.h"
#include "io/store/store.h"

#define STORE_FILE "results.h5"
#define STORE_CONFIG_LIMIT ((size_t)16 << 20)
extern const struct frozen_format store_format;

/* In the order in which they are created. /points and its checksums lie in front of the rows, what salvage needs
 * besides behind them: no damage in one place takes a description from its row. */
enum store_dataset {
    STORE_CONFIG,
    STORE_PROVENANCE,
    STORE_POINTS,
    STORE_POINT_CHECKSUMS, /* uint64 [rows] */
    STORE_STATE_ROWS,
    STORE_EXECUTIONS,
    STORE_RESULTS,
    STORE_CURVES,
    STORE_POINTS_COPY, /* struct store_point_copy [rows] */
    STORE_DIRECTORY,   /* the file's block again */
    STORE_DATASETS
};
extern const struct frozen_spec store_specs[STORE_DATASETS];
#define STORE_CURVE_ENTRY_FIELDS 6
extern const struct frozen_field store_curve_entry_fields[STORE_CURVE_ENTRY_FIELDS];

/* Ends a /results slot, in a 512-byte sector that no payload touches. All zero: not committed. */
struct store_marker {
    uint32_t committed; /* 1 */
    uint32_t reserved;  /* 0 */
    uint64_t checksum;  /* XXH3-64 of the slot before the marker */
};
#define STORE_MARKER_OFFSET (STORE_SLOT - sizeof(struct store_marker))

#define STORE_MARKER_ODD 2 /* neither empty nor one that a commit writes */

/* Rows of the other datasets end with the checksum of what lies before it. */
#define STORE_EXECUTION_SLOT 512
#define STORE_STATE_SLOT 256

/* How a committer reaches the disk. */
struct store_calls {
    int (*write_at)(int fd, const void *bytes, size_t size, uint64_t offset);
    int (*sync)(int fd);
};

struct store_index; /* rows sorted by identity */

struct store {
    char *path;
    int fd;
    bool writable;
    bool damaged;     /* opened by store_open_damaged: what cannot be read is lost, and no error */
    bool sync_failed; /* what was written before may not be on the disk, and no later sync says so */
    size_t count;
    uint64_t epoch;
    unsigned char *marked;            /* [count] by store_markers, at the first commit; NULL: not looked at */
    uint64_t offsets[STORE_DATASETS]; /* of row 0 */
    struct store_point *points;
    char *config, *config_path, *name, *dataset_digest, *shard, *made_by, *provenance, *program_version;
    struct store_index **index; /* *index is built on first use */
    struct store_calls calls;
};

/* The file of a run directory, or the path as it is; malloc'ed. */
char *store_resolve(const char *path);
/* A store of which nothing but the file is open. */
struct store *store_open_file(const char *path, bool writable, struct error *err);
/* Its epoch, name and the like, out of a block. */
int store_attributes_read(struct store *store, const struct frozen_block *block, struct error *err);

/* Where row `index` of a dataset lies in the file. */
uint64_t store_offset(const struct store *store, enum store_dataset dataset, size_t index);

/* marked[i]: 0 where the marker of row i is empty, 1 where the row is committed, else STORE_MARKER_ODD: of a damaged
 * store, also where it cannot be read. */
int store_markers(const struct store *store, unsigned char *marked, struct error *err);

/* A row and its checksum in the last eight bytes of slot[layout->size]. */
void store_pack_checked(enum store_dataset dataset, const void *row, unsigned char *slot);

/* What salvage reads: a row of /points and its checksum, far from both. */
struct store_point_copy {
    struct store_point point;
    uint64_t checksum; /* XXH3-64 of it */
};

/* A new file with the layout of a store of `count` points, with points and texts written, nothing committed and no seal
 * yet. */
struct store_file {
    const char *path; /* the caller's */
    int fd;           /* -1: none */
    struct frozen_block block;
    uint64_t offsets[STORE_DATASETS];
};
int store_layout_write(struct store_file *file, const struct store_header *header, uint64_t epoch,
                       const struct store_point *points, size_t count, struct error *err);

/* What a row of a new file is made of. */
struct store_origin {
    const struct store *store; /* NULL: a new point */
    size_t row;
    bool committed;                    /* result, execution and curve are copied from there */
    const struct store_result *result; /* not NULL: this one instead of the copied one */
    struct store_state state;
};
/* Attempts and the last message go on; a point without a result is pending again. */
struct store_state store_state_carried(const struct store *old, size_t row, bool committed);
/* Write a whole store beside `path` and rename it into place: points[count], and of each where its rows come from. */
int store_assemble(const char *path, const struct store_header *header, uint64_t epoch,
                   const struct store_point *points, const struct store_origin *origins, size_t count,
                   struct error *err);

/* The three slots of a row as they lie in the file, checked against each other. */
struct store_slots {
    unsigned char result[STORE_SLOT];
    unsigned char execution[STORE_EXECUTION_SLOT];
    unsigned char curve[STORE_SLOT];
    bool curve_lost; /* it was damaged: an empty one is here */
};
/* 1 committed and right, 0 not committed, -1 damaged or unreadable (*err set). */
int store_read_slots(const struct store *store, size_t index, struct store_slots *slots, struct error *err);

/* Make sure that rows can be found: without memory for that no row would be. */
int store_index_build(const struct store *store, struct error *err);
void store_index_destroy(struct store_index *index);

#endif
