/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LD_PRELOAD: writes down every change that the daemon makes in its backing and its state
 * folder, and what it says to key helpers, in order (record.h).
 *
 *   VCF_RECORD        the record's file, made by who starts us
 *   VCF_RECORD_BACK   the two folders, as realpath(3) says them
 *   VCF_RECORD_STATE
 *
 * An asynchronous write has two records: RECORD_SUBMIT, and RECORD_DONE when its end was reported,
 * before the daemon learns of it. Between them the disk may have it or not, whatever is synced.
 *
 * fsync and fdatasync are written down and not carried out: the disk whose power fails is one
 * that powercheck.c builds. All calls go by the C library's names; what would go past them is
 * found by powercheck, which compares the whole replay with the folders.
 */
#undef _FORTIFY_SOURCE
#undef _FILE_OFFSET_BITS
#define _LARGEFILE64_SOURCE

#include "tests/crash/record.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wpedantic"

static struct record_file *rec;
static const char *roots[2];

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_ftruncate)(int, off64_t);
static int (*real_fallocate)(int, int, off64_t, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_mkdirat)(int, const char *, mode_t);
static int (*real_mknodat)(int, const char *, mode_t, dev_t);
static int (*real_symlinkat)(const char *, int, const char *);
static int (*real_linkat)(int, const char *, int, const char *, int);
static int (*real_renameat2)(int, const char *, int, const char *, unsigned int);
static int (*real_unlinkat)(int, const char *, int);
static long (*real_syscall)(long, ...);

static void note_root(const char *path, const char *text)
{
	struct stat64 st;

	if (!path || stat64(path, &st))
		abort();
	record_append(rec, &(struct record){.kind = RECORD_ROOT, .ino = st.st_ino}, text,
		      strlen(text) + 1, NULL, 0);
}

static void *real(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (!p)
		abort();
	return p;
}

static void find_real(void)
{
	real_write = real("write");
	real_read = real("read");
	real_pwrite = real("pwrite64");
	real_writev = real("writev");
	real_openat = real("openat64");
	real_ftruncate = real("ftruncate64");
	real_fallocate = real("fallocate64");
	real_fsync = real("fsync");
	real_fdatasync = real("fdatasync");
	real_mkdirat = real("mkdirat");
	real_mknodat = real("mknodat");
	real_symlinkat = real("symlinkat");
	real_linkat = real("linkat");
	real_renameat2 = real("renameat2");
	real_syscall = real("syscall");
	real_unlinkat = real("unlinkat");
}

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("VCF_RECORD");

	if (rec)
		return;
	find_real();
	if (!path)
		return;
	roots[0] = getenv("VCF_RECORD_BACK");
	roots[1] = getenv("VCF_RECORD_STATE");
	rec = record_map(path);
	if (!rec)
		abort();
	record_lock(rec);
	if (!atomic_load(&rec->end)) {
		note_root(roots[0], "back");
		note_root(roots[1], "state");
	}
	record_unlock(rec);
}

/* Other libraries' constructors may come before ours. */
static void ready(void)
{
	if (!real_unlinkat)
		start();
}

static bool below(const char *path)
{
	for (int i = 0; i < 2; i++) {
		size_t len = strlen(roots[i]);

		if (strncmp(path, roots[i], len) == 0 &&
		    (path[len] == '/' || path[len] == '\0' || path[len] == ' '))
			return true;
	}
	return false;
}

static bool fd_below(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	ready();
	if (!rec)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return below(path);
}

static uint64_t ino_of(int fd)
{
	struct stat64 st;

	return fstat64(fd, &st) ? 0 : st.st_ino;
}

/* One name: its folder and its last component. */
struct place {
	uint64_t dir;
	const char *name;
};

static bool find_place(struct place *p, int dirfd, const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX];
	bool is_below;
	int fd;

	ready();
	if (!rec)
		return false;
	p->name = slash ? slash + 1 : path;
	snprintf(folder, sizeof(folder), "%.*s",
		 slash ? (int)(slash - path + (slash == path)) : 1, slash ? path : ".");
	fd = real_openat(dirfd, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	p->dir = ino_of(fd);
	is_below = fd_below(fd);
	close(fd);
	return is_below;
}

/* 0: there is none. */
static uint64_t ino_at(int dirfd, const char *path)
{
	struct stat64 st;

	return fstatat64(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) ? 0 : st.st_ino;
}

static void note_entry(enum record_kind kind, const struct place *p, uint64_t ino,
		       const char *more)
{
	struct record r = {.kind = kind, .ino = ino, .dir = p->dir};

	record_append(rec, &r, p->name, strlen(p->name) + 1, more,
		      more ? strlen(more) + 1 : 0);
}

/* --- data --- */

static void note_write(int fd, const void *buf, ssize_t n, off64_t off)
{
	struct record r = {.kind = RECORD_WRITE, .ino = ino_of(fd), .off = (uint64_t)off};

	if (n > 0)
		record_append(rec, &r, buf, (size_t)n, NULL, 0);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
	ssize_t n;

	if (!fd_below(fd))
		return real_pwrite(fd, buf, len, off);
	record_lock(rec);
	n = real_pwrite(fd, buf, len, off);
	note_write(fd, buf, n, off);
	record_unlock(rec);
	return n;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	return pwrite64(fd, buf, len, off);
}

/* --- asynchronous writes; the record's lock is held over the table --- */

enum { FLYING_MAX = 1024 };

static struct {
	const struct iocb *cb; /* NULL: free */
	uint64_t ino;
} flying[FLYING_MAX];

static void note_submit(const struct iocb *cb)
{
	struct record r = {.kind = RECORD_SUBMIT,
			   .ino = ino_of((int)cb->aio_fildes),
			   .off = (uint64_t)cb->aio_offset,
			   .cnt = (uintptr_t)cb};
	int i = 0;

	while (flying[i].cb)
		if (++i == FLYING_MAX)
			abort();
	flying[i].cb = cb;
	flying[i].ino = r.ino;
	record_append(rec, &r, (const void *)(uintptr_t)cb->aio_buf, cb->aio_nbytes, NULL,
		      0);
}

static void note_done(const struct io_event *e)
{
	struct record r = {
		.kind = RECORD_DONE, .cnt = (uint64_t)e->obj, .value = (int32_t)e->res};

	for (int i = 0; i < FLYING_MAX; i++) {
		if (!flying[i].cb || (uintptr_t)flying[i].cb != e->obj)
			continue;
		r.ino = flying[i].ino;
		flying[i].cb = NULL;
		record_append(rec, &r, NULL, 0, NULL, 0);
	}
}

static long submit(aio_context_t ctx, struct iocb **list)
{
	struct iocb *cb = *list;
	long rc;

	if (cb->aio_lio_opcode != IOCB_CMD_PWRITE || !fd_below((int)cb->aio_fildes))
		return real_syscall(SYS_io_submit, ctx, 1, list);
	record_lock(rec);
	rc = real_syscall(SYS_io_submit, ctx, 1, list);
	if (rc == 1)
		note_submit(cb);
	record_unlock(rec);
	return rc;
}

static long submit_all(aio_context_t ctx, long cnt, struct iocb **list)
{
	for (long i = 0; i < cnt; i++) {
		long rc = submit(ctx, list + i);

		if (rc != 1)
			return i ? i : rc;
	}
	return cnt;
}

static void note_events(const struct io_event *events, long cnt)
{
	if (!rec || cnt <= 0)
		return;
	record_lock(rec);
	for (long i = 0; i < cnt; i++)
		note_done(&events[i]);
	record_unlock(rec);
}

long syscall(long number, ...)
{
	long a[6], rc;
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	ready();
	if (number == SYS_io_submit)
		return submit_all((aio_context_t)a[0], a[1], (struct iocb **)a[2]);
	rc = real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (number == SYS_io_getevents)
		note_events((const struct io_event *)a[3], rc);
	return rc;
}

/* A line of the key protocol: " new ", " destroy ", ... */
static void note_line(enum record_kind kind, int fd, const void *buf, ssize_t n)
{
	struct stat64 st;

	if (!rec || n < 8 || fstat64(fd, &st) || !S_ISFIFO(st.st_mode))
		return;
	if (!memmem(buf, (size_t)n, " new ", 5) &&
	    !memmem(buf, (size_t)n, " destroy", 8) &&
	    !memmem(buf, (size_t)n, " created ", 9) &&
	    !memmem(buf, (size_t)n, " gone", 5))
		return;
	record_lock(rec);
	record_append(rec, &(struct record){.kind = kind}, buf, (size_t)n, NULL, 0);
	record_unlock(rec);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	ssize_t n;

	if (!fd_below(fd)) {
		/* before it is heard: the helper may be faster than we */
		note_line(RECORD_ASKED, fd, buf, (ssize_t)len);
		return real_write(fd, buf, len);
	}
	record_lock(rec);
	n = real_write(fd, buf, len);
	note_write(fd, buf, n, lseek64(fd, 0, SEEK_CUR) - n);
	record_unlock(rec);
	return n;
}

ssize_t read(int fd, void *buf, size_t len)
{
	ssize_t n;

	ready();
	n = real_read(fd, buf, len);
	if (n > 0)
		note_line(RECORD_ANSWERED, fd, buf, n);
	return n;
}

ssize_t writev(int fd, const struct iovec *iov, int cnt)
{
	if (fd_below(fd))
		abort(); /* not used so far */
	return real_writev(fd, iov, cnt);
}

int ftruncate64(int fd, off64_t size)
{
	struct record r = {.kind = RECORD_SIZE, .off = (uint64_t)size};
	int rc;

	if (!fd_below(fd))
		return real_ftruncate(fd, size);
	record_lock(rec);
	rc = real_ftruncate(fd, size);
	r.ino = ino_of(fd);
	if (rc == 0)
		record_append(rec, &r, NULL, 0, NULL, 0);
	record_unlock(rec);
	return rc;
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	struct record r = {.kind = RECORD_ALLOC,
			   .off = (uint64_t)off,
			   .cnt = (uint64_t)len,
			   .value = mode};
	int rc;

	if (!fd_below(fd))
		return real_fallocate(fd, mode, off, len);
	record_lock(rec);
	rc = real_fallocate(fd, mode, off, len);
	r.ino = ino_of(fd);
	if (rc == 0)
		record_append(rec, &r, NULL, 0, NULL, 0);
	record_unlock(rec);
	return rc;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	return fallocate64(fd, mode, off, len);
}

static int note_sync(int fd, enum record_kind kind)
{
	struct record r = {.kind = kind, .ino = ino_of(fd)};

	record_lock(rec);
	record_append(rec, &r, NULL, 0, NULL, 0);
	record_unlock(rec);
	return 0;
}

int fsync(int fd)
{
	return fd_below(fd) ? note_sync(fd, RECORD_FSYNC) : real_fsync(fd);
}

int fdatasync(int fd)
{
	return fd_below(fd) ? note_sync(fd, RECORD_FDATASYNC) : real_fdatasync(fd);
}

/* --- names --- */

static void note_open(const struct place *p, uint64_t before, int fd, int flags)
{
	uint64_t ino = ino_of(fd);

	if (!before)
		note_entry(RECORD_CREATE, p, ino, NULL);
	else if (flags & O_TRUNC)
		record_append(rec, &(struct record){.kind = RECORD_SIZE, .ino = ino},
			      NULL, 0, NULL, 0);
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
	struct place p;
	uint64_t before;
	int fd;

	ready();
	if (!(flags & (O_CREAT | O_TRUNC)) || !find_place(&p, dirfd, path))
		return real_openat(dirfd, path, flags, mode);
	record_lock(rec);
	before = ino_at(dirfd, path);
	fd = real_openat(dirfd, path, flags, mode);
	if (fd >= 0)
		note_open(&p, before, fd, flags);
	record_unlock(rec);
	return fd;
}

#define MODE_ARGUMENT(mode, flags)                                                       \
	mode_t mode = 0;                                                                 \
	va_list ap;                                                                      \
	if ((flags) & (O_CREAT | __O_TMPFILE)) {                                         \
		va_start(ap, flags);                                                     \
		mode = va_arg(ap, mode_t);                                               \
		va_end(ap);                                                              \
	}

int openat64(int dirfd, const char *path, int flags, ...)
{
	MODE_ARGUMENT(mode, flags)
	return open_at(dirfd, path, flags, mode);
}

int openat(int dirfd, const char *path, int flags, ...)
{
	MODE_ARGUMENT(mode, flags)
	return open_at(dirfd, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	MODE_ARGUMENT(mode, flags)
	return open_at(AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
	MODE_ARGUMENT(mode, flags)
	return open_at(AT_FDCWD, path, flags, mode);
}

int __openat64_2(int dirfd, const char *path, int flags)
{
	return open_at(dirfd, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
	return open_at(AT_FDCWD, path, flags, 0);
}

static void note_made(int rc, enum record_kind kind, const struct place *p, int dirfd,
		      const char *path, const char *more)
{
	if (rc == 0)
		note_entry(kind, p, ino_at(dirfd, path), more);
	record_unlock(rec);
}

int mkdirat(int dirfd, const char *path, mode_t mode)
{
	struct place p;
	int rc;

	if (!find_place(&p, dirfd, path))
		return real_mkdirat(dirfd, path, mode);
	record_lock(rec);
	rc = real_mkdirat(dirfd, path, mode);
	note_made(rc, RECORD_MKDIR, &p, dirfd, path, NULL);
	return rc;
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
	struct place p;
	int rc;

	if (!find_place(&p, dirfd, path))
		return real_mknodat(dirfd, path, mode, dev);
	record_lock(rec);
	rc = real_mknodat(dirfd, path, mode, dev);
	note_made(rc, RECORD_CREATE, &p, dirfd, path, NULL);
	return rc;
}

int symlinkat(const char *target, int dirfd, const char *path)
{
	struct place p;
	int rc;

	if (!find_place(&p, dirfd, path))
		return real_symlinkat(target, dirfd, path);
	record_lock(rec);
	rc = real_symlinkat(target, dirfd, path);
	note_made(rc, RECORD_SYMLINK, &p, dirfd, path, target);
	return rc;
}

int symlink(const char *target, const char *path)
{
	return symlinkat(target, AT_FDCWD, path);
}

int linkat(int from, const char *path, int to, const char *new_path, int flags)
{
	struct place p;
	int rc;

	if (!find_place(&p, to, new_path))
		return real_linkat(from, path, to, new_path, flags);
	record_lock(rec);
	rc = real_linkat(from, path, to, new_path, flags);
	note_made(rc, RECORD_LINK, &p, to, new_path, NULL);
	return rc;
}

int link(const char *path, const char *new_path)
{
	return linkat(AT_FDCWD, path, AT_FDCWD, new_path, 0);
}

int renameat2(int from, const char *path, int to, const char *new_path,
	      unsigned int flags)
{
	struct record r = {.kind = RECORD_RENAME, .cnt = flags};
	struct place a, b;
	int rc;

	if (!find_place(&a, from, path) || !find_place(&b, to, new_path))
		return real_renameat2(from, path, to, new_path, flags);
	r.dir = a.dir;
	r.dir2 = b.dir;
	record_lock(rec);
	r.ino = ino_at(from, path);
	r.off = ino_at(to, new_path);
	rc = real_renameat2(from, path, to, new_path, flags);
	if (rc == 0)
		record_append(rec, &r, a.name, strlen(a.name) + 1, b.name,
			      strlen(b.name) + 1);
	record_unlock(rec);
	return rc;
}

int renameat(int from, const char *path, int to, const char *new_path)
{
	return renameat2(from, path, to, new_path, 0);
}

int rename(const char *path, const char *new_path)
{
	return renameat2(AT_FDCWD, path, AT_FDCWD, new_path, 0);
}

int unlinkat(int dirfd, const char *path, int flags)
{
	struct place p;
	uint64_t ino;
	int rc;

	if (!find_place(&p, dirfd, path))
		return real_unlinkat(dirfd, path, flags);
	record_lock(rec);
	ino = ino_at(dirfd, path);
	rc = real_unlinkat(dirfd, path, flags);
	if (rc == 0)
		note_entry(RECORD_UNLINK, &p, ino, NULL);
	record_unlock(rec);
	return rc;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
