/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/exitcode.h"
#include "fs/header.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/text.h"

enum { LOOKS_MAX = 8, PAUSE_MS = 100 };

static int say(struct header_job *j, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int say(struct header_job *j, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(j->text, sizeof(j->text), format, ap);
	va_end(ap);
	return code;
}

static bool same_header(const struct container *a, const struct container *b)
{
	return memcmp(container_token(a)->mac, container_token(b)->mac, TOKEN_MAC_LEN) ==
	       0;
}

/*
 * While somebody changes it, metadata and key slots may be read of two moments. The old slot goes last:
 * what has the same metadata in front and behind is one header.
 */
static vcf_err_t load_whole(int fd, struct container **out, char why[CONTAINER_WHY_LEN])
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
	vcf_err_t err = -EBUSY;

	for (int i = 0; err && i < LOOKS_MAX; i++) {
		auto_container struct container *first = NULL;
		auto_container struct container *again = NULL;

		if (i)
			nanosleep(&pause, NULL);
		err = container_load_why(&first, fd, why, NULL);
		if (!err)
			err = container_load_why(&again, fd, why, NULL);
		if (!err && !same_header(first, again))
			err = -EBUSY;
		if (!err)
			*out = STEAL_PTR(&first);
		if (err != -EBADMSG && err != -EBUSY)
			break;
	}
	return err;
}

/* A name for what has none, or another one; -EEXIST if it is taken. */
static vcf_err_t give_name(const char *from, int flags, const char *path)
{
	return linkat(AT_FDCWD, from, AT_FDCWD, path, flags) < 0 ? -errno : 0;
}

/* O_TMPFILE leaves nothing behind. */
static vcf_err_t write_unnamed(const struct container *c, int dirfd, const char *path)
{
	auto_close int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char self[32];
	vcf_err_t err;

	if (fd < 0)
		return -errno;
	err = container_write_backup(c, fd);
	CRASHPOINT("backup-written");
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return err ? err : give_name(self, AT_SYMLINK_FOLLOW, path);
}

/* Not there on vfat and NFS: a name beside it, and one that a killed run has left goes first. */
static vcf_err_t write_beside(const struct container *c, const char *path)
{
	auto_close int fd = -1;
	char part[PATH_MAX];
	vcf_err_t err;

	if (snprintf(part, sizeof(part), "%s.vmcryptfs-part", path) >= (int)sizeof(part))
		return -ENAMETOOLONG;
	if (unlink(part) < 0 && errno != ENOENT)
		return -errno;
	fd = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = container_write_backup(c, fd);
	CRASHPOINT("backup-written");
	if (!err && renameat2(AT_FDCWD, part, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (!err)
		err = errno == EINVAL ? give_name(part, 0, path) : -errno;
	unlink(part);
	return err;
}

/* The file gets its name when it is whole. */
static vcf_err_t write_new(const struct container *c, const char *path)
{
	char folder[PATH_MAX];
	auto_close int dirfd = -1;
	vcf_err_t err;

	TEXT_CUT(folder, path);
	dirfd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	err = write_unnamed(c, dirfd, path);
	if (err == -EOPNOTSUPP || err == -EISDIR)
		err = write_beside(c, path);
	CRASHPOINT("backup-named");
	return !err && fsync(dirfd) < 0 ? -errno : err;
}

static int save(struct header_job *j, struct container *c)
{
	auto_secret struct secret *secret = NULL;
	char why[TOOLKEYS_WHY_LEN];
	vcf_err_t err = toolkeys_unlock(j->keys, c, j->path, &secret, why);

	if (err == -EKEYREJECTED || err == -EBADMSG)
		return say(j, EXIT_REFUSED,
			   "not worth a backup: %s; see 'vmcryptfs verify'", why);
	err = write_new(c, j->backup);
	if (err == -EEXIST)
		return say(j, EXIT_REFUSED, "%s is there already", j->backup);
	if (err)
		return say(j, (int)exit_code_of(err), "%s: %s", j->backup,
			   strerror(-err));
	return say(j, EXIT_OK, "its header is saved to %s%s%s", j->backup,
		   secret ? ", and its secret opens it"
			  : "; whether it opens could not be tried: ",
		   secret ? "" : why);
}

int header_backup(struct header_job *j)
{
	auto_close int fd = io_open_file(AT_FDCWD, j->path, O_RDONLY | O_NONBLOCK, true);
	auto_container struct container *c = NULL;
	char why[CONTAINER_WHY_LEN] = "";
	vcf_err_t err = fd < 0 ? fd : load_whole(fd, &c, why);

	if (!err)
		return save(j, c);
	return say(j, (int)exit_code_of(err), "%s",
		   *why		     ? why
		   : err == -EBUSY   ? "its header changes all the time"
		   : err == -ENODATA ? "an empty image: it has no header"
		   : err == -EPERM ? "no container: plaintext, or its header is destroyed"
				   : strerror(-err));
}
