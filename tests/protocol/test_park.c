/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that wait for a key: they are parked, answered once, interruptible, and nobody else
 * waits with them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crypto/keytable.h"
#include "fs/deferred.h"
#include "tests/protocol/rig.h"

static const char hold[] = "hold";

static struct fuse_attr attr_of(struct rig *r, uint64_t nodeid)
{
	struct fuse_attr attr;

	ck_assert_int_eq(fc_getattr(r->c, nodeid, &attr), 0);
	return attr;
}

static off_t backing_size(struct rig *r, const char *name)
{
	struct stat st;

	ck_assert_int_eq(stat(rig_backing(r, name), &st), 0);
	return st.st_size;
}

static uint64_t create(struct rig *r, const char *name, uint64_t *fh)
{
	struct fuse_open_out open;
	uint64_t nodeid;

	ck_assert_int_eq(fc_create(r->c, ROOT, name, O_RDWR, &nodeid, &open), 0);
	*fh = open.fh;
	return nodeid;
}

static struct fc_call *send_write(struct rig *r, uint64_t nodeid, uint64_t fh)
{
	struct fc_msg m;

	fc_msg_write(&m, nodeid, fh, 0, "first", 5);
	return fc_send(r->c, &m);
}

START_TEST(first_byte)
{
	struct fc_call *call;
	uint64_t nodeid, fh;
	char buf[16];
	struct rig r;

	rig_start(&r, NULL);
	rig_gate(&r, hold);
	nodeid = create(&r, "disk", &fh);
	call = send_write(&r, nodeid, fh);
	rig_wait_parked(&r, 1);
	ck_assert_int_eq(fc_wait(call, 50), FC_NO_ANSWER);
	ck_assert_uint_eq(attr_of(&r, nodeid).size, 0);
	ck_assert_int_eq(fc_read(r.c, nodeid, fh, 0, buf, sizeof(buf)), 0);
	rig_gate(&r, NULL);
	ck_assert_int_eq(fc_end(call, NULL, 0, NULL), 0);
	ck_assert_uint_eq(attr_of(&r, nodeid).size, 5);
	ck_assert_int_eq(fc_read(r.c, nodeid, fh, 0, buf, sizeof(buf)), 5);
	ck_assert(!memcmp(buf, "first", 5));
	ck_assert_int_eq(fc_release(r.c, nodeid, fh), 0);
	fc_forget(r.c, nodeid, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Far more requests wait than there are workers and executors; everyone else goes on. */
enum { MANY = 40 };

START_TEST(nobody_waits)
{
	struct fuse_open_out open;
	uint64_t nodeid[MANY], fh[MANY], disk;
	struct fc_call *call[MANY];
	char name[16], buf[4096];
	struct rig r;
	double t;

	rig_start(&r, NULL);
	disk = rig_image(&r, ROOT, "disk", 10000);
	ck_assert_int_eq(fc_open(r.c, disk, O_RDWR, &open), 0);
	rig_gate(&r, hold);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		nodeid[i] = create(&r, name, &fh[i]);
		call[i] = send_write(&r, nodeid[i], fh[i]);
	}
	rig_wait_parked(&r, MANY);
	t = now();
	ck_assert_uint_eq(attr_of(&r, disk).size, 10000);
	ck_assert_int_eq(fc_read(r.c, disk, open.fh, 0, buf, sizeof(buf)), sizeof(buf));
	ck_assert_int_eq(fc_write(r.c, disk, open.fh, 0, buf, sizeof(buf)), 0);
	ck_assert_uint_eq(attr_of(&r, nodeid[3]).size, 0);
	ck_assert(now() - t < 3);
	rig_wait_parked(&r, MANY);
	rig_gate(&r, NULL);
	for (int i = 0; i < MANY; i++) {
		ck_assert_int_eq(fc_end(call[i], NULL, 0, NULL), 0);
		ck_assert_uint_eq(attr_of(&r, nodeid[i]).size, 5);
		ck_assert_int_eq(fc_release(r.c, nodeid[i], fh[i]), 0);
	}
	rig_wait_parked(&r, 0);
	rig_end(&r);
}
END_TEST

/* The requests that may wait. `closed`: the image exists and its key is not here. */
struct waiting {
	const char *name;
	bool closed;
	void (*build)(struct fc_msg *m, uint64_t nodeid, uint64_t fh);
};

static void build_open(struct fc_msg *m, uint64_t nodeid, uint64_t fh)
{
	(void)fh;
	fc_msg_open(m, FUSE_OPEN, nodeid, O_RDWR);
}

static void build_write(struct fc_msg *m, uint64_t nodeid, uint64_t fh)
{
	fc_msg_write(m, nodeid, fh, 0, "x", 1);
}

static void build_setsize(struct fc_msg *m, uint64_t nodeid, uint64_t fh)
{
	(void)fh;
	fc_msg_setsize(m, nodeid, 0, 777);
}

static void build_setsize_fh(struct fc_msg *m, uint64_t nodeid, uint64_t fh)
{
	fc_msg_setsize(m, nodeid, fh, 777);
}

static void build_fallocate(struct fc_msg *m, uint64_t nodeid, uint64_t fh)
{
	fc_msg_fallocate(m, nodeid, fh, 0, 0, 100000);
}

static const struct waiting waiting[] = {
	{"OPEN", true, build_open},
	{"SETATTR of a closed image", true, build_setsize},
	{"WRITE", false, build_write},
	{"SETATTR", false, build_setsize},
	{"SETATTR by handle", false, build_setsize_fh},
	{"FALLOCATE", false, build_fallocate},
};

/* A file on which waiting[i] has to wait. *fh: its handle, 0 where there is none. */
static uint64_t prepare(struct rig *r, const struct waiting *w, uint64_t *fh)
{
	struct fuse_entry_out entry;

	*fh = 0;
	if (!w->closed)
		return create(r, "disk", fh);
	rig_image(r, ROOT, "disk", 100);
	rig_down(r);
	rig_up(r);
	ck_assert_int_eq(fc_lookup(r->c, ROOT, "disk", &entry), 0);
	return entry.nodeid;
}

static void leave(struct rig *r, uint64_t nodeid, uint64_t fh)
{
	if (fh)
		ck_assert_int_eq(fc_release(r->c, nodeid, fh), 0);
	fc_forget(r->c, nodeid, 1);
	rig_check_empty(r);
	rig_end(r);
}

START_TEST(interrupted)
{
	const struct waiting *w = &waiting[_i];
	struct fc_call *call;
	uint64_t nodeid, fh;
	struct fc_msg m;
	struct rig r;

	rig_start(&r, NULL);
	nodeid = prepare(&r, w, &fh);
	rig_gate(&r, hold);
	w->build(&m, nodeid, fh);
	call = fc_send(r.c, &m);
	rig_wait_parked(&r, 1);
	fc_interrupt(r.c, fc_unique(call));
	ck_assert_msg(fc_wait(call, FC_WAIT_MS) == -EINTR, "%s", w->name);
	rig_gate(&r, NULL);
	rig_wait_parked(&r, 0);
	/* What was given up has changed nothing, and is not answered again (rig_down() sees). */
	ck_assert_uint_eq(attr_of(&r, nodeid).size, w->closed ? 100 : 0);
	fc_drop(call);
	leave(&r, nodeid, fh);
}
END_TEST

/* A signal that does not kill the caller: open(2) and write(2) go on waiting. */
START_TEST(interrupted_alive)
{
	uint64_t nodeid, fh;
	struct fc_call *call;
	struct rig r;

	rig_start(&r, NULL);
	fc_set_pid(r.c, (uint32_t)getpid());
	rig_gate(&r, hold);
	nodeid = create(&r, "disk", &fh);
	call = send_write(&r, nodeid, fh);
	rig_wait_parked(&r, 1);
	fc_interrupt(r.c, fc_unique(call));
	rig_sleep_ms(1500); /* longer than the server's second look */
	rig_wait_parked(&r, 1);
	rig_gate(&r, NULL);
	ck_assert_int_eq(fc_end(call, NULL, 0, NULL), 0);
	leave(&r, nodeid, fh);
}
END_TEST

START_TEST(interrupted_among_others)
{
	struct fc_call *call[8];
	uint64_t nodeid, fh;
	struct rig r;

	rig_start(&r, NULL);
	rig_gate(&r, hold);
	nodeid = create(&r, "disk", &fh);
	for (int i = 0; i < 8; i++)
		call[i] = send_write(&r, nodeid, fh);
	rig_wait_parked(&r, 8);
	for (int i = 0; i < 5000 && !rig_asked(&r); i++)
		rig_sleep_ms(1);
	for (int i = 0; i < 8; i += 2)
		fc_interrupt(r.c, fc_unique(call[i]));
	for (int i = 0; i < 8; i += 2)
		ck_assert_int_eq(fc_end(call[i], NULL, 0, NULL), -EINTR);
	ck_assert_int_eq(rig_asked(&r), 1); /* one secret for all of them */
	rig_gate(&r, NULL);
	for (int i = 1; i < 8; i += 2)
		ck_assert_int_eq(fc_end(call[i], NULL, 0, NULL), 0);
	leave(&r, nodeid, fh);
}
END_TEST

/* An unknown request: the kernel is asked to say it again, which it does only if it waits. */
START_TEST(interrupt_unknown)
{
	struct fc_msg m;
	struct rig r;

	rig_start(&r, NULL);
	for (int i = 0; i < 100; i++) {
		fc_msg_interrupt(&m, 1000000 + 2 * (unsigned int)i);
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EAGAIN);
	}
	ck_assert_int_eq(fc_getattr(r.c, ROOT, NULL), 0);
	rig_end(&r);
}
END_TEST

/*
 * Asks again until the server knows the request or its answer is there, as the kernel does.
 */
static int interrupt_and_end(struct rig *r, struct fc_call *call, void *out, size_t room)
{
	struct fc_call *intr;
	struct fc_msg m;

	do {
		fc_msg_interrupt(&m, fc_unique(call));
		intr = fc_send(r->c, &m);
		while (fc_wait(intr, 1) == FC_NO_ANSWER &&
		       fc_wait(call, 0) == FC_NO_ANSWER)
			;
		/* An answer to it may still come: let it be known until the end. */
	} while (fc_wait(call, 0) == FC_NO_ANSWER);
	return fc_end(call, out, room, NULL);
}

enum { ROUNDS = 40 };

/* Interrupts that meet the end of the wait: one answer each, whichever, and no handle too many. */
START_TEST(interrupt_races)
{
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	int made = 0, opened = 0;
	uint64_t nodeid, fh;
	struct fc_msg m;
	char name[16];
	struct rig r;

	rig_start(&r, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		struct fc_call *call;
		int err;

		snprintf(name, sizeof(name), "d%d", i);
		nodeid = create(&r, name, &fh);
		call = send_write(&r, nodeid, fh);
		rig_sleep_ms(2 * i);
		err = interrupt_and_end(&r, call, NULL, 0);
		ck_assert(!err || err == -EINTR);
		made += !err;
		ck_assert_int_eq(fc_write(r.c, nodeid, fh, 0, "first", 5), 0);
		ck_assert_int_eq(fc_release(r.c, nodeid, fh), 0);
		fc_forget(r.c, nodeid, 1);
	}
	rig_check_empty(&r);
	rig_down(&r);
	rig_up(&r);
	for (int i = 0; i < ROUNDS; i++) {
		struct fc_call *call;
		int err;

		snprintf(name, sizeof(name), "d%d", i);
		ck_assert_int_eq(fc_lookup(r.c, ROOT, name, &entry), 0);
		fc_msg_open(&m, FUSE_OPEN, entry.nodeid, O_RDWR);
		call = fc_send(r.c, &m);
		rig_sleep_ms(i / 2);
		err = interrupt_and_end(&r, call, &open, sizeof(open));
		ck_assert(!err || err == -EINTR);
		opened += !err;
		if (!err)
			ck_assert_int_eq(fc_release(r.c, entry.nodeid, open.fh), 0);
		fc_forget(r.c, entry.nodeid, 1);
	}
	rig_wait_parked(&r, 0);
	rig_check_empty(&r);
	printf("interrupt_races: %d of %d writes, %d of %d opens were faster\n", made,
	       ROUNDS, opened, ROUNDS);
	rig_end(&r);
}
END_TEST

/* What the key service says, and what the program gets. */
static const struct {
	const char *gate;
	int open_err, write_err;
} answers[] = {
	{"error notfound where", -ENOKEY, -ENOKEY},
	{"error denied not you", -EKEYREJECTED, -EKEYREJECTED},
	{"error quota full", -EDQUOT, -EDQUOT},
	{"error unavailable later", -ETIMEDOUT, -ETIMEDOUT},
	{"hold", -ETIMEDOUT, -ETIMEDOUT},
};

START_TEST(service_errors)
{
	const char *const settings[] = {"key-service.timeout=1", NULL};
	struct fuse_entry_out entry;
	struct fuse_open_out open = {0};
	uint64_t nodeid, fh;
	struct rig r;
	int err;

	rig_start(&r, settings);
	rig_image(&r, ROOT, "disk", 100);
	rig_down(&r);
	rig_up(&r);
	ck_assert_int_eq(fc_lookup(r.c, ROOT, "disk", &entry), 0);
	nodeid = create(&r, "new", &fh);
	rig_gate(&r, answers[_i].gate);
	ck_assert_int_eq(fc_open(r.c, entry.nodeid, O_RDONLY, &open),
			 answers[_i].open_err);
	ck_assert_int_eq(fc_write(r.c, nodeid, fh, 0, "x", 1), answers[_i].write_err);
	ck_assert_int_eq(backing_size(&r, "new"), 0);
	rig_gate(&r, NULL);
	/* It is not remembered: a refusal for a second, nothing else at all. */
	err = fc_open(r.c, entry.nodeid, O_RDONLY, &open);
	ck_assert(!err || err == -ENOKEY || err == -EKEYREJECTED);
	for (int i = 0; i < 150 && err; i++) {
		rig_sleep_ms(10);
		err = fc_open(r.c, entry.nodeid, O_RDONLY, &open);
	}
	ck_assert_int_eq(err, 0);
	for (int i = 0; i < 300 && fc_write(r.c, nodeid, fh, 0, "x", 1); i++)
		rig_sleep_ms(10); /* the reserve refuses for a second after a failure */
	ck_assert_uint_eq(attr_of(&r, nodeid).size, 1);
	ck_assert_int_eq(fc_release(r.c, entry.nodeid, open.fh), 0);
	ck_assert_int_eq(fc_release(r.c, nodeid, fh), 0);
	rig_end(&r);
}
END_TEST

/* A hundred opens of twenty images wait while the helpers are killed under them. */
enum { IMAGES = 20, OPENS = 100 };

START_TEST(helper_killed)
{
	uint64_t nodeid[IMAGES];
	struct fc_call *call[OPENS];
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	struct fc_msg m;
	char name[16];
	struct rig r;
	int before;

	rig_start(&r, NULL);
	for (int i = 0; i < IMAGES; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		rig_image(&r, ROOT, name, 1);
	}
	rig_down(&r);
	rig_up(&r);
	for (int i = 0; i < IMAGES; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		ck_assert_int_eq(fc_lookup(r.c, ROOT, name, &entry), 0);
		nodeid[i] = entry.nodeid;
	}
	before = rig_asked(&r);
	rig_gate(&r, hold);
	for (int i = 0; i < OPENS; i++) {
		fc_msg_open(&m, FUSE_OPEN, nodeid[i % IMAGES], O_RDWR);
		call[i] = fc_send(r.c, &m);
	}
	rig_wait_parked(&r, OPENS);
	while (rig_asked(&r) == before)
		rig_sleep_ms(1);
	rig_kill_helpers(&r);
	rig_gate(&r, NULL);
	for (int i = 0; i < OPENS; i++) {
		ck_assert_int_eq(fc_end(call[i], &open, sizeof(open), NULL), 0);
		ck_assert_int_eq(fc_release(r.c, nodeid[i % IMAGES], open.fh), 0);
	}
	ck_assert_int_lt(rig_asked(&r) - before, 2 * IMAGES); /* not one a request */
	ck_assert_uint_eq(keytable_count(r.sv->keys), IMAGES);
	rig_end(&r);
}
END_TEST

/* The key goes `linger` seconds after the last close, and the page cache before it. */
START_TEST(linger)
{
	const char *const settings[] = {"key-service.linger=1", NULL};
	struct fuse_open_out open;
	uint64_t nodeid;
	struct rig r;
	char c;

	rig_start(&r, settings);
	nodeid = rig_image(&r, ROOT, "disk", 10);
	ck_assert_uint_eq(keytable_count(r.sv->keys), 1);
	ck_assert(fc_wait_inval(r.c, nodeid, 10000));
	for (int i = 0; i < 1000 && keytable_count(r.sv->keys); i++)
		rig_sleep_ms(1);
	ck_assert_uint_eq(keytable_count(r.sv->keys), 0);
	ck_assert_uint_eq(attr_of(&r, nodeid).size, 10);
	ck_assert_int_eq(fc_open(r.c, nodeid, O_RDONLY, &open), 0);
	rig_sleep_ms(2500); /* it stays while it is open */
	ck_assert_uint_eq(keytable_count(r.sv->keys), 1);
	ck_assert_int_eq(fc_read(r.c, nodeid, open.fh, 0, &c, 1), 1);
	ck_assert_int_eq(fc_release(r.c, nodeid, open.fh), 0);
	rig_end(&r);
}
END_TEST

/* The connection ends while requests wait and the helper hangs: so does the server, soon. */
START_TEST(end_while_parked)
{
	uint64_t nodeid, fh;
	struct rig r;
	double t;

	rig_start(&r, NULL);
	rig_image(&r, ROOT, "disk", 10);
	rig_gate(&r, hold);
	for (int i = 0; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", i);
		nodeid = create(&r, name, &fh);
		send_write(&r, nodeid, fh);
	}
	rig_wait_parked(&r, 10);
	t = now();
	rig_end(&r);
	ck_assert(now() - t < 5);
}
END_TEST

/* What comes back from a mapping is never the first byte of an image. */
START_TEST(writepage)
{
	uint64_t nodeid, fh;
	struct fc_msg m;
	struct rig r;

	rig_start(&r, NULL);
	nodeid = create(&r, "disk", &fh);
	fc_msg_write(&m, nodeid, fh, 0, "x", 1);
	m.u.write.write_flags = FUSE_WRITE_CACHE;
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EIO);
	ck_assert_int_eq(backing_size(&r, "disk"), 0);
	ck_assert_int_eq(rig_asked(&r), 0);
	leave(&r, nodeid, fh);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("protocol_park");
	TCase *t = tcase_create("park");

	tcase_add_test(t, first_byte);
	tcase_add_test(t, nobody_waits);
	tcase_add_loop_test(t, interrupted, 0, ROWS(waiting));
	tcase_add_test(t, interrupted_alive);
	tcase_add_test(t, interrupted_among_others);
	tcase_add_test(t, interrupt_unknown);
	tcase_add_test(t, interrupt_races);
	tcase_add_loop_test(t, service_errors, 0, ROWS(answers));
	tcase_add_test(t, helper_killed);
	tcase_add_test(t, linger);
	tcase_add_test(t, end_while_parked);
	tcase_add_test(t, writepage);
	suite_add_tcase(s, t);
	return s;
}
