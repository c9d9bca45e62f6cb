/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request to a key service, from its queueing to its result: what to ask next and
 * what an answer means. No I/O and no clock. Used by the service's thread alone.
 *
 * `new` must never make two secrets, so after a lost or doubtful answer it asks `find`:
 *
 *   CREATE --created--> done
 *     | lost, unavailable          (a helper that derives: `get LABEL` instead of `new`)
 *     v
 *   FIND --no item--> CREATE       --item--> VERIFY
 *   VERIFY --the same secret--> done         --another secret, notfound--> CREATE
 */
#ifndef VCF_CRYPTO_KEYJOB_H
#define VCF_CRYPTO_KEYJOB_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/keyproto.h"
#include "crypto/secret.h"
#include "util/cleanup.h"
#include "util/err.h"

struct keyservice_item;
typedef void keyservice_item_fn(void *arg, const struct keyservice_item *item);

struct keywaiter; /* keyqueue.h */

/*
 * A service may ask to be left alone for an hour and be back in a minute (a page of a proxy says
 * what it always says): nobody is kept waiting on its word for longer than this. Less than the
 * time-out that a request has by default, so that whoever waits sees a try.
 */
enum { KEYJOB_RETRY_AFTER_MAX_S = 30 };

enum keyjob_step { KEYJOB_CREATE, KEYJOB_FIND, KEYJOB_VERIFY };

enum keyjob_verdict {
	KEYJOB_MORE,	 /* the answer has further lines */
	KEYJOB_DONE,	 /* err, and id or result, are set */
	KEYJOB_AGAIN,	 /* ask the next thing at once */
	KEYJOB_RETRY,	 /* ask again after a pause, at least retry_after_s */
	KEYJOB_NONSENSE, /* no answer to what was asked: the helper is to be replaced */
};

struct keyjob {
	struct keyjob *next;	   /* (q) the queue's */
	struct keywaiter *waiters; /* (q) */
	bool busy;		   /* (q) with a helper */
	uint64_t not_before_ms;	   /* (q) end of the pause */
	uint64_t deadline_ms;	   /* (q) the latest waiter's */
	enum key_verb verb;	   /* (c) as called */
	enum keyjob_step step;	   /* new */
	enum key_verb sent;	   /* as sent last */
	unsigned int tries;
	unsigned int retry_after_s;	    /* at most KEYJOB_RETRY_AFTER_MAX_S */
	char id[TOKEN_KEY_ID_MAX + 1];	    /* (c) get, destroy; new, find: the result */
	char label[KEYPROTO_LABEL_MAX + 1]; /* (c) */
	char created[32];		    /* of the newest item so far, "" if none */
	keyservice_item_fn *item;	    /* (c) list: told of each one */
	void *item_arg;			    /* (c) */
	struct secret *secret;		    /* (c) new: ours */
	struct secret *result;
	vcf_err_t err;
	char text[KEYPROTO_TEXT_MAX + 1]; /* of the last failed try */
};

/*
 * id and label may be NULL where the verb has none; secret (copied) is for new only.
 * 0, -EINVAL if one is not of its grammar, -ENOMEM.
 */
NODISCARD vcf_err_t keyjob_new(struct keyjob **out, enum key_verb verb, const char *id,
			       const char *label, const struct secret *secret);
void keyjob_free(struct keyjob *job);

/* Fills all but the tag. caps: of the helper that is going to be asked. */
void keyjob_request(struct keyjob *job, unsigned int caps, struct key_request *out);

/* Takes an answer to it; takes over r->secret. */
enum keyjob_verdict keyjob_reply(struct keyjob *job, struct key_reply *r);

/* No answer will come: the helper died, hung or talked nonsense (why: for the log). */
void keyjob_lost(struct keyjob *job, const char *why);

DEFINE_AUTO(keyjob, struct keyjob *, keyjob_free)
#define auto_keyjob __attribute__((cleanup(cleanup_keyjob)))

#endif
