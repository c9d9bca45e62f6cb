/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks of programs where other nodes are (shared = yes): fcntl(2)'s, of a process or of an open
 * file, and flock(2)'s. The kernel sends them here with a number for their owner. Each owner that
 * has one on a file has an open backing file of its own, on which the same locks are OFD locks:
 * what merges, splits and excludes is the backing file system's, for all nodes.
 *
 * They end as the owner's do: a process's with any close(2) of the file (FLUSH), an open file's
 * with its RELEASE. The table of owners and their descriptors is the session's: locks outlive the
 * server. Who waits is parked, and a thread tries for him, at most 50 ms apart, and at once when a
 * lock of this node goes; FUSE_INTERRUPT ends the wait with EINTR. Nobody looks for deadlocks.
 *
 * Thread-safe.
 */
#ifndef VCF_FS_PROGLOCK_H
#define VCF_FS_PROGLOCK_H

#include <fcntl.h>

#include "fs/server.h"

struct proglocks;

/* The table as an earlier process left it. */
NODISCARD vcf_err_t proglocks_new(struct proglocks **out, struct server *sv);
/* Ends the thread; `drop`: no lock stays either. */
void proglocks_free(struct proglocks *pl, bool drop);

struct proglock_who {
	uint64_t nodeid, handle, owner;
	uint32_t pid;
	int fd; /* any descriptor of the backing file */
};

/*
 * fl: as fcntl(2) has it, l_whence SEEK_SET; for flock(2) see proglock_flock_range().
 * -EAGAIN: it cannot be had now. -EINPROGRESS: the current request waits for it.
 */
NODISCARD vcf_err_t proglock_set(struct proglocks *pl, const struct proglock_who *who,
				 const struct flock *fl, bool wait);
/* The lock that is in the way of fl, or F_UNLCK. */
NODISCARD vcf_err_t proglock_get(struct proglocks *pl, const struct proglock_who *who,
				 struct flock *fl);
/* What stands for flock(2). */
struct flock proglock_flock_range(short type);

/* The process has closed a descriptor of the file; the handle is gone. */
void proglock_flushed(struct proglocks *pl, uint64_t nodeid, uint64_t owner);
void proglock_released(struct proglocks *pl, uint64_t handle);

/* True if that request waits here; its wait ends. */
bool proglock_interrupt(struct proglocks *pl, uint64_t unique);

#endif
