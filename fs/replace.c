/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "crypto/header_wipe.h"
#include "fs/nodelock.h"
#include "fs/oldsecret.h"
#include "fs/replace_impl.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

enum { ALONE_TRIES = 100, ALONE_PAUSE_US = 10 * 1000, WIPE_LEN = 1024 * 1024 };

const char *replace_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool replace_is_temp(const char *path)
{
	const char *name = replace_name(path);
	size_t len = strlen(name), end = strlen(REPLACE_TEMP_END);

	return *name == '.' && len > end + 1 &&
	       strcmp(name + len - end, REPLACE_TEMP_END) == 0;
}

int replace_folder(const char *path)
{
	char folder[PATH_MAX];
	int fd;

	TEXT_CUT(folder, path);
	folder[replace_name(path) - path] = '\0';
	fd = open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static vcf_err_t sync_fd(int fd)
{
	return fsync(fd) < 0 ? -errno : 0;
}

static bool is_inode(const struct stat *st, uint64_t dev, uint64_t ino)
{
	return st->st_dev == dev && st->st_ino == ino;
}

/* --- the new file --- */

/* What is empty is what a run left before it wrote anything, or after it took it back. */
static vcf_err_t remove_empty(const struct replace *r)
{
	struct stat st;

	if (fstatat(r->dirfd, r->temp, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size)
		return -EEXIST;
	return unlinkat(r->dirfd, r->temp, 0) < 0 ? -errno : 0;
}

static int make_file(const struct replace *r)
{
	int fd = openat(r->dirfd, r->temp,
			O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

vcf_err_t replace_begin(struct replace *r, struct newsecret *secret, const char *path,
			int old)
{
	vcf_err_t err;

	*r = (struct replace){.secret = secret, .dirfd = -1, .fd = -1};
	TEXT_CUT(r->path, path);
	err = oldsecret_beside(r->beside, path);
	if (err)
		return err;
	r->name = replace_name(r->path);
	r->temp = replace_name(r->beside);
	r->dirfd = replace_folder(path);
	if (r->dirfd < 0)
		return r->dirfd;
	if (fstat(old, &r->was) < 0)
		return -errno;
	r->fd = make_file(r);
	if (r->fd == -EEXIST) {
		err = remove_empty(r);
		r->fd = err ? err : make_file(r);
	}
	if (r->fd < 0)
		return r->fd;
	CRASHPOINT("replace-made");
	/* No daemon opens what is not complete. */
	if (nodelock_byte(r->fd, NODELOCK_OPEN, true, false))
		log_dbg("%s: no lock on the new file", r->path);
	err = sync_fd(r->dirfd);
	if (!err)
		err = newsecret_using(secret, r->fd, r->beside);
	CRASHPOINT("replace-noted");
	return err;
}

void replace_fini(struct replace *r)
{
	if (r->fd >= 0)
		close(r->fd);
	if (r->dirfd >= 0)
		close(r->dirfd);
	r->fd = r->dirfd = -1;
}

vcf_err_t replace_empty(int fd)
{
	if (ftruncate(fd, 0) < 0)
		return -errno;
	return sync_fd(fd);
}

/* A rename may have been done although it was said to have failed, on a network file system. */
static bool is_only_beside(const struct replace *r)
{
	struct stat st, at;

	return fstat(r->fd, &st) == 0 &&
	       fstatat(r->dirfd, r->temp, &at, AT_SYMLINK_NOFOLLOW) == 0 &&
	       is_inode(&at, st.st_dev, st.st_ino) &&
	       (fstatat(r->dirfd, r->name, &at, AT_SYMLINK_NOFOLLOW) < 0
			? errno == ENOENT
			: !is_inode(&at, st.st_dev, st.st_ino));
}

vcf_err_t replace_discard(struct replace *r)
{
	vcf_err_t err;

	if (r->fd < 0)
		return 0;
	if (!is_only_beside(r)) {
		log_warn(
			"%s: it cannot be told where the new file is: nothing is removed; the "
			"next run looks again",
			r->beside);
		return -EUCLEAN;
	}
	err = replace_empty(r->fd);
	CRASHPOINT("replace-emptied");
	if (err) {
		log_warn("%s: cannot be removed: %s", r->beside, strerror(-err));
		return 0;
	}
	newsecret_undo(r->secret);
	if (r->secret->note) /* the next run looks for the file */
		return 0;
	if (unlinkat(r->dirfd, r->temp, 0) < 0)
		log_warn("%s: cannot be removed: %s", r->beside, strerror(errno));
	return 0;
}

/* --- attributes --- */

static vcf_err_t copy_xattr(int from, int to, const char *name)
{
	auto_free char *value = malloc(XATTR_SIZE_MAX);
	ssize_t len = value ? fgetxattr(from, name, value, XATTR_SIZE_MAX) : -1;

	if (!value)
		return -ENOMEM;
	if (len < 0)
		return errno == ENODATA ? 0 : -errno;
	return fsetxattr(to, name, value, (size_t)len, 0) < 0 ? -errno : 0;
}

static vcf_err_t copy_xattrs(int from, int to)
{
	auto_free char *names = malloc(XATTR_LIST_MAX);
	ssize_t len = names ? flistxattr(from, names, XATTR_LIST_MAX) : -1;
	vcf_err_t err = 0;

	if (!names)
		return -ENOMEM;
	if (len < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	for (const char *name = names; !err && name < names + len;
	     name += strlen(name) + 1)
		err = copy_xattr(from, to, name);
	return err;
}

/* The owner first: to change it takes set-id bits away. */
vcf_err_t replace_copy_attributes(int from, int to, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	vcf_err_t err;

	if (fchown(to, st->st_uid, st->st_gid) < 0)
		return -errno;
	if (fchmod(to, st->st_mode & 07777) < 0)
		return -errno;
	err = copy_xattrs(from, to);
	if (!err && futimens(to, times) < 0)
		err = -errno;
	return err;
}

/* --- the exchange --- */

/*
 * A lease for writing is given where nobody else has the file open. Whoever opens it in that moment
 * waits for us, which a signal would tell: one that is ignored.
 */
static vcf_err_t try_lease(int fd)
{
	if (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		return errno == EAGAIN ? -EBUSY : 0; /* others: it cannot be told */
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return 0;
}

/* A daemon that looks at a header does so for a moment. */
vcf_err_t replace_check_alone(int fd)
{
	vcf_err_t err = try_lease(fd);

	for (int i = 0; err == -EBUSY && i < ALONE_TRIES; i++) {
		usleep(ALONE_PAUSE_US);
		err = try_lease(fd);
	}
	return err;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static vcf_err_t check_unchanged(const struct replace *r, int old)
{
	struct stat st;

	if (fstat(old, &st) < 0)
		return -errno;
	return st.st_size == r->was.st_size && same_time(&st.st_mtim, &r->was.st_mtim) &&
			       st.st_nlink == r->was.st_nlink
		       ? 0
		       : -ESTALE;
}

/* Has the name that inode? */
static vcf_err_t check_name(const struct replace *r, const char *name)
{
	struct stat st;

	if (fstatat(r->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	return is_inode(&st, r->was.st_dev, r->was.st_ino) ? 0 : -ESTALE;
}

static vcf_err_t exchange(const struct replace *r)
{
	return renameat2(r->dirfd, r->name, r->dirfd, r->temp, RENAME_EXCHANGE) < 0
		       ? -errno
		       : 0;
}

/* Where the file system cannot exchange: a rename over the old one, looked at just before. */
static vcf_err_t rename_over(const struct replace *r)
{
	vcf_err_t err = check_name(r, r->name);

	if (err)
		return err;
	return renameat(r->dirfd, r->temp, r->dirfd, r->name) < 0 ? -errno : 0;
}

/* Not under the name by which a later run would take it for the old one. */
static void keep_found(const struct replace *r)
{
	char name[NAME_MAX + 1];

	if (snprintf(name, sizeof(name), "%s.found", r->temp) >= (int)sizeof(name) ||
	    renameat2(r->dirfd, r->temp, r->dirfd, name, RENAME_NOREPLACE) < 0)
		log_err("%s: exchanged with a file that was put in its place meanwhile, "
			"which is %s now: keep it",
			r->path, r->beside);
	else
		log_err("%s: exchanged with a file that was put in its place meanwhile, "
			"which is %s.found now",
			r->path, r->beside);
}

static vcf_err_t change_places(const struct replace *r)
{
	vcf_err_t err = exchange(r);

	if (err == -EINVAL || err == -ENOSYS || err == -EOPNOTSUPP)
		return rename_over(r);
	if (err)
		return err == -ENOENT ? -ESTALE : err;
	CRASHPOINT("replace-exchanged");
	err = check_name(r, r->temp);
	if (!err || !exchange(r))
		return err;
	keep_found(r);
	return -EUCLEAN;
}

vcf_err_t replace_switch(struct replace *r, int old)
{
	vcf_err_t err = replace_copy_attributes(old, r->fd, &r->was);

	if (!err)
		err = sync_fd(r->fd);
	CRASHPOINT("replace-synced");
	if (!err)
		err = replace_check_alone(old);
	if (!err)
		err = check_unchanged(r, old);
	if (!err)
		err = change_places(r);
	return err;
}

/* --- the old one --- */

/* Only what it has on the disk: a hole has nothing to hide. */
static vcf_err_t overwrite(int fd)
{
	auto_free unsigned char *zeros = calloc(1, WIPE_LEN);
	off_t at = 0, end;
	struct stat st;
	vcf_err_t err = zeros ? 0 : -ENOMEM;

	while (!err && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		while (!err && at < end) {
			size_t len = end - at < WIPE_LEN ? (size_t)(end - at) : WIPE_LEN;

			err = io_pwrite_full(fd, zeros, len, at);
			at += (off_t)len;
			CRASHPOINT("replace-wiping");
		}
	}
	if (!err)
		err = sync_fd(fd);
	/* Where the device knows how, its own copy goes, too. */
	if (!err && (fstat(fd, &st) < 0 ||
		     fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			       st.st_size) < 0))
		log_dbg("no discard: %s", strerror(errno));
	return err;
}

/* Its last name is gone. */
static void wipe_header(int fd, const char *name)
{
	struct peek peek;
	struct stat st;

	if (fstat(fd, &st) == 0 && !size_peek_fd(&peek, fd, (uint64_t)st.st_size) &&
	    peek.kind == PEEK_CONTAINER)
		header_wipe(fd, peek.data_off, name);
}

vcf_err_t replace_remove(int dirfd, const char *temp, int old, const char *path)
{
	if (unlinkat(dirfd, temp, 0) < 0 && errno != ENOENT)
		return -errno;
	CRASHPOINT("replace-unlinked");
	wipe_header(old, path);
	return sync_fd(dirfd);
}

vcf_err_t replace_finish(struct replace *r, int old, bool wipe)
{
	vcf_err_t err = sync_fd(r->dirfd);

	CRASHPOINT("replace-durable");
	if (!err && wipe)
		err = overwrite(old);
	if (!err)
		err = replace_remove(r->dirfd, r->temp, old, r->path);
	if (!err)
		newsecret_done(r->secret);
	CRASHPOINT("replace-done");
	return err;
}
