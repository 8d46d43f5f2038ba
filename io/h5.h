/* Small helpers over HDF5: quiet errors, files whose metadata carries checksums, scalar attributes.
 * Identifiers are HDF5's hid_t; a negative one means failure. */
#ifndef TUNELAW_IO_H5_H
#define TUNELAW_IO_H5_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

/* Before the first call of HDF5: it prints nothing of its own from now on (every failure is told through struct error),
 * and does nothing when the program ends. */
void h5_begin(void);

/* Create (truncating) a file in HDF5's 1.8 format, whose metadata is checksummed; large objects begin at multiples of
 * 4096 bytes. */
hid_t h5_create(const char *path, struct error *err);

/* A new empty group. */
int h5_group(hid_t file, const char *path);

/* Open a regular file read-only. No file lock is taken: writers replace files by rename. */
hid_t h5_open(const char *path, struct error *err);

/* The file descriptor below an open file, owned by it; -1 where there is none. */
int h5_descriptor(hid_t file);

/* Scalar attributes of an object. Reading checks class and size; a text is zero-terminated and must fit `capacity`. */
int h5_write_u64(hid_t object, const char *name, uint64_t value);
int h5_write_text(hid_t object, const char *name, const char *text);
int h5_read_u64(hid_t object, const char *name, uint64_t *value);
int h5_read_text(hid_t object, const char *name, char *text, size_t capacity);

#endif
