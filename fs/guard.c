/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/guard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/mountpoint.h"
#include "util/cleanup.h"

enum { OPEN_FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

const char *guard_text(enum guard_state state)
{
	static const char *const texts[] = {
		[GUARD_ON] = "on",
		[GUARD_READ_ONLY] = "on (a read-only file system)",
		[GUARD_MODE_ONLY] = "mode 0 only: root can write there",
		[GUARD_OFF] = "off",
		[GUARD_UNKNOWN] = "unknown",
	};

	return texts[state];
}

bool guard_holds(enum guard_state state)
{
	return state == GUARD_ON || state == GUARD_READ_ONLY;
}

/* Not recursive: the copy has nothing mounted on it. */
static int open_below(const char *path)
{
	const char *slash = strrchr(path, '/');
	auto_free char *above = NULL;
	auto_close int tree = -1;
	int fd;

	if (!slash || !slash[1])
		return -EINVAL;
	above = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	if (!above)
		return -ENOMEM;
	tree = open_tree(AT_FDCWD, above, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return -errno;
	fd = openat(tree, slash + 1, OPEN_FLAGS);
	return fd < 0 ? -errno : fd;
}

int guard_open(const char *path)
{
	int stack = mountpoint_stack(path);
	int fd;

	if (stack < 0)
		return stack;
	if (stack == MOUNTPOINT_OVER_FOLDER)
		return open_below(path);
	if (stack == MOUNTPOINT_OVER_OTHERS)
		return -EBUSY;
	fd = open(path, OPEN_FLAGS);
	return fd < 0 ? -errno : fd;
}

/* access(2) asks the inode's immutable bit and the file system's ro as well: EPERM, EROFS. */
static enum guard_state look(int dirfd, const char *path, int flags)
{
	struct statx st;

	if (statx(dirfd, path, flags | AT_STATX_DONT_SYNC, STATX_MODE, &st) < 0)
		return GUARD_UNKNOWN;
	if (st.stx_attributes & STATX_ATTR_IMMUTABLE)
		return GUARD_ON;
	if (faccessat(dirfd, path, W_OK, flags & AT_EMPTY_PATH) < 0) {
		if (errno == EPERM)
			return GUARD_ON;
		if (errno == EROFS)
			return GUARD_READ_ONLY;
	}
	return (st.stx_mode & 07777) == 0 ? GUARD_MODE_ONLY : GUARD_OFF;
}

enum guard_state guard_look(int dirfd)
{
	char path[64];

	/* faccessat2(2) with AT_EMPTY_PATH is of 5.8, and not everywhere allowed. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
	return look(AT_FDCWD, path, 0);
}

enum guard_state guard_look_at(const char *path)
{
	return look(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
}

/* Does not move dirfd's own position. */
static vcf_err_t check_empty(int dirfd)
{
	int fd = openat(dirfd, ".", OPEN_FLAGS);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	vcf_err_t err = 0;

	if (!dir)
		return -errno;
	while (!err && (d = readdir(dir))) {
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			err = -ENOTEMPTY;
	}
	closedir(dir);
	return err;
}

static vcf_err_t set_immutable(int dirfd, bool on)
{
	int flags;

	if (ioctl(dirfd, FS_IOC_GETFLAGS, &flags) < 0)
		return -errno;
	if (!!(flags & FS_IMMUTABLE_FL) == on)
		return 0;
	flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
	return ioctl(dirfd, FS_IOC_SETFLAGS, &flags) < 0 ? -errno : 0;
}

/* Looked at again when nothing more can come: somebody may have made a file just before. */
vcf_err_t guard_set(int dirfd)
{
	struct stat st;
	vcf_err_t err = check_empty(dirfd);

	if (err || guard_holds(guard_look(dirfd)))
		return err;
	if (fstat(dirfd, &st) < 0 || fchmod(dirfd, 0) < 0)
		return -errno;
	err = set_immutable(dirfd, true);
	if (err || !check_empty(dirfd))
		return err;
	err = set_immutable(dirfd, false);
	if (!err && fchmod(dirfd, st.st_mode & 07777) < 0)
		err = -errno;
	return err ? err : -ENOTEMPTY;
}

vcf_err_t guard_clear(int dirfd)
{
	vcf_err_t err = set_immutable(dirfd, false);

	if (err && err != -ENOTTY && err != -EOPNOTSUPP)
		return err;
	return fchmod(dirfd, 0755) < 0 ? -errno : 0;
}
