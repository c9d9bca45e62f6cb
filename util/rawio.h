/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * read(2) and writev(2) for the device that requests come from, as no points of cancellation: nobody
 * here cancels a thread, and in a program with threads the C library takes 45 ns a call to allow it.
 * Errors are in errno. Sanitizers wrap the C library's calls, so their builds use those. Files are
 * read and written by the C library's in all builds: tests put themselves before them (a full disk,
 * a power loss).
 */
#ifndef VCF_UTIL_RAWIO_H
#define VCF_UTIL_RAWIO_H

#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||               \
	__has_feature(memory_sanitizer)
#define RAWIO_WRAPPED 1
#endif
#endif
#if !defined(RAWIO_WRAPPED) && !defined(__SANITIZE_ADDRESS__) &&                         \
	!defined(__SANITIZE_THREAD__)
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

#endif
