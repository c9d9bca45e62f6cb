/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Order: each row is a line of arrivals on one lock; `at_once` says who gets through
 * while the earlier ones hold on. Then the holders release one by one and everyone must
 * get through. Stress: writers and readers on plain memory, of which TSan is the judge.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/rangelock.h"
#include "tests/unit/unit.h"

enum { LINE = 5 };

struct arrival {
	uint64_t first, last;
	bool exclusive;
	bool at_once;
};

static const struct arrival lines[][LINE] = {
	/* readers share; a writer waits for them; a reader behind the writer waits too */
	{{0, 9, false, true},
	 {5, 15, false, true},
	 {5, 5, true, false},
	 {5, 5, false, false},
	 {6, 9, false, true}},
	/* writers apart from each other; touching ends do not meet, shared ones do */
	{{0, 3, true, true},
	 {4, 7, true, true},
	 {3, 3, false, false},
	 {8, UINT64_MAX, true, true},
	 {7, 8, true, false}},
	/* nobody overtakes a waiter that meets its range, though the range is free */
	{{0, 0, true, true},
	 {0, 4, true, false},
	 {4, 4, true, false},
	 {4, 4, false, false},
	 {5, 5, true, true}},
	/* a whole-image range */
	{{0, UINT64_MAX, false, true},
	 {7, 7, false, true},
	 {0, UINT64_MAX, true, false},
	 {3, 3, false, false},
	 {9, 9, true, false}},
};

struct waiter {
	struct rangelock *rl;
	struct range r;
	const struct arrival *a;
	pthread_t thread;
	_Atomic bool granted;
};

static void *take(void *arg)
{
	struct waiter *w = arg;

	rangelock_take(w->rl, &w->r, w->a->first, w->a->last, w->a->exclusive);
	atomic_store(&w->granted, true);
	return NULL;
}

static int queued(struct rangelock *rl)
{
	int n = 0;

	SCOPED_LOCK(&rl->lock);
	for (const struct range *r = rl->head; r; r = r->next)
		n++;
	return n;
}

/* Starts the next of the line and waits until it stands in the queue. */
static void arrive(struct waiter *w, int already)
{
	ck_assert_int_eq(pthread_create(&w->thread, NULL, take, w), 0);
	while (queued(w->rl) <= already)
		usleep(100);
}

static bool flag(struct rangelock *rl, const struct range *r)
{
	SCOPED_LOCK(&rl->lock);
	return r->granted;
}

START_TEST(order)
{
	struct rangelock rl;
	struct waiter w[LINE] = {0};

	rangelock_init(&rl);
	for (int i = 0; i < LINE; i++) {
		w[i].rl = &rl;
		w[i].a = &lines[_i][i];
		arrive(&w[i], i);
	}
	for (int i = 0; i < LINE; i++)
		ck_assert(flag(&rl, &w[i].r) == lines[_i][i].at_once);
	for (int i = 0; i < LINE; i++) {
		ck_assert_int_eq(pthread_join(w[i].thread, NULL), 0);
		ck_assert(atomic_load(&w[i].granted));
		rangelock_release(&rl, &w[i].r);
	}
	ck_assert_int_eq(queued(&rl), 0);
	rangelock_fini(&rl);
}
END_TEST

/* The same lines, without waiting: who would wait is refused, and leaves nothing behind. */
START_TEST(at_once)
{
	struct range r[LINE];
	struct rangelock rl;
	bool has[LINE];
	int held = 0;

	rangelock_init(&rl);
	for (int i = 0; i < LINE; i++) {
		const struct arrival *a = &lines[_i][i];
		bool meets = false;

		for (int j = 0; j < i; j++)
			meets = meets ||
				(has[j] && (a->exclusive || lines[_i][j].exclusive) &&
				 a->first <= r[j].last && r[j].first <= a->last);
		has[i] = rangelock_try(&rl, &r[i], a->first, a->last, a->exclusive);
		ck_assert(has[i] == !meets);
		held += has[i];
		ck_assert_int_eq(queued(&rl), held);
	}
	for (int i = 0; i < LINE; i++) {
		if (has[i])
			rangelock_release(&rl, &r[i]);
	}
	ck_assert_int_eq(queued(&rl), 0);
	rangelock_fini(&rl);
}
END_TEST

static void *drain(void *arg)
{
	struct waiter *w = arg;

	rangelock_drain(w->rl);
	atomic_store(&w->granted, true);
	return NULL;
}

/* Nor does anybody get past one who waits, whether that one has its range or not. */
START_TEST(waiter_counts)
{
	const struct arrival a = {3, 5, true, false};
	struct rangelock rl;
	struct waiter w = {.rl = &rl, .a = &a};
	struct range r, s;

	rangelock_init(&rl);
	ck_assert(rangelock_try(&rl, &r, 5, 5, false));
	arrive(&w, 1);
	ck_assert(!rangelock_try(&rl, &s, 3, 3, false));
	ck_assert(rangelock_try(&rl, &s, 5 + 1, 9, true));
	rangelock_release(&rl, &r);
	ck_assert_int_eq(pthread_join(w.thread, NULL), 0);
	rangelock_release(&rl, &w.r);
	rangelock_release(&rl, &s);
	rangelock_fini(&rl);
}
END_TEST

START_TEST(drained)
{
	struct rangelock rl;
	struct waiter w = {.rl = &rl};
	struct range r, s;

	rangelock_init(&rl);
	rangelock_drain(&rl); /* of nothing */
	ck_assert(rangelock_try(&rl, &r, 0, 0, false));
	ck_assert(rangelock_try(&rl, &s, 0, 5, false));
	ck_assert_int_eq(pthread_create(&w.thread, NULL, drain, &w), 0);
	usleep(5000);
	rangelock_release(&rl, &r);
	usleep(5000);
	ck_assert(!atomic_load(&w.granted));
	rangelock_release(&rl, &s);
	ck_assert_int_eq(pthread_join(w.thread, NULL), 0);
	rangelock_fini(&rl);
}
END_TEST

enum { CELLS = 16, THREADS = 6, ROUNDS = 3000 };

struct arena {
	struct rangelock rl;
	unsigned int cell[CELLS]; /* guarded by the range that holds its index */
	_Atomic unsigned int writes;
};

struct actor {
	struct arena *a;
	unsigned int seed;
	pthread_t thread;
	bool torn;
};

static void write_cells(struct arena *a, unsigned int first, unsigned int last)
{
	struct range r;

	rangelock_take(&a->rl, &r, first, last, true);
	for (unsigned int i = first; i <= last; i++)
		a->cell[i]++;
	atomic_fetch_add(&a->writes, last - first + 1);
	rangelock_release(&a->rl, &r);
}

static bool read_cells(struct arena *a, unsigned int first, unsigned int last)
{
	unsigned int sum = 0, again = 0;
	struct range r;

	rangelock_take(&a->rl, &r, first, last, false);
	for (unsigned int i = first; i <= last; i++)
		sum += a->cell[i];
	for (unsigned int i = first; i <= last; i++)
		again += a->cell[i];
	rangelock_release(&a->rl, &r);
	return sum == again;
}

static void *act(void *arg)
{
	struct actor *me = arg;

	for (int i = 0; i < ROUNDS; i++) {
		unsigned int first = (unsigned int)rand_r(&me->seed) % CELLS;
		unsigned int last =
			first + (unsigned int)rand_r(&me->seed) % (CELLS - first);

		if (rand_r(&me->seed) % 2)
			write_cells(me->a, first, last);
		else if (!read_cells(me->a, first, last))
			me->torn = true;
	}
	return NULL;
}

START_TEST(stress)
{
	static struct arena a;
	struct actor actors[THREADS] = {0};
	unsigned int sum = 0;

	rangelock_init(&a.rl);
	for (unsigned int i = 0; i < THREADS; i++) {
		actors[i] = (struct actor){.a = &a, .seed = i};
		ck_assert_int_eq(pthread_create(&actors[i].thread, NULL, act, &actors[i]),
				 0);
	}
	for (int i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(actors[i].thread, NULL), 0);
		ck_assert(!actors[i].torn);
	}
	for (int i = 0; i < CELLS; i++)
		sum += a.cell[i];
	ck_assert_uint_eq(sum, atomic_load(&a.writes));
	rangelock_fini(&a.rl);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("rangelock");
	TCase *t = tcase_create("rangelock");

	tcase_add_loop_test(t, order, 0, ROWS(lines));
	tcase_add_loop_test(t, at_once, 0, ROWS(lines));
	tcase_add_test(t, waiter_counts);
	tcase_add_test(t, drained);
	tcase_add_test(t, stress);
	suite_add_tcase(s, t);
	return s;
}
