/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk with bytes that cannot be read: FAULTY_FROM to FAULTY_TO - 1 of every file. */
#include <errno.h>
#include <stdlib.h>

#include "util/io.h"

ssize_t __real_io_pread_full(int fd, void *buf, size_t len, off_t off);
ssize_t __wrap_io_pread_full(int fd, void *buf, size_t len, off_t off);

static off_t bound(const char *name)
{
	const char *text = getenv(name);

	return text ? strtol(text, NULL, 10) : 0;
}

ssize_t __wrap_io_pread_full(int fd, void *buf, size_t len, off_t off)
{
	if (off < bound("FAULTY_TO") && off + (off_t)len > bound("FAULTY_FROM"))
		return -EIO;
	return __real_io_pread_full(fd, buf, len, off);
}
