/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What reserve.c (takers, the worker) and reserve_item.c (the steps of one secret) share.
 *
 * A secret on its way is an item. One worker thread takes every step that may block on
 * the journal's disk; the service's callbacks only hand the item back to it. An item is
 * owned by the queue (waits for the worker), by a call under way, by the ready list, or
 * by the worker.
 *
 *   NEW   journal creating, send `new`
 *           ok                        -> journal unused, ready
 *           denied, quota, invalid    -> journal closed; the service surely has nothing
 *           anything else             -> in doubt: FIND, in the background
 *   FIND  send `find` (also what an earlier run left as creating)
 *           found                     -> GET
 *           not found                 -> NEW again if one is wanted; else journal closed,
 *                                        but a `new` younger than settle_ms may still
 *                                        arrive: FIND again then
 *           anything else             -> FIND after a back-off
 *   GET   send `get` (also what an earlier run left as unused)
 *           ok                        -> journal unused, ready
 *           not found                 -> journal closed: somebody else destroyed it
 *           anything else             -> GET after a back-off
 *
 * `making` counts the items that takers may hope for. Is one more wanted, an item that
 * sleeps in its back-off is taken before a new one is made: an outage leaves no more of
 * them than were wanted at once. There is at most one taker for each; a failure that
 * breaks this fails the first taker. Each secret that becomes ready wakes one taker.
 *
 * A request under way holds a reference, so that its answer may come after
 * reserve_free(). The secret stays with the item until then.
 */
#ifndef VCF_CRYPTO_RESERVE_ITEM_H
#define VCF_CRYPTO_RESERVE_ITEM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "crypto/reserve.h"
#include "util/audit.h"
#include "util/lock.h"

enum reserve_step { STEP_NEW, STEP_FIND, STEP_GET };

struct reserve_item {
	struct reserve *r;
	struct reserve_item *next;
	struct reserved res;
	enum reserve_step step;
	bool answered; /* the step's answer is here: err, res, text */
	bool unused;   /* journalled as unused */
	bool counted;  /* in making */
	bool doubtful; /* a `new` without an answer */
	vcf_err_t err;
	uint64_t run_at_ms;  /* monotonic */
	uint64_t settled_ms; /* monotonic: from then on "not found" is believed */
	unsigned int tries;
	uint64_t asked_ms; /* when the request was sent */
	char text[128];	   /* the helper's error text */
};

struct reserve_taker {
	struct reserve_taker *next;
	reserve_ready_fn *ready;
	void *arg;
	struct reserve_wanted wanted;
	char path[AUDIT_PATH_MAX]; /* wanted.path */
};

struct reserve {
	struct mutex lock; /* guards what is marked (l) */
	pthread_cond_t wake;
	pthread_t thread;		     /* (c) */
	struct keyservice *ks;		     /* (c) */
	struct journal *journal;	     /* (c) */
	struct reserve_timing timing;	     /* (c) */
	char service[TOKEN_SERVICE_MAX + 1]; /* (c) */
	unsigned int target;		     /* (l) */
	atomic_uint refs;	    /* (a) the owner's, and one a call under way */
	bool closing;		    /* (l) */
	bool retired;		    /* (l) */
	struct reserve_item *queue; /* (l) for the worker */
	struct reserve_item *ready; /* (l) */
	unsigned int ready_cnt;	    /* (l) */
	unsigned int news;	    /* (l) became ready, no taker told yet */
	struct reserve_taker *takers, **takers_end; /* (l) oldest first */
	unsigned int taker_cnt;			    /* (l) */
	unsigned int making;			    /* (l) */
	vcf_err_t last_err;			    /* (l) answers takers ... */
	uint64_t refuse_until_ms;		    /* (l) ... until then */
	uint64_t refill_at_ms;			    /* (l) no refill before */
	unsigned int backoff_ms;		    /* (l) the refill's next */
	bool failing;				    /* (l) said in the log */
};

/* Of reserve.c. */

/* Hands an item to the worker; r->lock is held. */
void reserve_queue_locked(struct reserve_item *it, uint64_t run_at_ms);

/* Makes an item's secret one that can be taken; r->lock is held. */
void reserve_ready_locked(struct reserve *r, struct reserve_item *it);

/* Tells the takers that nothing is being made for; no lock is held. */
void reserve_tell_failed(struct reserve *r);

/* Gives up a reference. */
void reserve_unref(struct reserve *r);

/* Of reserve_item.c. */

struct reserve_item *reserve_item_new(struct reserve *r, enum reserve_step step);
void reserve_item_free(struct reserve_item *it);

/* Starts the item's step, or deals with its answer; the worker only. */
void reserve_item_run(struct reserve_item *it);

#endif
