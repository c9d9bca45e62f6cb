/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list holds all ranges, granted and waiting, in order of arrival. A range is granted
 * once no earlier one conflicts with it, whether that one is granted or still waits: so
 * nobody overtakes, and a writer among readers does not starve. Whoever releases grants;
 * a waiter only looks at its own flag.
 */
#include "fs/rangelock.h"

#include <stddef.h>

void rangelock_init(struct rangelock *rl)
{
	mutex_init(&rl->lock, RANK_RANGE);
	pthread_cond_init(&rl->cond, NULL);
	rl->head = NULL;
	rl->tail = &rl->head;
	rl->draining = false;
}

void rangelock_fini(struct rangelock *rl)
{
	pthread_cond_destroy(&rl->cond);
	mutex_fini(&rl->lock);
}

static bool conflict(const struct range *a, const struct range *b)
{
	return (a->exclusive || b->exclusive) && a->first <= b->last &&
	       b->first <= a->last;
}

static bool may_have(const struct rangelock *rl, const struct range *r)
{
	for (const struct range *e = rl->head; e && e != r; e = e->next) {
		if (conflict(e, r))
			return false;
	}
	return true;
}

static void append(struct rangelock *rl, struct range *r)
{
	*rl->tail = r;
	rl->tail = &r->next;
}

void rangelock_take(struct rangelock *rl, struct range *r, uint64_t first, uint64_t last,
		    bool exclusive)
{
	SCOPED_LOCK(&rl->lock);

	*r = (struct range){.first = first, .last = last, .exclusive = exclusive};
	append(rl, r);
	r->granted = may_have(rl, r);
	while (!r->granted)
		mutex_wait(&rl->lock, &rl->cond);
}

bool rangelock_try(struct rangelock *rl, struct range *r, uint64_t first, uint64_t last,
		   bool exclusive)
{
	SCOPED_LOCK(&rl->lock);

	*r = (struct range){.first = first, .last = last, .exclusive = exclusive};
	r->granted = may_have(rl, r);
	if (r->granted)
		append(rl, r);
	return r->granted;
}

void rangelock_drain(struct rangelock *rl)
{
	SCOPED_LOCK(&rl->lock);

	rl->draining = true;
	while (rl->head)
		mutex_wait(&rl->lock, &rl->cond);
	rl->draining = false;
}

static void unlink_range(struct rangelock *rl, struct range *r)
{
	struct range **at = &rl->head;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	if (rl->tail == &r->next)
		rl->tail = at;
}

void rangelock_release(struct rangelock *rl, struct range *r)
{
	SCOPED_LOCK(&rl->lock);
	bool wake;

	unlink_range(rl, r);
	wake = rl->draining && !rl->head;
	for (struct range *e = rl->head; e; e = e->next) {
		if (e->granted || !conflict(e, r) || !may_have(rl, e))
			continue;
		e->granted = true;
		wake = true;
	}
	/* They wait for different things on one condition. */
	if (wake)
		pthread_cond_broadcast(&rl->cond);
}
