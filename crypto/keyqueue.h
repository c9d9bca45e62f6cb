/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jobs of one key service and those who wait for them. Any thread adds; the service's
 * thread does all else. Callbacks are called from that thread, without the lock.
 *
 * Gets of one id share one job. Each waiter has its own deadline; a job lives until it is
 * finished or its last waiter has gone (one that is with a helper: until that answers).
 */
#ifndef VCF_CRYPTO_KEYQUEUE_H
#define VCF_CRYPTO_KEYQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/keyjob.h"
#include "crypto/keyservice.h"
#include "util/err.h"
#include "util/lock.h"

struct keywaiter {
	struct keywaiter *next;
	keyservice_done_fn *done;
	void *arg;
	uint64_t deadline_ms;
};

struct keyqueue {
	struct mutex lock;
	struct keyjob *first; /* (l) oldest first */
	bool closed;	      /* (l) */
	unsigned int waiting; /* (l) waiters */
	uint64_t requests;    /* (l) ever added */
	uint64_t failures;    /* (l) waiters that got an error */
};

void keyqueue_init(struct keyqueue *q);
void keyqueue_fini(struct keyqueue *q);

/*
 * Adds a job with its first waiter, or the waiter to a job that asks the same; takes the
 * job over in both cases. On error (-ECANCELED when closed, -ENOMEM) it does not.
 */
NODISCARD vcf_err_t keyqueue_add(struct keyqueue *q, struct keyjob *job,
				 keyservice_done_fn *done, void *arg,
				 uint64_t deadline_ms);

/* The oldest job that may be asked now, marked busy; NULL if there is none. */
struct keyjob *keyqueue_take(struct keyqueue *q, uint64_t now_ms);

/* How many jobs may be asked now. */
unsigned int keyqueue_ready(struct keyqueue *q, uint64_t now_ms);

/* A busy job goes back, to be asked again not before that time. */
void keyqueue_put_back(struct keyqueue *q, struct keyjob *job, uint64_t not_before_ms);

/* The pauses of all jobs end now, except where the service itself asked for one. */
void keyqueue_release(struct keyqueue *q);

/* Does anybody wait? */
bool keyqueue_waiting(struct keyqueue *q);

/* Calls all waiters of a busy job with its result, and frees it. */
void keyqueue_finish(struct keyqueue *q, struct keyjob *job);

/* Calls those whose deadline has passed with -ETIMEDOUT. reason: if the job has no text.
 */
void keyqueue_expire(struct keyqueue *q, uint64_t now_ms, const char *reason);

/* The waiters of a busy job wait until then, at least. */
void keyqueue_extend(struct keyqueue *q, struct keyjob *job, uint64_t deadline_ms);

/* The next time at which a deadline or a pause ends; UINT64_MAX if there is none. */
uint64_t keyqueue_next_ms(struct keyqueue *q, uint64_t now_ms);

/* Refuses further jobs. */
void keyqueue_close(struct keyqueue *q);
bool keyqueue_closed(struct keyqueue *q);

/* Calls all waiters with -ECANCELED; no helper may have a job any more. */
void keyqueue_cancel(struct keyqueue *q);

#endif
