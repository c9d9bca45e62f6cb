/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ranked locks. In debug builds each thread keeps the stack of ranks it holds; a lock
 * must rank higher than every lock held. Locks may be released in any order.
 */
#include "util/lock.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build-config.h"

#if VCF_DEBUG_LOCKS
enum { HELD_MAX = 16 };
static _Thread_local enum lock_rank held[HELD_MAX];
static _Thread_local int held_cnt;

static void rank_push(enum lock_rank rank)
{
	for (int i = 0; i < held_cnt; i++) {
		if (held[i] >= rank) {
			fprintf(stderr, "lock order: rank %d taken while %d is held\n",
				rank, held[i]);
			abort();
		}
	}
	assert(held_cnt < HELD_MAX);
	held[held_cnt++] = rank;
}

static void rank_pop(enum lock_rank rank)
{
	for (int i = held_cnt - 1; i >= 0; i--) {
		if (held[i] != rank)
			continue;
		memmove(&held[i], &held[i + 1],
			sizeof(held[0]) * (size_t)(held_cnt - 1 - i));
		held_cnt--;
		return;
	}
	fprintf(stderr, "lock order: rank %d released but not held\n", rank);
	abort();
}

void lock_assert_none(void)
{
	if (!held_cnt)
		return;
	fprintf(stderr, "lock order: rank %d held where no lock may be\n", held[0]);
	abort();
}
#else
static void rank_push(enum lock_rank rank)
{
	(void)rank;
}

static void rank_pop(enum lock_rank rank)
{
	(void)rank;
}

void lock_assert_none(void)
{
}
#endif

static void must(int rc, const char *what)
{
	if (!rc)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(rc));
	abort();
}

void mutex_init(struct mutex *mu, enum lock_rank rank)
{
	mu->rank = rank;
	must(pthread_mutex_init(&mu->m, NULL), "pthread_mutex_init");
}

void mutex_fini(struct mutex *mu)
{
	must(pthread_mutex_destroy(&mu->m), "pthread_mutex_destroy");
}

void mutex_lock(struct mutex *mu)
{
	rank_push(mu->rank);
	must(pthread_mutex_lock(&mu->m), "pthread_mutex_lock");
}

void mutex_unlock(struct mutex *mu)
{
	/* Before the unlock: afterwards the lock may be another thread's to free. */
	rank_pop(mu->rank);
	must(pthread_mutex_unlock(&mu->m), "pthread_mutex_unlock");
}

void mutex_wait(struct mutex *mu, pthread_cond_t *cond)
{
	must(pthread_cond_wait(cond, &mu->m), "pthread_cond_wait");
}

void rwlock_init(struct rwlock *rw, enum lock_rank rank)
{
	pthread_rwlockattr_t attr;

	rw->rank = rank;
	must(pthread_rwlockattr_init(&attr), "pthread_rwlockattr_init");
	/* glibc's default lets a stream of readers starve a writer: reads of a busy image
	 * would hold off its growth for ever. Nobody takes a lock twice (ranks). */
	must(pthread_rwlockattr_setkind_np(&attr,
					   PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP),
	     "pthread_rwlockattr_setkind_np");
	must(pthread_rwlock_init(&rw->l, &attr), "pthread_rwlock_init");
	must(pthread_rwlockattr_destroy(&attr), "pthread_rwlockattr_destroy");
}

void rwlock_fini(struct rwlock *rw)
{
	must(pthread_rwlock_destroy(&rw->l), "pthread_rwlock_destroy");
}

void rwlock_rdlock(struct rwlock *rw)
{
	rank_push(rw->rank);
	must(pthread_rwlock_rdlock(&rw->l), "pthread_rwlock_rdlock");
}

void rwlock_wrlock(struct rwlock *rw)
{
	rank_push(rw->rank);
	must(pthread_rwlock_wrlock(&rw->l), "pthread_rwlock_wrlock");
}

void rwlock_unlock(struct rwlock *rw)
{
	rank_pop(rw->rank);
	must(pthread_rwlock_unlock(&rw->l), "pthread_rwlock_unlock");
}
