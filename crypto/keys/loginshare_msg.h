/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The messages between loginshare.c and its broker: both are of one build and one machine. */
#ifndef VCF_CRYPTO_KEYS_LOGINSHARE_MSG_H
#define VCF_CRYPTO_KEYS_LOGINSHARE_MSG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "crypto/keys/loginshare.h"

enum share_what {
	SHARE_TAKE = 0x76634c01, /* gen: of a log-in that is void, or 0 */
	SHARE_WAIT,		 /* somebody logs in; more will come */
	SHARE_TURN,		 /* log in yourself */
	SHARE_LOGIN,		 /* data, gen, until_ms; from the broker */
	SHARE_PUT,    /* data, until_ms; to the broker, answered with SHARE_LOGIN's gen */
	SHARE_FAILED, /* kind, retry_after_s, data: a text; both ways */
};

struct share_msg {
	uint32_t what;
	uint32_t kind, retry_after_s;
	uint32_t len; /* of data */
	uint64_t gen, until_ms;
	char data[LOGINSHARE_MAX];
};

/* One message; 0, -EBADMSG, -ETIMEDOUT (wait_ms 0: do not wait), -errno. Locked memory only. */
NODISCARD vcf_err_t share_send(int fd, const struct share_msg *m);
NODISCARD vcf_err_t share_recv(int fd, struct share_msg *m, int wait_ms);

/* True if the other end is of our user. */
bool share_same_user(int fd);

/* A message in locked memory, wiped by munmap; NULL. */
struct share_msg *share_msg_new(void);

/*
 * Starts a broker at this address, as a thread. -EADDRINUSE: there is one; -errno.
 */
NODISCARD vcf_err_t share_broker_start(const struct sockaddr_un *addr, socklen_t len);

#endif
