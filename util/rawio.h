/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * read(2), pread(2), pwrite(2), writev(2) that are no points of cancellation: nobody here cancels a
 * thread, and in a program with threads the C library takes 45 ns a call to allow it. Errors are in
 * errno. Builds with crash points and with sanitizers call the C library's, which they wrap.
 */
#ifndef VCF_UTIL_RAWIO_H
#define VCF_UTIL_RAWIO_H

#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "build-config.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||               \
	__has_feature(memory_sanitizer)
#define RAWIO_WRAPPED 1
#endif
#endif
/* Where a 64-bit offset is one argument. */
#if !defined(RAWIO_WRAPPED) && !defined(__SANITIZE_ADDRESS__) &&                         \
	!defined(__SANITIZE_THREAD__) && !VCF_CRASH_POINTS && defined(__LP64__)
#define RAWIO_DIRECT 1
#else
#define RAWIO_DIRECT 0
#endif

static inline ssize_t rawio_read(int fd, void *buf, size_t len)
{
	return RAWIO_DIRECT ? syscall(SYS_read, fd, buf, len) : read(fd, buf, len);
}

static inline ssize_t rawio_writev(int fd, const struct iovec *iov, int cnt)
{
	return RAWIO_DIRECT ? syscall(SYS_writev, fd, iov, cnt) : writev(fd, iov, cnt);
}

static inline ssize_t rawio_pread(int fd, void *buf, size_t len, off_t off)
{
	return RAWIO_DIRECT ? syscall(SYS_pread64, fd, buf, len, off)
			    : pread(fd, buf, len, off);
}

static inline ssize_t rawio_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	return RAWIO_DIRECT ? syscall(SYS_pwrite64, fd, buf, len, off)
			    : pwrite(fd, buf, len, off);
}

#endif
