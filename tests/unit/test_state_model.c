/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process serves random requests on the tables and is killed at any moment; the next one takes
 * over, executes again what was under way, as fs/takeover.c does, and goes on. What the kernel
 * would believe (lookups of each file, open handles) is kept in memory that all of them share, and
 * compared after each death.
 *
 * One request at a time; a request, an answer and what they change for the kernel are one store each.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/unit/state_rig.h"

enum {
	OP_LOOKUP,
	OP_LOOKUP_MANY,
	OP_LOOKUP_FAILS,
	OP_FORGET,
	OP_OPEN,
	OP_RELEASE,
	OP_RENAME,
	OPS
};
enum { OPEN_MAX_CNT = 40, FILES = SRIG_FILES + SRIG_FOLDERS };

/* What the kernel believes, and the request that it waits for (sent > settled). */
struct kernel {
	uint64_t nodeid[FILES], nlookup[FILES];
	uint64_t handle[OPEN_MAX_CNT];
	int handle_file[OPEN_MAX_CNT]; /* -1: closed */
	int op, file, parent, cnt, at;
	uint64_t n, arg;
	uint64_t sent, settled;
	uint32_t seed;
};

static struct {
	struct kernel kernels[2];
	_Atomic int now; /* which of them; a change is made in the other one */
	/* The answer: `answered` is stored last. */
	uint64_t out_nodeid, out_handle;
	_Atomic uint64_t answered;
	_Atomic uint64_t done, replayed; /* figures */
	_Atomic int failed;
} * shared;

static struct srig r;
static struct kernel *m; /* the present one */
static char names[FILES][8];

/* A death leaves the kernel as it was, or as it is after commit(). */
static void change(void)
{
	int other = !shared->now;

	shared->kernels[other] = shared->kernels[!other];
	m = &shared->kernels[other];
}

static void commit(void)
{
	atomic_store(&shared->now, (int)(m - shared->kernels));
}

static uint32_t rnd(uint32_t below)
{
	m->seed = m->seed * 1664525 + 1013904223;
	return (m->seed >> 8) % below;
}

static void give_up(int code)
{
	shared->failed = code;
	_exit(1);
}

/* The kernel's side: an answer arrives. What has no answer was settled when it was sent. */
static void settle(void)
{
	if (m->settled == m->sent || shared->answered != m->sent)
		return;
	change();
	if (m->op == OP_LOOKUP || m->op == OP_LOOKUP_MANY) {
		m->nodeid[m->file] = shared->out_nodeid;
		m->nlookup[m->file] += (uint64_t)m->cnt;
	} else if (m->op == OP_OPEN) {
		m->handle[m->at] = shared->out_handle;
		m->handle_file[m->at] = m->file;
	}
	m->settled = m->sent;
	commit();
	shared->done++;
}

/* Makes up the next request; what the kernel gives up with it, it gives up now. */
static void send_one(void)
{
	change();
	m->op = (int)rnd(OPS);
	m->file = (int)rnd(FILES);
	m->at = (int)rnd(OPEN_MAX_CNT);
	/* A folder that the kernel knows, not the file itself; -1: the root. */
	m->parent = m->file < SRIG_FILES ? SRIG_FILES + (int)rnd(SRIG_FOLDERS) : -1;
	if (m->parent >= 0 && !m->nlookup[m->parent])
		m->parent = -1;
	m->cnt = m->op == OP_LOOKUP_MANY ? 1 + (int)rnd(20) : 1;
	if ((m->op == OP_FORGET || m->op == OP_OPEN || m->op == OP_RENAME) &&
	    !m->nlookup[m->file])
		m->op = OP_LOOKUP;
	if (m->op == OP_OPEN && m->handle_file[m->at] >= 0)
		m->op = OP_RELEASE;
	if (m->op == OP_RELEASE && m->handle_file[m->at] < 0)
		m->op = OP_LOOKUP;
	if (m->op == OP_FORGET) {
		m->arg = m->nodeid[m->file];
		m->n = 1 + rnd((uint32_t)m->nlookup[m->file]);
		m->nlookup[m->file] -= m->n;
	} else if (m->op == OP_RELEASE) {
		m->arg = m->handle[m->at];
		m->handle_file[m->at] = -1;
	}
	m->sent++;
	commit();
}

static struct node *parent_node(void)
{
	struct node *n =
		m->parent < 0 ? state_root(r.st) : state_node(r.st, m->nodeid[m->parent]);

	if (!n)
		give_up(10);
	return n;
}

static void do_lookup(struct session_slot *slot)
{
	for (int i = 0; i < m->cnt; i++)
		shared->out_nodeid = srig_lookup(&r, names[m->file], parent_node(),
						 names[m->file], slot)
					     ->id;
}

static void do_open(struct session_slot *slot)
{
	struct node *n = state_node(r.st, m->nodeid[m->file]);

	if (!n)
		give_up(11);
	shared->out_handle = slot->handle && state_handle(r.st, slot->handle)
				     ? slot->handle
				     : srig_open(&r, n, slot);
}

static void do_rename(void)
{
	struct node *n = state_node(r.st, m->nodeid[m->file]);

	if (!n)
		give_up(12);
	state_node_moved(r.st, &(struct node_key){n->dev, n->ino, 0}, parent_node(),
			 names[m->file], CLASS_DERIVED);
}

static void execute(void)
{
	struct session_slot *slot = &r.s->slots[0];

	if (slot->unique != m->sent) { /* as fs/worker.c begins */
		slot->unique = 0;
		slot->mark_cnt = slot->forget_cnt = 0;
		slot->handle = 0;
		slot->unique = m->sent;
	}
	if (m->op == OP_LOOKUP || m->op == OP_LOOKUP_MANY)
		do_lookup(slot);
	else if (m->op == OP_FORGET && !slot->forget_cnt)
		state_node_forget(r.st, m->arg, m->n, slot);
	else if (m->op == OP_OPEN)
		do_open(slot);
	else if (m->op == OP_RELEASE)
		state_handle_del(r.st, m->arg);
	else if (m->op == OP_RENAME)
		do_rename();
	if (m->op == OP_LOOKUP_FAILS) {
		do_lookup(slot);
		state_node_unlookup(r.st, shared->out_nodeid, slot);
	}
	atomic_store(&shared->answered, m->sent);
}

static uint64_t lookups_of(int file)
{
	struct node *n = m->nlookup[file] ? state_node(r.st, m->nodeid[file]) : NULL;

	return n ? n->nlookup : 0;
}

static void compare(void)
{
	size_t nodes, handles, open_cnt = 0;

	for (int i = 0; i < FILES; i++) {
		if (lookups_of(i) != m->nlookup[i])
			give_up(20 + i);
	}
	for (int i = 0; i < OPEN_MAX_CNT; i++) {
		struct handle *h = state_handle(r.st, m->handle[i]);

		if (m->handle_file[i] < 0)
			continue;
		open_cnt++;
		if (!h || !srig_is_open(h->fd))
			give_up(40);
	}
	state_counts(r.st, &nodes, &handles);
	if (handles != open_cnt)
		give_up(41);
	if (r.s->head->dropped)
		give_up(42);
	/* No node but those that are known, open, or the folder of such a one. */
	for (uint32_t i = 1; i < r.s->head->node_high; i++) {
		const struct node *n = &r.s->nodes[i];

		if (n->id && !n->nlookup && !n->refs)
			give_up(43);
	}
}

static void __attribute__((noreturn)) serve(void)
{
	m = &shared->kernels[shared->now];
	if (state_new(&r.st, r.s, r.rootfd))
		give_up(1);
	settle();
	if (m->settled != m->sent) {
		if (r.s->slots[0].unique == m->sent && m->op != OP_FORGET)
			state_unmark(r.st, &r.s->slots[0]);
		shared->replayed++;
		execute();
		settle();
	}
	compare();
	for (;;) {
		send_one();
		execute();
		settle();
	}
}

/* Shares our descriptors, as a server does its keeper's. */
static pid_t start_process(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		serve();
	ck_assert_int_gt(pid, 0);
	return pid;
}

static void name_fds(void)
{
	int cnt = 0;

	for (int fd = 3; fd < SRIG_FDS_MAX; fd++) {
		if (srig_is_open(fd))
			r.s->head->keeper_fds[cnt++] = fd;
		ck_assert_int_le(cnt, SESSION_KEEPER_FDS_MAX);
	}
}

static void fill_model(uint32_t seed)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	m = shared->kernels;
	for (int i = 0; i < OPEN_MAX_CNT; i++)
		m->handle_file[i] = -1;
	for (int i = 0; i < FILES; i++)
		snprintf(names[i], sizeof(names[i]), i < SRIG_FILES ? "f%d" : "d%d",
			 i < SRIG_FILES ? i : i - SRIG_FILES);
	m->seed = seed;
}

START_TEST(killed)
{
	const char *more = getenv("VCF_ROUNDS");
	int rounds = more ? atoi(more) : 400;

	srig_start(&r);
	fill_model((uint32_t)time(NULL));
	state_leave(r.st);
	r.st = NULL;
	name_fds();
	for (int i = 0; i < rounds; i++) {
		struct timespec ts = {.tv_nsec = (long)(shared->done * 7919 % 1500000)};
		uint64_t done = shared->done;
		pid_t pid = start_process();

		/* Not before it has done something, then at once or a little later. */
		while (shared->done == done && !shared->failed)
			sched_yield();
		nanosleep(&ts, NULL);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		ck_assert_msg(!shared->failed, "death %d: failure %d, op %d", i,
			      shared->failed, m->op);
		ck_assert_int_eq(session_sweep(r.s), 0);
	}
	printf("state_model: %d deaths, %llu requests, %llu executed again\n", rounds,
	       (unsigned long long)shared->done, (unsigned long long)shared->replayed);
	ck_assert_int_eq(state_new(&r.st, r.s, r.rootfd), 0);
	srig_end(&r);
	munmap(shared, sizeof(*shared));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("state_model");
	TCase *t = tcase_create("model");

	tcase_add_test(t, killed);
	suite_add_tcase(s, t);
	return s;
}
