/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Source: linux/landlock.h and the kernel's Documentation/userspace-api/landlock.rst (6.12). */
#include "util/fence.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

/* What headers of Debian 12 (6.1) do not have; the names are ours, so that newer ones do no harm. */
enum {
	FS_TRUNCATE = 1 << 14,	/* ABI 3 */
	FS_IOCTL_DEV = 1 << 15, /* ABI 5 */
	NET_BIND = 1 << 0,	/* ABI 4 */
	NET_CONNECT = 1 << 1,
	SCOPE_ABSTRACT_UNIX = 1 << 0, /* ABI 6 */
	SCOPE_SIGNAL = 1 << 1,
	FS_ABI_1 = (1 << 13) - 1, /* all rights that the first version knows */
};

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct fence {
	int ruleset;
	uint64_t fs; /* the rights that are fenced in */
	vcf_err_t err;
};

static int landlock_abi(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
			    LANDLOCK_CREATE_RULESET_VERSION);
}

bool fence_available(void)
{
	return landlock_abi() > 0;
}

static uint64_t fs_rights(int abi)
{
	uint64_t fs = FS_ABI_1;

	if (abi >= 2)
		fs |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		fs |= FS_TRUNCATE;
	if (abi >= 5)
		fs |= FS_IOCTL_DEV;
	return fs;
}

/* Helpers of one service share a log-in over an abstract socket, so it stays for those of a network. */
static struct ruleset_attr attributes(int abi, bool network)
{
	struct ruleset_attr a = {.fs = fs_rights(abi)};

	if (abi >= 4)
		a.net = network ? NET_BIND : NET_BIND | NET_CONNECT;
	if (abi >= 6)
		a.scoped = network ? SCOPE_SIGNAL : SCOPE_SIGNAL | SCOPE_ABSTRACT_UNIX;
	return a;
}

/* An older kernel knows a shorter structure, and refuses a longer one only if there is something in it. */
vcf_err_t fence_new(struct fence **out, bool network)
{
	int abi = landlock_abi();
	struct ruleset_attr a = attributes(abi, network);
	struct fence *f;

	if (abi <= 0)
		return -EOPNOTSUPP;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->fs = a.fs;
	f->ruleset = (int)syscall(SYS_landlock_create_ruleset, &a, sizeof(a), 0);
	if (f->ruleset < 0) {
		vcf_err_t err = -errno;

		free(f);
		return err;
	}
	*out = f;
	return 0;
}

static uint64_t rights_of(const struct fence *f, enum fence_right right, mode_t mode)
{
	uint64_t r = LANDLOCK_ACCESS_FS_READ_FILE;

	if (right == FENCE_WRITE)
		r |= LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE;
	if (S_ISDIR(mode)) /* of a file the kernel refuses these */
		r |= LANDLOCK_ACCESS_FS_READ_DIR;
	if (S_ISDIR(mode) && right == FENCE_WRITE)
		r |= LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE |
		     LANDLOCK_ACCESS_FS_REFER;
	return r & f->fs;
}

void fence_allow(struct fence *f, enum fence_right right, const char *path)
{
	auto_close int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr a = {.parent_fd = fd};
	struct stat st;

	if (fd < 0)
		return; /* what is not there, or may not be looked at, cannot be opened either */
	if (fstat(fd, &st) == 0)
		a.allowed_access = rights_of(f, right, st.st_mode);
	if (syscall(SYS_landlock_add_rule, f->ruleset, LANDLOCK_RULE_PATH_BENEATH, &a,
		    0) < 0 &&
	    !f->err)
		f->err = -errno;
}

static void allow_folder(struct fence *f, const char *file)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(file, '/');

	if (!slash)
		return;
	snprintf(folder, sizeof(folder), "%.*s", (int)(slash - file), file);
	fence_allow(f, FENCE_READ, *folder ? folder : "/");
}

void fence_allow_near(struct fence *f, const char *file)
{
	char target[PATH_MAX];

	allow_folder(f, file);
	if (*file && realpath(file, target))
		allow_folder(f, target);
}

void fence_free(struct fence *f)
{
	close(f->ruleset);
	free(f);
}

vcf_err_t fence_close(struct fence *f)
{
	vcf_err_t err = f->err;

	if (!err && syscall(SYS_landlock_restrict_self, f->ruleset, 0) < 0)
		err = -errno;
	fence_free(f);
	return err;
}
