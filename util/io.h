/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole transfers on files: EINTR and short counts are dealt with here. Thread-safe.
 */
#ifndef VCF_UTIL_IO_H
#define VCF_UTIL_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/err.h"

/* Reads [off, off + len). Returns len, or fewer only at end of file, or -errno. */
NODISCARD ssize_t io_pread_full(int fd, void *buf, size_t len, off_t off);

/* Writes [off, off + len) whole. Returns 0 or -errno; on error part of it may be written.
 */
NODISCARD vcf_err_t io_pwrite_full(int fd, const void *buf, size_t len, off_t off);

/* Writes len bytes at the file's position (pipes, sockets). Returns 0 or -errno. */
NODISCARD vcf_err_t io_write_full(int fd, const void *buf, size_t len);

/*
 * Reads up to the end of a pipe or socket; a NUL is put behind. *out is the caller's, to free().
 * -EMSGSIZE: more than max bytes.
 */
NODISCARD vcf_err_t io_read_all(int fd, size_t max, char **out);

/*
 * 0 if the folder that holds `path` is ours or root's and nobody else may write to it: -EPERM if
 * not, -ENOTDIR, -errno. For files that somebody could otherwise exchange.
 */
NODISCARD vcf_err_t io_check_folder_of(const char *path);

/* The length of a regular file or a block device, for which fstat(2) says 0. -errno. */
NODISCARD vcf_err_t io_file_len(int fd, uint64_t *len);

/*
 * Opens a regular file (device: or a block device) and nothing else: what has the name instead is not
 * touched, since to open a device or a FIFO can do something, or wait. A symlink at the end of the
 * name is not followed. Returns the descriptor (O_CLOEXEC), -ELOOP (a symlink), -EINVAL (anything
 * else), -errno.
 */
NODISCARD int io_open_file(int dirfd, const char *name, int flags, bool device);

/* Does the descriptor (also an O_PATH one) lead to a block device? */
bool io_is_device(int fd);

/* True if all len bytes are zero. */
bool io_is_zero(const void *buf, size_t len);

#endif
