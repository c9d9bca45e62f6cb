/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/nodelock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "fs/node.h"
#include "util/log.h"

#define SECTORS (NODELOCK_BASE + (1ull << 61))

enum { OPENED_TRIES = 200, ALONE_TRIES = 10, OPENED_PAUSE_MS = 10 };

static _Thread_local _Atomic uint64_t *wait_mark;

void nodelock_set_mark(_Atomic uint64_t *mark)
{
	wait_mark = mark;
}

static void set_mark(uint64_t value)
{
	if (wait_mark)
		atomic_store_explicit(wait_mark, value, memory_order_relaxed);
}

static vcf_err_t set_lock(int fd, int cmd, struct flock *fl)
{
	int rc;

	do {
		rc = fcntl(fd, cmd, fl);
	} while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

vcf_err_t nodelock_fcntl(int fd, short type, uint64_t start, uint64_t len, bool wait)
{
	struct flock fl = {.l_type = type,
			   .l_whence = SEEK_SET,
			   .l_start = (off_t)start,
			   .l_len = (off_t)len};
	vcf_err_t err = set_lock(fd, F_OFD_SETLK, &fl);

	if (err != -EAGAIN || !wait)
		return err;
	set_mark(1);
	err = set_lock(fd, F_OFD_SETLKW, &fl);
	set_mark(0);
	return err;
}

vcf_err_t nodelock_byte(int fd, enum nodelock_byte which, bool exclusive, bool wait)
{
	vcf_err_t err = nodelock_fcntl(fd, exclusive ? F_WRLCK : F_RDLCK,
				       NODELOCK_BASE + which, 1, wait);

	if (!err)
		nodelock_look_anew(fd);
	return err;
}

void nodelock_byte_release(int fd, enum nodelock_byte which)
{
	vcf_err_t err = nodelock_fcntl(fd, F_UNLCK, NODELOCK_BASE + which, 1, false);

	if (err)
		log_dbg("unlock: error %d", -err);
}

/*
 * NFS looks at the file anew when a lock is taken, CephFS is told of changes; the kernel's cache of a
 * FUSE client (GlusterFS) knows nothing of either, and FOPEN_DIRECT_IO is its server's to give.
 */
static _Atomic bool fuse_below; /* a command's threads look at a file each */

void nodelock_begin(int fd)
{
	struct statfs fs;

	fuse_below = fstatfs(fd, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC;
}

bool nodelock_fuse_below(void)
{
	return fuse_below;
}

void nodelock_look_anew(int fd)
{
	if (fuse_below)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

void nodelock_no_readahead(int fd)
{
	if (fuse_below)
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
}

/* Who holds it exclusively looks for a moment, or wipes a file that has no name. */
vcf_err_t nodelock_opened(int fd, bool shared)
{
	const struct timespec pause = {.tv_nsec = OPENED_PAUSE_MS * 1000000l};
	vcf_err_t err = -EAGAIN;

	for (int i = 0; i < (shared ? OPENED_TRIES : ALONE_TRIES) && err == -EAGAIN;
	     i++) {
		if (i)
			nanosleep(&pause, NULL);
		err = nodelock_byte(fd, NODELOCK_OPEN, false, false);
	}
	return err == -EAGAIN ? -EBUSY : err;
}

vcf_err_t nodelock_try_header(int fd, bool shared)
{
	if (shared)
		return nodelock_byte(fd, NODELOCK_HEADER, true, false);
	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int reopen(int fd, int flags)
{
	int own = open(node_fd_path(fd).path, flags | O_CLOEXEC);

	return own < 0 ? -errno : own;
}

/* One who may only read needs no exclusive lock. */
int nodelock_reopen(int fd)
{
	int own = reopen(fd, O_RDWR);

	return own == -EACCES || own == -EROFS || own == -EPERM ? reopen(fd, O_RDONLY)
								: own;
}

static vcf_err_t try_two(int a, int b)
{
	vcf_err_t err;

	if (b < 0)
		return b;
	err = nodelock_byte(a, NODELOCK_HEADER, true, false);
	if (err)
		return err;
	err = nodelock_byte(b, NODELOCK_HEADER, false, false);
	return err == -EAGAIN ? 0 : err ? err : -ENOLCK;
}

vcf_err_t nodelock_probe(int dirfd)
{
	auto_close int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	auto_close int twin = fd < 0 ? -1 : nodelock_reopen(fd);
	char name[64];

	if (fd >= 0)
		return try_two(fd, twin);
	snprintf(name, sizeof(name), ".vmcryptfs-locks.%ld.%d", (long)time(NULL),
		 (int)getpid());
	fd = openat(dirfd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	twin = nodelock_reopen(fd); /* without its name not every file system opens it */
	if (unlinkat(dirfd, name, 0) < 0)
		return -errno;
	return try_two(fd, twin);
}

void nodelocks_init(struct nodelocks *pool)
{
	mutex_init(&pool->lock, RANK_NODELOCK);
	pthread_cond_init(&pool->freed, NULL);
	pool->cnt = 0;
	pool->lent = false;
}

void nodelocks_fini(struct nodelocks *pool)
{
	while (pool->cnt)
		close(pool->fds[--pool->cnt]);
	pthread_cond_destroy(&pool->freed);
	mutex_fini(&pool->lock);
}

static int take_kept(struct nodelocks *pool)
{
	SCOPED_LOCK(&pool->lock);

	return pool->cnt ? pool->fds[--pool->cnt] : -1;
}

static bool keep(struct nodelocks *pool, int fd)
{
	SCOPED_LOCK(&pool->lock);

	if (pool->cnt == NODELOCKS_KEPT)
		return false;
	pool->fds[pool->cnt++] = fd;
	return true;
}

/* The caller's own, for one at a time. */
static int borrow(struct nodelocks *pool, int fd)
{
	SCOPED_LOCK(&pool->lock);

	while (pool->lent)
		mutex_wait(&pool->lock, &pool->freed);
	pool->lent = true;
	return fd;
}

static void give_back(struct nodelocks *pool)
{
	SCOPED_LOCK(&pool->lock);

	pool->lent = false;
	pthread_cond_signal(&pool->freed);
}

/* Some file systems (GlusterFS) open no file that has lost its name. */
static int open_one(struct nodelocks *pool, int fd, bool *lent)
{
	int own = take_kept(pool);

	*lent = false;
	if (own < 0)
		own = nodelock_reopen(fd);
	if (own != -ESTALE && own != -ENOENT)
		return own;
	*lent = true;
	return borrow(pool, fd);
}

vcf_err_t nodelock_take(struct nodelock *l, struct nodelocks *pool, int fd,
			uint64_t first, uint64_t last, bool exclusive)
{
	uint64_t len = last == UINT64_MAX ? 0 : last - first + 1;
	bool lent;
	int own = open_one(pool, fd, &lent);
	vcf_err_t err;

	if (own < 0)
		return own;
	err = nodelock_fcntl(own, exclusive ? F_WRLCK : F_RDLCK, SECTORS + first, len,
			     true);
	if (err && lent)
		give_back(pool);
	else if (err)
		close(own);
	else
		*l = (struct nodelock){.pool = pool, .fd = own, .lent = lent};
	if (!err)
		nodelock_look_anew(own);
	return err;
}

vcf_err_t nodelock_take_own(struct nodelock *l, struct nodelocks *pool, int fd)
{
	vcf_err_t err;

	borrow(pool, fd);
	err = nodelock_fcntl(fd, F_WRLCK, SECTORS, 0, true);
	if (err) {
		give_back(pool);
		return err;
	}
	*l = (struct nodelock){.pool = pool, .fd = fd, .lent = true};
	nodelock_look_anew(fd);
	return 0;
}

void nodelock_settle(int fd)
{
	nodelock_byte_release(fd, NODELOCK_HEADER);
	if (nodelock_fcntl(fd, F_UNLCK, SECTORS, 0, false))
		log_dbg("a lock that a dead server left cannot be given back");
}

void nodelock_release(struct nodelock *l)
{
	int fd = l->fd, keep_errno = errno;
	vcf_err_t err;

	l->fd = -1;
	if (fd < 0)
		return;
	err = nodelock_fcntl(fd, F_UNLCK, SECTORS, 0, false);
	if (l->lent)
		give_back(l->pool);
	else if (err || !keep(l->pool, fd))
		close(fd);
	errno = keep_errno;
}
