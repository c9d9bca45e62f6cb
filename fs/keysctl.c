/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keysctl.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fs/keysop.h"
#include "fs/listener.h"
#include "fs/mountpoint.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

enum { REQUEST_MAX = 64 * 1024 * 1024, PIECE = 65536 };

struct keysctl {
	struct server *sv;
	struct listener *listener;
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
	vcf_err_t err = io_read_all(client, REQUEST_MAX, &text);

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

static void answer(void *arg, int client)
{
	vcf_err_t err = is_allowed(client) ? serve(arg, client) : -EACCES;

	if (err)
		log_dbg("keys: a request was not answered: %s", strerror(-err));
}

vcf_err_t keysctl_listen(struct keysctl **out, struct server *sv)
{
	struct keysctl *k = calloc(1, sizeof(*k));
	char path[PATH_MAX] = "";
	vcf_err_t err;

	if (!k)
		return -ENOMEM;
	k->sv = sv;
	err = keysctl_path(path, sizeof(path), sv->cfg->runtime_directory,
			   sv->cfg->mountpoint);
	if (!err)
		err = listener_new(&k->listener, path, answer, k);
	if (err) {
		log_err("%s: the socket for keys cannot be made: %s", path,
			strerror(-err));
		keysctl_close(k);
		return err;
	}
	*out = k;
	return 0;
}

void keysctl_close(struct keysctl *k)
{
	listener_free(k->listener);
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
	auto_close int fd = listener_connect(path, 0);
	const char *text =
		json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN);
	vcf_err_t err;

	if (fd < 0)
		return fd;
	err = io_write_full(fd, text, strlen(text));
	if (!err && shutdown(fd, SHUT_WR) < 0)
		err = -errno;
	return err ? err : copy_answer(fd, to);
}
