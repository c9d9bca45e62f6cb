/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A folder with one file per secret, named by its key id, which is the label. A file is
 * the secret's 64 lower-case hex digits and nothing else, mode 0600, so that it is a
 * cryptsetup key file.
 *
 * A file appears whole and on disk, by link(2), which never replaces one; its temporary
 * name starts with a dot, which no key id does. Option: directory (made if missing).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/keys/helper.h"
#include "util/io.h"

struct keys {
	char path[4096];
	int dir;
};

static vcf_err_t file_option(void *ctx, const char *name, const char *value)
{
	struct keys *k = ctx;

	if (strcmp(name, "directory") != 0) {
		helper_log("unknown option %s", name);
		return -EINVAL;
	}
	if (*value != '/' || strlen(value) >= sizeof(k->path)) {
		helper_log("directory: an absolute path is wanted");
		return -EINVAL;
	}
	snprintf(k->path, sizeof(k->path), "%s", value);
	return 0;
}

static void file_paths(void *ctx, struct fence *fence)
{
	const struct keys *k = ctx;

	if (*k->path)
		fence_allow(fence, FENCE_WRITE, k->path);
}

static vcf_err_t check_directory(const struct keys *k)
{
	struct stat st;

	if (fstat(k->dir, &st) < 0) {
		helper_log("%s: %s", k->path, strerror(errno));
		return -EIO;
	}
	if (st.st_uid != 0 && st.st_uid != geteuid()) {
		helper_log("%s: belongs to another user", k->path);
		return -EPERM;
	}
	if (st.st_mode & (S_IWGRP | S_IWOTH)) {
		helper_log("%s: is writable by others", k->path);
		return -EPERM;
	}
	return 0;
}

static vcf_err_t file_start(void *ctx)
{
	struct keys *k = ctx;
	vcf_err_t err;

	if (!*k->path) {
		helper_log("the option directory is missing");
		return -EINVAL;
	}
	k->dir = open(k->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->dir < 0) {
		err = -errno;
		helper_log("%s: %s", k->path, strerror(-err));
		return err;
	}
	return check_directory(k);
}

/* A key id that can be one of our file names. */
static vcf_err_t check_id(const char *id, struct helper_failure *f)
{
	if (strchr(id, '/') || strlen(id) > KEYPROTO_LABEL_MAX)
		return helper_fail(f, KEY_INVALID, "not a key id of this helper");
	return 0;
}

/* --- reading --- */

/* Why a file is not one of ours; NULL if it is. */
static const char *file_fault(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "belongs to another user";
	if (st->st_mode & (S_IRWXG | S_IRWXO))
		return "has a mode wider than 0600";
	return NULL;
}

static vcf_err_t open_checked(const struct keys *k, const char *id, int *out,
			      struct helper_failure *f)
{
	auto_close int fd =
		openat(k->dir, id, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	const char *fault;
	struct stat st;

	if (fd < 0 && errno == EROFS) /* enough for get */
		fd = openat(k->dir, id, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return helper_fail_errno(f, -errno, id);
	fault = file_fault(&st);
	if (fault)
		return helper_fail(f, KEY_DENIED, "%s/%s %s", k->path, id, fault);
	*out = STEAL_FD(&fd);
	return 0;
}

static vcf_err_t read_secret(int fd, const char *id, struct secret **out,
			     struct helper_failure *f)
{
	char text[SECRET_HEX_LEN + 1]; /* one more, to see what is too long */
	ssize_t n = io_pread_full(fd, text, sizeof(text), 0);
	vcf_err_t err = -EINVAL;

	if (n == SECRET_HEX_LEN)
		err = secret_new_hex(out, text, SECRET_HEX_LEN);
	secret_wipe(text, sizeof(text));
	if (n < 0)
		return helper_fail_errno(f, (vcf_err_t)n, id);
	if (err == -EINVAL)
		return helper_fail(f, KEY_DENIED,
				   "%.300s does not hold %d lower-case hex digits alone",
				   id, SECRET_HEX_LEN);
	if (err)
		return helper_fail(f, KEY_UNAVAILABLE, "no memory for a secret");
	return 0;
}

static vcf_err_t file_get(void *ctx, const char *id, struct secret **out,
			  struct helper_failure *f)
{
	struct keys *k = ctx;
	auto_close int fd = -1;
	vcf_err_t err = check_id(id, f);

	if (!err)
		err = open_checked(k, id, &fd, f);
	return err ? err : read_secret(fd, id, out, f);
}

/* --- new --- */

static vcf_err_t write_secret(int fd, const struct secret *secret)
{
	char text[SECRET_HEX_LEN + 1];
	vcf_err_t err;

	secret_hex(secret, text);
	err = io_pwrite_full(fd, text, SECRET_HEX_LEN, 0);
	secret_wipe(text, sizeof(text));
	if (!err && fsync(fd) < 0)
		err = -errno;
	return err;
}

/* Several helpers may work on one folder: the name is this process's own. */
static vcf_err_t write_new(const struct keys *k, const char *id,
			   const struct secret *secret)
{
	auto_close int fd = -1;
	char temp[64];
	vcf_err_t err;

	snprintf(temp, sizeof(temp), ".new.%d", (int)getpid());
	unlinkat(k->dir, temp, 0); /* of an earlier process with our number */
	fd = openat(k->dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return -errno;
	err = write_secret(fd, secret);
	if (!err && linkat(k->dir, temp, k->dir, id, 0) < 0)
		err = -errno;
	unlinkat(k->dir, temp, 0);
	if (!err && fsync(k->dir) < 0)
		err = -errno;
	return err;
}

/* The label is taken: by this very secret (a repeated request) or by another. */
static vcf_err_t compare_old(struct keys *k, const char *id, const struct secret *secret,
			     struct helper_failure *f)
{
	auto_secret struct secret *old = NULL;
	vcf_err_t err = file_get(k, id, &old, f);

	if (err)
		return err;
	if (!secret_equal(old, secret))
		return helper_fail(f, KEY_INVALID,
				   "%s exists already with another secret", id);
	if (fsync(k->dir) < 0) /* the one who made it may have died before */
		return helper_fail_errno(f, -errno, k->path);
	return 0;
}

static vcf_err_t file_new(void *ctx, const char *label, const struct secret *secret,
			  char id[TOKEN_KEY_ID_MAX + 1], struct helper_failure *f)
{
	struct keys *k = ctx;
	vcf_err_t err = write_new(k, label, secret);

	if (err == -EEXIST)
		err = compare_old(k, label, secret, f);
	else if (err == -ENOENT) /* the folder itself is gone */
		err = helper_fail(f, KEY_UNAVAILABLE, "%s is gone", k->path);
	else if (err)
		err = helper_fail_errno(f, err, label);
	if (err)
		return err;
	snprintf(id, TOKEN_KEY_ID_MAX + 1, "%s", label);
	return 0;
}

/* --- find and list --- */

/* A file's item, if it looks like one of ours. */
static vcf_err_t send_item(const struct keys *k, const char *id, struct helper *h)
{
	char created[32];
	struct stat st;

	if (fstatat(k->dir, id, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	helper_format_time(created, st.st_mtime);
	helper_item(h, id, id, created);
	return 0;
}

static vcf_err_t file_find(void *ctx, const char *label, struct helper *h,
			   struct helper_failure *f)
{
	struct keys *k = ctx;
	vcf_err_t err = send_item(k, label, h);

	return err && err != -ENOENT ? helper_fail_errno(f, err, label) : 0;
}

static void close_dirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static vcf_err_t file_list(void *ctx, const char *prefix, struct helper *h,
			   struct helper_failure *f)
{
	DIR *d __attribute__((cleanup(close_dirp))) = NULL;
	struct keys *k = ctx;
	int fd = openat(k->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *e;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return helper_fail_errno(f, -errno, k->path);
	while (errno = 0, e = readdir(d)) {
		vcf_err_t err = 0;

		if (keyproto_label_valid(e->d_name) &&
		    strncmp(e->d_name, prefix, strlen(prefix)) == 0)
			err = send_item(k, e->d_name, h);
		if (err && err != -ENOENT)
			return helper_fail_errno(f, err, e->d_name);
	}
	return errno ? helper_fail_errno(f, -errno, k->path) : 0;
}

/* --- destroy --- */

/* Best effort: a disk may keep old blocks. */
static void overwrite(int fd)
{
	char noise[SECRET_HEX_LEN];

	secret_random(noise, sizeof(noise));
	if (io_pwrite_full(fd, noise, sizeof(noise), 0) || fsync(fd) < 0)
		helper_log("a destroyed secret could not be overwritten");
}

static vcf_err_t file_destroy(void *ctx, const char *id, const char *label, bool *gone,
			      struct helper_failure *f)
{
	struct keys *k = ctx;
	auto_close int fd = -1;
	vcf_err_t err = check_id(id, f);

	if (err)
		return err;
	if (strcmp(id, label) != 0)
		return helper_fail(f, KEY_INVALID, "the record's label is another");
	err = open_checked(k, id, &fd, f);
	if (err && f->kind == KEY_NOTFOUND) {
		*gone = true;
		return 0;
	}
	if (err)
		return err;
	overwrite(fd);
	if ((unlinkat(k->dir, id, 0) < 0 && errno != ENOENT) || fsync(k->dir) < 0)
		return helper_fail_errno(f, -errno, id);
	return 0;
}

static vcf_err_t file_ping(void *ctx, struct helper_failure *f)
{
	struct keys *k = ctx;

	if (faccessat(k->dir, ".", R_OK | W_OK | X_OK, AT_EACCESS) < 0)
		return helper_fail_errno(f, -errno, k->path);
	return 0;
}

static void file_stop(void *ctx)
{
	struct keys *k = ctx;

	close(k->dir);
}

int main(void)
{
	static const struct helper_ops ops = {
		.name = "file",
		.option = file_option,
		.paths = file_paths,
		.start = file_start,
		.new_secret = file_new,
		.get = file_get,
		.find = file_find,
		.list = file_list,
		.destroy = file_destroy,
		.ping = file_ping,
		.stop = file_stop,
	};
	static struct keys keys = {.dir = -1};

	return helper_main(&ops, &keys);
}
