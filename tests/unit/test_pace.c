/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/pace.h"
#include "fs/server.h"
#include "fs/turns.h"
#include "tests/unit/unit.h"

static const struct pace_limits lim = {.workers = 16, .cpus = 4};

/* The same load so many ticks in a row. */
static const struct width_row {
	const char *what;
	unsigned int from, ticks;
	struct pace_load load;
	unsigned int want;
} widths[] = {
	{"nothing to do", 2, 1000, {false, 2, 0, 3, 0}, 2},
	{"one is busy, one reads", 2, 1000, {true, 1, 50, 50, 50}, 2},
	{"all are busy, nobody waits", 2, 1000, {false, 0, 50, 50, 10}, 2},
	{"busy with the processor", 2, 1, {true, 0, 400, 9, 190}, 4},
	{"no more of these than processors", 2, 50, {true, 0, 400, 9, 300}, 4},
	{"waiting for the processor", 2, 50, {true, 0, 400, 9, 10}, 4},
	{"busy, and each sleeps for a lock", 2, 50, {true, 0, 8, 12, 320}, 4},
	{"two of them, each sleeps for a lock", 2, 1, {true, 0, 8, 12, 170}, 4},
	{"those who are there already stay", 9, 50, {true, 0, 400, 9, 250}, 9},
	{"unless they compute", 9, 50, {true, 0, 8, 12, 320}, 6},
	{"down to the processors", 9, 1000, {true, 0, 8, 12, 320}, 4},
	{"also if somebody reads", 9, 50, {true, 1, 8, 12, 320}, 6},
	{"busy with the disk", 2, 1, {true, 0, 20, 20, 60}, 4},
	{"busy with the disk, later", 2, 2, {true, 0, 20, 10, 60}, 8},
	{"busy with the disk, all", 2, 50, {true, 0, 20, 20, 150}, 16},
	{"a fast disk", 4, 50, {true, 0, 20, 20, 190}, 16},
	{"a faster one than we are", 4, 50, {true, 0, 20, 20, 210}, 4},
	{"they hang", 2, 3, {true, 0, 0, 0, 0}, 16},
	{"one worker alone may hang as well", 1, 4, {true, 0, 0, 0, 0}, 16},
	{"too many, but only just", 9, PACE_SPARE_TICKS - 1, {false, 3, 50, 50, 9}, 9},
	{"too many", 9, PACE_SPARE_TICKS, {false, 3, 50, 50, 9}, 8},
	{"far too many", 9, 1000, {false, 3, 50, 50, 9}, 2},
	{"one alone has no spare", 1, 1000, {false, 1, 50, 50, 90}, 1},
};

START_TEST(width)
{
	const struct width_row *row = &widths[_i];
	struct pace_width p = {.level = row->from};
	unsigned int got = 0;

	for (unsigned int i = 0; i < row->ticks; i++)
		got = pace_width(&p, &lim, &row->load);
	ck_assert_msg(got == row->want, "%s: %u instead of %u", row->what, got,
		      row->want);
}
END_TEST

/* Few workers are configured: no more than those. */
START_TEST(few_workers)
{
	const struct pace_limits few = {.workers = 3, .cpus = 64};
	const struct pace_load load[] = {{true, 0, 10, 10, 0}, {true, 0, 10, 0, 200}};
	struct pace_width p = {.level = 2};

	for (int i = 0; i < 10; i++)
		ck_assert_uint_eq(pace_width(&p, &few, &load[i % 2]), 3);
}
END_TEST

struct rig {
	struct pace_lone p;
	uint64_t now_ns, cnt;
};

/* Samples of requests that take each_ns; all answers together. */
static int feed(struct rig *r, unsigned int samples, uint64_t each_ns, bool calm)
{
	int all = 0;

	while (samples--) {
		r->now_ns += PACE_SAMPLE_CNT * each_ns;
		r->cnt += PACE_SAMPLE_CNT;
		all |= pace_sample(&r->p, r->now_ns, r->cnt, calm);
	}
	return all;
}

enum {
	WAIT = 25000,
	FAST = 9000,
	SLOW = PACE_SLOW_NS,
	JUDGED = PACE_SETTLE_SAMPLES + PACE_WINDOW_SAMPLES
};

static struct rig entered(void)
{
	struct rig r = {.now_ns = 12345678};

	ck_assert_int_eq(feed(&r, 1, WAIT, true), 0);
	ck_assert_int_eq(feed(&r, PACE_CALM_SAMPLES - 2, WAIT, true), 0);
	ck_assert_int_eq(feed(&r, 2, WAIT, true) & ~PACE_LOOK, PACE_ENTER);
	ck_assert(r.p.on);
	return r;
}

START_TEST(enters_and_stays)
{
	struct rig r = entered();

	ck_assert_int_eq(feed(&r, PACE_LOOK_SAMPLES - 1, FAST, true) & ~PACE_LOOK, 0);
	ck_assert_int_eq(feed(&r, 10 * PACE_LOOK_SAMPLES, FAST, true), PACE_LOOK);
	ck_assert(r.p.on);
}
END_TEST

/* What never enters. */
static const struct off_row {
	const char *what;
	unsigned int good; /* samples, then one that is not */
	uint64_t each_ns;
	bool calm;
} offs[] = {
	{"requests queue", PACE_CALM_SAMPLES - 2, WAIT, false},
	{"they come rarely", PACE_CALM_SAMPLES - 2, SLOW, true},
	{"always queue", 0, WAIT, false},
};

START_TEST(stays_off)
{
	const struct off_row *row = &offs[_i];
	struct rig r = {.now_ns = 1};

	for (int i = 0; i < 50; i++) {
		ck_assert_msg(feed(&r, row->good, WAIT, true) == 0, "%s", row->what);
		ck_assert_msg(feed(&r, 1, row->each_ns, row->calm) == 0, "%s", row->what);
	}
}
END_TEST

START_TEST(leaves_when_requests_queue)
{
	struct rig r = entered();

	/* One may be chance. */
	ck_assert_int_eq(feed(&r, 1, FAST, false) & PACE_LEAVE, 0);
	ck_assert_int_eq(feed(&r, 1, FAST, true) & PACE_LEAVE, 0);
	ck_assert_int_eq(feed(&r, 2, FAST, false) & PACE_LEAVE, PACE_LEAVE);
	/* Not again at once. */
	ck_assert_int_eq(feed(&r, PACE_CALM_SAMPLES, WAIT, true), 0);
	ck_assert_int_ne(feed(&r,
			      PACE_LEFT_NS / WAIT / PACE_SAMPLE_CNT + PACE_CALM_SAMPLES,
			      WAIT, true) &
				 PACE_ENTER,
			 0);
}
END_TEST

START_TEST(leaves_when_rare)
{
	struct rig r = entered();

	ck_assert_int_eq(feed(&r, 1, SLOW, true), PACE_LEAVE);
	ck_assert_int_eq(feed(&r, PACE_CALM_SAMPLES, WAIT, true) & PACE_ENTER,
			 PACE_ENTER);
}
END_TEST

/* The pauses double; one success makes them short again. */
START_TEST(leaves_when_it_does_not_pay)
{
	struct rig r = {.now_ns = 1};
	uint64_t pause = PACE_PAUSE_NS;

	for (int i = 0; i < 8; i++) {
		uint64_t left;

		while (!(feed(&r, 1, WAIT, true) & PACE_ENTER))
			continue;
		ck_assert_int_eq(
			feed(&r, JUDGED - 1, WAIT - WAIT / 20, true) & PACE_LEAVE, 0);
		ck_assert_int_eq(feed(&r, 1, WAIT, true) & PACE_LEAVE, PACE_LEAVE);
		left = r.now_ns;
		ck_assert_uint_eq(r.p.not_before_ns - left, pause);
		pause = 2 * pause < PACE_PAUSE_MAX_NS ? 2 * pause : PACE_PAUSE_MAX_NS;
	}
	while (!(feed(&r, 1, WAIT, true) & PACE_ENTER))
		continue;
	feed(&r, JUDGED, FAST, true);
	ck_assert_int_eq(feed(&r, PACE_WINDOW_SAMPLES, 2 * WAIT, true) & PACE_LEAVE,
			 PACE_LEAVE);
	ck_assert_uint_le(r.p.not_before_ns - r.now_ns, PACE_PAUSE_NS);
}
END_TEST

/* While the gain is not there, the caller is looked for at each sample. */
START_TEST(looks_for_the_caller)
{
	struct rig r = entered();

	ck_assert_int_eq(feed(&r, 1, WAIT, true), PACE_LOOK);
	ck_assert_int_eq(feed(&r, 1, WAIT, true), PACE_LOOK);
	ck_assert_int_eq(feed(&r, 1, FAST, true), 0);
	ck_assert_int_eq(feed(&r, 1, WAIT, true), PACE_LOOK);
}
END_TEST

START_TEST(given_up)
{
	struct rig r = entered();

	pace_given_up(&r.p, r.now_ns, false);
	ck_assert(!r.p.on && r.p.not_before_ns <= r.now_ns);
	r = entered();
	pace_given_up(&r.p, r.now_ns, true);
	ck_assert(!r.p.on);
	ck_assert_uint_eq(r.p.not_before_ns, r.now_ns + PACE_PAUSE_NS);
	pace_given_up(&r.p, r.now_ns + 1, true); /* OFF already */
	ck_assert_uint_eq(r.p.not_before_ns, r.now_ns + PACE_PAUSE_NS);
}
END_TEST

/* No request since: nothing is divided by it. */
START_TEST(no_requests)
{
	struct rig r = entered();

	ck_assert_int_eq(pace_sample(&r.p, r.now_ns + 1, r.cnt, true), 0);
	ck_assert_int_eq(pace_sample(&r.p, r.now_ns + 1, r.cnt, false), 0);
}
END_TEST

/* /proc/TID/stat with `cpu' in its 39th field. */
START_TEST(parse_cpu)
{
	static const struct {
		const char *name;
		int cpu;
	} rows[] = {{"(fio)", 1}, {"(a b) (c", 63}, {"())", 0}, {"(x) R 1 2 3)", 511}};
	char text[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int len = snprintf(text, sizeof(text), "17 %s) S", rows[i].name);

		for (int field = 4; field < 39; field++)
			len += snprintf(text + len, sizeof(text) - (size_t)len, " %d",
					field + 1000);
		snprintf(text + len, sizeof(text) - (size_t)len, " %d 0 0 77\n",
			 rows[i].cpu);
		ck_assert_int_eq(turns_parse_cpu(text), rows[i].cpu);
		text[len] = '\0';
		ck_assert_int_eq(turns_parse_cpu(text), -1);
	}
	ck_assert_int_eq(turns_parse_cpu(""), -1);
}
END_TEST

static void *comes_again(void *arg)
{
	turns_leave(arg, false);
	turns_enter(arg);
	return NULL;
}

/* Two are busy, two more than wanted read, and a signal ends their read(2): somebody has to watch. */
START_TEST(watched_when_the_last_reader_parks)
{
	static struct config cfg;
	struct session_slot slots[4] = {0};
	struct worker workers[4] = {0};
	struct server sv = {
		.cfg = &cfg, .workers = workers, .worker_cnt = 4, .devfd = -1};
	pthread_t threads[2];

	ck_assert_int_eq(turns_new(&sv.turns, &sv), 0);
	for (int i = 0; i < 4; i++) {
		workers[i].sv = &sv;
		workers[i].slot = &slots[i];
		ck_assert_int_eq(xts_new(&workers[i].io.xts), 0);
		sv.turns->of[i].reading = true;
	}
	turns_leave(&workers[0], true);
	turns_leave(&workers[1], true);
	ck_assert(!sv.turns->watching);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(
			pthread_create(&threads[i], NULL, comes_again, &workers[2 + i]),
			0);
	for (int i = 0; i < 2000 && !sv.turns->watching; i++)
		usleep(1000);
	ck_assert(sv.turns->watching);
	ck_assert_uint_eq(sv.turns->serving, PACE_BASE);
	sv.stopping = true;
	for (int i = 0; i < 2; i++)
		sem_post(&sv.turns->parked);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 4; i++)
		xts_free(workers[i].io.xts);
	turns_free(sv.turns);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("pace");
	TCase *tc = tcase_create("pace");

	tcase_add_loop_test(tc, width, 0, sizeof(widths) / sizeof(widths[0]));
	tcase_add_test(tc, few_workers);
	tcase_add_test(tc, enters_and_stays);
	tcase_add_loop_test(tc, stays_off, 0, sizeof(offs) / sizeof(offs[0]));
	tcase_add_test(tc, leaves_when_requests_queue);
	tcase_add_test(tc, leaves_when_rare);
	tcase_add_test(tc, leaves_when_it_does_not_pay);
	tcase_add_test(tc, looks_for_the_caller);
	tcase_add_test(tc, given_up);
	tcase_add_test(tc, no_requests);
	tcase_add_test(tc, parse_cpu);
	tcase_add_test(tc, watched_when_the_last_reader_parks);
	suite_add_tcase(s, tc);
	return s;
}
