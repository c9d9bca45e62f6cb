/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Work off the request path: jobs (header unlocks, creations) and parked requests, run by a few
 * executor threads. No FUSE worker waits for a key: it parks a copy of its request and goes on.
 *
 * A parked request is held by whoever was asked for the key (image_entry.waiters) and listed
 * here so that FUSE_INTERRUPT finds it. It ends by deferred_resume(): executed again with the
 * outcome, or dropped if it was answered EINTR meanwhile.
 *
 * Thread-safe.
 */
#ifndef VCF_FS_DEFERRED_H
#define VCF_FS_DEFERRED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/server.h"
#include "util/err.h"

struct deferred;

/* Embedded in the owner's structure; run() is called once on an executor thread. */
struct job {
	struct job *next;
	void (*run)(struct job *job);
};

/* A parked request; its bytes and what a successor needs lie in the session (park.h). */
struct parked {
	struct parked *next; /* the holder's list, later the queue of ready ones */
	struct parked *list_prev, *list_next;
	struct session_parked *record;
	vcf_err_t err;	  /* what the wait ended with */
	bool answered;	  /* EINTR was sent */
	bool interrupted; /* FUSE_INTERRUPT came */
	bool awaited; /* the kernel was asked to send it again, under another unique */
	uint32_t pid; /* of the caller's thread, 0: not visible from here */
	uint64_t unique;
};

/* tick (may be NULL) is called about once a second from an executor. */
NODISCARD vcf_err_t deferred_new(struct deferred **out, struct server *sv,
				 unsigned int threads, void (*tick)(struct server *sv));
NODISCARD vcf_err_t deferred_start(struct deferred *d);
/*
 * The mount ends: waits until no job is queued or running. From here on parked requests are dropped;
 * while the server is only stopping they stay where they are, for the one that comes next.
 */
void deferred_quiesce(struct deferred *d);
/* Runs the jobs that are queued, ends the threads. */
void deferred_stop(struct deferred *d);
void deferred_free(struct deferred *d);

void deferred_post(struct deferred *d, struct job *job);

/*
 * Copies the calling worker's request. 0; -ENOMEM when the park area is full.
 */
NODISCARD vcf_err_t deferred_park(struct deferred *d, struct worker *w,
				  struct parked **out);

/*
 * FUSE_NOTIFY_RESEND is about to be sent: parked requests come back under uniques with SERVER_RESENT
 * set, and only those may be answered. Until each has (or for a second) none is executed again.
 * deferred_resent_none() takes it back: the kernel does not know that call.
 */
void deferred_expect_resent(struct deferred *d);
void deferred_resent_none(struct deferred *d);
/* True if it is a parked one, which goes by that unique from now on. */
bool deferred_adopt(struct deferred *d, uint64_t unique);

/* While held, no parked request is executed again. */
void deferred_hold(struct deferred *d, bool held);

/* What an earlier process parked: fn(arg, record, bytes) for each; fn's owner then drops it. */
void deferred_each_left(struct deferred *d,
			void (*fn)(void *arg, struct session_parked *r, const void *req),
			void *arg);
void deferred_drop_left(struct deferred *d, struct session_parked *r);

/* Ends the wait of one parked request. */
void deferred_resume(struct deferred *d, struct parked *p, vcf_err_t err);

/*
 * FUSE_INTERRUPT for a request: a parked one is answered EINTR if its caller is being killed; one
 * that is under way is noted. False if it is neither: answered already, or read by a worker that
 * has not begun with it.
 */
NODISCARD bool deferred_interrupt(struct deferred *d, uint64_t unique);

/* Did FUSE_INTERRUPT come for one that the caller has parked, and that waits? */
bool deferred_was_interrupted(struct deferred *d, const struct parked *p);

/* Once a second: interrupted requests whose caller has been killed meanwhile. */
void deferred_tick(struct deferred *d);

size_t deferred_parked_cnt(struct deferred *d);

#endif
