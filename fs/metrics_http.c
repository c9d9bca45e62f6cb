/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/metrics_http.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"

enum { REQUEST_MS = 2000, ANSWER_MS = 5000 };

static bool is_word(const char *p, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(p, word, len) == 0;
}

/* "METHOD TARGET HTTP/1.x" */
static enum metrics_request judge_line(const char *line, size_t len)
{
	const char *target = memchr(line, ' ', len), *version, *query;
	size_t target_len;

	if (!target)
		return METRICS_BAD;
	target++;
	version = memchr(target, ' ', len - (size_t)(target - line));
	if (!version || len - (size_t)(version - line) < 6 ||
	    memcmp(version, " HTTP/", 6) != 0)
		return METRICS_BAD;
	if (!is_word(line, (size_t)(target - 1 - line), "GET"))
		return METRICS_METHOD;
	target_len = (size_t)(version - target);
	query = memchr(target, '?', target_len);
	if (query)
		target_len = (size_t)(query - target);
	return is_word(target, target_len, "/metrics") ? METRICS_PAGE
	       : is_word(target, target_len, "/")      ? METRICS_INDEX
						       : METRICS_ABSENT;
}

enum metrics_request metrics_http_request(const char *buf, size_t len)
{
	const char *end = memmem(buf, len, "\r\n\r\n", 4);
	const char *line = memchr(buf, '\n', len);

	if (!end)
		end = memmem(buf, len, "\n\n", 2);
	if (!end)
		return len >= METRICS_REQUEST_MAX ? METRICS_BAD : METRICS_MORE;
	if (line > buf && line[-1] == '\r')
		line--;
	return judge_line(buf, (size_t)(line - buf));
}

/* True if it is there before that moment. */
static bool wait_for(int fd, short events, uint64_t until_ms)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = clock_now_ms();
		int rc = now < until_ms ? poll(&p, 1, (int)(until_ms - now)) : 0;

		if (rc >= 0 || errno != EINTR)
			return rc > 0;
	}
}

static enum metrics_request receive(int fd)
{
	char buf[METRICS_REQUEST_MAX];
	uint64_t until = clock_now_ms() + REQUEST_MS;
	size_t len = 0;

	for (;;) {
		enum metrics_request what = metrics_http_request(buf, len);
		ssize_t n;

		if (what != METRICS_MORE)
			return what;
		if (!wait_for(fd, POLLIN, until))
			return METRICS_MORE;
		n = recv(fd, buf + len, sizeof(buf) - len, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return METRICS_MORE;
		len += (size_t)n;
	}
}

/* False: the client left, or does not read. */
static bool send_all(int fd, const char *p, size_t len, uint64_t until)
{
	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN && wait_for(fd, POLLOUT, until))
			continue;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static void answer(int fd, const char *status, const char *type, const char *body,
		   size_t len)
{
	uint64_t until = clock_now_ms() + ANSWER_MS;
	char head[256];
	int n = snprintf(head, sizeof(head),
			 "HTTP/1.1 %s\r\nContent-Type: %s; charset=utf-8\r\n"
			 "Content-Length: %zu\r\nConnection: close\r\n\r\n",
			 status, type, len);

	if (send_all(fd, head, (size_t)n, until) && send_all(fd, body, len, until))
		shutdown(fd, SHUT_WR);
}

static void answer_page(int fd, metrics_page_fn *page, void *arg)
{
	size_t len = 0;
	auto_free char *text = page(arg, &len);

	if (text)
		answer(fd, "200 OK", "text/plain; version=0.0.4", text, len);
	else
		answer(fd, "503 Service Unavailable", "text/plain", "", 0);
}

static void answer_line(int fd, const char *status)
{
	char body[64];
	int n = snprintf(body, sizeof(body), "%s\n", status);

	answer(fd, status, "text/plain", body, (size_t)n);
}

void metrics_http_serve(int listen_fd, metrics_page_fn *page, void *arg)
{
	static const char index[] =
		"<!doctype html><title>vmcryptfs</title><a href=\"/metrics\">metrics</a>\n";
	auto_close int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	switch (receive(fd)) {
	case METRICS_PAGE:
		answer_page(fd, page, arg);
		break;
	case METRICS_INDEX:
		answer(fd, "200 OK", "text/html", index, sizeof(index) - 1);
		break;
	case METRICS_ABSENT:
		answer_line(fd, "404 Not Found");
		break;
	case METRICS_METHOD:
		answer_line(fd, "405 Method Not Allowed");
		break;
	case METRICS_BAD:
		answer_line(fd, "400 Bad Request");
		break;
	case METRICS_MORE:
		break; /* it said nothing, or left */
	}
}
