/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keepbytes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/mountpoint.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/text.h"

enum { NAMES_MAX = 100 };

static vcf_err_t make_folder(const char *path)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static vcf_err_t open_folder(char folder[PATH_MAX], const struct config *cfg, int *fd)
{
	char above[PATH_MAX];
	vcf_err_t err = mountpoint_state(folder, PATH_MAX, cfg, "kept");

	if (err)
		return err;
	TEXT_CUT(above, folder);
	err = make_folder(cfg->state_directory);
	if (!err)
		err = make_folder(dirname(above));
	if (!err)
		err = make_folder(folder);
	if (err)
		return err;
	*fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *fd < 0 ? -errno : 0;
}

static bool has_bytes(int dirfd, const char *name, const void *bytes, size_t len)
{
	auto_close int fd = io_open_file(dirfd, name, O_RDONLY, false);
	auto_free unsigned char *there = malloc(len + 1);

	return fd >= 0 && there && io_pread_full(fd, there, len + 1, 0) == (ssize_t)len &&
	       memcmp(there, bytes, len) == 0;
}

/* -EEXIST: there is one of that name, with other bytes. */
static vcf_err_t write_file(int dirfd, const char *name, const void *bytes, size_t len)
{
	auto_close int fd = openat(
		dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	vcf_err_t err;

	if (fd < 0 && errno == EEXIST)
		return has_bytes(dirfd, name, bytes, len) ? 0 : -EEXIST;
	if (fd < 0)
		return -errno;
	err = io_write_full(fd, bytes, len);
	if (!err && (fsync(fd) < 0 || fsync(dirfd) < 0))
		err = -errno;
	if (err)
		unlinkat(dirfd, name, 0);
	return err;
}

vcf_err_t keepbytes(char path[PATH_MAX], const struct config *cfg, const char *uuid,
		    uint64_t off, const void *bytes, size_t len)
{
	char folder[PATH_MAX], name[96];
	auto_close int dirfd = -1;
	vcf_err_t err = open_folder(folder, cfg, &dirfd);

	if (err)
		return err;
	err = -EEXIST;
	for (int i = 0; err == -EEXIST && i < NAMES_MAX; i++) {
		int at = snprintf(name, sizeof(name), "%s-%" PRIu64, uuid, off);

		if (i)
			snprintf(name + at, sizeof(name) - (size_t)at, ".%d", i);
		err = write_file(dirfd, name, bytes, len);
	}
	if (!err && snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
		err = -ENAMETOOLONG;
	return err;
}
