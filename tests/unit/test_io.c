/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is opened, and what must not be. A FIFO or socket that was tried would say ENXIO. */
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "util/cleanup.h"

static const struct {
	const char *name;
	mode_t mode; /* 0: not there */
	bool device;
	int want;
} rows[] = {
	{"file", S_IFREG, false, 0},	     {"file2", S_IFREG, true, 0},
	{"none", 0, false, -ENOENT},	     {"folder", S_IFDIR, false, -EINVAL},
	{"folder2", S_IFDIR, true, -EINVAL}, {"link", S_IFLNK, false, -ELOOP},
	{"link2", S_IFLNK, true, -ELOOP},    {"fifo", S_IFIFO, false, -EINVAL},
	{"fifo2", S_IFIFO, true, -EINVAL},   {"socket", S_IFSOCK, true, -EINVAL},
	{"chr", S_IFCHR, false, -EINVAL},    {"chr2", S_IFCHR, true, -EINVAL},
	{"blk", S_IFBLK, false, -EINVAL},    {"blk2", S_IFBLK, true, -ENXIO},
};

/* False: we may not make devices. Their numbers are of none that is there. */
static bool make(int dirfd, const char *name, mode_t mode)
{
	if (mode == S_IFDIR)
		ck_assert_int_eq(mkdirat(dirfd, name, 0700), 0);
	else if (mode == S_IFLNK)
		ck_assert_int_eq(symlinkat("file", dirfd, name), 0);
	else if (mode && mknodat(dirfd, name, mode | 0600, 0xeffff))
		return false;
	return true;
}

START_TEST(kinds)
{
	auto_close int dirfd = open(unit_tmpdir(), O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_close int fd = -1;
	int got;

	ck_assert_int_ge(dirfd, 0);
	if (!make(dirfd, rows[_i].name, rows[_i].mode)) {
		ck_assert_int_eq(errno, EPERM);
		return;
	}
	fd = io_open_file(dirfd, rows[_i].name, O_WRONLY | O_NONBLOCK, rows[_i].device);
	got = fd < 0 ? fd : 0;
	/* where devices of the user's mounts are not opened at all */
	if (rows[_i].want == -ENXIO && got == -EACCES)
		got = -ENXIO;
	ck_assert_msg(got == rows[_i].want, "%s: %d", rows[_i].name, got);
	if (fd < 0)
		return;
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(write(fd, "x", 1), 1);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("io");
	TCase *t = tcase_create("io");

	tcase_add_loop_test(t, kinds, 0, ROWS(rows));
	suite_add_tcase(s, t);
	return s;
}
