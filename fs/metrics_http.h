/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Just enough of HTTP/1.1 for a scrape: one client at a time, one request, one answer, a close. A client
 * that is slow or says nothing is dropped; it keeps others waiting for seven seconds at most.
 */
#ifndef VCF_FS_METRICS_HTTP_H
#define VCF_FS_METRICS_HTTP_H

#include <stddef.h>

enum metrics_request {
	METRICS_MORE,	/* the head is not complete */
	METRICS_PAGE,	/* GET /metrics */
	METRICS_INDEX,	/* GET / */
	METRICS_ABSENT, /* 404 */
	METRICS_METHOD, /* 405 */
	METRICS_BAD,	/* 400 */
};

enum { METRICS_REQUEST_MAX = 4096 };

/* What the len bytes that have come so far are; a query behind the path is ignored. Pure. */
enum metrics_request metrics_http_request(const char *buf, size_t len);

/* Makes the page; *len without a NUL. NULL: it cannot (503). To be freed. */
typedef char *metrics_page_fn(void *arg, size_t *len);

/* Serves who waits on the listening socket: one client. */
void metrics_http_serve(int listen_fd, metrics_page_fn *page, void *arg);

#endif
