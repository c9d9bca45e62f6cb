/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/metrics_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"
#include "util/parse.h"

enum { BACKLOG = 8 };

static vcf_err_t set_unix(struct metrics_address *out, const char *path)
{
	size_t len = strlen(path);

	if (*path != '/' || path[len - 1] == '/')
		return -EINVAL;
	if (len >= sizeof(out->at.un.sun_path))
		return -ENAMETOOLONG;
	out->at.un.sun_family = AF_UNIX;
	memcpy(out->at.un.sun_path, path, len + 1);
	out->len = sizeof(out->at.un);
	return 0;
}

static vcf_err_t set_in(struct metrics_address *out, const char *host, uint16_t port)
{
	out->at.in.sin_family = AF_INET;
	out->at.in.sin_port = htons(port);
	out->len = sizeof(out->at.in);
	if (inet_pton(AF_INET, host, &out->at.in.sin_addr) != 1)
		return -EINVAL;
	return ntohl(out->at.in.sin_addr.s_addr) >> 24 == 127 ? 0 : -EADDRNOTAVAIL;
}

static vcf_err_t set_in6(struct metrics_address *out, char *host, uint16_t port)
{
	size_t len = strlen(host);

	if (len < 2 || host[len - 1] != ']')
		return -EINVAL;
	host[len - 1] = '\0';
	out->at.in6.sin6_family = AF_INET6;
	out->at.in6.sin6_port = htons(port);
	out->len = sizeof(out->at.in6);
	if (inet_pton(AF_INET6, host + 1, &out->at.in6.sin6_addr) != 1)
		return -EINVAL;
	return IN6_IS_ADDR_LOOPBACK(&out->at.in6.sin6_addr) ? 0 : -EADDRNOTAVAIL;
}

vcf_err_t metrics_address_parse(struct metrics_address *out, const char *text)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	uint64_t port;

	memset(out, 0, sizeof(*out));
	if (strncmp(text, "unix:", 5) == 0)
		return set_unix(out, text + 5);
	if (!colon || (size_t)(colon - text) >= sizeof(host) ||
	    parse_u64(colon + 1, 1, 65535, &port))
		return -EINVAL;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	return *host == '[' ? set_in6(out, host, (uint16_t)port)
			    : set_in(out, host, (uint16_t)port);
}

const char *metrics_address_error(vcf_err_t err)
{
	switch (err) {
	case -EADDRNOTAVAIL:
		return "other machines could reach it; only 127.0.0.1:PORT, [::1]:PORT and "
		       "unix:/PATH are allowed (a proxy of yours may add TLS and log-ins)";
	case -EINVAL:
		return "must be 127.0.0.1:PORT, [::1]:PORT or unix:/PATH";
	default:
		return strerror(-err);
	}
}

/* True if a process listens on that socket: it must not lose its name. */
static bool is_alive(const struct metrics_address *a)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && connect(fd, &a->at.any, a->len) == 0;
}

/* A socket that a dead process has left; nothing else is ever removed. */
static vcf_err_t make_room(const struct metrics_address *a)
{
	struct stat st;

	if (a->at.any.sa_family != AF_UNIX || lstat(a->at.un.sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (is_alive(a))
		return -EADDRINUSE;
	return unlink(a->at.un.sun_path) < 0 ? -errno : 0;
}

static vcf_err_t bind_to(int fd, const struct metrics_address *a)
{
	const int on = 1;
	mode_t old;
	int rc;

	if (a->at.any.sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	old = umask(0117); /* whoever shares our group may ask */
	rc = bind(fd, &a->at.any, a->len);
	umask(old);
	return rc < 0 || listen(fd, BACKLOG) < 0 ? -errno : 0;
}

int metrics_address_listen(const struct metrics_address *a)
{
	auto_close int fd = socket(a->at.any.sa_family,
				   SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	vcf_err_t err = fd < 0 ? -errno : 0;

	if (!err && a->at.any.sa_family == AF_UNIX)
		err = io_check_folder_of(a->at.un.sun_path);
	if (!err)
		err = make_room(a);
	if (!err)
		err = bind_to(fd, a);
	return err ? err : STEAL_FD(&fd);
}

void metrics_address_leave(const struct metrics_address *a)
{
	if (a->at.any.sa_family == AF_UNIX)
		unlink(a->at.un.sun_path);
}
