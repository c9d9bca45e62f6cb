/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/listener.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"

enum { PATIENCE_S = 10, BACKLOG = 8 };

struct listener {
	int fd;
	struct sockaddr_un addr;
	listener_answer_fn *answer;
	void *arg;
	pthread_t thread;
	bool started;
};

static vcf_err_t set_address(struct sockaddr_un *addr, const char *path)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	memcpy(addr->sun_path, path, strlen(path) + 1);
	return 0;
}

/* With a peer that neither reads nor writes. */
static void set_patience(int fd, unsigned int seconds)
{
	const struct timeval limit = {.tv_sec = seconds};

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static void *loop(void *arg)
{
	struct listener *l = arg;

	for (;;) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0) {
			set_patience(fd, PATIENCE_S);
			l->answer(l->arg, fd);
			close(fd);
		} else if (errno == EINVAL) {
			return NULL; /* shut down */
		} else if (errno != EINTR && errno != ECONNABORTED) {
			sleep(1); /* no descriptors or memory just now */
		}
	}
}

static vcf_err_t bind_socket(struct listener *l)
{
	vcf_err_t err = io_check_folder_of(l->addr.sun_path);
	mode_t old;
	int rc;

	if (err)
		return err;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return -errno;
	unlink(l->addr.sun_path);
	old = umask(0177);
	rc = bind(l->fd, (struct sockaddr *)&l->addr, sizeof(l->addr));
	umask(old);
	return rc < 0 || listen(l->fd, BACKLOG) < 0 ? -errno : 0;
}

void listener_free(struct listener *l)
{
	if (!l)
		return;
	if (l->fd >= 0)
		shutdown(l->fd, SHUT_RDWR);
	if (l->started)
		pthread_join(l->thread, NULL);
	if (l->fd >= 0) {
		unlink(l->addr.sun_path);
		close(l->fd);
	}
	free(l);
}

DEFINE_AUTO(listener, struct listener *, listener_free)

vcf_err_t listener_new(struct listener **out, const char *path,
		       listener_answer_fn *answer, void *arg)
{
	struct listener *l __attribute__((cleanup(cleanup_listener))) =
		calloc(1, sizeof(*l));
	vcf_err_t err;

	if (!l)
		return -ENOMEM;
	l->fd = -1;
	l->answer = answer;
	l->arg = arg;
	err = set_address(&l->addr, path);
	if (!err)
		err = bind_socket(l);
	if (!err)
		err = -pthread_create(&l->thread, NULL, loop, l);
	if (err)
		return err;
	l->started = true;
	*out = STEAL_PTR(&l);
	return 0;
}

int listener_connect(const char *path, unsigned int patience_s)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;
	vcf_err_t err = fd < 0 ? -errno : set_address(&addr, path);

	if (err)
		return err;
	set_patience(fd, patience_s);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return STEAL_FD(&fd);
}
