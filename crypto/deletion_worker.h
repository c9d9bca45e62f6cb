/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What deletion.c (the file system's half) and deletion_worker.c (the thread) share.
 *
 * Two halves: what the file system calls (journal and header only, no network), and the
 * worker thread, which alone talks to the service, one request at a time.
 *
 * The worker destroys a secret only when all of this was seen in this order: the entry is
 * due; in_use() answered no; the service gave the secret; the MAC of the saved header, of
 * the entry's own uuid, service and key id, is right under it; the entry is still there
 * (nobody took it back). An entry without a saved header is a secret that never got into
 * a finished container: it has no MAC to check, the service compares its label.
 *
 * A request under way holds a reference to the queue, so that its answer may come after
 * deletion_queue_free(); `ticket` tells an abandoned one.
 */
#ifndef VCF_CRYPTO_DELETION_WORKER_H
#define VCF_CRYPTO_DELETION_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "crypto/deletion.h"
#include "util/lock.h"

/* An entry that failed and when it may be tried again. */
struct deletion_later {
	struct deletion_later *next;
	uint64_t id;
	uint64_t at_ms; /* monotonic */
	uint64_t backoff_ms;
};

struct deletion_answer {
	bool done;
	vcf_err_t err;
	char id[TOKEN_KEY_ID_MAX + 1];
	struct secret *secret;
	char text[128];
};

struct deletion_queue {
	struct mutex lock;	       /* guards what is marked (l) */
	pthread_cond_t wake;	       /* something for the worker */
	pthread_t thread;	       /* (c) */
	struct journal *journal;       /* (c) */
	struct keyservice *ks;	       /* (c) */
	struct deletion_config cfg;    /* (c) service: a copy; the policy: (l) */
	struct deletion_timing timing; /* (c) */
	atomic_uint refs;	       /* (a) the owner's, and one a request under way */
	bool closing;		       /* (l) */
	bool told;		       /* (l) look now */
	uint64_t ticket;	       /* (l) of the request that is waited for */
	struct deletion_answer answer; /* (l) */
	uint64_t busy_id; /* (l) the entry whose secret is being destroyed, or 0 */
	struct deletion_later *later; /* worker only */
	uint64_t rest_until_ms;	      /* worker only: so many were settled just now */
	uint64_t pause_until_ms;      /* (l) the service does not answer */
	uint64_t pause_ms;	      /* (l) the last pause's length */
	unsigned int streak;	      /* (l) failures in a row */
	char last_error[256];	      /* (l) "" after one that went well */
};

/* Journals a state; an error is logged. */
void deletion_set_state(struct journal *j, const struct journal_entry *e,
			enum journal_state state, time_t due);

/* Gives up a reference. */
void deletion_unref(struct deletion_queue *q);

/* The thread; arg is the queue. */
void *deletion_run(void *arg);

#endif
