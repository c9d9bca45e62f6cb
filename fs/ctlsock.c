/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/ctlsock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

enum { PATIENCE_MS = 200 };

vcf_err_t ctlsock_path(char *dst, size_t room, const char *status_path)
{
	const char *dot = strrchr(status_path, '.');
	int n;

	if (!dot || strcmp(dot, ".sock") != 0)
		return -EINVAL;
	n = snprintf(dst, room, "%.*s.ctl", (int)(dot - status_path), status_path);
	return n < (int)room ? 0 : -ENAMETOOLONG;
}

static vcf_err_t fill_address(struct sockaddr_un *addr, const char *path)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path) >=
	    (int)sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	return 0;
}

int ctlsock_listen(const char *path)
{
	auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;
	vcf_err_t err = fd < 0 ? -errno : fill_address(&addr, path);
	mode_t old;
	int rc;

	if (!err)
		err = io_check_folder_of(path);
	if (err)
		return err;
	unlink(path); /* the lock on the backing folder says that no other daemon lives */
	old = umask(0177);
	rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	umask(old);
	if (rc < 0 || listen(fd, 4) < 0)
		return -errno;
	return STEAL_FD(&fd);
}

static bool is_allowed(int client)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	return cred.uid == 0 || cred.uid == geteuid();
}

static vcf_err_t wait_readable(int fd, int wait_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int rc;

	do {
		rc = poll(&p, 1, wait_ms);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc == 0 ? -ETIMEDOUT : 0;
}

int ctlsock_accept(int listen_fd, struct control *c, int *fd)
{
	auto_close int client = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	vcf_err_t err;

	if (client < 0)
		return -errno;
	if (!is_allowed(client))
		return -EACCES;
	err = wait_readable(client, PATIENCE_MS);
	if (!err)
		err = control_recv(client, c, fd, 1);
	return err ? err : STEAL_FD(&client);
}

void ctlsock_answer(int client, int code, const char *text)
{
	struct control c = {.kind = CONTROL_ANSWER, .value = code};

	snprintf(c.path, sizeof(c.path), "%s", text);
	if (control_send(client, &c, NULL, 0))
		log_dbg("the caller of a command is gone");
	close(client);
}

vcf_err_t ctlsock_call(const char *path, struct control *c, int fd, int wait_ms)
{
	auto_close int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;
	vcf_err_t err = sock < 0 ? -errno : fill_address(&addr, path);

	if (!err && connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		err = -errno;
	if (!err)
		err = control_send(sock, c, &fd, fd >= 0);
	if (!err)
		err = wait_readable(sock, wait_ms);
	return err ? err : control_recv(sock, c, NULL, 0);
}
