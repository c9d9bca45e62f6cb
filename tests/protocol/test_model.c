/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random requests against plain bytes in memory: several files, several handles of each (cached,
 * direct), sizes, holes, renames, and now and then an end of the server and a new one. Then
 * clients that write side by side within sectors.
 *
 * VCF_MODEL_OPS  operations of all rows (default 20000)  VCF_MODEL_SEED  default: the time
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/protocol/rig.h"
#include "util/io.h"

enum { FILES = 3, HANDLES = 3, MAX = 260000, IO_MAX = 70000 };

struct open_handle {
	uint64_t fh; /* 0: closed */
	bool direct;
};

struct file {
	char name[16];
	uint64_t node;
	uint64_t len;
	struct open_handle h[HANDLES];
	unsigned char bytes[MAX]; /* zero beyond len */
};

struct model {
	struct rig r;
	struct file *file[FILES];
	struct file store[FILES];
	unsigned int rng;
	unsigned int names;
};

static unsigned int seed;
static struct model model_data;

static uint64_t pick(struct model *m, uint64_t below)
{
	return ((uint64_t)rand_r(&m->rng) << 15 ^ (uint64_t)rand_r(&m->rng)) % below;
}

/* Often near a sector's end; below `below`. */
static uint64_t pick_off(struct model *m, uint64_t below)
{
	uint64_t v = pick(m, below);

	if (pick(m, 3) == 0)
		v = v / 512 * 512 + pick(m, 3) - (v >= 512);
	return v < below ? v : below - 1;
}

static struct open_handle *pick_handle(struct model *m, struct file *f)
{
	struct open_handle *h = &f->h[pick(m, HANDLES)];
	struct fuse_open_out open;

	if (h->fh)
		return h;
	h->direct = pick(m, 4) == 0;
	ck_assert_int_eq(
		fc_open(m->r.c, f->node, O_RDWR | (h->direct ? O_DIRECT : 0), &open), 0);
	h->fh = open.fh;
	return h;
}

static void pick_range(struct model *m, const struct file *f, const struct open_handle *h,
		       uint64_t *off, uint32_t *len)
{
	uint64_t near = f->len + 10000 < MAX ? f->len + 10000 : MAX;

	*off = pick_off(m, near);
	*len = (uint32_t)(1 + pick_off(m, pick(m, 8) ? 9000 : IO_MAX));
	if (h->direct) {
		*off &= ~(uint64_t)511;
		*len = (*len + 511) & ~511u;
	}
	if (*len > MAX - *off)
		*len = (uint32_t)(MAX - *off) & (h->direct ? ~511u : ~0u);
}

static void resize(struct file *f, uint64_t len)
{
	if (len < f->len)
		memset(f->bytes + len, 0, f->len - len);
	f->len = len;
}

static void op_write(struct model *m, struct file *f)
{
	struct open_handle *h = pick_handle(m, f);
	static unsigned char data[IO_MAX + 512];
	uint64_t off;
	uint32_t len;

	pick_range(m, f, h, &off, &len);
	if (!len)
		return;
	rig_pattern(data, len, (unsigned int)pick(m, 1 << 20));
	if (pick(m, 12) == 0)
		memset(data, 0, len);
	ck_assert_int_eq(fc_write(m->r.c, f->node, h->fh, off, data, len), 0);
	memcpy(f->bytes + off, data, len);
	if (off + len > f->len)
		f->len = off + len;
}

static void check_read(struct model *m, struct file *f, uint64_t fh, uint64_t off,
		       uint32_t len)
{
	static unsigned char data[1 << 20];
	uint64_t got = off >= f->len ? 0 : f->len - off;

	if (got > len)
		got = len;
	ck_assert_int_eq(fc_read(m->r.c, f->node, fh, off, data, len), got);
	ck_assert(!got || !memcmp(data, f->bytes + off, got));
}

static void op_read(struct model *m, struct file *f)
{
	struct open_handle *h = pick_handle(m, f);
	uint64_t off;
	uint32_t len;

	pick_range(m, f, h, &off, &len);
	check_read(m, f, h->fh, off, len);
}

static void op_truncate(struct model *m, struct file *f)
{
	uint64_t len = pick(m, 3) ? pick_off(m, MAX) : f->len - pick(m, f->len + 1);
	struct open_handle *h = pick(m, 2) ? pick_handle(m, f) : NULL;

	if (pick(m, 10) == 0)
		len = 0;
	ck_assert_int_eq(fc_setsize(m->r.c, f->node, h ? h->fh : 0, len), 0);
	resize(f, len);
}

static void op_fallocate(struct model *m, struct file *f)
{
	static const int modes[] = {
		0,
		FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	struct open_handle buffered = {0}, *h = pick_handle(m, f);
	int mode = modes[pick(m, sizeof(modes) / sizeof(modes[0]))];
	uint64_t off, end;
	uint32_t len;
	int err;

	pick_range(m, f, &buffered, &off, &len);
	err = fc_fallocate(m->r.c, f->node, h->fh, (uint32_t)mode, off, len);
	if (err == -EOPNOTSUPP && mode & FALLOC_FL_ZERO_RANGE)
		return; /* tmpfs: and nothing may have changed */
	ck_assert_int_eq(err, 0);
	end = off + len < f->len ? off + len : f->len;
	if (mode & ~FALLOC_FL_KEEP_SIZE && end > off)
		memset(f->bytes + off, 0, end - off);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > f->len)
		f->len = off + len;
}

static void op_seek(struct model *m, struct file *f)
{
	struct open_handle *h = pick_handle(m, f);
	uint64_t off = pick_off(m, MAX);
	int64_t data = fc_lseek(m->r.c, f->node, h->fh, off, SEEK_DATA);
	int64_t hole = fc_lseek(m->r.c, f->node, h->fh, off, SEEK_HOLE);

	if (off >= f->len) {
		ck_assert_int_eq(data, -ENXIO);
		ck_assert_int_eq(hole, -ENXIO);
		return;
	}
	if (data == -ENXIO)
		data = (int64_t)f->len;
	ck_assert_int_ge(data, off);
	ck_assert_int_ge(hole, off);
	ck_assert_int_le(data, f->len);
	ck_assert_int_le(hole, f->len);
	ck_assert(io_is_zero(f->bytes + off, (size_t)data - off));
}

static void op_attr(struct model *m, struct file *f)
{
	struct fuse_attr attr;

	ck_assert_int_eq(fc_getattr(m->r.c, f->node, &attr), 0);
	ck_assert_uint_eq(attr.size, f->len);
}

static void close_handles(struct model *m, struct file *f)
{
	for (int i = 0; i < HANDLES; i++) {
		if (f->h[i].fh)
			ck_assert_int_eq(fc_release(m->r.c, f->node, f->h[i].fh), 0);
		f->h[i].fh = 0;
	}
}

static void op_close(struct model *m, struct file *f)
{
	struct open_handle *h = &f->h[pick(m, HANDLES)];

	if (h->fh)
		ck_assert_int_eq(fc_release(m->r.c, f->node, h->fh), 0);
	h->fh = 0;
}

static void make_file(struct model *m, struct file *f)
{
	struct fuse_open_out open;

	memset(f, 0, sizeof(*f));
	snprintf(f->name, sizeof(f->name), "f%u", m->names++);
	ck_assert_int_eq(fc_create(m->r.c, ROOT, f->name, O_RDWR, &f->node, &open), 0);
	f->h[0].fh = open.fh;
}

/* The name goes first, with handles still open; a last look at what they hold. */
static void op_replace(struct model *m, struct file *f)
{
	struct open_handle *h = pick_handle(m, f);

	ck_assert_int_eq(fc_unlink(m->r.c, ROOT, f->name), 0);
	if (!h->direct)
		check_read(m, f, h->fh, 0, MAX);
	close_handles(m, f);
	fc_forget(m->r.c, f->node, 1);
	make_file(m, f);
}

static void op_exchange(struct model *m)
{
	struct file *a = m->file[0], *b = m->file[1];
	char name[16];

	ck_assert_int_eq(fc_rename(m->r.c, ROOT, a->name, ROOT, b->name, 2), 0);
	memcpy(name, a->name, sizeof(name));
	memcpy(a->name, b->name, sizeof(name));
	memcpy(b->name, name, sizeof(name));
}

static void look_again(struct model *m)
{
	struct fuse_entry_out entry;

	for (int i = 0; i < FILES; i++) {
		struct file *f = m->file[i];

		ck_assert_int_eq(fc_lookup(m->r.c, ROOT, f->name, &entry), 0);
		ck_assert_uint_eq(entry.attr.size, f->len);
		f->node = entry.nodeid;
	}
}

static void check_all(struct model *m)
{
	for (int i = 0; i < FILES; i++) {
		struct file *f = m->file[i];
		struct fuse_open_out open;

		op_attr(m, f);
		ck_assert_int_eq(fc_open(m->r.c, f->node, O_RDONLY, &open), 0);
		check_read(m, f, open.fh, 0, MAX);
		ck_assert_int_eq(fc_release(m->r.c, f->node, open.fh), 0);
	}
}

static void leave_all(struct model *m)
{
	for (int i = 0; i < FILES; i++) {
		close_handles(m, m->file[i]);
		fc_forget(m->r.c, m->file[i]->node, 1);
	}
	rig_check_empty(&m->r);
}

static void op_remount(struct model *m)
{
	leave_all(m);
	rig_down(&m->r);
	rig_up(&m->r);
	look_again(m);
	check_all(m);
}

/* Of a thousand. */
static const struct {
	unsigned int below;
	void (*op)(struct model *m, struct file *f);
} ops[] = {
	{400, op_write}, {720, op_read}, {740, op_truncate}, {830, op_fallocate},
	{890, op_seek},	 {950, op_attr}, {995, op_close},    {998, op_replace},
};

static void one_op(struct model *m)
{
	struct file *f = m->file[pick(m, FILES)];
	unsigned int n = (unsigned int)pick(m, 1000);

	for (int i = 0; i < ROWS(ops); i++) {
		if (n < ops[i].below) {
			ops[i].op(m, f);
			return;
		}
	}
	op_exchange(m);
}

static const char *const formats[][3] = {
	{"format.sector-size=4096", NULL},
	{"format.sector-size=512", NULL},
	{"format.type=luks1", "format.sector-size=512", NULL},
};

static long op_cnt(void)
{
	const char *text = getenv("VCF_MODEL_OPS");

	return (text ? atol(text) : 20000) / ROWS(formats);
}

START_TEST(model)
{
	struct model *m = &model_data;
	long cnt = op_cnt();

	printf("row %d: VCF_MODEL_SEED=%u\n", _i, seed);
	fflush(stdout);
	m->rng = seed + (unsigned int)_i;
	m->names = 0;
	rig_start(&m->r, formats[_i]);
	for (int i = 0; i < FILES; i++) {
		m->file[i] = &m->store[i];
		make_file(m, m->file[i]);
	}
	for (long i = 1; i <= cnt; i++) {
		one_op(m);
		if (i % 500 == 0)
			check_all(m);
		if (i % 2000 == 0)
			op_remount(m);
	}
	check_all(m);
	leave_all(m);
	rig_end(&m->r);
}
END_TEST

/*
 * Writers side by side: byte i belongs to writer (i / STRIPE) % WRITERS. Each has its own handle,
 * some direct, and keeps several writes under way; a lost update shows as an old byte.
 */
enum { WRITERS = 4, STRIPE = 512, SHARED = 20 * 4096, ROUNDS = 60, DEPTH = 4 };

struct writer {
	struct rig *r;
	uint64_t node, fh;
	unsigned char *want;
	unsigned int id, rng;
	int failed;
	pthread_t thread;
};

/* An odd piece of a stripe of ours, or the whole one where it must be aligned. */
static struct fc_call *send_piece(struct writer *w, unsigned int stripe)
{
	unsigned char data[STRIPE];
	unsigned int skip = w->id % 2 ? 0 : (unsigned int)rand_r(&w->rng) % 100;
	uint32_t len =
		w->id % 2 ? STRIPE : 1 + (unsigned int)rand_r(&w->rng) % (STRIPE - skip);
	uint64_t off = ((uint64_t)stripe * WRITERS + w->id) * STRIPE + skip;
	struct fc_msg m;

	rig_pattern(data, len, (unsigned int)rand_r(&w->rng));
	memcpy(w->want + off, data, len);
	fc_msg_write(&m, w->node, w->fh, off, data, len);
	return fc_send(w->r->c, &m);
}

static void check_stripe(struct writer *w, unsigned int stripe)
{
	uint64_t off = ((uint64_t)stripe * WRITERS + w->id) * STRIPE;
	unsigned char data[STRIPE];

	if (fc_read(w->r->c, w->node, w->fh, off, data, STRIPE) != STRIPE ||
	    memcmp(data, w->want + off, STRIPE))
		w->failed++;
}

static void *write_own(void *arg)
{
	struct writer *w = arg;
	unsigned int stripes = SHARED / STRIPE / WRITERS;

	for (int i = 0; i < ROUNDS; i++) {
		unsigned int first = (unsigned int)rand_r(&w->rng) % (stripes - DEPTH);
		struct fc_call *call[DEPTH];

		for (unsigned int k = 0; k < DEPTH; k++)
			call[k] = send_piece(w, first + k);
		for (unsigned int k = 0; k < DEPTH; k++)
			w->failed += fc_end(call[k], NULL, 0, NULL) != 0;
		check_stripe(w, first + (unsigned int)rand_r(&w->rng) % DEPTH);
	}
	return NULL;
}

/* Meanwhile the size goes up and down beyond the shared part. */
static void resize_meanwhile(struct rig *r, uint64_t node)
{
	for (int i = 0; i < ROUNDS / 2; i++) {
		uint64_t len = SHARED + (uint64_t)(i * 613) % 20000;

		ck_assert_int_eq(fc_setsize(r->c, node, 0, len), 0);
		ck_assert_int_eq(fc_getattr(r->c, node, NULL), 0);
	}
	ck_assert_int_eq(fc_setsize(r->c, node, 0, SHARED), 0);
}

static void check_shared(struct rig *r, uint64_t node, const unsigned char *want)
{
	static unsigned char data[SHARED];
	struct fuse_open_out open;

	ck_assert_int_eq(fc_open(r->c, node, O_RDONLY, &open), 0);
	ck_assert_int_eq(fc_read(r->c, node, open.fh, 0, data, SHARED), SHARED);
	ck_assert(!memcmp(data, want, SHARED));
	ck_assert_int_eq(fc_release(r->c, node, open.fh), 0);
}

START_TEST(side_by_side)
{
	static unsigned char want[SHARED];
	struct writer w[WRITERS];
	struct fuse_open_out open;
	struct rig r;
	uint64_t node;

	memset(want, 0, sizeof(want));
	rig_start(&r, formats[_i]);
	node = rig_image(&r, ROOT, "disk", 0);
	ck_assert_int_eq(fc_setsize(r.c, node, 0, SHARED), 0);
	for (unsigned int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){
			.r = &r, .node = node, .want = want, .id = i, .rng = seed + i};
		ck_assert_int_eq(
			fc_open(r.c, node, O_RDWR | (i % 2 ? O_DIRECT : 0), &open), 0);
		w[i].fh = open.fh;
		ck_assert_int_eq(pthread_create(&w[i].thread, NULL, write_own, &w[i]), 0);
	}
	resize_meanwhile(&r, node);
	for (int i = 0; i < WRITERS; i++) {
		ck_assert_int_eq(pthread_join(w[i].thread, NULL), 0);
		ck_assert_int_eq(w[i].failed, 0);
		ck_assert_int_eq(fc_release(r.c, node, w[i].fh), 0);
	}
	check_shared(&r, node, want);
	rig_down(&r);
	rig_up(&r);
	{
		struct fuse_entry_out entry;

		ck_assert_int_eq(fc_lookup(r.c, ROOT, "disk", &entry), 0);
		check_shared(&r, entry.nodeid, want);
	}
	rig_end(&r);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("protocol_model");
	TCase *t = tcase_create("model");
	const char *text = getenv("VCF_MODEL_SEED");

	seed = text ? (unsigned int)strtoul(text, NULL, 10) : (unsigned int)time(NULL);
	tcase_add_loop_test(t, model, 0, ROWS(formats));
	tcase_add_loop_test(t, side_by_side, 0, ROWS(formats));
	suite_add_tcase(s, t);
	return s;
}
