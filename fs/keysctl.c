/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keysctl.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/keysop.h"
#include "fs/mountpoint.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

enum { REQUEST_MAX = 64 * 1024 * 1024, PATIENCE_S = 10, PIECE = 65536 };

struct keysctl {
	struct server *sv;
	int fd;
	char path[108];
	pthread_t thread;
	bool started;
};

vcf_err_t keysctl_path(char *dst, size_t room, const char *runtime,
		       const char *mountpoint)
{
	char path[PATH_MAX], real[PATH_MAX];
	vcf_err_t err = mountpoint_socket(path, sizeof(path), runtime, mountpoint);
	size_t len;

	if (err)
		return err;
	/* the status socket's name may be a link to where the sockets are */
	if (realpath(path, real))
		memcpy(path, real, sizeof(path));
	len = strlen(path);
	if (len < 5 || snprintf(dst, room, "%.*s.keys", (int)len - 5, path) >= (int)room)
		return -ENAMETOOLONG;
	return 0;
}

static vcf_err_t set_address(struct sockaddr_un *addr, const char *path)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	memcpy(addr->sun_path, path, strlen(path) + 1);
	return 0;
}

static void set_patience(int fd, int option, time_t seconds)
{
	const struct timeval limit = {.tv_sec = seconds};

	setsockopt(fd, SOL_SOCKET, option, &limit, sizeof(limit));
}

/* All that comes until the other side ends, with a NUL. */
static vcf_err_t read_all(int fd, char **out)
{
	auto_free char *buf = NULL;
	size_t len = 0, room = 0;

	for (;;) {
		ssize_t n;

		if (len + 1 >= room) {
			char *p;

			room = room ? 2 * room : PIECE;
			p = room > REQUEST_MAX ? NULL : realloc(buf, room);
			if (!p)
				return -ENOMEM;
			buf = p;
		}
		n = read(fd, buf + len, room - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		len += (size_t)n;
	}
	buf[len] = '\0';
	*out = STEAL_PTR(&buf);
	return 0;
}

/* --- the server's side --- */

static bool is_allowed(int client)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	return cred.uid == 0 || cred.uid == geteuid();
}

static vcf_err_t serve(const struct keysctl *k, int client)
{
	const struct keysop op = {.cfg = k->sv->cfg,
				  .journal = k->sv->journal,
				  .queue = k->sv->deletions,
				  .sv = k->sv};
	auto_free char *text = NULL;
	struct json_object *request;
	FILE *to;
	int fd;
	vcf_err_t err = read_all(client, &text);

	if (err)
		return err;
	request = json_tokener_parse(text);
	fd = dup(client);
	to = fd < 0 ? NULL : fdopen(fd, "w");
	if (to)
		err = keysop_run(&op, request, to);
	else
		err = -errno;
	if (to)
		fclose(to);
	else if (fd >= 0)
		close(fd);
	json_object_put(request);
	return err;
}

static void answer(const struct keysctl *k, int client)
{
	vcf_err_t err = is_allowed(client) ? 0 : -EACCES;

	set_patience(client, SO_RCVTIMEO, PATIENCE_S);
	set_patience(client, SO_SNDTIMEO, PATIENCE_S);
	if (!err)
		err = serve(k, client);
	if (err)
		log_dbg("keys: a request was not answered: %s", strerror(-err));
	close(client);
}

static void *loop(void *arg)
{
	struct keysctl *k = arg;

	for (;;) {
		int fd = accept4(k->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			answer(k, fd);
		else if (errno == EINVAL)
			return NULL; /* shut down */
		else if (errno != EINTR && errno != ECONNABORTED)
			sleep(1); /* no descriptors or memory just now */
	}
}

static vcf_err_t bind_socket(struct keysctl *k)
{
	struct sockaddr_un addr;
	vcf_err_t err = set_address(&addr, k->path);
	mode_t old;
	int rc;

	if (!err)
		err = io_check_folder_of(k->path);
	if (err)
		return err;
	k->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (k->fd < 0)
		return -errno;
	unlink(k->path); /* ours or nobody's: the journal's lock says so */
	old = umask(0177);
	rc = bind(k->fd, (struct sockaddr *)&addr, sizeof(addr));
	umask(old);
	return rc < 0 || listen(k->fd, 4) < 0 ? -errno : 0;
}

vcf_err_t keysctl_listen(struct keysctl **out, struct server *sv)
{
	struct keysctl *k = calloc(1, sizeof(*k));
	vcf_err_t err;

	if (!k)
		return -ENOMEM;
	k->sv = sv;
	k->fd = -1;
	err = keysctl_path(k->path, sizeof(k->path), sv->cfg->runtime_directory,
			   sv->cfg->mountpoint);
	if (!err)
		err = bind_socket(k);
	if (!err)
		err = -pthread_create(&k->thread, NULL, loop, k);
	k->started = !err;
	if (err) {
		log_err("%s: the socket for keys cannot be made: %s", k->path,
			strerror(-err));
		keysctl_close(k);
		return err;
	}
	*out = k;
	return 0;
}

void keysctl_close(struct keysctl *k)
{
	if (k->fd >= 0)
		shutdown(k->fd, SHUT_RDWR);
	if (k->started)
		pthread_join(k->thread, NULL);
	if (k->fd >= 0) {
		unlink(k->path);
		close(k->fd);
	}
	free(k);
}

/* --- the client's side --- */

static vcf_err_t copy_answer(int fd, FILE *to)
{
	auto_free char *piece = malloc(PIECE);
	bool any = false;

	if (!piece)
		return -ENOMEM;
	for (;;) {
		ssize_t n = read(fd, piece, PIECE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		any = true;
		if (fwrite(piece, 1, (size_t)n, to) != (size_t)n)
			return -EIO;
	}
	return any ? 0 : -EACCES; /* closed without a word */
}

vcf_err_t keysctl_call(const char *path, struct json_object *request, FILE *to)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *text =
		json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN);
	struct sockaddr_un addr;
	vcf_err_t err = fd < 0 ? -errno : set_address(&addr, path);

	if (err)
		return err;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	err = io_write_full(fd, text, strlen(text));
	if (!err && shutdown(fd, SHUT_WR) < 0)
		err = -errno;
	return err ? err : copy_answer(fd, to);
}
