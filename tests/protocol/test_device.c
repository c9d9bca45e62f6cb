/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A block device as a file: its size, its name, what a request may not do. Needs a loop device. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/protocol/rig.h"
#include "util/io.h"

enum { D = 2 << 20, P = 6 << 20, SECTOR = 4096 };

struct disk {
	int fd; /* of the device */
	char path[64];
	uint64_t node, fh;
	struct rig r;
};

/* A loop device over a file of D + P bytes and a part of a sector. -1: none is to be had. */
static int new_device(char path[64])
{
	auto_close int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	auto_close int file = unit_tmpfile();

	if (control < 0 || ftruncate(file, D + P + 512) < 0)
		return -1;
	for (int i = 0; i < 20; i++) { /* another may take it meanwhile */
		auto_close int fd = -1;

		snprintf(path, 64, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_SET_FD, file) == 0)
			return STEAL_FD(&fd);
	}
	return -1;
}

static void need_loop_devices(void)
{
	char path[64];
	auto_close int fd = new_device(path);

	if (fd < 0) {
		puts("skip: needs a loop device");
		exit(77);
	}
	ioctl(fd, LOOP_CLR_FD);
}

static void disk_init(struct disk *d)
{
	char setting[128];
	const char *const settings[] = {setting, NULL};
	struct fuse_entry_out entry;
	struct fuse_open_out open;

	d->fd = new_device(d->path);
	ck_assert_int_ge(d->fd, 0);
	snprintf(setting, sizeof(setting), "device disk.path=%s", d->path);
	rig_start(&d->r, settings);
	ck_assert_int_eq(fc_lookup(d->r.c, ROOT, "disk", &entry), 0);
	d->node = entry.nodeid;
	ck_assert_uint_eq(entry.attr.mode, S_IFREG | 0600);
	ck_assert_uint_eq(entry.attr.size, P);
	ck_assert_int_eq(fc_open(d->r.c, d->node, O_RDWR, &open), 0);
	d->fh = open.fh;
}

static void disk_fini(struct disk *d)
{
	ck_assert_int_eq(fc_release(d->r.c, d->node, d->fh), 0);
	fc_forget(d->r.c, d->node, 1);
	rig_check_empty(&d->r);
	rig_end(&d->r);
	ioctl(d->fd, LOOP_CLR_FD);
	close(d->fd);
}

static uint64_t size_of(struct disk *d)
{
	struct fuse_attr attr;

	ck_assert_int_eq(fc_getattr(d->r.c, d->node, &attr), 0);
	ck_assert_uint_eq(attr.blocks, attr.size / 512);
	return attr.size;
}

/* _i: without a container yet; with one. */
START_TEST(size_stays)
{
	static const struct {
		uint32_t mode;
		uint64_t off, len;
		int want;
	} rows[] = {
		{0, 0, P, -EOPNOTSUPP},
		{FALLOC_FL_KEEP_SIZE, 0, SECTOR, -EOPNOTSUPP},
		{0, P, SECTOR, -EOPNOTSUPP},
		{FALLOC_FL_ZERO_RANGE, P - SECTOR, 2 * SECTOR, -EOPNOTSUPP},
		{FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, P - SECTOR, 2 * SECTOR, 0},
		{FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, P - 200, 0},
	};
	static unsigned char buf[SECTOR], zeros[SECTOR];
	struct disk d;

	disk_init(&d);
	ck_assert_int_eq(fc_read(d.r.c, d.node, d.fh, P - 10, buf, SECTOR), 10);
	ck_assert(io_is_zero(buf, 10));
	ck_assert_int_eq(fc_lseek(d.r.c, d.node, d.fh, 0, SEEK_DATA), 0);
	ck_assert_int_eq(fc_lseek(d.r.c, d.node, d.fh, 0, SEEK_HOLE), P);
	if (_i)
		ck_assert_int_eq(fc_write(d.r.c, d.node, d.fh, P - SECTOR, "end", 3), 0);
	for (int k = 0; k < 2; k++) {
		uint64_t fh = k ? d.fh : 0;

		ck_assert_int_eq(fc_setsize(d.r.c, d.node, fh, 0), -EOPNOTSUPP);
		ck_assert_int_eq(fc_setsize(d.r.c, d.node, fh, P - SECTOR), -EOPNOTSUPP);
		ck_assert_int_eq(fc_setsize(d.r.c, d.node, fh, P + 1), -EOPNOTSUPP);
		ck_assert_int_eq(fc_setsize(d.r.c, d.node, fh, P), 0);
	}
	ck_assert_int_eq(fc_write(d.r.c, d.node, d.fh, P - 1, "xx", 2), -ENOSPC);
	for (int k = 0; k < ROWS(rows); k++)
		ck_assert_msg(fc_fallocate(d.r.c, d.node, d.fh, rows[k].mode, rows[k].off,
					   rows[k].len) == rows[k].want,
			      "row %d", k);
	ck_assert_uint_eq(size_of(&d), P);
	ck_assert_int_eq(fc_read(d.r.c, d.node, d.fh, SECTOR, buf, SECTOR), SECTOR);
	ck_assert_mem_eq(buf, zeros, SECTOR);
	ck_assert_int_eq(fc_lseek(d.r.c, d.node, d.fh, 5, SEEK_DATA), 5);
	ck_assert_int_eq(fc_lseek(d.r.c, d.node, d.fh, 5, SEEK_HOLE), P);
	disk_fini(&d);
}
END_TEST

START_TEST(name_stays)
{
	struct fuse_open_out open;
	uint64_t node;
	struct disk d;

	disk_init(&d);
	ck_assert_int_eq(fc_unlink(d.r.c, ROOT, "disk"), -EPERM);
	ck_assert_int_eq(fc_rename(d.r.c, ROOT, "disk", ROOT, "x", 0), -EPERM);
	ck_assert_int_eq(fc_mkdir(d.r.c, ROOT, "disk", &node), -EPERM);
	node = rig_image(&d.r, ROOT, "file", 0);
	ck_assert_int_eq(fc_rename(d.r.c, ROOT, "file", ROOT, "disk", 0), -EPERM);
	fc_forget(d.r.c, node, 1);
	ck_assert_int_eq(fc_create(d.r.c, ROOT, "disk", O_RDWR | O_EXCL, &node, &open),
			 -EEXIST);
	ck_assert_int_eq(fc_create(d.r.c, ROOT, "disk", O_RDWR, &node, &open), 0);
	ck_assert_uint_eq(node, d.node);
	ck_assert_int_eq(fc_release(d.r.c, node, open.fh), 0);
	fc_forget(d.r.c, node, 1);
	disk_fini(&d);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("protocol_device");
	TCase *t = tcase_create("device");

	need_loop_devices();
	tcase_add_loop_test(t, size_stays, 0, 2);
	tcase_add_test(t, name_stays);
	suite_add_tcase(s, t);
	return s;
}
