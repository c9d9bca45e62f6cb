/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server is killed and another one takes its session over; no mount. A small keeper, forked
 * before there are threads, clones the servers as fs/serve.c does and sweeps between them; the test
 * has the session mapped as well, and can write into it what a death would have left there.
 *
 * Before a kill nothing lies unread in the socket, so that each request is in a slot, parked, or
 * answered.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/async.h"
#include "fs/history.h"
#include "tests/protocol/rig.h"
#include "util/clock.h"
#include "util/log.h"

enum { STOPPED = 'd', DATA_LEN = 10000 };

const int unit_bare = 1; /* the servers' processes make their own arenas */

static struct rig r;
static struct session *s;
static int devfd, keeper_sock;
static pid_t keeper;

/*
 * The keeper's process
 */

static void tell_serves(void *arg)
{
	(void)arg;
	history_serves(s);
}

static void *serve(void *arg)
{
	char journal[600], site[600];
	struct server_params p = {
		.cfg = r.cfg,
		.rootfd = r.rootfd,
		.devfd = devfd,
		.stream = true,
		.journal_path = journal,
		.site_path = site,
		.session = s,
	};
	struct server *sv;

	(void)arg;
	snprintf(journal, sizeof(journal), "%s/state/journal", r.dir);
	snprintf(site, sizeof(site), "%s/state/site", r.dir);
	if (server_new(&sv, &p))
		_exit(2);
	if (server_start(sv, tell_serves, NULL))
		_exit(3);
	server_wait(sv);
	server_free(sv);
	_exit(0);
}

static pid_t start_server(void)
{
	pthread_t thread;
	pid_t pid;

	s->head->generation++;
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid)
		return pid;
	if (pthread_create(&thread, NULL, serve, NULL))
		_exit(4);
	pthread_join(thread, NULL);
	_exit(5);
}

static void name_fds(void)
{
	int cnt = 0;

	for (int fd = 3; fd < 1024; fd++) {
		if (fcntl(fd, F_GETFD) < 0 || fd == s->head->fds[0] ||
		    fd == s->head->fds[1])
			continue;
		if (cnt == SESSION_KEEPER_FDS_MAX)
			_exit(6);
		s->head->keeper_fds[cnt++] = fd;
	}
}

static void answer(int sock, int value)
{
	unsigned char byte = (unsigned char)value;

	if (write(sock, &byte, 1) != 1)
		_exit(7);
}

/*
 * A helper that was being started has copies of the server's descriptors until it executes its
 * program; where a keeper starts helpers, nobody dies between.
 */
static void wait_unlocked(void)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/state/journal", r.dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
		rig_sleep_ms(1);
	close(fd);
}

static void __attribute__((noreturn)) keep(int sock)
{
	pid_t pid = -1;
	char order;
	int status;

	name_fds();
	while (read(sock, &order, 1) == 1) {
		if (order == 'g') {
			pid = start_server();
			continue;
		}
		if (order == 'k')
			kill(pid, SIGKILL);
		if (waitpid(pid, &status, 0) != pid)
			_exit(8);
		if (order == 'k' && session_sweep(s))
			_exit(9);
		wait_unlocked();
		answer(sock, order == 'k'
				     ? STOPPED
				     : (WIFEXITED(status) ? WEXITSTATUS(status) : 99));
	}
	_exit(0);
}

/*
 * The test's side
 */

static int order(char what)
{
	unsigned char byte = 0;

	ck_assert_int_eq(write(keeper_sock, &what, 1), 1);
	if (what == 'g')
		return 0;
	ck_assert_int_eq(read(keeper_sock, &byte, 1), 1);
	return byte;
}

static void wait_serving(void)
{
	for (int i = 0; i < 10000; i++) {
		if (s->head->generation && s->head->serving == s->head->generation)
			return;
		rig_sleep_ms(1);
	}
	ck_abort_msg("generation %u does not serve", s->head->generation);
}

/* An answer may be there before its request has left the slot; a stream cannot be asked. */
static void wait_idle(void)
{
	for (int i = 0; i < 10000 && session_in_flight(s); i++)
		rig_sleep_ms(1);
}

static void kill_server(void)
{
	wait_idle();
	ck_assert_int_eq(order('k'), STOPPED);
}

static void next_server(void)
{
	uint32_t before = s->head->generation;

	order('g');
	while (s->head->generation == before)
		rig_sleep_ms(1);
	wait_serving();
}

static void up(void)
{
	struct fuse_init_out out;
	int pair[2], orders[2];

	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(session_new(&s), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, orders), 0);
	devfd = pair[0];
	fflush(NULL);
	keeper = fork();
	ck_assert_int_ge(keeper, 0);
	if (!keeper) {
		close(pair[1]);
		close(orders[0]);
		keep(orders[1]);
	}
	close(pair[0]);
	close(orders[1]);
	keeper_sock = orders[0];
	ck_assert_int_eq(session_map_buffers(s), 0);
	r.c = fc_new(pair[1]);
	order('g');
	ck_assert_int_eq(fc_init(r.c, RIG_INIT_FLAGS, &out), 0);
	wait_serving();
}

/* No answer came twice, no record was lost, and the last server ends well. */
static void stop(void)
{
	ck_assert_uint_eq(fc_strays(r.c), 0);
	ck_assert_uint_eq(s->head->dropped, 0);
	fc_close(r.c);
	ck_assert_int_eq(order('w'), 0);
	fc_free(r.c);
	r.c = NULL;
	close(keeper_sock);
	ck_assert_int_eq(waitpid(keeper, NULL, 0), keeper);
	session_free(s, true);
}

static void down(void)
{
	stop();
	rig_free(&r);
}

static void start(void)
{
	rig_new(&r, NULL);
	up();
}

static size_t parked_cnt(void)
{
	size_t cnt = 0;

	for (int i = 0; i < SESSION_PARKED_MAX; i++)
		cnt += s->parked[i].unique != 0;
	return cnt;
}

static void wait_parked(size_t cnt)
{
	for (int i = 0; i < 10000 && (parked_cnt() != cnt || session_in_flight(s)); i++)
		rig_sleep_ms(1);
	ck_assert_uint_eq(parked_cnt(), cnt);
}

static struct node *node_of(uint64_t nodeid)
{
	return &s->nodes[(uint32_t)nodeid - 1];
}

static unsigned int handle_cnt(void)
{
	unsigned int cnt = 0;

	for (uint32_t i = 0; i < s->head->handle_high; i++)
		cnt += s->handles[i].id != 0;
	return cnt;
}

static uint64_t ino_of(const char *name)
{
	struct stat sb;

	ck_assert_int_eq(lstat(rig_backing(&r, name), &sb), 0);
	return sb.st_ino;
}

static bool exists(const char *name)
{
	struct stat sb;

	return lstat(rig_backing(&r, name), &sb) == 0;
}

/* The request lies in the slot as if it had just been read; the slot belongs to it. */
static struct session_slot *place(unsigned int at, const struct fc_msg *m,
				  uint64_t unique)
{
	unsigned char *req =
		session_buffer(s, at) + SESSION_PAGE_LEN - SESSION_REQ_HEAD_LEN;
	struct fuse_in_header in = {
		.len = sizeof(in),
		.opcode = m->opcode,
		.unique = unique,
		.nodeid = m->nodeid,
		.uid = getuid(),
		.gid = getgid(),
	};
	struct session_slot *slot = &s->slots[at];

	for (int i = 0; i < m->cnt; i++) {
		memcpy(req + in.len, m->part[i].iov_base, m->part[i].iov_len);
		in.len += (uint32_t)m->part[i].iov_len;
	}
	memcpy(req, &in, sizeof(in));
	memset(slot, 0, sizeof(*slot));
	slot->unique = unique;
	slot->busy = unique;
	return slot;
}

static uint64_t create(const char *name, uint64_t *fh)
{
	struct fuse_open_out open;
	uint64_t nodeid;

	ck_assert_int_eq(fc_create(r.c, ROOT, name, O_RDWR, &nodeid, &open), 0);
	*fh = open.fh;
	return nodeid;
}

static void check_data(uint64_t nodeid, uint64_t fh)
{
	static unsigned char want[DATA_LEN], got[DATA_LEN];

	rig_pattern(want, DATA_LEN, 1);
	ck_assert_int_eq(fc_read(r.c, nodeid, fh, 0, got, DATA_LEN), DATA_LEN);
	ck_assert(!memcmp(want, got, DATA_LEN));
}

/* What was open stays open, under the same numbers, and INIT is not asked for. */
START_TEST(handles_go_on)
{
	static unsigned char data[DATA_LEN];
	uint64_t disk, empty, dir, fh;
	struct fuse_open_out open, again, folder;
	struct fc_msg m;
	char c;

	rig_pattern(data, DATA_LEN, 1);
	start();
	disk = rig_image(&r, ROOT, "disk", DATA_LEN);
	ck_assert_int_eq(fc_open(r.c, disk, O_RDWR, &open), 0);
	empty = create("empty", &fh);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "d", &dir), 0);
	fc_msg_open(&m, FUSE_OPENDIR, dir, 0);
	ck_assert_int_eq(fc_do(r.c, &m, &folder, sizeof(folder), NULL), 0);
	for (int i = 0; i < 3; i++) {
		kill_server();
		next_server();
		check_data(disk, open.fh);
		ck_assert_int_eq(fc_write(r.c, disk, open.fh, DATA_LEN - 1, "x", 1), 0);
		ck_assert_int_eq(fc_read(r.c, disk, open.fh, DATA_LEN - 1, &c, 1), 1);
		ck_assert_int_eq(c, 'x');
		ck_assert_int_eq(fc_open(r.c, disk, O_RDONLY, &again), 0);
		ck_assert_int_eq(fc_release(r.c, disk, again.fh), 0);
		ck_assert_int_eq(fc_write(r.c, disk, open.fh, 0, data, DATA_LEN), 0);
		fc_msg_fsync(&m, disk, open.fh, false);
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), 0);
		ck_assert_int_eq(fc_read(r.c, empty, fh, 0, &c, 1), i ? 1 : 0);
		ck_assert_int_eq(fc_write(r.c, empty, fh, 0, "y", 1), 0);
		ck_assert_uint_eq(handle_cnt(), 3);
	}
	ck_assert_uint_eq(s->head->generation, 4);
	ck_assert_int_eq(rig_asked(&r), 2); /* the keys were taken over */
	ck_assert_int_eq(fc_release(r.c, disk, open.fh), 0);
	ck_assert_int_eq(fc_release(r.c, empty, fh), 0);
	fc_msg_release(&m, FUSE_RELEASEDIR, dir, folder.fh);
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), 0);
	ck_assert_uint_eq(handle_cnt(), 0);
	down();
}
END_TEST

/* What waits for a key when the server dies is answered once, by a later one. */
START_TEST(parked)
{
	enum { WRITES = 5 };
	uint64_t nodeid[WRITES], fh[WRITES];
	struct fc_call *call[WRITES], *opened;
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	struct fc_msg m;
	char name[16], buf[8];

	rig_new(&r, NULL);
	up();
	rig_image(&r, ROOT, "disk", DATA_LEN);
	stop();
	up();
	rig_gate(&r, "hold");
	ck_assert_int_eq(fc_lookup(r.c, ROOT, "disk", &entry), 0);
	fc_msg_open(&m, FUSE_OPEN, entry.nodeid, O_RDWR);
	opened = fc_send(r.c, &m);
	for (int i = 0; i < WRITES; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		nodeid[i] = create(name, &fh[i]);
		fc_msg_write(&m, nodeid[i], fh[i], 0, name, 3);
		call[i] = fc_send(r.c, &m);
	}
	for (int i = 0; i <= _i; i++) { /* more than one may die over them */
		wait_parked(WRITES + 1);
		kill_server();
		next_server();
		wait_parked(WRITES + 1);
		ck_assert_int_eq(fc_wait(opened, 0), FC_NO_ANSWER);
	}
	rig_gate(&r, NULL);
	ck_assert_int_eq(fc_end(opened, &open, sizeof(open), NULL), 0);
	check_data(entry.nodeid, open.fh);
	for (int i = 0; i < WRITES; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ck_assert_int_eq(fc_end(call[i], NULL, 0, NULL), 0);
		ck_assert_int_eq(fc_read(r.c, nodeid[i], fh[i], 0, buf, sizeof(buf)), 3);
		ck_assert(!memcmp(buf, name, 3));
	}
	wait_parked(0);
	ck_assert_uint_eq(handle_cnt(), WRITES + 1);
	down();
}
END_TEST

/* The kernel sends again what is parked already: one request, one answer, to the new number. */
START_TEST(resent)
{
	uint64_t nodeid, fh;
	struct fc_call *call;
	struct fc_msg m;

	start();
	rig_gate(&r, "hold");
	nodeid = create("disk", &fh);
	fc_msg_write(&m, nodeid, fh, 0, "first", 5);
	call = fc_send(r.c, &m);
	wait_parked(1);
	kill_server();
	next_server();
	wait_parked(1);
	fc_resend(call, &m);
	for (int i = 0; i < 5000; i++) {
		bool adopted = false;

		for (int k = 0; k < SESSION_PARKED_MAX; k++)
			adopted |= s->parked[k].unique == fc_unique(call);
		if (adopted)
			break;
		rig_sleep_ms(1);
	}
	wait_parked(1);
	if (_i) { /* the one that adopted it dies as well */
		kill_server();
		next_server();
		wait_parked(1);
	}
	rig_gate(&r, NULL);
	ck_assert_int_eq(fc_end(call, NULL, 0, NULL), 0);
	ck_assert_uint_eq(s->head->resent, 0);
	/* One that nobody knows is executed. */
	fc_msg_getattr(&m, ROOT);
	call = fc_expect(r.c);
	fc_resend(call, &m);
	ck_assert_int_eq(fc_end(call, NULL, 0, NULL), 0);
	ck_assert_uint_eq(s->head->resent, 1);
	down();
}
END_TEST

/*
 * FORGET: nobody waits for it, so the slot alone knows.
 */

static uint64_t looked_up(const char *name, int cnt)
{
	struct fuse_entry_out entry;

	for (int i = 0; i < cnt; i++)
		ck_assert_int_eq(fc_lookup(r.c, ROOT, name, &entry), 0);
	return entry.nodeid;
}

static void make_file(const char *name)
{
	int fd = open(rig_backing(&r, name), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	close(fd);
}

START_TEST(forget)
{
	bool done = _i & 1, known = _i & 2;
	struct session_slot *slot;
	struct fc_msg m;
	uint64_t nodeid;

	start();
	make_file("f");
	nodeid = looked_up("f", 5);
	kill_server();
	fc_msg_forget(&m, nodeid, 2);
	slot = place(2, &m, fc_next_unique(r.c));
	slot->forget_cnt = done;
	if (!known)
		slot->unique = 1234; /* what the slot says is about an earlier one */
	next_server();
	ck_assert_uint_eq(node_of(nodeid)->nlookup, done && known ? 5 : 3);
	ck_assert_uint_eq(s->head->replayed, 1);
	/* It is gone from the slot: not executed by a third one. */
	kill_server();
	next_server();
	ck_assert_uint_eq(node_of(nodeid)->nlookup, done && known ? 5 : 3);
	ck_assert_uint_eq(s->head->replayed, 1);
	down();
}
END_TEST

START_TEST(batch_forget)
{
	struct fuse_forget_one ones[3];
	struct fuse_batch_forget_in batch = {.count = 3};
	struct fc_msg m;
	char name[8];

	start();
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
		ones[i].nodeid = looked_up(name, 4);
		ones[i].nlookup = 1;
	}
	kill_server();
	fc_msg_node(&m, FUSE_BATCH_FORGET, 0);
	m.part[m.cnt++] = (struct iovec){&batch, sizeof(batch)};
	m.part[m.cnt++] = (struct iovec){ones, sizeof(ones)};
	place(1, &m, fc_next_unique(r.c))->forget_cnt = (uint32_t)_i;
	next_server();
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(node_of(ones[i].nodeid)->nlookup, i < _i ? 4 : 3);
	down();
}
END_TEST

/* A transaction was under way as well: it is put back, and what it belongs to done again. */
START_TEST(forget_half_done)
{
	struct session_slot *slot;
	struct fc_msg m;
	uint64_t nodeid;

	start();
	make_file("f");
	nodeid = looked_up("f", 5);
	kill_server();
	fc_msg_forget(&m, nodeid, 2);
	slot = place(2, &m, fc_next_unique(r.c));
	session_txn_begin(s, node_of(nodeid), slot);
	node_of(nodeid)->nlookup -= 2;
	slot->forget_cnt = 1;
	next_server();
	ck_assert_uint_eq(node_of(nodeid)->nlookup, 3);
	down();
}
END_TEST

/* Lookups that were counted for an answer which never went out are counted once in the end. */
START_TEST(lookup_marked)
{
	struct session_slot *slot;
	struct fuse_entry_out entry;
	struct fc_call *call;
	struct fc_msg m;
	uint64_t nodeid;

	start();
	make_file("f");
	nodeid = looked_up("f", 5);
	kill_server();
	fc_msg_name(&m, FUSE_LOOKUP, ROOT, "f");
	call = fc_expect(r.c);
	slot = place(0, &m, fc_unique(call));
	slot->marks[0] = slot->marks[1] = nodeid;
	slot->mark_cnt = 2;
	next_server();
	ck_assert_int_eq(fc_end(call, &entry, sizeof(entry), NULL), 0);
	ck_assert_uint_eq(entry.nodeid, nodeid);
	ck_assert_uint_eq(node_of(nodeid)->nlookup, 5 - 2 + 1);
	down();
}
END_TEST

/* The file was open already when the server died: the answer names that handle. */
START_TEST(open_marked)
{
	struct session_slot *slot;
	struct fuse_open_out open, again;
	struct fc_call *call;
	struct fc_msg m;
	uint64_t disk;

	start();
	disk = rig_image(&r, ROOT, "disk", DATA_LEN);
	ck_assert_int_eq(fc_open(r.c, disk, O_RDWR, &open), 0);
	kill_server();
	fc_msg_open(&m, FUSE_OPEN, disk, O_RDWR);
	call = fc_expect(r.c);
	slot = place(3, &m, fc_unique(call));
	slot->handle =
		open.fh + (_i ? 1ull << 32 : 0); /* or one that was not published */
	next_server();
	ck_assert_int_eq(fc_end(call, &again, sizeof(again), NULL), 0);
	ck_assert((again.fh == open.fh) == !_i);
	ck_assert_uint_eq(handle_cnt(), _i ? 2 : 1);
	check_data(disk, again.fh);
	down();
}
END_TEST

/*
 * What must not be done twice. Files in the backing folder before: a, b (other inodes), folder d.
 */
struct twice {
	const char *name;
	void (*build)(struct fc_msg *m);
	const char *moved, *replaced; /* whose inodes the slot has noted */
	bool intent;
	int want;
	const char *there, *gone; /* afterwards */
	bool later;		  /* what is there was born before the request came */
};

static void build_create(struct fc_msg *m)
{
	fc_msg_create(m, ROOT, "a", O_RDWR | O_EXCL);
}

static void build_create_new(struct fc_msg *m)
{
	fc_msg_create(m, ROOT, "new", O_RDWR | O_EXCL);
}

static void build_mkdir(struct fc_msg *m)
{
	fc_msg_mkdir(m, ROOT, "d");
}

static void build_mknod(struct fc_msg *m)
{
	fc_msg_mknod(m, ROOT, "a", S_IFREG | 0644, 0);
}

static void build_symlink(struct fc_msg *m)
{
	fc_msg_symlink(m, ROOT, "a", "target");
}

static void build_unlink(struct fc_msg *m)
{
	fc_msg_name(m, FUSE_UNLINK, ROOT, "gone");
}

static void build_unlink_a(struct fc_msg *m)
{
	fc_msg_name(m, FUSE_UNLINK, ROOT, "a");
}

static void build_rmdir(struct fc_msg *m)
{
	fc_msg_name(m, FUSE_RMDIR, ROOT, "gone");
}

static void build_rename(struct fc_msg *m)
{
	fc_msg_rename(m, ROOT, "gone", ROOT, "a", 0);
}

static void build_rename_a(struct fc_msg *m)
{
	fc_msg_rename(m, ROOT, "a", ROOT, "new", 0);
}

static void build_exchange(struct fc_msg *m)
{
	fc_msg_rename(m, ROOT, "a", ROOT, "b", RENAME_EXCHANGE);
}

static const struct twice twice[] = {
	{"CREATE O_EXCL", build_create, .want = -EEXIST, .there = "a"},
	{"CREATE O_EXCL, done", build_create, .intent = true, .there = "a"},
	{"CREATE O_EXCL, intended", build_create_new, .intent = true, .there = "new"},
	{"CREATE O_EXCL, late", build_create, .intent = true, .later = true,
	 .want = -EEXIST, .there = "a"},
	{"MKDIR, late", build_mkdir, .intent = true, .later = true, .want = -EEXIST,
	 .there = "d"},
	{"SYMLINK, late", build_symlink, .intent = true, .later = true, .want = -EEXIST,
	 .there = "a"},
	{"MKDIR", build_mkdir, .want = -EEXIST, .there = "d"},
	{"MKDIR, done", build_mkdir, .intent = true, .there = "d"},
	{"MKNOD", build_mknod, .want = -EEXIST, .there = "a"},
	{"MKNOD, done", build_mknod, .intent = true, .there = "a"},
	{"SYMLINK", build_symlink, .want = -EEXIST, .there = "a"},
	{"SYMLINK, done", build_symlink, .intent = true, .there = "a"},
	{"UNLINK", build_unlink, .want = -ENOENT, .gone = "gone"},
	{"UNLINK, done", build_unlink, .intent = true, .gone = "gone"},
	{"UNLINK, intended", build_unlink_a, .intent = true, .gone = "a"},
	{"RMDIR", build_rmdir, .want = -ENOENT, .gone = "gone"},
	{"RMDIR, done", build_rmdir, .intent = true, .gone = "gone"},
	{"RENAME", build_rename, .want = -ENOENT, .there = "a"},
	{"RENAME, done", build_rename, "a", NULL, true, 0, "a", "gone"},
	{"RENAME, another one's", build_rename, "b", NULL, true, -ENOENT, "a", "gone"},
	{"RENAME, intended", build_rename_a, "a", NULL, true, 0, "new", "a"},
};

static void make_files(void)
{
	make_file("a");
	make_file("b");
	ck_assert_int_eq(mkdir(rig_backing(&r, "d"), 0755), 0);
}

static void note_inodes(struct session_slot *slot, const char *moved,
			const char *replaced)
{
	struct stat sb;

	ck_assert_int_eq(lstat(rig_backing(&r, "."), &sb), 0);
	slot->made_dev = slot->gone_dev = sb.st_dev;
	slot->made_ino = moved ? ino_of(moved) : 0;
	slot->gone_ino = replaced ? ino_of(replaced) : 0;
}

START_TEST(not_twice)
{
	const struct twice *t = &twice[_i];
	struct session_slot *slot;
	struct fc_call *call;
	struct fc_msg m;
	uint64_t began;
	int err;

	start();
	began = clock_coarse_ns();
	make_files();
	kill_server();
	t->build(&m);
	call = fc_expect(r.c);
	slot = place(0, &m, fc_unique(call));
	slot->intent = t->intent;
	if (t->later) {
		usleep(20000); /* more than a tick of the coarse clock */
		slot->intent_ns = clock_coarse_ns();
	} else if (t->intent) {
		slot->intent_ns = began;
	}
	note_inodes(slot, t->moved, t->replaced);
	next_server();
	err = fc_end(call, NULL, 0, NULL);
	ck_assert_msg(err == t->want, "%s: %d", t->name, err);
	ck_assert_msg(!t->there || exists(t->there), "%s", t->name);
	ck_assert_msg(!t->gone || !exists(t->gone), "%s", t->name);
	down();
}
END_TEST

/* Two names change places: done twice is not done at all. */
START_TEST(exchange)
{
	struct session_slot *slot;
	struct fc_call *call;
	struct fc_msg m;
	uint64_t a, b;
	bool done = _i;

	start();
	make_files();
	a = ino_of("a");
	b = ino_of("b");
	kill_server();
	build_exchange(&m);
	call = fc_expect(r.c);
	slot = place(0, &m, fc_unique(call));
	note_inodes(slot, "a", "b");
	slot->intent = true;
	if (done)
		ck_assert_int_eq(renameat2(r.rootfd, "a", r.rootfd, "b", RENAME_EXCHANGE),
				 0);
	next_server();
	ck_assert_int_eq(fc_end(call, NULL, 0, NULL), 0);
	ck_assert_uint_eq(ino_of("a"), b);
	ck_assert_uint_eq(ino_of("b"), a);
	down();
}
END_TEST

/* Copied to the park area and not yet gone from the slot, or the other way round. */
START_TEST(in_both_places)
{
	struct session_parked *p;
	struct fc_call *call;
	uint64_t nodeid, fh;
	struct fc_msg m;
	char buf[8];

	start();
	rig_gate(&r, "hold");
	nodeid = create("disk", &fh);
	fc_msg_write(&m, nodeid, fh, 0, "first", 5);
	call = fc_send(r.c, &m);
	wait_parked(1);
	kill_server();
	for (p = s->parked; !p->unique;)
		p++;
	ck_assert_uint_eq(p->unique, fc_unique(call));
	place(_i ? SESSION_WORKERS_MAX : 1, &m, fc_unique(call));
	next_server();
	wait_parked(1);
	rig_gate(&r, NULL);
	ck_assert_int_eq(fc_end(call, NULL, 0, NULL), 0);
	ck_assert_int_eq(fc_read(r.c, nodeid, fh, 0, buf, sizeof(buf)), 5);
	ck_assert_uint_eq(s->head->replayed, 1);
	down();
}
END_TEST

/* Published as asynchronous: alone, beside the worker's copy, with three crashes of a completer. */
START_TEST(asynchronous)
{
	struct session_async *a;
	struct fc_call *call;
	uint64_t nodeid, fh;
	struct fc_msg m;
	char buf[8];

	start();
	nodeid = create("disk", &fh);
	ck_assert_int_eq(fc_write(r.c, nodeid, fh, 0, "older", 5), 0);
	kill_server();
	a = &s->async[SESSION_ASYNC_MAX - 1];
	fc_msg_write(&m, nodeid, fh, 0, "newer", 5);
	call = fc_expect(r.c);
	place(5, &m, fc_unique(call));
	a->len = SESSION_REQ_HEAD_LEN + 5;
	memcpy(async_request(s, SESSION_ASYNC_MAX - 1),
	       session_buffer(s, 5) + SESSION_PAGE_LEN - SESSION_REQ_HEAD_LEN, a->len);
	a->faults = _i == 2 ? 3 : 0;
	a->unique = fc_unique(call);
	if (_i != 1) {
		memset(session_buffer(s, 5), 0, 2 * SESSION_PAGE_LEN);
		s->slots[5].busy = 0;
	}
	next_server();
	ck_assert_int_eq(fc_end(call, NULL, 0, NULL), _i == 2 ? -EIO : 0);
	ck_assert_int_eq(fc_read(r.c, nodeid, fh, 0, buf, sizeof(buf)), 5);
	ck_assert(!memcmp(buf, _i == 2 ? "older" : "newer", 5));
	ck_assert_uint_eq(s->head->replayed, 1);
	ck_assert_uint_eq(s->head->poisoned, _i == 2);
	ck_assert_uint_eq(a->unique, 0);
	down();
}
END_TEST

/* Three crashes of its own thread, and a request is not tried again. */
START_TEST(poison)
{
	struct session_slot *slot;
	struct fc_call *call;
	struct fc_msg m;

	start();
	make_files();
	kill_server();
	fc_msg_mkdir(&m, ROOT, "new");
	call = fc_expect(r.c);
	slot = place(0, &m, fc_unique(call));
	slot->faults = (uint32_t)_i;
	if (_i == 4) { /* those of an earlier request */
		slot->unique = 1234;
		slot->faults = 3;
	}
	next_server();
	ck_assert_int_eq(fc_end(call, NULL, 0, NULL), _i == 3 ? -EIO : 0);
	ck_assert_uint_eq(s->head->poisoned, _i == 3);
	ck_assert(exists("new") == (_i != 3));
	ck_assert_int_eq(fc_getattr(r.c, ROOT, NULL), 0);
	down();
}
END_TEST

/* What no server could have been asked: not executed, and the others are. */
START_TEST(malformed)
{
	struct fc_call *call;
	struct fc_msg m;

	start();
	make_files();
	kill_server();
	fc_msg_name(&m, FUSE_UNLINK, ROOT, "a/../b");
	place(0, &m, fc_next_unique(r.c));
	fc_msg_node(&m, FUSE_WRITE, ROOT);
	place(1, &m, fc_next_unique(r.c));
	fc_msg_interrupt(&m, 4);
	place(2, &m, fc_next_unique(r.c));
	fc_msg_name(&m, FUSE_UNLINK, ROOT, "a");
	call = fc_expect(r.c);
	place(SESSION_SLOTS_MAX - 1, &m, fc_unique(call));
	next_server();
	ck_assert_int_eq(fc_end(call, NULL, 0, NULL), 0);
	ck_assert(exists("b"));
	ck_assert(!exists("a"));
	ck_assert_uint_eq(s->head->replayed, 1);
	down();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("protocol_takeover");
	TCase *t = tcase_create("takeover");

	tcase_add_test(t, handles_go_on);
	tcase_add_loop_test(t, parked, 0, 3);
	tcase_add_loop_test(t, resent, 0, 2);
	tcase_add_loop_test(t, forget, 0, 4);
	tcase_add_loop_test(t, batch_forget, 0, 4);
	tcase_add_test(t, forget_half_done);
	tcase_add_test(t, lookup_marked);
	tcase_add_loop_test(t, open_marked, 0, 2);
	tcase_add_loop_test(t, not_twice, 0, ROWS(twice));
	tcase_add_loop_test(t, exchange, 0, 2);
	tcase_add_loop_test(t, in_both_places, 0, 2);
	tcase_add_loop_test(t, asynchronous, 0, 3);
	tcase_add_loop_test(t, poison, 0, 5);
	tcase_add_test(t, malformed);
	suite_add_tcase(suite, t);
	return suite;
}
