/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is found, in this order:
 *
 *   the path is on a mount of ours  answers, with our version   EXIT_OK
 *                                   ENOTCONN                    EXIT_DEAD
 *                                   says nothing in time        EXIT_HUNG
 *                                   answers, but is no vmcryptfs  EXIT_OTHER_MOUNT
 *   something else is mounted at it                             EXIT_OTHER_MOUNT
 *   nothing is, and no file can be made in it (guard.h)         EXIT_NOT_FOUND
 *   nothing is, and one can                                     EXIT_BARE
 *
 * The mount is found by the id that statx(2) says, not by its name in mountinfo, where a mount that
 * another one hides is listed as well.
 */
#include "fs/mountcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/guard.h"
#include "fs/mountpoint.h"
#include "util/cleanup.h"

static void __attribute__((format(printf, 3, 4)))
find(struct mountcheck *c, int code, const char *format, ...)
{
	va_list ap;

	c->code = code;
	va_start(ap, format);
	vsnprintf(c->text, sizeof(c->text), format, ap);
	va_end(ap);
}

static void find_error(struct mountcheck *c, int err)
{
	if (err == ENOTCONN || err == ECONNABORTED)
		find(c, EXIT_DEAD, "mounted, but the daemon is gone (%s)", strerror(err));
	else if (err == EACCES)
		find(c, EXIT_PERMISSION, "%s", strerror(err));
	else
		find(c, err == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILED, "%s",
		     strerror(err));
}

/* With `xattr = no` the kernel may not ask any more; then that it answers has to do. */
static void look_at_ours(struct mountcheck *c, const struct mountpoint_info *m,
			 const char *path)
{
	struct statx st;
	char version[64] = "";
	ssize_t n;

	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st) < 0)
		return find_error(c, errno);
	n = getxattr(m->point, MOUNTCHECK_XATTR, version, sizeof(version) - 1);
	if (n < 0 && errno == ENODATA)
		return find(c, EXIT_OTHER_MOUNT, "something else answers as %s", m->type);
	if (n < 0 && errno != EOPNOTSUPP && errno != EACCES)
		return find_error(c, errno);
	find(c, EXIT_OK, "vmcryptfs %s answers, of %s", n > 0 ? version : "", m->source);
}

static void look_at_folder(struct mountcheck *c, const struct mountpoint_info *m,
			   const char *path, const struct statx *st)
{
	enum guard_state guard = guard_look_at(path);

	if (st->stx_attributes & STATX_ATTR_MOUNT_ROOT && strcmp(path, "/") != 0)
		find(c, EXIT_OTHER_MOUNT, "%s is mounted there, no vmcryptfs", m->type);
	else if (guard_holds(guard))
		find(c, EXIT_NOT_FOUND,
		     "no vmcryptfs is mounted there; the folder is guarded: no file can "
		     "be made in it");
	else
		find(c, EXIT_BARE,
		     "no vmcryptfs is mounted there, and THE FOLDER IS NOT GUARDED (%s): "
		     "what is written there is in the clear",
		     guard_text(guard));
}

static void look(struct mountcheck *c, const char *path)
{
	struct mountpoint_info m;
	struct statx st;
	vcf_err_t err;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_MNT_ID, &st) < 0)
		return find_error(c, errno);
	if (!S_ISDIR(st.stx_mode))
		return find(c, EXIT_NOT_FOUND, "%s", strerror(ENOTDIR));
	err = mountpoint_by_id(&m, st.stx_mnt_id);
	if (err)
		return find(c, EXIT_FAILED, "/proc/self/mountinfo: %s", strerror(-err));
	if (m.ours)
		look_at_ours(c, &m, path);
	else
		look_at_folder(c, &m, path, &st);
}

static void __attribute__((noreturn)) be_child(const char *path, int out)
{
	struct mountcheck c = {.code = EXIT_FAILED};

	look(&c, path);
	_exit(write(out, &c, sizeof(c)) == sizeof(c) ? 0 : 1);
}

/* It may be held by the file system: SIGKILL and no wait. */
static bool receive(struct mountcheck *out, int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int rc;

	do {
		rc = poll(&p, 1, timeout_ms);
	} while (rc < 0 && errno == EINTR);
	return rc == 1 && read(fd, out, sizeof(*out)) == sizeof(*out);
}

vcf_err_t mountcheck(struct mountcheck *out, const char *path, int timeout_ms)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		be_child(path, fds[1]);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return -errno;
	}
	if (!receive(out, fds[0], timeout_ms))
		find(out, EXIT_HUNG, "nothing answers within %d s", timeout_ms / 1000);
	close(fds[0]);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, WNOHANG);
	return 0;
}
