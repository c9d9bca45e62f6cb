/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A key service in memory behind crypto/keyservice.h, and containers that are nothing but
 * a saved header, behind crypto/container.h: linked instead of the real ones.
 *
 * Answers come from one thread, in order. A test scripts what goes wrong.
 */
#ifndef VCF_TESTS_FAKE_SERVICE_H
#define VCF_TESTS_FAKE_SERVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/keyservice.h"

enum fake_how {
	FAKE_REFUSE,	 /* answers the error, does nothing */
	FAKE_LOSE_REPLY, /* does it, answers the error */
	FAKE_DERIVE,	 /* new: keeps and answers a secret of its own */
};

struct keyservice *fake_new(void);

/* Every call fails with -ETIMEDOUT until it is up again. */
void fake_down(struct keyservice *ks, bool down);

/* Answers wait. Releasing them is what fake_hold(ks, false) and keyservice_free() do. */
void fake_hold(struct keyservice *ks, bool hold);

/* The next `times` calls of this verb go wrong. */
void fake_fail(struct keyservice *ks, enum key_verb verb, enum fake_how how,
	       vcf_err_t err, int times);

/* Puts a secret there; its id lives as long as ks. */
const char *fake_put(struct keyservice *ks, const unsigned char uuid[UUID_LEN],
		     const struct secret *secret);

/* Is there a live record with this id? With this label? How many in all? */
bool fake_has(struct keyservice *ks, const char *id);
bool fake_has_label(struct keyservice *ks, const unsigned char uuid[UUID_LEN]);
int fake_records(struct keyservice *ks);

/* The secret of a live record equals this one. */
bool fake_equal(struct keyservice *ks, const char *id, const struct secret *secret);

/* Somebody else destroys it. */
void fake_remove(struct keyservice *ks, const char *id);

/* Calls that wait to be answered. */
int fake_waiting(struct keyservice *ks);

/* Calls of a verb that were answered so far. */
int fake_calls(struct keyservice *ks, enum key_verb verb);

/* Fills CONTAINER_PEEK_LEN bytes with a header whose MAC is right under the secret. */
void fake_header(void *hdr, const unsigned char uuid[UUID_LEN], const char *service,
		 const char *key_id, const struct secret *secret);

#endif
