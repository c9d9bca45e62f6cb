/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads, writes and sizes of images; what open says; what must not be opened. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/keytable.h"
#include "tests/protocol/rig.h"
#include "util/io.h"

enum { LEN = 100000, BUF = 1 << 20 };
static unsigned char buf[BUF], want[BUF];

struct file {
	uint64_t node, fh;
	uint32_t flags; /* FOPEN_ */
};

static struct file open_node(struct rig *r, uint64_t node, uint32_t flags)
{
	struct file f = {.node = node};
	struct fuse_open_out open;

	ck_assert_int_eq(fc_open(r->c, node, flags, &open), 0);
	f.fh = open.fh;
	f.flags = open.open_flags;
	return f;
}

static struct file create(struct rig *r, const char *name, uint32_t flags)
{
	struct fuse_open_out open;
	struct file f;

	ck_assert_int_eq(fc_create(r->c, ROOT, name, flags, &f.node, &open), 0);
	f.fh = open.fh;
	f.flags = open.open_flags;
	return f;
}

static void shut(struct rig *r, struct file f)
{
	ck_assert_int_eq(fc_release(r->c, f.node, f.fh), 0);
}

static uint64_t size_of(struct rig *r, uint64_t node)
{
	struct fuse_attr attr;

	ck_assert_int_eq(fc_getattr(r->c, node, &attr), 0);
	return attr.size;
}

/* A new image "disk" of LEN patterned bytes, open; `want` holds them. */
static struct file fresh(struct rig *r)
{
	rig_pattern(want, LEN, 1);
	memset(want + LEN, 0, BUF - LEN);
	return open_node(r, rig_image(r, ROOT, "disk", LEN), O_RDWR);
}

static void check(struct rig *r, struct file f, uint64_t size)
{
	ck_assert_uint_eq(size_of(r, f.node), size);
	ck_assert_int_eq(fc_read(r->c, f.node, f.fh, 0, buf, BUF), size);
	ck_assert(!memcmp(buf, want, size));
}

static void leave(struct rig *r, struct file f)
{
	shut(r, f);
	fc_forget(r->c, f.node, 1);
	rig_check_empty(r);
	rig_end(r);
}

static bool direct(struct file f)
{
	return f.flags & FOPEN_DIRECT_IO;
}

static bool parallel(struct file f)
{
	return f.flags & FC_PARALLEL_DIRECT_WRITES;
}

START_TEST(open_flags)
{
	struct file a, b, c, d;
	struct rig r;

	rig_start(&r, NULL);
	a = create(&r, "disk", O_RDWR); /* no header yet: the writer sees the error */
	ck_assert(direct(a) && parallel(a));
	ck_assert_int_eq(fc_write(r.c, a.node, a.fh, 0, "0123456789", 10), 0);
	b = open_node(&r, a.node, O_RDONLY); /* there is a header, but also `a` */
	ck_assert(direct(b) && parallel(b));
	shut(&r, a);
	c = open_node(&r, a.node, O_RDWR); /* `b` is direct */
	ck_assert(direct(c));
	shut(&r, b);
	shut(&r, c);
	a = open_node(&r, a.node, O_RDWR);
	ck_assert(!direct(a) && !parallel(a));
	d = open_node(&r, a.node, O_RDWR | O_DIRECT);
	ck_assert(direct(d) && parallel(d));
	b = open_node(&r, a.node, O_RDONLY);
	ck_assert(direct(b));
	shut(&r, d);
	shut(&r, b);
	b = open_node(&r, a.node, O_RDONLY);
	ck_assert(!direct(b));
	shut(&r, b);
	leave(&r, a);
}
END_TEST

START_TEST(shared_is_direct)
{
	const char *const shared[] = {"mount.shared=yes", NULL};
	struct fuse_entry_out entry;
	struct rig r;
	struct file f;

	rig_start(&r, shared);
	f = fresh(&r);
	ck_assert(direct(f) && parallel(f));
	ck_assert_int_eq(fc_lookup(r.c, ROOT, "disk", &entry), 0);
	ck_assert_uint_eq(entry.attr_valid, 0);
	ck_assert_uint_eq(entry.entry_valid, 0);
	fc_forget(r.c, f.node, 1);
	leave(&r, f);
}
END_TEST

/* {offset, length, what comes} of an image of LEN bytes */
static const struct {
	uint64_t off;
	uint32_t len;
	long got;
} reads[] = {
	{0, 1, 1},
	{0, LEN, LEN},
	{0, BUF, LEN},
	{1, 4096, 4096},
	{4095, 2, 2},
	{LEN - 1, 1, 1},
	{LEN - 1, 2, 1},
	{LEN - 5000, 8192, 5000},
	{LEN, 1, 0},
	{LEN + 1, BUF, 0},
	{INT64_MAX, 4096, 0},
	{(uint64_t)1 << 63, 4096, 0},
	{0, BUF + 1, -EINVAL},
	{0, 0, 0},
};

START_TEST(short_only_at_eof)
{
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = fresh(&r);
	for (int i = 0; i < ROWS(reads); i++) {
		ck_assert_int_eq(
			fc_read(r.c, f.node, f.fh, reads[i].off, buf, reads[i].len),
			reads[i].got);
		if (reads[i].got > 0)
			ck_assert(
				!memcmp(buf, want + reads[i].off, (size_t)reads[i].got));
	}
	leave(&r, f);
}
END_TEST

START_TEST(odd_writes)
{
	struct rig r;
	struct file f, ro;

	rig_start(&r, NULL);
	f = fresh(&r);
	ck_assert_int_eq(fc_write(r.c, f.node, f.fh, 4094, "odd", 3), 0);
	memcpy(want + 4094, "odd", 3);
	check(&r, f, LEN);
	ck_assert_int_eq(fc_write(r.c, f.node, f.fh, INT64_MAX - 5, "123456", 6), -EFBIG);
	ck_assert_int_eq(fc_write(r.c, f.node, f.fh, UINT64_MAX - 5, "123", 3), -EFBIG);
	ck_assert_int_eq(fc_write(r.c, f.node, f.fh, 0, "", 0), 0);
	check(&r, f, LEN);
	/* The kernel sends no write by a handle without the right; if so, nothing happens. */
	ro = open_node(&r, f.node, O_RDONLY);
	ck_assert_int_lt(fc_write(r.c, f.node, ro.fh, 0, "no", 2), 0);
	ck_assert_int_lt(fc_write(r.c, f.node, ro.fh, LEN, "no", 2), 0);
	ck_assert_int_lt(fc_setsize(r.c, f.node, ro.fh, 5), 0);
	ck_assert_int_lt(fc_fallocate(r.c, f.node, ro.fh, 3, 0, 8192), 0);
	check(&r, f, LEN);
	shut(&r, ro);
	leave(&r, f);
}
END_TEST

START_TEST(direct_alignment)
{
	struct rig r;
	struct file f, d;

	rig_start(&r, NULL);
	f = fresh(&r);
	d = open_node(&r, f.node, O_RDWR | O_DIRECT);
	ck_assert_int_eq(fc_read(r.c, d.node, d.fh, 1, buf, 512), -EINVAL);
	ck_assert_int_eq(fc_read(r.c, d.node, d.fh, 512, buf, 100), -EINVAL);
	ck_assert_int_eq(fc_write(r.c, d.node, d.fh, 1, buf, 512), -EINVAL);
	ck_assert_int_eq(fc_write(r.c, d.node, d.fh, 512, buf, 511), -EINVAL);
	ck_assert_int_eq(fc_read(r.c, d.node, d.fh, 512, buf, 1024), 1024);
	ck_assert(!memcmp(buf, want + 512, 1024));
	rig_pattern(want + 512, 1024, 7);
	ck_assert_int_eq(fc_write(r.c, d.node, d.fh, 512, want + 512, 1024), 0);
	ck_assert_int_eq(fc_read(r.c, d.node, d.fh, 0, buf, BUF), LEN); /* to the end */
	rig_pattern(want + 98304, 4096, 8);
	ck_assert_int_eq(fc_write(r.c, d.node, d.fh, 98304, want + 98304, 4096), 0);
	check(&r, f, 98304 + 4096);
	shut(&r, d);
	leave(&r, f);
}
END_TEST

static const int known_modes[] = {
	0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};

static const struct {
	uint64_t off, len;
} ranges[] = {{0, 4096}, {5, 10}, {4000, 9000}, {LEN - 10, 5}, {90000, 30001}};

static bool zeroes(int mode)
{
	return mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
}

START_TEST(fallocate_modes)
{
	int mode = known_modes[_i];
	uint64_t size = LEN;
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = fresh(&r);
	for (int i = 0; i < ROWS(ranges); i++) {
		uint64_t end = ranges[i].off + ranges[i].len;

		ck_assert_int_eq(fc_fallocate(r.c, f.node, f.fh, (uint32_t)mode,
					      ranges[i].off, ranges[i].len),
				 0);
		if (zeroes(mode))
			memset(want + ranges[i].off, 0, ranges[i].len);
		if (!(mode & FALLOC_FL_KEEP_SIZE) && end > size)
			size = end;
		check(&r, f, size);
	}
	leave(&r, f);
}
END_TEST

START_TEST(fallocate_errors)
{
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = fresh(&r);
	ck_assert_int_eq(
		fc_fallocate(r.c, f.node, f.fh, FALLOC_FL_COLLAPSE_RANGE, 0, 4096),
		-EOPNOTSUPP);
	ck_assert_int_eq(fc_fallocate(r.c, f.node, f.fh, FALLOC_FL_INSERT_RANGE, 0, 4096),
			 -EOPNOTSUPP);
	ck_assert_int_eq(fc_fallocate(r.c, f.node, f.fh, FALLOC_FL_PUNCH_HOLE, 0, 4096),
			 -EOPNOTSUPP);
	ck_assert_int_eq(fc_fallocate(r.c, f.node, f.fh, 1u << 31, 0, 1), -EOPNOTSUPP);
	ck_assert_int_eq(fc_fallocate(r.c, f.node, f.fh, 0, 0, 0), -EINVAL);
	ck_assert_int_eq(fc_fallocate(r.c, f.node, f.fh, 0, INT64_MAX, 4096), -EFBIG);
	ck_assert_int_eq(fc_fallocate(r.c, f.node, f.fh, 0, INT64_MAX - 4096, 10),
			 -EFBIG);
	check(&r, f, LEN);
	leave(&r, f);
}
END_TEST

START_TEST(lseek_table)
{
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = create(&r, "disk", O_RDWR);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, 0, SEEK_DATA), -ENXIO);
	ck_assert_int_eq(fc_setsize(r.c, f.node, 0, 1000003), 0);
	ck_assert_int_eq(fc_write(r.c, f.node, f.fh, 400000, "data", 4), 0);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, 0, SEEK_HOLE), 0);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, 0, SEEK_DATA), 397312);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, 400001, SEEK_DATA), 400001);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, 400001, SEEK_HOLE), 401408);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, 401408, SEEK_DATA), -ENXIO);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, 1000003, SEEK_HOLE), -ENXIO);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, UINT64_MAX, SEEK_HOLE), -ENXIO);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, 0, SEEK_SET), -EINVAL);
	ck_assert_int_eq(fc_lseek(r.c, f.node, f.fh, 0, 99), -EINVAL);
	leave(&r, f);
}
END_TEST

static const uint64_t sizes[] = {LEN + 1, LEN + 5000, 4097, 4096, 4095, 1,
				 0,	  1,	      4096, 0,	  513,	1000000};

/* Up and down, by handle and without, open and closed; the backing file tells the size alone. */
START_TEST(set_sizes)
{
	uint64_t len = LEN;
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = fresh(&r);
	for (int i = 0; i < ROWS(sizes); i++) {
		ck_assert_int_eq(fc_setsize(r.c, f.node, i % 2 ? f.fh : 0, sizes[i]), 0);
		if (sizes[i] < len)
			memset(want + sizes[i], 0, BUF - sizes[i]);
		len = sizes[i];
		check(&r, f, len);
	}
	ck_assert_int_lt(fc_setsize(r.c, f.node, f.fh, INT64_MAX), 0);
	ck_assert_int_lt(fc_setsize(r.c, f.node, f.fh, UINT64_MAX), 0);
	check(&r, f, len);
	shut(&r, f);
	fc_forget(r.c, f.node, 1);
	rig_down(&r);
	rig_up(&r);
	{
		struct fuse_entry_out entry;

		ck_assert_int_eq(fc_lookup(r.c, ROOT, "disk", &entry), 0);
		ck_assert_uint_eq(entry.attr.size, len);
		ck_assert_int_eq(fc_setsize(r.c, entry.nodeid, 0, 700001), 0);
		f = open_node(&r, entry.nodeid, O_RDWR);
	}
	check(&r, f, 700001);
	leave(&r, f);
}
END_TEST

START_TEST(empty_stays_empty)
{
	struct stat st;
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = create(&r, "disk", O_RDWR);
	ck_assert_int_eq(fc_setsize(r.c, f.node, 0, 0), 0);
	ck_assert_int_eq(fc_setsize(r.c, f.node, f.fh, 0), 0);
	ck_assert_int_eq(fc_fallocate(r.c, f.node, f.fh,
				      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 9),
			 0);
	ck_assert_int_eq(rig_asked(&r), 0);
	ck_assert_int_eq(stat(rig_backing(&r, "disk"), &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	leave(&r, f);
}
END_TEST

/* Replacing or removing the name leaves the open file whole. `_i`: unlink, rename over it */
START_TEST(gone_but_open)
{
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = fresh(&r);
	if (_i) {
		fc_forget(r.c, rig_image(&r, ROOT, "other", 10), 1);
		ck_assert_int_eq(fc_rename(r.c, ROOT, "other", ROOT, "disk", 0), 0);
	} else {
		ck_assert_int_eq(fc_unlink(r.c, ROOT, "disk"), 0);
	}
	check(&r, f, LEN);
	ck_assert_int_eq(fc_write(r.c, f.node, f.fh, LEN, "more", 4), 0);
	memcpy(want + LEN, "more", 4);
	check(&r, f, LEN + 4);
	ck_assert_int_eq(fc_setsize(r.c, f.node, 0, 5000), 0);
	memset(want + 5000, 0, BUF - 5000);
	check(&r, f, 5000);
	ck_assert_int_eq(fc_setsize(r.c, f.node, f.fh, 6000), 0);
	check(&r, f, 6000);
	leave(&r, f);
}
END_TEST

/* Both are open and change names: each handle keeps its file. */
START_TEST(exchanged)
{
	struct rig r;
	struct file a, b;

	rig_start(&r, NULL);
	a = fresh(&r);
	b = open_node(&r, rig_image(&r, ROOT, "other", 10), O_RDWR);
	ck_assert_int_eq(fc_rename(r.c, ROOT, "other", ROOT, "disk", 2), 0);
	check(&r, a, LEN);
	check(&r, b, 10);
	ck_assert_int_eq(fc_unlink(r.c, ROOT, "disk"), 0); /* b */
	check(&r, b, 10);
	shut(&r, b);
	fc_forget(r.c, b.node, 1);
	check(&r, a, LEN);
	leave(&r, a);
}
END_TEST

/* The first byte comes after the name is gone. */
START_TEST(unlinked_before_first_byte)
{
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	memset(want, 0, BUF);
	memcpy(want, "tmp", 3);
	f = create(&r, "disk", O_RDWR);
	ck_assert_int_eq(fc_unlink(r.c, ROOT, "disk"), 0);
	ck_assert_int_eq(fc_write(r.c, f.node, f.fh, 0, "tmp", 3), 0);
	check(&r, f, 3);
	leave(&r, f);
}
END_TEST

/*
 * The file system gives a deleted image's inode number to a new file while the image's key is
 * still here. `_i` 1: the new file is a container that was put there below the mount.
 */
START_TEST(inode_used_again)
{
	struct stat gone, now;
	char other[900];
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = fresh(&r);
	shut(&r, f);
	fc_forget(r.c, f.node, 1);
	rig_check_empty(&r);
	if (_i) {
		fc_forget(r.c, rig_image(&r, ROOT, "other", 5000), 1);
		snprintf(other, sizeof(other), "cp %s ", rig_backing(&r, "other"));
	}
	ck_assert_int_eq(stat(rig_backing(&r, "disk"), &gone), 0);
	ck_assert_int_eq(fc_unlink(r.c, ROOT, "disk"), 0);
	if (_i) {
		struct fuse_entry_out entry;

		strcat(other, rig_backing(&r, "disk"));
		ck_assert_int_eq(system(other), 0);
		ck_assert_int_eq(fc_lookup(r.c, ROOT, "disk", &entry), 0);
		ck_assert_uint_eq(entry.attr.size, 5000);
		f = open_node(&r, entry.nodeid, O_RDWR);
		check(&r, f, 5000);
	} else {
		f = create(&r, "disk", O_RDWR);
		check(&r, f, 0);
		ck_assert_int_eq(fc_write(r.c, f.node, f.fh, 0, want, 777), 0);
		check(&r, f, 777);
	}
	ck_assert_int_eq(stat(rig_backing(&r, "disk"), &now), 0);
	if (now.st_ino != gone.st_ino)
		printf("inode_used_again: the file system took another number\n");
	leave(&r, f);
}
END_TEST

/*
 * Somebody puts an older, shorter copy of the image back below the mount, or cuts it, while its key
 * lingers: what counts is the file's length, not what was known of it.
 */
START_TEST(other_length_below)
{
	static const uint64_t plens[] = {4096, 0, 24 * 4096};
	const uint64_t plen = plens[_i];
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = fresh(&r);
	shut(&r, f);
	ck_assert_int_eq(truncate(rig_backing(&r, "disk"), (off_t)(2 * BUF + plen)), 0);
	f = open_node(&r, f.node, O_RDWR);
	memset(want + plen, 0, BUF - plen);
	check(&r, f, plen);
	ck_assert_int_eq(fc_write(r.c, f.node, f.fh, LEN, want, 777), 0);
	memcpy(want + LEN, want, 777);
	check(&r, f, LEN + 777);
	leave(&r, f);
}
END_TEST

START_TEST(torn_below)
{
	struct fuse_open_out open_out;
	struct rig r;
	struct file f;

	rig_start(&r, NULL);
	f = fresh(&r);
	shut(&r, f);
	ck_assert_int_eq(truncate(rig_backing(&r, "disk"), 2 * BUF - 1), 0);
	ck_assert_int_eq(fc_open(r.c, f.node, O_RDWR, &open_out), -EBADMSG);
	fc_forget(r.c, f.node, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

START_TEST(plaintext)
{
	struct fuse_entry_out entry;
	struct fuse_open_out open_out;
	struct fc_msg m;
	struct rig r;
	int fd;

	rig_new(&r, NULL);
	fd = open(rig_backing(&r, "clear"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "in the clear", 12), 12);
	close(fd);
	r.with_plaintext = true;
	rig_up(&r);
	ck_assert_int_eq(fc_lookup(r.c, ROOT, "clear", &entry), 0);
	ck_assert_uint_eq(entry.attr.size, 12);
	ck_assert_int_eq(fc_open(r.c, entry.nodeid, O_RDONLY, &open_out), -EPERM);
	ck_assert_int_eq(fc_open(r.c, entry.nodeid, O_RDWR, &open_out), -EPERM);
	ck_assert_int_eq(fc_setsize(r.c, entry.nodeid, 0, 0), -EPERM);
	ck_assert_int_eq(fc_setsize(r.c, entry.nodeid, 0, 100), -EPERM);
	fc_msg_create(&m, ROOT, "clear", O_RDWR);
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EPERM);
	fc_msg_create(&m, ROOT, "clear", O_RDWR | O_EXCL);
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EEXIST);
	ck_assert_int_eq(fc_rename(r.c, ROOT, "clear", ROOT, "clear2", 0), 0);
	ck_assert_int_eq(fc_unlink(r.c, ROOT, "clear2"), 0);
	fc_forget(r.c, entry.nodeid, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

/* A container that was carried to another instance's place below the mount. */
START_TEST(moved_container)
{
	const char *const bound[] = {"rules.bind=^(i[0-9])/", NULL};
	struct fuse_open_out open_out;
	struct fuse_entry_out entry;
	char from[900];
	uint64_t i1, i2;
	struct rig r;

	rig_start(&r, bound);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "i1", &i1), 0);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "i2", &i2), 0);
	rig_image(&r, i1, "disk", 10);
	snprintf(from, sizeof(from), "%s", rig_backing(&r, "i1/disk"));
	/* A second name: the same inode, its key is here already. */
	ck_assert_int_eq(link(from, rig_backing(&r, "i2/disk")), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(fc_lookup(r.c, i2, "disk", &entry), 0);
		ck_assert_int_eq(fc_open(r.c, entry.nodeid, O_RDONLY, &open_out),
				 -EBADMSG);
		ck_assert_int_eq(fc_setsize(r.c, entry.nodeid, 0, 5), -EBADMSG);
		if (i)
			break;
		rig_down(&r);
		rig_up(&r);
		ck_assert_int_eq(fc_lookup(r.c, ROOT, "i1", &entry), 0);
		i1 = entry.nodeid;
		ck_assert_int_eq(fc_lookup(r.c, ROOT, "i2", &entry), 0);
		i2 = entry.nodeid;
	}
	ck_assert_int_eq(fc_lookup(r.c, i1, "disk", &entry), 0);
	ck_assert_int_eq(fc_open(r.c, entry.nodeid, O_RDONLY, &open_out), 0);
	ck_assert_int_eq(fc_release(r.c, entry.nodeid, open_out.fh), 0);
	rig_end(&r);
}
END_TEST

/* A damaged header: the open says so, the name can still go. */
START_TEST(damaged)
{
	struct fuse_open_out open_out;
	struct fuse_entry_out entry;
	unsigned char junk[32768];
	struct rig r;
	int fd;

	rig_start(&r, NULL);
	rig_image(&r, ROOT, "disk", LEN);
	rig_down(&r);
	fd = open(rig_backing(&r, "disk"), O_WRONLY | O_CLOEXEC);
	rig_pattern(junk, sizeof(junk), 9);
	ck_assert_int_eq(pwrite(fd, junk, sizeof(junk) - 512, 512),
			 (ssize_t)sizeof(junk) - 512);
	close(fd);
	rig_up(&r);
	ck_assert_int_eq(fc_lookup(r.c, ROOT, "disk", &entry), 0);
	ck_assert_int_eq(fc_open(r.c, entry.nodeid, O_RDWR, &open_out), -EBADMSG);
	ck_assert_int_eq(fc_unlink(r.c, ROOT, "disk"), 0);
	fc_forget(r.c, entry.nodeid, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("protocol_image");
	TCase *t = tcase_create("image");

	tcase_add_test(t, open_flags);
	tcase_add_test(t, shared_is_direct);
	tcase_add_test(t, short_only_at_eof);
	tcase_add_test(t, odd_writes);
	tcase_add_test(t, direct_alignment);
	tcase_add_loop_test(t, fallocate_modes, 0, ROWS(known_modes));
	tcase_add_test(t, fallocate_errors);
	tcase_add_test(t, lseek_table);
	tcase_add_test(t, set_sizes);
	tcase_add_test(t, empty_stays_empty);
	tcase_add_loop_test(t, gone_but_open, 0, 2);
	tcase_add_test(t, exchanged);
	tcase_add_test(t, unlinked_before_first_byte);
	tcase_add_loop_test(t, inode_used_again, 0, 2);
	tcase_add_loop_test(t, other_length_below, 0, 3);
	tcase_add_test(t, torn_below);
	tcase_add_test(t, plaintext);
	tcase_add_test(t, moved_container);
	tcase_add_test(t, damaged);
	suite_add_tcase(s, t);
	return s;
}
