/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One log-in for all helper processes of a service on this machine. A log-in is the most
 * costly thing that a helper asks of a service (Keystone hashes a password for it, and
 * checks each new token with as much work again), and a node has up to 64 helpers of one.
 *
 * The process that needs one first becomes the broker: a thread of it listens on an abstract
 * socket whose name is the hash of what decides which log-in it is. Who needs a log-in asks
 * there and gets the kept one, or the turn to log in and tell the broker, or waits for who
 * has the turn; a log-in that fails fails for all who wait. When the broker's process
 * ends, the next to ask becomes the broker.
 *
 * Nothing is written to any file. Both ends check by SO_PEERCRED that the other is of the same
 * user; such a process could read the credential's file and log in itself, so it learns
 * nothing new. Another user can take the name away, and then each process logs in for
 * itself. Whatever goes wrong here has that end: sharing saves work, nothing rests on it.
 *
 * One struct for a process's own thread; not thread-safe.
 */
#ifndef VCF_CRYPTO_KEYS_LOGINSHARE_H
#define VCF_CRYPTO_KEYS_LOGINSHARE_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/keys/helper.h"
#include "crypto/keys/lockbuf.h"

enum { LOGINSHARE_MAX = 10 * 1024 }; /* bytes of a log-in */

struct loginshare;

/* What one kind of service does; arg is the caller's. Each within loginshare_renew(), on its thread. */
struct login {
	/* A log-in of our own: 0, or what helper_fail() returned. */
	vcf_err_t (*log_in)(void *arg, struct helper_failure *f);
	/* Takes what publish() of another helper has filled. -EAGAIN: it is no good. */
	vcf_err_t (*adopt)(void *arg, const struct lockbuf *login, uint64_t until_ms);
	/* Fills the empty buffer with our own; returns until when others may use it. */
	uint64_t (*publish)(void *arg, struct lockbuf *login);
};

/* identity: service, user and the like, any bytes. -ENOMEM, -EPERM. */
NODISCARD vcf_err_t loginshare_new(struct loginshare **out, const char *identity);

void loginshare_free(struct loginshare *s); /* NULL is allowed */

/*
 * Another log-in: somebody's, or one of our own, which the others get. s NULL: alone. 0, or what
 * helper_fail() returned.
 */
NODISCARD vcf_err_t loginshare_renew(struct loginshare *s, const struct login *l,
				     void *arg, struct helper_failure *f);

/* The one that we have is void: the next loginshare_renew() shall not get it again. NULL is allowed. */
void loginshare_refused(struct loginshare *s);

/*
 * The steps of loginshare_renew().
 *
 * Asks for a log-in. refused: the one that we had from here (or put here) is void.
 * 0        `login` holds it, good until *until_ms (clock_now_ms())
 * -EAGAIN  log in yourself, then loginshare_put() or loginshare_failed()
 * else     somebody else's log-in failed just now: what helper_fail() returned, f filled
 */
NODISCARD vcf_err_t loginshare_take(struct loginshare *s, bool refused,
				    struct lockbuf *login, uint64_t *until_ms,
				    struct helper_failure *f);

/* After -EAGAIN: how it went. */
void loginshare_put(struct loginshare *s, const struct lockbuf *login, uint64_t until_ms);
void loginshare_failed(struct loginshare *s, const struct helper_failure *f);

#endif
