/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nodelock: locks between the nodes that use one backing folder (shared = yes).
 *
 * They are OFD locks (fcntl(2), F_OFD_SETLK) on the backing file, which network file systems
 * carry to all nodes. They go with the open file: a node that dies holds none. Where they lie,
 * all beyond the end that a file can have:
 *
 *   [0, 2^62)       what programs have locked, where they have locked it (proglock.h)
 *   2^62 + 0        flock(2) of programs
 *        + 1 OPEN    shared: somebody has the image open. Exclusive: its content goes
 *        + 2 HEADER  exclusive: header or last name are being changed; shared: the header is read
 *   2^62 + 2^61 + n  sector n: shared by who reads it, exclusive by who writes it, or some other
 *                   part of its pages. All sectors: the size changes
 *
 * An I/O takes one lock, and nobody who holds one waits for another one, but: tree_lock, then
 * HEADER. So nodes do not wait for each other in circles.
 *
 * Waiting is in the kernel, for as long as the other node's one operation takes. The thread is
 * marked meanwhile: the heartbeat takes it for one that waits for the disk.
 */
#ifndef VCF_FS_NODELOCK_H
#define VCF_FS_NODELOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/lock.h"

#define NODELOCK_BASE (1ull << 62)

enum nodelock_byte { NODELOCK_FLOCK, NODELOCK_OPEN, NODELOCK_HEADER };

/*
 * fd must be open for reading, for an exclusive lock also for writing; the lock is its open
 * file's. wait: until it can be had. -EAGAIN: it cannot be had now; -errno: the file system has no
 * such locks.
 */
NODISCARD vcf_err_t nodelock_byte(int fd, enum nodelock_byte which, bool exclusive,
				  bool wait);
void nodelock_byte_release(int fd, enum nodelock_byte which);

/*
 * A lock that was taken promises what others wrote before: pages that this node's kernel has of the
 * file are dropped, where its file system would go on using them. Taking a lock does it; others do it
 * before they read. What is read ahead would come too early: not by this open file.
 */
/* fd: any on the backing folder's file system, or that of a command's file. */
void nodelock_begin(int fd);
bool nodelock_fuse_below(void); /* is it a FUSE file system? */
void nodelock_look_anew(int fd);
void nodelock_no_readahead(int fd);

/*
 * OPEN, shared, for a handle that was just opened: waits a little for who looks or wipes, on other
 * nodes two seconds at most, else for a command of this one a tenth of a second. -EBUSY.
 */
NODISCARD vcf_err_t nodelock_opened(int fd, bool shared);

/*
 * For a change of a header that is there: HEADER, exclusive, until fd is closed; where no other node
 * is, flock(2), which commands have (offline.c). -EAGAIN: not now. Other errors: it cannot.
 */
NODISCARD vcf_err_t nodelock_try_header(int fd, bool shared);

/* Does the file system of a folder have OFD locks? 0 or -errno; proves nothing of other nodes. */
NODISCARD vcf_err_t nodelock_probe(int dirfd);

/*
 * Locks on sectors. Each that is held has an open file of its own, since those of one open file
 * do not exclude each other, and one that is given back would take from another what both had.
 * Some are kept for the next. Where the file cannot be opened again (it has lost its name) there is
 * one at a time, by the descriptor that the caller has.
 */
enum { NODELOCKS_KEPT = 16 };
struct nodelocks {
	struct mutex lock;
	int fds[NODELOCKS_KEPT]; /* (l) */
	unsigned int cnt;	 /* (l) */
	bool lent;		 /* (l) somebody's own descriptor has the one lock */
	pthread_cond_t freed;
};
void nodelocks_init(struct nodelocks *pool);
void nodelocks_fini(struct nodelocks *pool);

struct nodelock {
	struct nodelocks *pool;
	int fd; /* -1: nothing is held */
	bool lent;
};
#define NODELOCK_NONE                                                                    \
	{                                                                                \
		.fd = -1                                                                 \
	}

/* fd: a descriptor of the file that may do what is locked. last: inclusive; UINT64_MAX: all from first on. Waits. -errno. */
NODISCARD vcf_err_t nodelock_take(struct nodelock *l, struct nodelocks *pool, int fd,
				  uint64_t first, uint64_t last, bool exclusive);
/* All sectors, exclusive, on fd itself: it goes with that open file, not with this process. */
NODISCARD vcf_err_t nodelock_take_own(struct nodelock *l, struct nodelocks *pool, int fd);
void nodelock_release(struct nodelock *l);

/* What a dead server's request has left locked on the descriptor of a handle, but OPEN. */
void nodelock_settle(int fd);

#define auto_nodelock __attribute__((cleanup(nodelock_release)))

/* Where this thread says that it waits for another node; NULL: nowhere. */
void nodelock_set_mark(_Atomic uint64_t *mark);

/* Another open file of a descriptor's file, for locks: for writing, if that may be. -errno. */
NODISCARD int nodelock_reopen(int fd);

/* One OFD lock of any kind: F_RDLCK, F_WRLCK, F_UNLCK; len 0: to the end. As nodelock_byte(). */
NODISCARD vcf_err_t nodelock_fcntl(int fd, short type, uint64_t start, uint64_t len,
				   bool wait);

#endif
