/* SPDX-License-Identifier: GPL-2.0-or-later */
/* READ and WRITE, which the server unpacks itself: lengths, offsets and handles of all kinds. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "tests/protocol/rig.h"

enum { LEN = 10000, MAX_IO = 1 << 20, BUF = MAX_IO + 4096 };
static unsigned char buf[BUF], want[BUF];

/* By what a request names its file. */
enum by { IMAGE, READER, DIRECT, EMPTY, PLAIN, FOLDER, CLOSED, NOBODY, OTHER, BY_CNT };

struct file {
	uint64_t node, fh;
};

struct files {
	struct rig r;
	struct file f[BY_CNT];
};

static struct file open_by(struct rig *r, uint64_t node, uint32_t opcode, uint32_t flags)
{
	struct fuse_open_out open;
	struct fc_msg m;

	fc_msg_open(&m, opcode, node, flags);
	ck_assert_int_eq(fc_do(r->c, &m, &open, sizeof(open), NULL), 0);
	return (struct file){.node = node, .fh = open.fh};
}

static struct file create(struct rig *r, const char *name)
{
	struct fuse_open_out open;
	struct file f;

	ck_assert_int_eq(fc_create(r->c, ROOT, name, O_RDWR, &f.node, &open), 0);
	f.fh = open.fh;
	return f;
}

static void open_all(struct files *fs)
{
	static const char *const settings[] = {"rules.passthrough=plain", NULL};
	struct rig *r = &fs->r;
	uint64_t node;

	rig_start(r, settings);
	rig_pattern(want, LEN, 1);
	memset(want + LEN, 0, BUF - LEN);
	node = rig_image(r, ROOT, "disk", LEN);
	fs->f[IMAGE] = open_by(r, node, FUSE_OPEN, O_RDWR);
	fs->f[READER] = open_by(r, node, FUSE_OPEN, O_RDONLY);
	fs->f[DIRECT] = open_by(r, node, FUSE_OPEN, O_RDWR | O_DIRECT);
	fs->f[CLOSED] = open_by(r, node, FUSE_OPEN, O_RDWR);
	ck_assert_int_eq(fc_release(r->c, node, fs->f[CLOSED].fh), 0);
	fs->f[EMPTY] = create(r, "empty");
	fs->f[PLAIN] = create(r, "plain");
	ck_assert_int_eq(fc_write(r->c, fs->f[PLAIN].node, fs->f[PLAIN].fh, 0, want, LEN),
			 0);
	fs->f[FOLDER] = open_by(r, ROOT, FUSE_OPENDIR, 0);
	fs->f[NOBODY] = (struct file){.node = node, .fh = 0};
	fs->f[OTHER] = (struct file){.node = fs->f[EMPTY].node, .fh = fs->f[IMAGE].fh};
}

/* Whatever was answered: no thread still has a request, and nothing was answered twice. */
static void check_slots(struct rig *r)
{
	for (unsigned int i = 0; i < r->sv->worker_cnt; i++) {
		const struct worker *w = &r->sv->workers[i];

		for (int ms = 0; w->slot->busy && ms < 1000; ms++)
			rig_sleep_ms(1);
		ck_assert_uint_eq(w->slot->busy, 0);
	}
	ck_assert_uint_eq(fc_strays(r->c), 0);
}

static void close_all(struct files *fs)
{
	struct rig *r = &fs->r;
	struct fc_msg m;

	check_slots(r);
	for (int i = 0; i < FOLDER; i++)
		ck_assert_int_eq(fc_release(r->c, fs->f[i].node, fs->f[i].fh), 0);
	fc_msg_release(&m, FUSE_RELEASEDIR, ROOT, fs->f[FOLDER].fh);
	ck_assert_int_eq(fc_do(r->c, &m, NULL, 0, NULL), 0);
	fc_forget(r->c, fs->f[IMAGE].node, 1);
	fc_forget(r->c, fs->f[EMPTY].node, 1);
	fc_forget(r->c, fs->f[PLAIN].node, 1);
	rig_check_empty(r);
	rig_end(r);
}

/* want: bytes, or what it is refused with */
static const struct {
	enum by by;
	uint64_t off;
	uint32_t size;
	long want;
} reads[] = {
	{IMAGE, 0, LEN, LEN},
	{IMAGE, 0, 0, 0},
	{IMAGE, 0, MAX_IO, LEN},
	{IMAGE, 0, MAX_IO + 1, -EINVAL},
	{IMAGE, 0, UINT32_MAX, -EINVAL},
	{IMAGE, LEN - 1, 4096, 1},
	{IMAGE, LEN, 4096, 0},
	{IMAGE, 4095, 2, 2},
	{IMAGE, INT64_MAX, 4096, 0},
	{IMAGE, 1ull << 63, 4096, 0},
	{IMAGE, UINT64_MAX, MAX_IO, 0},
	{READER, 17, 4096, 4096},
	{DIRECT, 512, 1024, 1024},
	{DIRECT, 1, 512, -EINVAL},
	{DIRECT, 0, 513, -EINVAL},
	{DIRECT, UINT64_MAX - 511, 512, 0},
	{EMPTY, 0, 4096, 0},
	{PLAIN, 0, MAX_IO, LEN},
	{PLAIN, 0, 0, 0},
	{PLAIN, LEN + 1, 10, 0},
	{PLAIN, 1ull << 63, 10, -EINVAL},
	{FOLDER, 0, 10, -EISDIR},
	{CLOSED, 0, 10, -EBADF},
	{NOBODY, 0, 10, -EBADF},
	{OTHER, 0, 10, -EBADF},
};

START_TEST(read_rows)
{
	struct files fs;

	open_all(&fs);
	for (int i = 0; i < ROWS(reads); i++) {
		const struct file *f = &fs.f[reads[i].by];
		long n =
			fc_read(fs.r.c, f->node, f->fh, reads[i].off, buf, reads[i].size);

		ck_assert_msg(n == reads[i].want, "row %d: %ld", i, n);
		if (n > 0)
			ck_assert_msg(!memcmp(buf, want + reads[i].off, (size_t)n),
				      "row %d", i);
	}
	close_all(&fs);
}
END_TEST

/* size: as the request says; sent: bytes behind it */
static const struct {
	enum by by;
	uint64_t off;
	uint32_t size, sent, flags;
	int want;
} writes[] = {
	{IMAGE, 0, 0, 0, 0, 0},
	{IMAGE, 1ull << 63, 0, 0, 0, -EFBIG},
	{IMAGE, 0, 10, 9, 0, -EINVAL},
	{IMAGE, 0, 1, 0, 0, -EINVAL},
	{IMAGE, 0, UINT32_MAX, 4096, 0, -EINVAL},
	{IMAGE, 100, 10, 4000, 0, 0}, /* what is behind is nobody's */
	{IMAGE, INT64_MAX, 1, 1, 0, -EFBIG},
	{IMAGE, 1ull << 63, 4096, 4096, 0, -EFBIG},
	{IMAGE, UINT64_MAX, 1, 1, 0, -EFBIG},
	{READER, 0, 10, 10, 0, -EBADF},
	{DIRECT, 512, 512, 512, 0, 0},
	{DIRECT, 1, 512, 512, 0, -EINVAL},
	{DIRECT, 1, 10, 10, FUSE_WRITE_CACHE, 0},
	{EMPTY, 0, 10, 10, FUSE_WRITE_CACHE, -EIO},
	{PLAIN, 0, 0, 0, 0, 0},
	{PLAIN, 1, 10, 10, FUSE_WRITE_KILL_SUIDGID, 0},
	{PLAIN, 1ull << 63, 10, 10, 0, -EINVAL},
	{CLOSED, 0, 10, 10, 0, -EBADF},
	{NOBODY, 0, 10, 10, 0, -EBADF},
	{OTHER, 0, 10, 10, 0, -EBADF},
};

static int write_row(struct files *fs, int i)
{
	const struct file *f = &fs->f[writes[i].by];
	struct fuse_write_out out = {0};
	struct fc_msg m;
	int err;

	fc_msg_write(&m, f->node, f->fh, writes[i].off, want + writes[i].off % LEN,
		     writes[i].sent);
	m.u.write.size = writes[i].size;
	m.u.write.write_flags = writes[i].flags;
	err = fc_do(fs->r.c, &m, &out, sizeof(out), NULL);
	ck_assert_uint_eq(out.size, err ? 0 : writes[i].size);
	return err;
}

/* Each writes what is there already, or nothing. */
START_TEST(write_rows)
{
	struct fuse_attr attr;
	struct files fs;

	open_all(&fs);
	for (int i = 0; i < ROWS(writes); i++) {
		int err = write_row(&fs, i);

		ck_assert_msg(err == writes[i].want, "row %d: %d", i, err);
	}
	for (int by = IMAGE; by <= PLAIN; by++) {
		const struct file *f = &fs.f[by];
		size_t len = by == EMPTY ? 0 : LEN;

		ck_assert_int_eq(fc_getattr(fs.r.c, f->node, &attr), 0);
		ck_assert_uint_eq(attr.size, len);
		ck_assert_int_eq(fc_read(fs.r.c, f->node, f->fh, 0, buf, MAX_IO), len);
		ck_assert(!memcmp(buf, want, len));
	}
	close_all(&fs);
}
END_TEST

/* The largest request, both ways, at an offset that is none of its parts'. */
START_TEST(largest)
{
	struct files fs;
	struct file f;

	open_all(&fs);
	f = fs.f[EMPTY];
	rig_pattern(want, MAX_IO, 7);
	ck_assert_int_eq(fc_write(fs.r.c, f.node, f.fh, 777, want, MAX_IO), 0);
	ck_assert_int_eq(fc_read(fs.r.c, f.node, f.fh, 777, buf, MAX_IO), MAX_IO);
	ck_assert(!memcmp(buf, want, MAX_IO));
	close_all(&fs);
}
END_TEST

/* Two dozen at a time, some interrupted: each is answered once, and as if it were alone. */
START_TEST(many_at_once)
{
	enum { ROUNDS = 40, AT_ONCE = 24, STEP = 512 };
	struct fc_call *calls[AT_ONCE];
	struct fc_msg m[AT_ONCE];
	struct files fs;
	struct file f;

	open_all(&fs);
	f = fs.f[IMAGE];
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < AT_ONCE; i++) {
			uint64_t off = (uint64_t)(i % 12) * STEP;

			if (i < 12)
				fc_msg_write(&m[i], f.node, f.fh, off, want + off, STEP);
			else
				fc_msg_read(&m[i], FUSE_READ, f.node, f.fh, off, STEP);
			calls[i] = fc_send(fs.r.c, &m[i]);
			if ((i + round) % 5 == 0)
				fc_interrupt(fs.r.c, fc_unique(calls[i]));
		}
		for (int i = 0; i < AT_ONCE; i++) {
			size_t len;

			ck_assert_int_eq(fc_end(calls[i], buf, BUF, &len), 0);
			if (i < 12)
				continue;
			ck_assert_uint_eq(len, STEP);
			ck_assert(!memcmp(buf, want + (i % 12) * STEP, STEP));
		}
	}
	close_all(&fs);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("protocol_transfer");
	TCase *t = tcase_create("transfer");

	tcase_add_test(t, read_rows);
	tcase_add_test(t, write_rows);
	tcase_add_test(t, largest);
	tcase_add_test(t, many_at_once);
	suite_add_tcase(s, t);
	return s;
}
