/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file system without unnamed files, as vfat and NFS are. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

int __real_openat64(int dirfd, const char *path, int flags, ...);
int __wrap_openat64(int dirfd, const char *path, int flags, ...);

int __wrap_openat64(int dirfd, const char *path, int flags, ...)
{
	unsigned int mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, unsigned int);
	va_end(ap);
	if ((flags & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return __real_openat64(dirfd, path, flags, mode);
}
