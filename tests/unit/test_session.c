/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/session.h"
#include "tests/unit/unit.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWNESS 10
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOWNESS 10
#endif
#endif
#ifndef SLOWNESS
#define SLOWNESS 1
#endif

static struct session *make(void)
{
	struct session *s;

	ck_assert_int_eq(session_new(&s), 0);
	return s;
}

static int tables_of(const struct session *s)
{
	return s->head->fds[SESSION_FD_TABLES];
}

/*
 * Layout
 */

START_TEST(empty)
{
	struct session *s = make();

	ck_assert_uint_eq(s->head->version, SESSION_VERSION);
	ck_assert_int_ge(s->head->fds[SESSION_FD_TABLES], 0);
	ck_assert_int_ge(s->head->fds[SESSION_FD_BUFFERS], 0);
	for (int i = SESSION_FD_KEYS; i < SESSION_FD_CNT; i++)
		ck_assert_int_eq(s->head->fds[i], -1);
	for (int i = 0; i < SESSION_KEEPER_FDS_MAX; i++)
		ck_assert_int_eq(s->head->keeper_fds[i], -1);
	ck_assert_uint_eq(session_in_flight(s), 0);
	s->slots[0].busy = 2;
	s->slots[SESSION_SLOTS_MAX - 1].busy = 4;
	ck_assert_uint_eq(session_in_flight(s), 2);
	s->async[0].unique = 6;
	s->async[SESSION_ASYNC_MAX - 1].unique = 8;
	ck_assert_uint_eq(session_in_flight(s), 4);
	ck_assert_uint_eq(session_async_cnt(s), 2);
	session_free(s, true);
}
END_TEST

/* The last record of each table, and the end of the buffers: nothing overlaps, all is mapped. */
START_TEST(attach)
{
	struct session *s = make(), *other;

	s->slots[SESSION_SLOTS_MAX - 1].marks[SESSION_MARKS_MAX - 1] = 1;
	s->parked[SESSION_PARKED_MAX - 1].faults = 2;
	s->images[SESSION_IMAGES_MAX - 1].path[255] = 3;
	s->nodes[SESSION_NODES_MAX - 1].name[SESSION_NAME_MAX] = 4;
	s->handles[SESSION_HANDLES_MAX - 1].flags = 5;
	s->head->helpers[SESSION_HELPERS_MAX - 1].pid = 6;
	s->iostats[SESSION_IMAGES_MAX - 1].way[IOSTAT_WRITE].errors = 9;
	ck_assert_int_eq(session_attach(&other, tables_of(s)), 0);
	ck_assert_ptr_ne(other->head, s->head);
	ck_assert_uint_eq(
		other->slots[SESSION_SLOTS_MAX - 1].marks[SESSION_MARKS_MAX - 1], 1);
	ck_assert_uint_eq(other->parked[SESSION_PARKED_MAX - 1].faults, 2);
	ck_assert_int_eq(other->images[SESSION_IMAGES_MAX - 1].path[255], 3);
	ck_assert_int_eq(other->nodes[SESSION_NODES_MAX - 1].name[SESSION_NAME_MAX], 4);
	ck_assert_uint_eq(other->handles[SESSION_HANDLES_MAX - 1].flags, 5);
	ck_assert_int_eq(other->head->helpers[SESSION_HELPERS_MAX - 1].pid, 6);
	ck_assert_uint_eq(other->iostats[SESSION_IMAGES_MAX - 1].way[IOSTAT_WRITE].errors,
			  9);
	ck_assert_uint_eq(s->slots[0].unique + s->parked[0].unique + s->nodes[0].id +
				  s->handles[0].id + s->images[0].generation,
			  0);
	ck_assert_int_eq(session_map_buffers(s), 0);
	ck_assert_int_eq(session_map_buffers(other), 0);
	session_park_page(s, SESSION_PARK_PAGES - 1)[SESSION_PAGE_LEN - 1] = 7;
	session_buffer(s, SESSION_SLOTS_MAX - 1)[SESSION_BUFFER_LEN - 1] = 8;
	ck_assert_uint_eq(
		session_park_page(other, SESSION_PARK_PAGES - 1)[SESSION_PAGE_LEN - 1],
		7);
	ck_assert_uint_eq(
		session_buffer(other, SESSION_SLOTS_MAX - 1)[SESSION_BUFFER_LEN - 1], 8);
	ck_assert_uint_eq(session_park_page(other, 0)[0], 0);
	session_free(other, false);
	session_free(s, true);
}
END_TEST

static void bad_magic(struct session_head *h, int fd)
{
	(void)fd;
	h->magic ^= 1;
}

static void next_version(struct session_head *h, int fd)
{
	(void)fd;
	h->version++;
}

static void last_version(struct session_head *h, int fd)
{
	(void)fd;
	h->version--;
}

static void other_slot(struct session_head *h, int fd)
{
	(void)fd;
	h->lens[1] += 8;
}

static void other_node(struct session_head *h, int fd)
{
	(void)fd;
	h->lens[5] -= 8;
}

static void other_handle(struct session_head *h, int fd)
{
	(void)fd;
	h->lens[6] = 0;
}

static void resize(int fd, off_t by)
{
	off_t end = lseek(fd, 0, SEEK_END);

	ck_assert_int_eq(ftruncate(fd, end + by), 0);
}

static void cut(struct session_head *h, int fd)
{
	(void)h;
	resize(fd, -SESSION_PAGE_LEN);
}

static void grown(struct session_head *h, int fd)
{
	(void)h;
	resize(fd, 1);
}

static const struct {
	const char *name;
	void (*spoil)(struct session_head *h, int fd);
} refused_rows[] = {
	{"magic", bad_magic},
	{"a later version", next_version},
	{"an earlier version", last_version},
	{"slots", other_slot},
	{"nodes", other_node},
	{"handles", other_handle},
	{"cut off", cut},
	{"too long", grown},
};

START_TEST(refused)
{
	struct session *s = make(), *other = NULL;

	refused_rows[_i].spoil(s->head, tables_of(s));
	ck_assert_msg(session_attach(&other, tables_of(s)) == -EPROTO, "%s",
		      refused_rows[_i].name);
	ck_assert_ptr_null(other);
	session_free(s, true);
}
END_TEST

START_TEST(refused_fd)
{
	struct session *other = NULL;
	int fd = unit_tmpfile();

	ck_assert_int_eq(session_attach(&other, -1), -EBADF);
	ck_assert_int_eq(session_attach(&other, fd), -EPROTO);
	close(fd);
}
END_TEST

/*
 * Transactions: a death after any of its stores, in whatever order they were made.
 */

enum {
	CHANGE_LOOKUPS = 1,
	CHANGE_MARKS = 2,
	CHANGE_FORGETS = 4,
	WITH_SLOT = 8,
	ENDED = 16
};

static void change(struct node *n, struct session_slot *slot, int what)
{
	if (what & CHANGE_LOOKUPS)
		n->nlookup = 1000;
	if (what & CHANGE_MARKS)
		slot->mark_cnt = 448;
	if (what & CHANGE_FORGETS)
		slot->forget_cnt = 77;
}

START_TEST(txn)
{
	struct session *s = make();
	struct node *n = &s->nodes[SESSION_NODES_MAX - 1];
	struct session_slot *slot = &s->slots[SESSION_SLOTS_MAX - 1];
	struct session_slot *noted = _i & WITH_SLOT ? slot : NULL;
	/* Who gives no slot changes none. */
	int what = noted ? _i : _i & ~(CHANGE_MARKS | CHANGE_FORGETS);

	n->nlookup = 5;
	slot->mark_cnt = 6;
	slot->forget_cnt = 7;
	session_txn_begin(s, n, noted);
	change(n, slot, what);
	if (_i & ENDED)
		session_txn_end(s);
	for (int again = 0; again < 2; again++) {
		session_txn_undo(s);
		if (!(_i & ENDED))
			what = 0;
		ck_assert_uint_eq(s->head->txn.active, 0);
		ck_assert_uint_eq(n->nlookup, what & CHANGE_LOOKUPS ? 1000 : 5);
		ck_assert_uint_eq(slot->mark_cnt, what & CHANGE_MARKS ? 448 : 6);
		ck_assert_uint_eq(slot->forget_cnt, what & CHANGE_FORGETS ? 77 : 7);
	}
	session_free(s, true);
}
END_TEST

/* Noted, but the note was not made valid yet: it is about another node than the last. */
START_TEST(txn_not_begun)
{
	struct session *s = make();

	s->nodes[3].nlookup = 9;
	s->head->txn = (struct session_txn){.node = 3, .slot = 0, .old_nlookup = 1};
	session_txn_undo(s);
	ck_assert_uint_eq(s->nodes[3].nlookup, 9);
	session_free(s, true);
}
END_TEST

START_TEST(txn_damaged)
{
	struct session *s = make();

	s->head->txn = (struct session_txn){.active = 1, .node = 0xffffffff};
	session_txn_undo(s);
	s->head->txn = (struct session_txn){
		.active = 1, .node = 1, .slot = 1u << 31, .old_nlookup = 4};
	session_txn_undo(s);
	ck_assert_uint_eq(s->nodes[1].nlookup, 4);
	ck_assert_uint_eq(s->head->txn.active, 0);
	session_free(s, true);
}
END_TEST

/*
 * Descriptors. The sweep closes this process's own: it is made in a child.
 */

/* Where named descriptors lie: both sides of a word's bounds, and far apart. */
static const int named[] = {20, 62, 63, 64, 65, 127, 128, 129, 190, 192, 700, 1000, 1001};
static const int unnamed[] = {21, 61, 66, 126, 130, 191, 193, 699, 701, 999, 1002, 1020};

static void open_at(int at)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || dup3(fd, at, O_CLOEXEC) != at)
		_exit(100);
	close(fd);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Each kind of place that names a descriptor has one or more of `named`. */
static void name_all(struct session *s)
{
	struct session_head *h = s->head;

	h->node_high = 3;
	s->nodes[0] = (struct node){.id = 1, .fd = named[0]};
	s->nodes[1] = (struct node){.id = 0, .fd = unnamed[0]};
	s->nodes[2] = (struct node){.id = 3, .fd = named[1]};
	s->nodes[3] = (struct node){.id = 4, .fd = unnamed[1]}; /* beyond node_high */
	h->handle_high = 3;
	s->handles[0] = (struct handle){.id = 1, .fd = named[2], .direct_fd = named[3]};
	s->handles[1] =
		(struct handle){.id = 0, .fd = unnamed[2], .direct_fd = unnamed[3]};
	s->handles[2] = (struct handle){.id = 3, .fd = named[4], .direct_fd = -1};
	s->images[SESSION_IMAGES_MAX - 1].generation = 1;
	s->images[SESSION_IMAGES_MAX - 1].sentinel_fd = named[5];
	s->images[0].generation = 1;
	s->images[0].sentinel_fd = -1;
	s->images[1].sentinel_fd = unnamed[4]; /* generation 0: free */
	h->helpers[0].pid = 1;
	h->helpers[0].to = named[6];
	h->helpers[0].from = named[7];
	h->helpers[1].to = h->helpers[1].from = unnamed[5]; /* pid 0: free */
	h->fds[SESSION_FD_KEYS] = named[8];
	h->fds[SESSION_FD_CNT - 1] = named[9];
	h->keeper_fds[0] = named[10];
	h->keeper_fds[SESSION_KEEPER_FDS_MAX - 1] = named[11];
	h->keeper_fds[1] = named[12];
}

/* 0, or what went wrong. */
static int sweep_and_look(struct session *s)
{
	if (session_sweep(s))
		return 1;
	for (int i = 0; i < ROWS(named); i++) {
		if (!is_open(named[i]))
			return 10 + i;
	}
	for (int fd = 3; fd < 1024; fd++) {
		bool keep = fd == s->head->fds[0] || fd == s->head->fds[1];

		for (int i = 0; i < ROWS(named); i++)
			keep |= named[i] == fd;
		if (is_open(fd) != keep)
			return 2;
	}
	return is_open(0) && is_open(1) && is_open(2) ? 0 : 3;
}

static int in_child(int (*fn)(struct session *s), struct session *s)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (!pid)
		_exit(fn(s));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int sweep_some(struct session *s)
{
	for (int i = 0; i < ROWS(named); i++)
		open_at(named[i]);
	for (int i = 0; i < ROWS(unnamed); i++)
		open_at(unnamed[i]);
	name_all(s);
	return sweep_and_look(s);
}

/*
 * A request that was read and not begun
 */

static const struct {
	const char *what;
	uint32_t len;
	uint64_t unique, begun;
	int tid;
	bool want;
} unbegun_rows[] = {
	{"none was ever read", 0, 0, 0, 7, false},
	{"read, not begun", 40, 12, 10, 7, true},
	{"read again, not begun", 40, 12 | 1ull << 63, 10, 7, true},
	{"begun", 40, 12, 12, 7, false},
	{"begun when it came again", 40, 12 | 1ull << 63, 12, 7, false},
	{"taken out of the buffer", 0, 12, 10, 7, false},
	{"of a thread that is not there", 40, 12, 10, 0, false},
};

START_TEST(unbegun)
{
	struct session *s = make();
	struct fuse_in_header *in;

	ck_assert_int_eq(session_map_buffers(s), 0);
	in = (void *)(session_buffer(s, 3) + SESSION_PAGE_LEN - SESSION_REQ_HEAD_LEN);
	in->len = unbegun_rows[_i].len;
	in->unique = unbegun_rows[_i].unique;
	s->slots[3].unique = unbegun_rows[_i].begun;
	s->slots[3].tid = unbegun_rows[_i].tid;
	ck_assert_msg(session_has_unbegun(s) == unbegun_rows[_i].want, "%s",
		      unbegun_rows[_i].what);
	session_free(s, true);
}
END_TEST

START_TEST(sweep)
{
	struct session *s = make();

	ck_assert_int_eq(in_child(sweep_some, s), 0);
	session_free(s, true);
}
END_TEST

/* As high as the limit allows; those above and below the highest named one go. */
static int sweep_sparse(struct session *s)
{
	struct rlimit lim;
	int top, bad;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return 101;
	lim.rlim_cur = lim.rlim_max < 1u << 20 ? lim.rlim_max : 1u << 20;
	if (setrlimit(RLIMIT_NOFILE, &lim))
		return 102;
	top = (int)lim.rlim_cur - 1;
	open_at(top);
	open_at(top - 1);
	open_at(top - 2);
	open_at(top - 70);
	s->head->keeper_fds[3] = top - 1;
	s->head->keeper_fds[4] = 0x7fffffff;
	s->head->keeper_fds[5] = -77;
	if (session_sweep(s))
		return 1;
	bad = !is_open(top - 1);
	bad |= is_open(top) << 1 | is_open(top - 2) << 2 | is_open(top - 70) << 3;
	return bad;
}

START_TEST(sweep_far)
{
	struct session *s = make();

	ck_assert_int_eq(in_child(sweep_sparse, s), 0);
	session_free(s, true);
}
END_TEST

static int sweep_damaged(struct session *s)
{
	open_at(30);
	s->head->node_high = 0xffffffff;
	s->head->handle_high = 0xffffffff;
	s->nodes[SESSION_NODES_MAX - 1] = (struct node){.id = 1, .fd = 30};
	return session_sweep(s) || !is_open(30);
}

/* The keeper must not die of what a server wrote. */
START_TEST(sweep_of_damaged)
{
	struct session *s = make();

	ck_assert_int_eq(in_child(sweep_damaged, s), 0);
	session_free(s, true);
}
END_TEST

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static const struct {
	const char *name;
	uint32_t nodes, handles;
	double limit_ms; /* ten times what a slow machine took */
} size_rows[] = {
	{"small", 1000, 100, 5},
	{"large", 100000, 10000, 100},
};

static int size_row;

/* The best of three: the machine may have other work. */
static int sweep_timed(struct session *s)
{
	double best = 1e9;

	for (int i = 0; i < 3; i++) {
		double t = now_ms();

		if (session_sweep(s))
			return 1;
		t = now_ms() - t;
		best = t < best ? t : best;
	}
	printf("sweep, %s tables: %.2f ms\n", size_rows[size_row].name, best);
	fflush(stdout);
	return best > size_rows[size_row].limit_ms * SLOWNESS;
}

START_TEST(sweep_time)
{
	struct session *s = make();

	size_row = _i;
	s->head->node_high = size_rows[_i].nodes;
	for (uint32_t i = 0; i < size_rows[_i].nodes; i++) {
		s->nodes[i].fd = (int32_t)(1000 + i + i / 10); /* some are not named */
		s->nodes[i].id = i + 1;
	}
	s->head->handle_high = size_rows[_i].handles;
	for (uint32_t i = 0; i < size_rows[_i].handles; i++) {
		s->handles[i].fd = (int32_t)(1000000 + i);
		s->handles[i].direct_fd = -1;
		s->handles[i].id = i + 1;
	}
	ck_assert_int_eq(in_child(sweep_timed, s), 0);
	session_free(s, true);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("session");
	TCase *t = tcase_create("session");

	tcase_add_test(t, empty);
	tcase_add_test(t, attach);
	tcase_add_loop_test(t, refused, 0, ROWS(refused_rows));
	tcase_add_test(t, refused_fd);
	tcase_add_loop_test(t, txn, 0, 2 * ENDED);
	tcase_add_test(t, txn_not_begun);
	tcase_add_test(t, txn_damaged);
	tcase_add_loop_test(t, unbegun, 0, ROWS(unbegun_rows));
	tcase_add_test(t, sweep);
	tcase_add_test(t, sweep_far);
	tcase_add_test(t, sweep_of_damaged);
	tcase_add_loop_test(t, sweep_time, 0, ROWS(size_rows));
	suite_add_tcase(s, t);
	return s;
}
