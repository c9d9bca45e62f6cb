/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where metrics may be asked for: this machine's own addresses and Unix sockets, nothing else. */
#ifndef VCF_FS_METRICS_ADDRESS_H
#define VCF_FS_METRICS_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/err.h"

struct metrics_address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} at;
	socklen_t len;
};

/*
 * "127.0.0.1:PORT", "[::1]:PORT" or "unix:/PATH". -EINVAL: none of these forms; -EADDRNOTAVAIL: an
 * address that others can reach; -ENAMETOOLONG: the socket's path. Pure.
 */
NODISCARD vcf_err_t metrics_address_parse(struct metrics_address *out, const char *text);

/* What is wrong, for people. */
const char *metrics_address_error(vcf_err_t err);

/* A listening socket, non-blocking; a Unix socket that nobody answers on is replaced. -errno. */
NODISCARD int metrics_address_listen(const struct metrics_address *a);

/* Removes the name of a Unix socket. */
void metrics_address_leave(const struct metrics_address *a);

#endif
