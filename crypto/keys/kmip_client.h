/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to a KMIP service: one or more servers with the same keys, one kept connection.
 * Not thread-safe.
 *
 * A request goes to the server that worked last. One that cannot be reached, does not answer
 * in time (its share of the verb's, deadline.h) or has a failure of its own loses its turn to
 * the next. The request itself is repeated (there, or over a new connection when a kept one
 * turns out to be dead) only if it may be: all but Register, unless that has not been sent at
 * all.
 *
 * The version of the protocol is asked for with each new connection (DiscoverVersions),
 * unless the options fix it.
 */
#ifndef VCF_CRYPTO_KEYS_KMIP_CLIENT_H
#define VCF_CRYPTO_KEYS_KMIP_CLIENT_H

#include "crypto/keys/helper.h"
#include "crypto/keys/kmip_message.h"
#include "crypto/keys/lockbuf.h"
#include "crypto/keys/tls_stream.h"

enum {
	KMIP_SERVERS_MAX = 8,
	KMIP_ENDPOINT_MAX = 300, /* HOST:PORT */
	KMIP_PORT = 5696,
	KMIP_REPLY_MAX = 64 * 1024,
};

struct kmip_client {
	struct tls_settings tls;
	char servers[KMIP_SERVERS_MAX][KMIP_ENDPOINT_MAX];
	size_t server_cnt, current;
	struct kmip_version fixed;   /* 0.0: ask */
	struct kmip_version version; /* of this connection */
	struct tls_stream *stream;   /* NULL: none */
	struct lockbuf *request, *reply;
	uint64_t deadline_ms;	  /* for all exchanges of a verb; UINT64_MAX: none */
	uint64_t try_deadline_ms; /* for those with one server: others want their turn */
};

/* "HOST[:PORT], [V6ADDRESS]:PORT ...". NULL, or what is wrong. */
const char *kmip_client_servers(struct kmip_client *c, const char *text);

/* Once, after the options. 0, or what helper_fail() returned. */
NODISCARD vcf_err_t kmip_client_start(struct kmip_client *c, struct helper_failure *f);

void kmip_client_stop(struct kmip_client *c);

struct kmip_call {
	enum kmip_op op;
	const char *id;		  /* of one object */
	const char *name;	  /* register, locate (NULL: all keys) */
	const unsigned char *key; /* register */
	int32_t offset, max;	  /* locate */
};

/*
 * One exchange. 0: out is the server's answer, in locked memory that the next call or
 * kmip_client_forget() wipes. Or what helper_fail() returned; then out->reason is the
 * server's, 0 if it has not answered.
 */
NODISCARD vcf_err_t kmip_client_do(struct kmip_client *c, const struct kmip_call *call,
				   struct kmip_reply *out, struct helper_failure *f);

void kmip_client_forget(struct kmip_client *c);

/* The server that the next request goes to. */
const char *kmip_client_endpoint(const struct kmip_client *c);

#endif
