/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mutexes and reader-writer locks with a rank, and the one lock order of the program.
 *
 * Lock order, outermost first. Taking an earlier one while holding a later or equal one
 * is a bug, with no "harmless here" exceptions. Debug builds (-Ddebug-locks=true) assert
 * it.
 *
 * None of them is held across fuse_reply_*() or a key fetch. Those marked (m) guard
 * memory only and are not held across disk I/O either.
 */
#ifndef VCF_UTIL_LOCK_H
#define VCF_UTIL_LOCK_H

#include <pthread.h>

enum lock_rank {
	RANK_REKEY_RUN = 2,    /*     rekey_run.lock: the first that no daemon does */
	RANK_WALK = 3,	       /*     server.walk_lock: one walk of the tree at a time */
	RANK_NAMES = 5,	       /*     server.names_lock (rw): which files there are */
	RANK_TREE = 10,	       /*     unlink, rename, and the journal's steps */
	RANK_DEVICE = 15,      /*     server.device_lock: devices and their claims */
	RANK_DATACOPY = 18,    /*     datacopy.c: which piece is next */
	RANK_IMAGE_TABLE = 20, /* (m) imagetable.lock: the set of images in use */
	RANK_IMAGE_STATE = 30, /* (m) image_entry.state_lock: key state, waiters */
	RANK_IMAGE_SIZE = 40,  /*     image.size_lock (rw): the plaintext size */
	RANK_NODELOCK = 45,   /* (m) nodelocks.lock: open files for locks between nodes */
	RANK_RANGE = 50,      /* (m) rangelock.lock: the list (a range is no mutex) */
	RANK_STATE = 60,      /* (m) state.lock: nodes and handles */
	RANK_PROMOTE = 65,    /* (m) promoter.lock: images that wait for a secret */
	RANK_REKEYER = 65,    /* (m) rekeyer.lock: likewise, as an operator asked */
	RANK_PROGLOCK = 66,   /* (m) proglocks.lock: programs' locks and who waits */
	RANK_WIPEWAIT = 67,   /* (m) wipewait.lock: headers that cannot be wiped yet */
	RANK_DEFERRED = 70,   /* (m) deferred.lock: parked requests, jobs */
	RANK_SITE = 72,	      /* (m) sitekey.lock */
	RANK_OFFLINE = 73,    /*     offline.lock: a command's key services */
	RANK_KEYSERVICE = 75, /* (m) keyservice.lock: its request queue */
	RANK_DELETION = 77,   /*     deletion_queue.lock: what is being destroyed */
	RANK_RESERVE = 78,    /* (m) reserve.lock: unused secrets */
	RANK_JOURNAL = 80,    /*     journal.lock: the journal's file */
	RANK_CRYPTSETUP = 85, /* (m) around crypt_init() and crypt_free() */
	RANK_KEYTABLE = 90,   /* (m) keytable.lock */
	RANK_SECRET = 95,     /* (m) the arena of struct secret */
	RANK_TOOL = 96,	      /* (m) tool_run.c: what a command prints */
	RANK_AUDIT = 97,      /* (m) audit.c: the ring of lines */
};

struct mutex {
	pthread_mutex_t m;
	enum lock_rank rank;
};

struct rwlock {
	pthread_rwlock_t l;
	enum lock_rank rank;
};

#define MUTEX_INIT(r)                                                                    \
	{                                                                                \
		.m = PTHREAD_MUTEX_INITIALIZER, .rank = (r)                              \
	}

/* All calls abort on a pthread error: it can only be a bug of ours. */
void mutex_init(struct mutex *mu, enum lock_rank rank);
void mutex_fini(struct mutex *mu);
void mutex_lock(struct mutex *mu);
void mutex_unlock(struct mutex *mu);
/* Waits on cond; mu is held before and after. */
void mutex_wait(struct mutex *mu, pthread_cond_t *cond);

void rwlock_init(struct rwlock *rw, enum lock_rank rank);
void rwlock_fini(struct rwlock *rw);
void rwlock_rdlock(struct rwlock *rw);
void rwlock_wrlock(struct rwlock *rw);
void rwlock_unlock(struct rwlock *rw);

/* Asserts that the calling thread holds no ranked lock (before a reply, a wait, a key
 * fetch). */
void lock_assert_none(void);

static inline void cleanup_mutex(struct mutex **mu)
{
	mutex_unlock(*mu);
}

static inline void cleanup_rwlock(struct rwlock **rw)
{
	rwlock_unlock(*rw);
}

#define LOCK_CAT2(a, b) a##b
#define LOCK_CAT(a, b) LOCK_CAT2(a, b)

/* Holds the lock until the end of the enclosing scope. */
#define SCOPED_LOCK(mu)                                                                  \
	struct mutex *LOCK_CAT(scoped_, __LINE__)                                        \
		__attribute__((cleanup(cleanup_mutex), unused)) = (mu);                  \
	mutex_lock(LOCK_CAT(scoped_, __LINE__))
#define SCOPED_RDLOCK(rw)                                                                \
	struct rwlock *LOCK_CAT(scoped_, __LINE__)                                       \
		__attribute__((cleanup(cleanup_rwlock), unused)) = (rw);                 \
	rwlock_rdlock(LOCK_CAT(scoped_, __LINE__))
#define SCOPED_WRLOCK(rw)                                                                \
	struct rwlock *LOCK_CAT(scoped_, __LINE__)                                       \
		__attribute__((cleanup(cleanup_rwlock), unused)) = (rw);                 \
	rwlock_wrlock(LOCK_CAT(scoped_, __LINE__))

#endif
