/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "fs/heartbeat.h"
#include "fs/session.h"
#include "tests/unit/unit.h"
#include "util/clock.h"

enum { NOW = 100000, LIMIT = 2000, THREADS = 3 };

static bool held(int tid)
{
	return tid >= 100; /* as the rows say it */
}

/* Threads: {busy, began, tid}. */
static const struct row {
	const char *what;
	struct {
		uint64_t busy, began;
		int tid;
	} threads[THREADS];
	bool alive;
	/* Of an asynchronous transfer, and of what its completer does, 0: none. */
	struct {
		uint64_t began, completer;
	} async;
} rows[] = {
	{"idle", {{0, 0, 1}, {0, 5, 2}}, true, {0, 0}},
	{"young", {{7, NOW - LIMIT + 1, 1}, {8, NOW, 2}}, true, {0, 0}},
	{"late", {{7, NOW - LIMIT, 1}, {8, NOW, 2}}, false, {0, 0}},
	{"late, the disk", {{7, NOW - LIMIT, 101}}, true, {0, 0}},
	{"late, and waits for one whom the disk holds",
	 {{7, NOW - 9000, 1}, {8, NOW - 5000, 102}, {9, NOW - 4000, 3}},
	 true,
	 {0, 0}},
	{"late, and a young one is held by the disk",
	 {{7, NOW - 9000, 1}, {8, NOW - 10, 102}},
	 false,
	 {0, 0}},
	{"begun after we looked", {{7, NOW + 50, 1}}, true, {0, 0}},
	{"late, and waits for a transfer", {{7, NOW - LIMIT, 1}}, true, {NOW - LIMIT, 0}},
	{"late, with a young transfer", {{7, NOW - LIMIT, 1}}, false, {NOW - 1, 0}},
	{"a transfer is late", {{0, 0, 1}}, true, {NOW - 9000, 0}},
	{"late, and so is the completer",
	 {{7, NOW - 9000, 1}},
	 false,
	 {NOW - 9000, NOW - LIMIT}},
	{"a young completer", {{7, NOW - 9000, 1}}, true, {NOW - 9000, NOW - 1}},
};

START_TEST(alive)
{
	const struct row *row = &rows[_i];
	struct session *s = NULL;

	ck_assert_int_eq(session_new(&s), 0);
	for (int i = 0; i < THREADS; i++) {
		struct session_slot *slot = &s->slots[i * 30];

		slot->busy = row->threads[i].busy;
		slot->began_ms = row->threads[i].began;
		slot->tid = row->threads[i].tid;
	}
	s->async[77].unique = row->async.began;
	s->async[77].began_ms = row->async.began;
	s->slots[SESSION_COMPLETER_SLOT].busy = row->async.completer;
	s->slots[SESSION_COMPLETER_SLOT].began_ms = row->async.completer;
	ck_assert_msg(heartbeat_alive(s, NOW, LIMIT, held) == row->alive, "%s",
		      row->what);
	session_free(s, true);
}
END_TEST

/* The thread beats; then a request that is late silences it. */
START_TEST(beats)
{
	struct heartbeat_watch w = {.checked_ms = clock_now_ms()};
	struct session *s = NULL;
	struct heartbeat *hb;

	ck_assert_int_eq(session_new(&s), 0);
	ck_assert_int_eq(heartbeat_start(&hb, s, -1, 1), 0);
	for (int i = 0; i < 4; i++) {
		usleep(100000);
		ck_assert_uint_lt(heartbeat_silent_ms(&w, s, 100), 400);
	}
	s->slots[1].began_ms = 1;
	s->slots[1].tid = getpid();
	s->slots[1].busy = 1;
	usleep(300000); /* it may be about to beat */
	heartbeat_silent_ms(&w, s, 400);
	usleep(300000);
	ck_assert_uint_ge(heartbeat_silent_ms(&w, s, 400), 300);
	/* The keeper was stopped for longer than a tick: that counts as one. */
	w.silent_ms = 0;
	w.checked_ms = clock_now_ms() - 60000;
	ck_assert_uint_eq(heartbeat_silent_ms(&w, s, 400), 400);
	heartbeat_stop(hb);
	session_free(s, true);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("heartbeat");
	TCase *tc = tcase_create("heartbeat");

	tcase_add_loop_test(tc, alive, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_test(tc, beats);
	suite_add_tcase(s, tc);
	return s;
}
