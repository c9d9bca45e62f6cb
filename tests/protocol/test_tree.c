/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names, folders, attributes, and the life of nodes and handles. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/protocol/rig.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

static const char *const settings[] = {"rules.passthrough=plain/**",
				       "rules.derived=**/*.part", NULL};

static uint64_t look(struct rig *r, uint64_t parent, const char *name)
{
	struct fuse_entry_out entry;

	ck_assert_int_eq(fc_lookup(r->c, parent, name, &entry), 0);
	return entry.nodeid;
}

static int look_err(struct rig *r, uint64_t parent, const char *name)
{
	struct fuse_entry_out entry;
	int err = fc_lookup(r->c, parent, name, &entry);

	if (!err)
		fc_forget(r->c, entry.nodeid, 1);
	return err;
}

START_TEST(lookup_counts)
{
	uint64_t dir, file;
	struct rig r;

	rig_start(&r, settings);
	rig_check_empty(&r);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "a", &dir), 0);
	file = rig_image(&r, dir, "disk", 0);
	for (int i = 0; i < 9; i++)
		ck_assert_uint_eq(look(&r, dir, "disk"), file);
	ck_assert_uint_eq(rig_nodes(&r), 3);
	/* The folder is forgotten first: its node stays for its child's path. */
	fc_forget(r.c, dir, 1);
	fc_forget(r.c, file, 9);
	ck_assert_int_eq(fc_getattr(r.c, file, NULL), 0);
	ck_assert_uint_eq(rig_nodes(&r), 3);
	fc_forget(r.c, file, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

/* Many meet a node that nobody has looked into yet (for the thread sanitizer). */
enum { LOOKUPS = 32 };

START_TEST(lookups_at_once)
{
	struct fc_call *call[LOOKUPS];
	struct fuse_entry_out entry;
	struct fc_msg m;
	struct rig r;

	rig_start(&r, settings);
	fc_forget(r.c, rig_image(&r, ROOT, "disk", 5), 1);
	for (int round = 0; round < 20; round++) {
		rig_check_empty(&r);
		for (int i = 0; i < LOOKUPS; i++) {
			fc_msg_name(&m, FUSE_LOOKUP, ROOT, "disk");
			call[i] = fc_send(r.c, &m);
		}
		for (int i = 0; i < LOOKUPS; i++) {
			ck_assert_int_eq(fc_end(call[i], &entry, sizeof(entry), NULL), 0);
			ck_assert_uint_eq(entry.attr.size, 5);
		}
		fc_forget(r.c, entry.nodeid, LOOKUPS);
	}
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

START_TEST(stale_nodes)
{
	struct fuse_open_out open;
	struct fuse_entry_out entry;
	uint64_t file;
	struct rig r;

	rig_start(&r, settings);
	file = rig_image(&r, ROOT, "disk", 10);
	fc_forget(r.c, file, 1);
	rig_check_empty(&r);
	ck_assert_int_eq(fc_getattr(r.c, file, NULL), -ESTALE);
	ck_assert_int_eq(fc_open(r.c, file, O_RDWR, &open), -ESTALE);
	ck_assert_int_eq(fc_setsize(r.c, file, 0, 5), -ESTALE);
	ck_assert_int_eq(fc_lookup(r.c, file, "x", &entry), -ESTALE);
	/* The slot is used again under another id; the old one stays stale, FORGET included. */
	ck_assert_uint_ne(look(&r, ROOT, "disk"), file);
	fc_forget(r.c, file, 1);
	fc_forget(r.c, file, 1000);
	ck_assert_int_eq(fc_getattr(r.c, file, NULL), -ESTALE);
	ck_assert_uint_eq(rig_nodes(&r), 2);
	/* Far too much for a live one, and some for the root: it stays. */
	fc_forget(r.c, look(&r, ROOT, "disk"), UINT64_MAX);
	fc_forget(r.c, ROOT, 1000);
	fc_forget(r.c, 0, 1);
	fc_forget(r.c, UINT64_MAX, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

START_TEST(batch_forget)
{
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one[20];
	} body = {.in.count = 20};
	char name[16];
	struct fc_msg m;
	struct rig r;

	rig_start(&r, settings);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		body.one[i].nodeid = rig_image(&r, ROOT, name, 0);
		body.one[i].nlookup = 1;
	}
	ck_assert_uint_eq(rig_nodes(&r), 21);
	fc_msg_node(&m, FUSE_BATCH_FORGET, 0);
	m.part[m.cnt++] = (struct iovec){&body, sizeof(body)};
	fc_post(r.c, &m);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

START_TEST(forged_handles)
{
	static const uint64_t handles[] = {0, 1, 2, 77, UINT64_MAX, 1ull << 32 | 1};
	struct fuse_open_out open;
	uint64_t file, fh;
	struct fc_msg m;
	struct rig r;
	char buf[16];

	rig_start(&r, settings);
	file = rig_image(&r, ROOT, "disk", 10);
	ck_assert_int_eq(fc_open(r.c, file, O_RDWR, &open), 0);
	ck_assert_int_eq(fc_release(r.c, file, open.fh), 0);
	for (int i = 0; i < ROWS(handles); i++) {
		fh = i ? handles[i] : open.fh; /* one that was */
		ck_assert_int_eq(fc_read(r.c, file, fh, 0, buf, 16), -EBADF);
		ck_assert_int_eq(fc_write(r.c, file, fh, 0, buf, 16), -EBADF);
		ck_assert_int_eq(fc_setsize(r.c, file, fh, 3), -EBADF);
		ck_assert_int_eq(fc_fallocate(r.c, file, fh, 0, 0, 9), -EBADF);
		ck_assert_int_eq(fc_lseek(r.c, file, fh, 0, SEEK_DATA), -EBADF);
		fc_msg_fsync(&m, file, fh, false);
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EBADF);
		fc_msg_flush(&m, file, fh);
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EBADF);
		fc_msg_read(&m, FUSE_READDIR, ROOT, fh, 0, 4096);
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EBADF);
		ck_assert_int_eq(fc_release(r.c, file, fh), 0); /* nothing happens */
	}
	fc_forget(r.c, file, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

/* A handle of one file with the node of another. */
START_TEST(crossed_handles)
{
	struct fuse_open_out a_open, b_open, dir_open;
	uint64_t a, b;
	struct fc_msg m;
	char buf[16];
	struct rig r;

	rig_start(&r, settings);
	a = rig_image(&r, ROOT, "a", 0);
	b = rig_image(&r, ROOT, "b", 5000);
	ck_assert_int_eq(fc_open(r.c, a, O_RDWR, &a_open), 0);
	ck_assert_int_eq(fc_open(r.c, b, O_RDWR, &b_open), 0);
	fc_msg_open(&m, FUSE_OPENDIR, ROOT, O_RDONLY);
	ck_assert_int_eq(fc_do(r.c, &m, &dir_open, sizeof(dir_open), NULL), 0);
	ck_assert_int_eq(fc_write(r.c, b, a_open.fh, 0, "x", 1), -EBADF);
	ck_assert_int_eq(fc_setsize(r.c, b, a_open.fh, 1), -EBADF);
	ck_assert_int_eq(fc_setsize(r.c, b, dir_open.fh, 1), -EBADF);
	ck_assert_int_eq(fc_fallocate(r.c, b, a_open.fh, 0, 0, 10), -EBADF);
	ck_assert_int_eq(fc_read(r.c, a, dir_open.fh, 0, buf, 16), -EBADF);
	ck_assert_int_eq(fc_write(r.c, a, dir_open.fh, 0, buf, 16), -EBADF);
	fc_msg_read(&m, FUSE_READDIR, ROOT, b_open.fh, 0, 4096);
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EBADF);
	ck_assert_int_eq(fc_read(r.c, b, b_open.fh, 0, buf, 16), 16);
	ck_assert_int_eq(fc_release(r.c, a, a_open.fh), 0);
	ck_assert_int_eq(fc_release(r.c, b, b_open.fh), 0);
	fc_msg_release(&m, FUSE_RELEASEDIR, ROOT, dir_open.fh);
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), 0);
	fc_forget(r.c, a, 1);
	fc_forget(r.c, b, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

START_TEST(names)
{
	struct fuse_entry_out entry;
	uint64_t dir, file, again;
	char text[64] = "", longname[300];
	struct fc_msg m;
	struct rig r;
	size_t len;

	rig_start(&r, settings);
	memset(longname, 'n', sizeof(longname) - 1);
	longname[sizeof(longname) - 1] = '\0';
	ck_assert_int_eq(look_err(&r, ROOT, "none"), -ENOENT);
	ck_assert_int_eq(look_err(&r, ROOT, longname), -ENAMETOOLONG);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "d", &dir), 0);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "d", &again), -EEXIST);
	file = rig_image(&r, dir, "disk", 100);
	ck_assert_int_eq(look_err(&r, file, "x"), -ENOTDIR);
	fc_msg_name(&m, FUSE_RMDIR, ROOT, "d");
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -ENOTEMPTY);
	ck_assert_int_eq(fc_unlink(r.c, ROOT, "d"), -EISDIR);
	ck_assert_int_eq(fc_unlink(r.c, dir, "none"), -ENOENT);
	fc_msg_symlink(&m, dir, "s", "../somewhere/else");
	ck_assert_int_eq(fc_do(r.c, &m, &entry, sizeof(entry), NULL), 0);
	ck_assert(S_ISLNK(entry.attr.mode));
	fc_msg_node(&m, FUSE_READLINK, entry.nodeid);
	ck_assert_int_eq(fc_do(r.c, &m, text, sizeof(text) - 1, &len), 0);
	ck_assert_str_eq(text, "../somewhere/else");
	fc_forget(r.c, entry.nodeid, 1);
	fc_msg_link(&m, file, ROOT, "disk2");
	ck_assert_int_eq(fc_do(r.c, &m, &entry, sizeof(entry), NULL), 0);
	ck_assert_uint_eq(entry.nodeid, file);
	ck_assert_uint_eq(entry.attr.nlink, 2);
	ck_assert_uint_eq(entry.attr.size, 100);
	ck_assert_int_eq(fc_unlink(r.c, dir, "disk"), 0);
	ck_assert_int_eq(fc_unlink(r.c, dir, "s"), 0);
	fc_msg_name(&m, FUSE_RMDIR, ROOT, "d");
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), 0);
	ck_assert_int_eq(fc_unlink(r.c, ROOT, "disk2"), 0);
	fc_forget(r.c, dir, 1);
	fc_forget(r.c, file, 2);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

/* dir: a passthrough one is "plain". Of devices the first is the one that nothing answers for. */
static const struct {
	const char *dir;
	uint32_t mode;
	uint32_t rdev;
	int err;
} special[] = {
	{"a", S_IFREG | 0600, 0, 0},
	{"a", S_IFIFO | 0600, 0, 0},
	{"a", S_IFSOCK | 0600, 0, 0},
	{"a", S_IFBLK | 0600, 0x10203, -EPERM},
	{"a", S_IFCHR | 0600, 0x10203, -EPERM},
	{"plain", S_IFREG | 0600, 0, 0},
	{"plain", S_IFIFO | 0600, 0, 0},
	{"plain", S_IFBLK | 0640, 0x12300405, 0},
	{"plain", S_IFCHR | 0604, 0x10203, 0},
};

/* A container's root may not. */
static bool may_mknod(struct rig *r)
{
	const char *probe = rig_backing(r, "probe");

	return mknod(probe, S_IFCHR | 0600, 0x10203) == 0 && unlink(probe) == 0;
}

static bool is_device(uint32_t mode)
{
	return S_ISBLK(mode) || S_ISCHR(mode);
}

/* What the kernel does itself, nobody makes us do: we would open the device, or wait. */
static void check_closed(struct rig *r, uint64_t dir, uint64_t node)
{
	static const int flags[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_NONBLOCK};
	struct fuse_open_out open;
	uint64_t again;

	for (int i = 0; i < ROWS(flags); i++)
		ck_assert_int_eq(fc_open(r->c, node, flags[i], &open), -EACCES);
	ck_assert_int_eq(fc_setsize(r->c, node, 0, 10), -EINVAL);
	ck_assert_int_eq(fc_create(r->c, dir, "n", O_RDWR, &again, &open), -EACCES);
}

START_TEST(mknod_kinds)
{
	const uint32_t mode = special[_i].mode;
	struct fuse_entry_out entry;
	struct fc_msg m;
	struct rig r;
	uint64_t dir;

	rig_start(&r, settings);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, special[_i].dir, &dir), 0);
	fc_msg_mknod(&m, dir, "n", mode, special[_i].rdev);
	if (!special[_i].err && is_device(mode) && !may_mknod(&r)) {
		ck_assert_int_eq(fc_do(r.c, &m, &entry, sizeof(entry), NULL), -EPERM);
	} else {
		ck_assert_int_eq(fc_do(r.c, &m, &entry, sizeof(entry), NULL),
				 special[_i].err);
		if (!special[_i].err) {
			ck_assert_uint_eq(entry.attr.mode, mode);
			ck_assert_uint_eq(entry.attr.rdev, special[_i].rdev);
			if (!S_ISREG(mode))
				check_closed(&r, dir, entry.nodeid);
			fc_forget(r.c, entry.nodeid, 1);
		}
	}
	fc_forget(r.c, dir, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

/* Nor do they come by another way to where images are. */
START_TEST(devices_stay)
{
	struct fuse_entry_out entry;
	uint64_t plain, other;
	struct fc_msg m;
	struct rig r;

	rig_start(&r, settings);
	if (may_mknod(&r)) {
		ck_assert_int_eq(fc_mkdir(r.c, ROOT, "plain", &plain), 0);
		ck_assert_int_eq(fc_mkdir(r.c, ROOT, "a", &other), 0);
		fc_msg_mknod(&m, plain, "n", S_IFCHR | 0600, 0x10203);
		ck_assert_int_eq(fc_do(r.c, &m, &entry, sizeof(entry), NULL), 0);
		ck_assert_int_eq(fc_rename(r.c, plain, "n", plain, "m", 0), 0);
		ck_assert_int_eq(fc_rename(r.c, plain, "m", other, "n", 0), -EXDEV);
		fc_msg_link(&m, entry.nodeid, other, "n");
		ck_assert_int_eq(fc_do(r.c, &m, &entry, sizeof(entry), NULL), -EXDEV);
		fc_msg_link(&m, entry.nodeid, plain, "n");
		ck_assert_int_eq(fc_do(r.c, &m, &entry, sizeof(entry), NULL), 0);
		ck_assert_int_eq(fc_unlink(r.c, plain, "m"), 0);
		ck_assert_int_eq(fc_unlink(r.c, plain, "n"), 0);
		fc_forget(r.c, entry.nodeid, 2);
		fc_forget(r.c, plain, 1);
		fc_forget(r.c, other, 1);
	}
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

START_TEST(xattrs)
{
	struct fuse_getxattr_out out;
	struct fc_msg m;
	uint64_t file;
	char buf[64];
	struct rig r;
	size_t len;
	int err;

	rig_start(&r, settings);
	file = rig_image(&r, ROOT, "disk", 10);
	fc_msg_setxattr(&m, file, "user.a", "value", 5);
	err = fc_do(r.c, &m, NULL, 0, NULL);
	ck_assert(!err || err == -EOPNOTSUPP);
	if (!err) {
		fc_msg_getxattr(&m, FUSE_GETXATTR, file, "user.a", 0);
		ck_assert_int_eq(fc_do(r.c, &m, &out, sizeof(out), NULL), 0);
		ck_assert_uint_eq(out.size, 5);
		fc_msg_getxattr(&m, FUSE_GETXATTR, file, "user.a", 3);
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -ERANGE);
		fc_msg_getxattr(&m, FUSE_GETXATTR, file, "user.a", sizeof(buf));
		ck_assert_int_eq(fc_do(r.c, &m, buf, sizeof(buf), &len), 0);
		ck_assert_uint_eq(len, 5);
		ck_assert(!memcmp(buf, "value", 5));
		fc_msg_getxattr(&m, FUSE_LISTXATTR, file, NULL, sizeof(buf));
		ck_assert_int_eq(fc_do(r.c, &m, buf, sizeof(buf), &len), 0);
		ck_assert_uint_ge(len, 7);
		fc_msg_name(&m, FUSE_REMOVEXATTR, file, "user.a");
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), 0);
		fc_msg_getxattr(&m, FUSE_GETXATTR, file, "user.a", 0);
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -ENODATA);
	}
	fc_forget(r.c, file, 1);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

/* Both forms of one listing; true if the name is in the answer. */
struct listing {
	char names[700][32];
	uint64_t off[700];
	int cnt;
	int known; /* entries that came with a node */
};

static void add_entry(struct listing *l, const struct fuse_dirent *d)
{
	if (*d->name == '.')
		return;
	snprintf(l->names[l->cnt], sizeof(l->names[0]), "%.*s", (int)d->namelen, d->name);
	l->off[l->cnt++] = d->off;
}

static void parse(struct rig *r, struct listing *l, bool plus, const char *buf,
		  size_t len)
{
	size_t pos = 0;

	while (pos < len) {
		const struct fuse_direntplus *p = (const void *)(buf + pos);
		const struct fuse_dirent *d = plus ? &p->dirent : (const void *)p;

		add_entry(l, d);
		if (plus && p->entry_out.nodeid) {
			l->known++;
			fc_forget(r->c, p->entry_out.nodeid, 1);
		}
		pos += plus ? FUSE_DIRENTPLUS_SIZE(p) : FUSE_DIRENT_SIZE(d);
	}
	ck_assert_uint_eq(pos, len);
}

/* Lists from an offset on, `room` bytes a request; `times`: that many requests, 0 all. */
static void list(struct rig *r, uint64_t fh, bool plus, uint32_t room, uint64_t off,
		 int times, struct listing *l)
{
	static char buf[256 * 1024];
	struct fc_msg m;
	size_t len;

	l->cnt = l->known = 0;
	do {
		int before = l->cnt;

		fc_msg_read(&m, plus ? FUSE_READDIRPLUS : FUSE_READDIR, ROOT, fh, off,
			    room);
		ck_assert_int_eq(fc_do(r->c, &m, buf, sizeof(buf), &len), 0);
		parse(r, l, plus, buf, len);
		if (l->cnt > before)
			off = l->off[l->cnt - 1];
		else if (len)
			off = ((const struct fuse_dirent *)(const void *)buf)->off;
	} while (len && --times);
}

static bool listed(const struct listing *l, const char *name)
{
	for (int i = 0; i < l->cnt; i++) {
		if (strcmp(l->names[i], name) == 0)
			return true;
	}
	return false;
}

enum { ENTRIES = 300 };

/* What was listed may be deleted while listing: the rest comes, whole and once. */
START_TEST(readdir_under_deletes)
{
	static struct listing first, rest;
	struct fuse_open_out open;
	struct fc_msg m;
	char name[16];
	struct rig r;

	rig_start(&r, settings);
	for (int i = 0; i < ENTRIES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		fc_forget(r.c, rig_image(&r, ROOT, name, 0), 1);
	}
	fc_msg_open(&m, FUSE_OPENDIR, ROOT, O_RDONLY);
	ck_assert_int_eq(fc_do(r.c, &m, &open, sizeof(open), NULL), 0);
	list(&r, open.fh, _i, 4096, 0, 0, &first);
	ck_assert_int_eq(first.cnt, ENTRIES);
	list(&r, open.fh, _i, 1024, 0, 4, &first);
	ck_assert_int_gt(first.cnt, 0);
	for (int i = 0; i < first.cnt; i++)
		ck_assert_int_eq(fc_unlink(r.c, ROOT, first.names[i]), 0);
	list(&r, open.fh, _i, 2048, first.off[first.cnt - 1], 0, &rest);
	ck_assert_int_eq(first.cnt + rest.cnt, ENTRIES);
	for (int i = 0; i < first.cnt; i++)
		ck_assert(!listed(&rest, first.names[i]));
	fc_msg_release(&m, FUSE_RELEASEDIR, ROOT, open.fh);
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), 0);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

static void make_plain(struct rig *r, const char *name)
{
	int fd = open(rig_backing(r, name), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	close(fd);
}

/* A request has room for so many lookups; what comes beyond them is listed without. */
START_TEST(readdirplus_beyond_marks)
{
	enum { FILES = SESSION_MARKS_MAX + 100 };
	static struct listing l;
	struct fuse_open_out open;
	struct fc_msg m;
	char name[16];
	struct rig r;

	rig_start(&r, settings);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_plain(&r, name);
	}
	fc_msg_open(&m, FUSE_OPENDIR, ROOT, O_RDONLY);
	ck_assert_int_eq(fc_do(r.c, &m, &open, sizeof(open), NULL), 0);
	list(&r, open.fh, true, 256 * 1024, 0, 1, &l);
	ck_assert_int_eq(l.cnt, FILES);
	ck_assert_int_eq(l.known, SESSION_MARKS_MAX);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ck_assert(listed(&l, name));
	}
	fc_msg_release(&m, FUSE_RELEASEDIR, ROOT, open.fh);
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), 0);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

/* Renames: {from, to, flags, error}. x, y: images; plain/: passthrough; i1/, i2/: instances */
static const struct {
	const char *from_dir, *from, *to_dir, *to;
	uint32_t flags;
	int err;
} renames[] = {
	{"", "x", "", "z", 0, 0},
	{"", "x", "", "y", 0, 0},
	{"", "x", "", "y", RENAME_NOREPLACE, -EEXIST},
	{"", "x", "", "z", RENAME_NOREPLACE, 0},
	{"", "x", "", "y", RENAME_EXCHANGE, 0},
	{"", "x", "", "none", RENAME_EXCHANGE, -ENOENT},
	{"", "none", "", "z", 0, -ENOENT},
	{"", "x", "", "x", 0, 0},
	{"", "x", "", "z", 4, -EINVAL},
	{"", "x", "", "z.part", 0, 0},
	{"", "x", "plain", "x", 0, -EXDEV},
	{"plain", "p", "", "p", 0, -EXDEV},
	{"", "x", "plain", "p", RENAME_EXCHANGE, -EXDEV},
	{"", "x", "", "i1", 0, -EISDIR},
	{"", "i1", "", "x", 0, -EXDEV},
	{"i1", "disk", "i2", "disk", 0, -EXDEV},
	{"i1", "disk", "", "disk", 0, -EXDEV},
	{"i1", "disk", "i1", "disk.bak", 0, 0},
	{"", "i1", "", "i3", 0, -EXDEV},
	{"", "i1", "", "i1_resize", 0, 0},
	{"", "plain", "", "other", 0, -EXDEV},
};

static uint64_t dir_of(struct rig *r, const char *name)
{
	return *name ? look(r, ROOT, name) : ROOT;
}

START_TEST(rename_table)
{
	const char *const bound[] = {"rules.passthrough=plain/**",
				     "rules.derived=**/*.part",
				     "rules.bind=^(i[0-9])(?:_resize)?/", NULL};
	uint64_t i1, i2, plain, from, to;
	struct rig r;

	rig_start(&r, bound);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "plain", &plain), 0);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "i1", &i1), 0);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "i2", &i2), 0);
	rig_image(&r, ROOT, "x", 100);
	rig_image(&r, ROOT, "y", 200);
	rig_image(&r, plain, "p", 10);
	rig_image(&r, i1, "disk", 300);
	from = dir_of(&r, renames[_i].from_dir);
	to = dir_of(&r, renames[_i].to_dir);
	ck_assert_int_eq(fc_rename(r.c, from, renames[_i].from, to, renames[_i].to,
				   renames[_i].flags),
			 renames[_i].err);
	if (renames[_i].err) {
		if (strcmp(renames[_i].from, "none") != 0)
			ck_assert_int_eq(look_err(&r, from, renames[_i].from), 0);
	} else {
		ck_assert_int_eq(look_err(&r, to, renames[_i].to), 0);
		if (!(renames[_i].flags & RENAME_EXCHANGE) &&
		    strcmp(renames[_i].from, renames[_i].to) != 0)
			ck_assert_int_eq(look_err(&r, from, renames[_i].from), -ENOENT);
	}
	rig_end(&r);
}
END_TEST

/* A link that would show an image under another class or instance. */
START_TEST(link_across)
{
	uint64_t plain, x, p;
	struct fc_msg m;
	struct rig r;

	rig_start(&r, settings);
	ck_assert_int_eq(fc_mkdir(r.c, ROOT, "plain", &plain), 0);
	x = rig_image(&r, ROOT, "x", 100);
	p = rig_image(&r, plain, "p", 10);
	fc_msg_link(&m, x, plain, "x");
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EXDEV);
	fc_msg_link(&m, p, ROOT, "p");
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -EXDEV);
	rig_end(&r);
}
END_TEST

/* What is set comes back; times and modes of an image are those of its container. */
START_TEST(attributes)
{
	struct fuse_attr_out out;
	struct fc_msg m;
	uint64_t file;
	struct rig r;

	rig_start(&r, settings);
	file = rig_image(&r, ROOT, "disk", 1000);
	fc_msg_setsize(&m, file, 0, 0);
	m.u.setattr.valid = FATTR_MODE | FATTR_MTIME | FATTR_ATIME;
	m.u.setattr.mode = S_IFREG | 0640;
	m.u.setattr.mtime = 1000000;
	m.u.setattr.mtimensec = 5;
	m.u.setattr.atime = 2000000;
	ck_assert_int_eq(fc_do(r.c, &m, &out, sizeof(out), NULL), 0);
	ck_assert_uint_eq(out.attr.mode, S_IFREG | 0640);
	ck_assert_uint_eq(out.attr.mtime, 1000000);
	ck_assert_uint_eq(out.attr.mtimensec, 5);
	ck_assert_uint_eq(out.attr.atime, 2000000);
	ck_assert_uint_eq(out.attr.size, 1000);
	rig_end(&r);
}
END_TEST

/* What could not be looked at nor removed for the length of its path is not made in the first place. */
START_TEST(paths_too_long)
{
	char name[201];
	uint64_t nodes[32] = {ROOT};
	struct fuse_open_out open;
	struct fuse_entry_out entry;
	struct fc_msg m;
	uint64_t node;
	struct rig r;
	int n = 0;

	memset(name, 'd', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	rig_start(&r, NULL);
	while (n < 30 && fc_mkdir(r.c, nodes[n], name, &nodes[n + 1]) == 0)
		n++;
	ck_assert_int_eq(n, 20); /* 20 * 201 = 4020 */
	ck_assert_int_eq(fc_create(r.c, nodes[n], "file", O_RDWR, &node, &open), 0);
	ck_assert_int_eq(fc_release(r.c, node, open.fh), 0);
	ck_assert_int_eq(fc_create(r.c, nodes[n], name, O_RDWR, &node, &open),
			 -ENAMETOOLONG);
	fc_msg_mknod(&m, nodes[n], name, S_IFREG | 0600, 0);
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -ENAMETOOLONG);
	fc_msg_symlink(&m, nodes[n], name, "x");
	ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(fc_lookup(r.c, nodes[n], "file", &entry), 0);
	ck_assert_int_eq(fc_unlink(r.c, nodes[n], "file"), 0);
	while (n-- > 0) {
		fc_msg_name(&m, FUSE_RMDIR, nodes[n], name);
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), 0);
	}
	rig_end(&r);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("protocol_tree");
	TCase *t = tcase_create("tree");

	tcase_add_test(t, lookup_counts);
	tcase_add_test(t, lookups_at_once);
	tcase_add_test(t, stale_nodes);
	tcase_add_test(t, batch_forget);
	tcase_add_test(t, forged_handles);
	tcase_add_test(t, crossed_handles);
	tcase_add_test(t, names);
	tcase_add_loop_test(t, mknod_kinds, 0, ROWS(special));
	tcase_add_test(t, devices_stay);
	tcase_add_test(t, xattrs);
	tcase_add_loop_test(t, readdir_under_deletes, 0, 2);
	tcase_add_test(t, readdirplus_beyond_marks);
	tcase_add_loop_test(t, rename_table, 0, ROWS(renames));
	tcase_add_test(t, link_across);
	tcase_add_test(t, attributes);
	tcase_add_test(t, paths_too_long);
	suite_add_tcase(s, t);
	return s;
}
