/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

enum { READ_PIECE = 64 * 1024 };

ssize_t io_pread_full(int fd, void *buf, size_t len, off_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, off + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

vcf_err_t io_pwrite_full(int fd, const void *buf, size_t len, off_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done,
				   off + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* no regular file answers 0; do not spin on one that
					does */
		done += (size_t)n;
	}
	return 0;
}

vcf_err_t io_write_full(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

vcf_err_t io_check_folder_of(const char *path)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	struct stat st;

	if (!slash || (size_t)(slash - path) >= sizeof(folder))
		return -EINVAL;
	memcpy(folder, path, (size_t)(slash - path));
	folder[slash - path] = '\0';
	if (stat(slash == path ? "/" : folder, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	if ((st.st_uid && st.st_uid != geteuid()) || st.st_mode & (S_IWGRP | S_IWOTH))
		return -EPERM;
	return 0;
}

vcf_err_t io_read_all(int fd, size_t max, char **out)
{
	auto_free char *buf = malloc(READ_PIECE);
	size_t len = 0, room = READ_PIECE;

	while (buf) {
		ssize_t n = read(fd, buf + len, room - len - 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		len += (size_t)n;
		if (!n) {
			buf[len] = '\0';
			*out = STEAL_PTR(&buf);
			return 0;
		}
		if (len > max)
			return -EMSGSIZE;
		if (len + 1 == room) {
			char *p = realloc(buf, 2 * room);

			if (!p)
				return -ENOMEM;
			buf = p;
			room *= 2;
		}
	}
	return -ENOMEM;
}

static vcf_err_t check_kind(int fd, bool device)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode) || (device && S_ISBLK(st.st_mode)))
		return 0;
	return S_ISLNK(st.st_mode) ? -ELOOP : -EINVAL;
}

/* By way of a descriptor that opens nothing: between a look at a name and its opening it could change. */
int io_open_file(int dirfd, const char *name, int flags, bool device)
{
	auto_close int looked = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char path[32];
	vcf_err_t err;
	int fd;

	if (looked < 0)
		return -errno;
	err = check_kind(looked, device);
	if (err)
		return err;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", looked);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

bool io_is_device(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISBLK(st.st_mode);
}

vcf_err_t io_file_len(int fd, uint64_t *len)
{
	struct stat st;
	off_t end;

	if (fstat(fd, &st) < 0)
		return -errno;
	end = S_ISBLK(st.st_mode) ? lseek(fd, 0, SEEK_END) : st.st_size;
	if (end < 0)
		return -errno;
	*len = (uint64_t)end;
	return 0;
}

bool io_is_zero(const void *buf, size_t len)
{
	const unsigned char *p = buf;

	/* The first bytes by hand, then the buffer against itself: libc's memcmp is
	 * vectorised. */
	for (size_t i = 0; i < 16; i++) {
		if (i == len)
			return true;
		if (p[i])
			return false;
	}
	return memcmp(p, p + 16, len - 16) == 0;
}
