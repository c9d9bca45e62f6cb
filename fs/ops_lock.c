/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Locks of programs; only where other nodes are (else the kernel keeps them). */
#include <errno.h>
#include <sys/file.h>

#include "fs/ops.h"
#include "fs/proglock.h"

static struct proglock_who who_asks(fuse_req_t req, fuse_ino_t ino,
				    const struct handle *h,
				    const struct fuse_file_info *fi)
{
	return (struct proglock_who){.nodeid = ino,
				     .handle = fi->fh,
				     .owner = fi->lock_owner,
				     .pid = (uint32_t)fuse_req_ctx(req)->pid,
				     .fd = h->fd};
}

static void set_lock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
		     const struct flock *fl, bool wait)
{
	const struct parked *resumed = current_worker->resumed;
	struct handle *h = ops_handle(req, ino, fi);
	struct proglock_who who;
	vcf_err_t err;

	if (!h)
		return;
	if (!ops_server(req)->proglocks) { /* no kernel asks that was told not to */
		ops_reply_err(req, -ENOSYS);
		return;
	}
	if (resumed && resumed->err) {
		ops_reply_err(req, resumed->err);
		return;
	}
	who = who_asks(req, ino, h, fi);
	err = proglock_set(ops_server(req)->proglocks, &who, fl, wait);
	if (err == -EINPROGRESS)
		ops_parked(req);
	else
		ops_reply_err(req, err);
}

void ops_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
	       struct flock *lock, int wait)
{
	set_lock(req, ino, fi, lock, wait);
}

void ops_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	int how = op & ~LOCK_NB;
	struct flock fl = proglock_flock_range(how == LOCK_EX	? F_WRLCK
					       : how == LOCK_SH ? F_RDLCK
								: F_UNLCK);

	set_lock(req, ino, fi, &fl, !(op & LOCK_NB));
}

void ops_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
	       struct flock *lock)
{
	struct handle *h = ops_handle(req, ino, fi);
	struct proglock_who who;
	vcf_err_t err;

	if (!h)
		return;
	if (!ops_server(req)->proglocks) {
		ops_reply_err(req, -ENOSYS);
		return;
	}
	who = who_asks(req, ino, h, fi);
	err = proglock_get(ops_server(req)->proglocks, &who, lock);
	if (err)
		ops_reply_err(req, err);
	else
		fuse_reply_lock(req, lock);
}
