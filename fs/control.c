/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "util/cleanup.h"

enum { FDS_MAX = 3 };

union fd_space {
	char buf[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	struct cmsghdr align;
};

vcf_err_t control_send(int sock, const struct control *c, const int *fds, int fd_cnt)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)c, .iov_len = sizeof(*c)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union fd_space space = {0};
	ssize_t n;

	if (fd_cnt) {
		struct cmsghdr *cmsg;

		msg.msg_control = space.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_cnt);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_cnt);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * (size_t)fd_cnt);
	}
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(STEAL_FD(fd));
}

/* There is room for FDS_MAX; what found none the kernel has closed. */
static void take_fds(struct msghdr *msg, int *fds, int fd_cnt)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
	int got[FDS_MAX];
	size_t cnt;

	for (int i = 0; i < fd_cnt; i++)
		fds[i] = -1;
	if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
		return;
	cnt = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(got, CMSG_DATA(cmsg), cnt * sizeof(int));
	for (size_t i = 0; i < cnt; i++) {
		if (i < (size_t)fd_cnt)
			fds[i] = got[i];
		else
			close(got[i]);
	}
}

vcf_err_t control_wait(int sock, int pidfd)
{
	struct pollfd p[] = {{.fd = sock, .events = POLLIN},
			     {.fd = pidfd, .events = POLLIN}};
	int rc;

	do {
		rc = poll(p, 2, -1);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return -errno;
	return p[0].revents ? 0 : -EPIPE;
}

vcf_err_t control_recv(int sock, struct control *c, int *fds, int fd_cnt)
{
	struct iovec iov = {.iov_base = c, .iov_len = sizeof(*c)};
	union fd_space space = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (fd_cnt) {
		msg.msg_control = space.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_cnt);
	}
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(&msg, fds, fd_cnt);
	if (n != sizeof(*c)) {
		for (int i = 0; i < fd_cnt; i++)
			close_fd(&fds[i]);
		return -EPIPE;
	}
	c->path[sizeof(c->path) - 1] = '\0';
	return 0;
}
