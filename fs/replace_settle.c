/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/nodelock.h"
#include "fs/replace_impl.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"

enum { CLOCK_SLACK_S = 1 };

bool replace_is(const struct journal_entry *e)
{
	return e->state == JOURNAL_USING && replace_is_temp(e->path);
}

/* DIR/.NAME.vmcryptfs is DIR/NAME's. */
static void place_of(char dst[PATH_MAX], const char *beside)
{
	const char *name = replace_name(beside);

	snprintf(dst, PATH_MAX, "%.*s%.*s", (int)(name - beside), beside,
		 (int)(strlen(name) - 1 - strlen(REPLACE_TEMP_END)), name + 1);
}

/* In that folder. The number of its device may be another one since the machine was started. */
static bool is_inode(const struct stat *st, const struct journal_entry *e)
{
	return st->st_ino == e->ino;
}

static void close_note(struct offline *o, const struct journal_entry *e)
{
	if (journal_set(o->journal, e->id, JOURNAL_CLOSED, NULL, 0))
		log_warn("the journal cannot be written");
}

/* The new file never came to its place. */
static vcf_err_t discard_new(struct offline *o, const struct journal_entry *e, int dirfd)
{
	const char *temp = replace_name(e->path);
	auto_close int fd = io_open_file(dirfd, temp, O_RDWR | O_NONBLOCK, false);
	vcf_err_t err = fd < 0 ? fd : replace_empty(fd);

	if (!err && !e->derived)
		err = offline_destroy_unused(o, e);
	if (err)
		return err;
	CRASHPOINT("replace-undone");
	close_note(o, e);
	if (unlinkat(dirfd, temp, 0) < 0)
		return -errno;
	log_info("%s: what a run that was cut short has left is removed", e->path);
	return 0;
}

/*
 * Nobody has it, and nobody wrote to it after it had lost its place: a daemon that was just opening it
 * may have got it. Until fd is closed nobody opens it.
 */
static vcf_err_t check_old(int fd, const struct journal_entry *e)
{
	struct stat st;
	vcf_err_t err;

	if (flock(fd, LOCK_EX | LOCK_NB) < 0 ||
	    nodelock_byte(fd, NODELOCK_OPEN, true, false) == -EAGAIN)
		return -EBUSY;
	err = replace_check_alone(fd);
	if (!err && fstat(fd, &st) < 0)
		err = -errno;
	if (!err && st.st_mtim.tv_sec > e->created + CLOCK_SLACK_S) {
		log_warn(
			"%s: was written to after another file had taken its place, and is "
			"kept",
			e->path);
		return -EUCLEAN;
	}
	return err;
}

/* It is there: the old one goes, where it has not gone yet. */
static vcf_err_t finish_old(struct offline *o, const struct journal_entry *e, int dirfd)
{
	const char *temp = replace_name(e->path);
	auto_close int fd = io_open_file(dirfd, temp, O_RDWR | O_NONBLOCK, false);
	vcf_err_t err = (fsync(dirfd) < 0 ? -errno : 0);

	if (fd < 0 && fd != -ENOENT)
		return fd;
	if (!err && fd >= 0)
		err = check_old(fd, e);
	if (!err)
		err = replace_remove(dirfd, temp, fd, e->path);
	if (err)
		return err;
	close_note(o, e);
	if (fd >= 0)
		log_info(
			"%s: a run was cut short after the file was replaced: what it was "
			"before is removed, not overwritten",
			e->path);
	return 0;
}

/* Is the new container in its place, whatever its inode number is called? */
static bool is_in_place(int dirfd, const char *path, const struct journal_entry *e)
{
	auto_close int fd =
		io_open_file(dirfd, replace_name(path), O_RDONLY | O_NONBLOCK, false);
	auto_container struct container *c = NULL;

	return fd >= 0 && container_load(&c, fd, NULL, NULL) == 0 &&
	       memcmp(container_subject(c)->uuid, e->uuid, UUID_LEN) == 0;
}

static bool has(int dirfd, const char *name, struct stat *st)
{
	return fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) == 0;
}

static vcf_err_t settle(struct offline *o, const struct journal_entry *e)
{
	auto_close int dirfd = replace_folder(e->path);
	struct stat st, beside;
	char path[PATH_MAX];

	if (dirfd < 0)
		return dirfd;
	place_of(path, e->path);
	if (has(dirfd, replace_name(e->path), &beside))
		return is_inode(&beside, e) && !is_in_place(dirfd, path, e)
			       ? discard_new(o, e, dirfd)
			       : finish_old(o, e, dirfd);
	if (has(dirfd, replace_name(path), &st) && is_inode(&st, e))
		return finish_old(o, e, dirfd);
	if (e->derived) { /* nothing hangs on it but the file itself */
		close_note(o, e);
		return 0;
	}
	return -ESTALE;
}

void replace_settle(struct offline *o, const struct journal_entry *e)
{
	vcf_err_t err = settle(o, e);

	if (err == -ESTALE)
		log_warn(
			"%s: neither there nor in its place: it cannot be said whether a "
			"file has the secret %s, which is kept",
			e->path, e->key_id);
	else if (err)
		log_warn("%s: what a run that was cut short has left stays: %s", e->path,
			 strerror(-err));
}
