/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keycredentials.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

enum { FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC };

/* Where the copies go; what has been copied so far. */
struct copy {
	int from, to; /* folders */
	uid_t uid;
	gid_t gid;
	size_t len;
};

static vcf_err_t copy_bytes(struct copy *c, int in, int out)
{
	char buf[4096];
	vcf_err_t err = 0;
	ssize_t n;

	while (!err && (n = read(in, buf, sizeof(buf))) != 0) {
		c->len += n > 0 ? (size_t)n : 0;
		if (n < 0)
			err = -errno;
		else if (c->len > KEYCREDENTIALS_MAX)
			err = -EFBIG;
		else if (write(out, buf, (size_t)n) != n)
			err = -EIO;
	}
	explicit_bzero(buf, sizeof(buf));
	return err;
}

/* Credentials are plain files; systemd puts nothing else there. */
static vcf_err_t copy_file(struct copy *c, const char *name)
{
	auto_close int in =
		openat(c->from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	auto_close int out = -1;
	struct stat st;
	vcf_err_t err;

	if (in < 0 || fstat(in, &st) < 0)
		return errno == ELOOP ? 0 : -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	out = openat(c->to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	if (out < 0)
		return -errno;
	err = copy_bytes(c, in, out);
	if (!err && fchown(out, c->uid, c->gid) < 0)
		err = -errno;
	return err;
}

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static vcf_err_t copy_all(struct copy *c)
{
	int fd = fcntl(c->from, F_DUPFD_CLOEXEC, 3);
	DIR *dir __attribute__((cleanup(close_dir))) = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;
	vcf_err_t err = 0;

	if (!dir)
		return -errno;
	while (!err && (d = readdir(dir))) {
		if (*d->d_name != '.')
			err = copy_file(c, d->d_name);
	}
	if (!err && (fchown(c->to, c->uid, c->gid) < 0 || fchmod(c->to, 0500) < 0))
		err = -errno;
	return err;
}

/* What is mounted in it must not come out of it. */
static vcf_err_t new_namespace(void (*leave)(void))
{
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -EPERM;
	leave();
	return 0;
}

vcf_err_t keycredentials_give(uid_t uid, gid_t gid, void (*leave)(void))
{
	const char *path = getenv("CREDENTIALS_DIRECTORY");
	struct copy c = {.uid = uid, .gid = gid};
	auto_close int from = -1;
	auto_close int to = -1;
	vcf_err_t err;

	if (!path || *path != '/')
		return 0;
	from = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0)
		return errno == ENOENT ? 0 : -errno;
	err = new_namespace(leave);
	if (err)
		return err;
	if (mount("ramfs", path, "ramfs", FLAGS, "mode=0700") < 0)
		return -errno;
	to = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to < 0)
		return -errno;
	c.from = from;
	c.to = to;
	err = copy_all(&c);
	if (!err &&
	    mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | FLAGS, NULL) < 0)
		err = -errno;
	return err;
}
