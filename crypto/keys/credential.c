/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/credential.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/io.h"

static const char *credentials_directory(void)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");

	return dir && *dir == '/' ? dir : NULL;
}

vcf_err_t credential_path(char path[CREDENTIAL_PATH_MAX], const char *option,
			  const char *where, struct helper_failure *f)
{
	const char *dir = credentials_directory();
	int n;

	if (*where == '/')
		n = snprintf(path, CREDENTIAL_PATH_MAX, "%s", where);
	else if (!*where || strchr(where, '/') || *where == '.')
		return helper_fail(
			f, KEY_INVALID,
			"%s: give an absolute path, or the bare name of a systemd "
			"credential",
			option);
	else if (!dir)
		return helper_fail(
			f, KEY_INVALID,
			"%s: %.100s is no absolute path, and CREDENTIALS_DIRECTORY "
			"is not set: add LoadCredential=%.100s:PATH to the unit, "
			"or give a path",
			option, where, where);
	else
		n = snprintf(path, CREDENTIAL_PATH_MAX, "%s/%s", dir, where);
	if (n >= CREDENTIAL_PATH_MAX)
		return helper_fail(f, KEY_INVALID, "%s: the path is too long", option);
	return 0;
}

void credential_paths(struct fence *fence, const char *where)
{
	const char *dir = credentials_directory();

	if (*where == '/')
		fence_allow_near(fence, where);
	else if (*where && dir)
		fence_allow(fence, FENCE_READ, dir);
}

/* Below systemd's folder: it gives its own files to the service's group. */
static bool of_systemd(const char *path)
{
	const char *dir = credentials_directory();
	size_t len = dir ? strlen(dir) : 0;

	return dir && strncmp(path, dir, len) == 0 && path[len] == '/' &&
	       !strchr(path + len + 1, '/');
}

/* Why a file may not hold a credential; NULL if it may. */
static const char *file_fault(const struct stat *st, bool systemd)
{
	mode_t allowed = systemd ? 0640 : 0600;

	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "belongs to another user: chown it to root or to the user of vmcryptfs";
	if (st->st_mode & 07777 & ~allowed)
		return "may be read by others: chmod 0400 or 0600";
	return NULL;
}

/* Opens and checks it; fills `full`, its path. */
static vcf_err_t open_checked(int *out, char full[CREDENTIAL_PATH_MAX],
			      const char *option, const char *where,
			      struct helper_failure *f)
{
	vcf_err_t err = credential_path(full, option, where, f);
	auto_close int fd = -1;
	const char *fault;
	struct stat st;

	if (err)
		return err;
	fd = open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ELOOP)
		return helper_fail(f, KEY_DENIED, "%s: %.300s is a symbolic link", option,
				   full);
	if (fd < 0 || fstat(fd, &st) < 0)
		return helper_fail(f, KEY_DENIED, "%s: %.300s: %s", option, full,
				   strerror(errno));
	fault = file_fault(&st, of_systemd(full));
	if (fault)
		return helper_fail(f, KEY_DENIED, "%s: %.300s %s", option, full, fault);
	*out = STEAL_FD(&fd);
	return 0;
}

vcf_err_t credential_check(const char *option, const char *where,
			   struct helper_failure *f)
{
	char full[CREDENTIAL_PATH_MAX];
	auto_close int fd = -1;

	return open_checked(&fd, full, option, where, f);
}

/* Straight into locked memory; one byte more than allowed, to see what is too long. */
static vcf_err_t read_into(struct lockbuf *b, int fd)
{
	ssize_t n = io_pread_full(fd, b->data, b->room, 0);

	if (n < 0)
		return (vcf_err_t)n;
	b->len = (size_t)n;
	if (b->len == b->room)
		return -EFBIG;
	while (b->len > 0 && (b->data[b->len - 1] == '\n' || b->data[b->len - 1] == '\r'))
		b->data[--b->len] = '\0';
	return b->len == 0 || memchr(b->data, '\0', b->len) ? -EINVAL : 0;
}

vcf_err_t credential_read(struct lockbuf **out, const char *option, const char *where,
			  struct helper_failure *f)
{
	auto_lockbuf struct lockbuf *b = NULL;
	char full[CREDENTIAL_PATH_MAX];
	auto_close int fd = -1;
	vcf_err_t err = open_checked(&fd, full, option, where, f);

	if (err)
		return err;
	if (lockbuf_new(&b, CREDENTIAL_MAX + 1))
		return helper_fail(
			f, KEY_UNAVAILABLE,
			"cannot lock memory for a credential: raise RLIMIT_MEMLOCK");
	err = read_into(b, fd);
	if (err == -EFBIG)
		return helper_fail(f, KEY_DENIED, "%s: %.300s has more than %d bytes",
				   option, full, CREDENTIAL_MAX);
	if (err == -EINVAL)
		return helper_fail(f, KEY_DENIED, "%s: %.300s %s", option, full,
				   b->len ? "holds a NUL byte" : "is empty");
	if (err)
		return helper_fail(f, KEY_DENIED, "%s: %.300s: %s", option, full,
				   strerror(-err));
	*out = STEAL_PTR(&b);
	return 0;
}
