/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks on ranges of sectors of one image: shared for reads, exclusive for every write.
 * Fair: a waiter is overtaken by nobody whose range meets its own. A range is held across
 * disk I/O (it is no mutex: the mutex inside guards the list only). Thread-safe.
 */
#ifndef VCF_FS_RANGELOCK_H
#define VCF_FS_RANGELOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"
#include "util/lock.h"

struct range {
	uint64_t first, last; /* sectors, inclusive */
	bool exclusive;
	bool granted;	    /* (l) */
	struct range *next; /* (l) in order of arrival */
};

struct rangelock {
	struct mutex lock;
	pthread_cond_t cond;
	struct range *head, **tail; /* (l) */
	bool draining;		    /* (l) somebody waits for the list to be empty */
};

void rangelock_init(struct rangelock *rl);
void rangelock_fini(struct rangelock *rl);

/* Waits for the range; *r is the caller's memory (its stack) until released. */
void rangelock_take(struct rangelock *rl, struct range *r, uint64_t first, uint64_t last,
		    bool exclusive);
/* The same without waiting: false if somebody has, or waits for, a part of it. */
NODISCARD bool rangelock_try(struct rangelock *rl, struct range *r, uint64_t first,
			     uint64_t last, bool exclusive);
/* By any thread, not only the one that took it. */
void rangelock_release(struct rangelock *rl, struct range *r);

/*
 * Waits until nobody has a range. The caller keeps others from taking one meanwhile, and is the
 * only one that waits so.
 */
void rangelock_drain(struct rangelock *rl);

#endif
