/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open files. A handle has its own backing descriptor: read-write if it may write, since a
 * partial sector is read before it is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/device.h"
#include "fs/drain.h"
#include "fs/keyaudit.h"
#include "fs/nodelock.h"
#include "fs/ops.h"
#include "fs/proglock.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"

/* linux/fuse.h of 6.6; in 6.1's headers only as a comment's promise. */
#define OPEN_PARALLEL_DIRECT_WRITES (1u << 6)

/*
 * Flags for the backing file of a plain file. The kernel has dealt with the others (O_TRUNC,
 * O_APPEND), or they would make another kind of descriptor (O_PATH, O_TMPFILE). With writeback
 * caching the kernel reads by a handle that only writes.
 */
static int plain_flags(const struct server *sv, int flags)
{
	if (sv->cfg->writeback && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	return flags & (O_ACCMODE | O_SYNC | O_DSYNC | O_DIRECT | O_NOATIME | O_NONBLOCK);
}

static int image_flags(int flags)
{
	int mode = (flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR;

	return mode | (flags & (O_SYNC | O_DSYNC | O_NOATIME));
}

/* What O_DIRECT wants of this file: the kernel says so from 6.1 on; else a page suits all. */
static uint32_t direct_align(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    (sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_offset_align)
		return sx.stx_dio_offset_align > OPS_DIRECT_ALIGN_MIN
			       ? sx.stx_dio_offset_align
			       : OPS_DIRECT_ALIGN_MIN;
#else
	(void)fd;
#endif
	return 4096;
}

/* Adds the O_DIRECT twin to an image's handle. */
static vcf_err_t open_direct(struct server *sv, const struct node *n, int flags,
			     struct handle *h)
{
	int fd = node_reopen(sv, n, image_flags(flags) | O_DIRECT);

	if (fd < 0)
		return fd;
	h->direct_fd = fd;
	h->align = n->device ? device_align(fd) : direct_align(fd);
	h->flags |= HANDLE_O_DIRECT;
	return 0;
}

/*
 * Handles bypass the page cache if they ask for it, or while there is no header: then the writer
 * itself must see the error. imagetable_opened() adds: if another one of the image does.
 */
static bool must_be_direct(struct server *sv, struct image_entry *e,
			   const struct handle *h)
{
	return (h->flags & HANDLE_O_DIRECT) || sv->cfg->shared || !e->image;
}

static vcf_err_t open_image_fds(struct server *sv, const struct node *n, int flags,
				struct handle *h)
{
	vcf_err_t err = 0;

	if (h->fd < 0)
		h->fd = node_reopen(sv, n, image_flags(flags));
	if (h->fd < 0)
		return h->fd;
	if (flags & O_DIRECT)
		err = open_direct(sv, n, flags, h);
	if (err) {
		close(h->fd);
		h->fd = -1;
	}
	return err;
}

/* Without a name a file may open no more; then the handle's own does if it may write. */
static int open_unlinked(struct server *sv, const struct handle *h)
{
	int fd = node_reopen_fd(sv, h->fd, O_RDWR);

	if (fd >= 0 || !sv->cfg->shared || (fcntl(h->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return fd;
	return fcntl(h->fd, F_DUPFD_CLOEXEC, 3);
}

/* A handle of the entry goes; the last one of an unlinked image takes its header with it. */
static void leave_entry(struct server *sv, struct image_entry *e, const struct handle *h)
{
	uint64_t data_off = e->data_off; /* the entry may go */
	uint64_t deletion = imagetable_closed(sv->images, e, h->flags & HANDLE_DIRECT);

	if (sv->cfg->shared)
		nodelock_byte_release(h->fd, NODELOCK_OPEN);
	if (deletion)
		removal_finish(sv, deletion, open_unlinked(sv, h), data_off);
}

/*
 * Against commands that work on the file, on this node, and on others where they share the folder: with
 * the descriptor, which outlives this server.
 */
static vcf_err_t hold_open(struct server *sv, const struct node *n, int fd)
{
	char path[STATE_PATH_MAX];
	vcf_err_t err;

	if (sv->cfg->shared)
		nodelock_no_readahead(fd);
	err = nodelock_opened(fd, sv->cfg->shared);
	if (err == -EBUSY && !state_path(sv->state, n, path))
		log_info("%s: not opened: a command works on it", path);
	/* Without such locks there are no other nodes, and commands go by what status says. */
	return sv->cfg->shared || err == -EBUSY ? err : 0;
}

/* It is nobody else's from here on, and its image knows how large it is now. */
static vcf_err_t settle_device(struct server *sv, struct node *n, struct image_entry *e)
{
	vcf_err_t err = device_claim(sv, e, n);
	struct stat st;

	return err ? err : node_attr(sv, n, &st);
}

/* The descriptors are open: makes the handle. */
static vcf_err_t add_handle(struct server *sv, struct node *n, struct image_entry *e,
			    struct handle *h, uint64_t *fh)
{
	bool direct = must_be_direct(sv, e, h);
	struct stat st;
	vcf_err_t err;

	if (fstat(h->fd, &st) < 0)
		return -errno;
	err = imagetable_opened(sv->images, e, n->id, !n->device && st.st_nlink == 0,
				&direct);
	if (err)
		return err;
	if (direct)
		h->flags |= HANDLE_DIRECT;
	if (n->device)
		err = settle_device(sv, n, e);
	if (!err)
		err = state_handle_add(sv->state, h, n, ops_slot(), fh);
	if (err)
		leave_entry(sv, e, h);
	else
		sv->handle_entry[(uint32_t)*fh - 1] = e;
	return err;
}

/* h->fd: an open backing descriptor (create) or -1. Fills fi for the answer. */
static vcf_err_t open_image(struct server *sv, struct node *n, struct handle *h,
			    struct fuse_file_info *fi)
{
	struct image_entry *e;
	vcf_err_t err = imagetable_get(sv->images, n, &e);

	if (err)
		return err;
	err = drain_may_open(sv, n, e);
	if (!err)
		err = open_image_fds(sv, n, fi->flags, h);
	/* Before its header is read, and the look at its names: see removal_finish(). */
	if (!err)
		err = hold_open(sv, n, h->fd);
	if (!err)
		err = imagetable_prepare(sv->images, e, n, IMAGE_NEED_OPEN);
	if (!err)
		err = add_handle(sv, n, e, h, &fi->fh);
	if (!err && !current_worker->resumed) /* else its key was asked for */
		keyaudit_used(e);
	imagetable_put(sv->images, e);
	return err;
}

static vcf_err_t open_plain(struct server *sv, struct node *n, struct handle *h,
			    struct fuse_file_info *fi)
{
	if (h->fd < 0)
		h->fd = node_reopen(sv, n, plain_flags(sv, fi->flags));
	if (h->fd < 0)
		return h->fd;
	if (sv->cfg->shared)
		nodelock_no_readahead(h->fd);
	if (sv->cfg->shared || (fi->flags & O_DIRECT))
		h->flags |= HANDLE_DIRECT;
	return state_handle_add(sv->state, h, n, ops_slot(), &fi->fh);
}

/* What the answer says of a handle besides its id. */
static void describe_handle(const struct handle *h, struct fuse_file_info *fi)
{
	fi->direct_io = !!(h->flags & HANDLE_DIRECT);
	if (fi->direct_io && h->kind == HANDLE_IMAGE)
		current_worker->open_flags |= OPEN_PARALLEL_DIRECT_WRITES;
}

static vcf_err_t open_node(struct server *sv, struct node *n, int fd,
			   struct fuse_file_info *fi)
{
	const struct handle *before = ops_made_before(sv, &fi->fh);
	struct handle h = {.fd = fd, .direct_fd = -1};
	vcf_err_t err;

	if (before) { /* by an earlier run of this request: the answer is the same */
		if (fd >= 0)
			close(fd);
		describe_handle(before, fi);
		return 0;
	}
	if (node_is_image(n)) {
		h.kind = HANDLE_IMAGE;
		err = open_image(sv, n, &h, fi);
	} else if (!S_ISREG(n->mode)) {
		err = -EACCES; /* the kernel opens FIFOs and devices itself */
	} else {
		h.kind = HANDLE_PLAIN;
		err = open_plain(sv, n, &h, fi);
	}
	if (!err)
		describe_handle(&h, fi);
	if (err && h.fd >= 0)
		close(h.fd);
	if (err && h.direct_fd >= 0)
		close(h.direct_fd);
	return err;
}

static void close_handle(struct server *sv, uint64_t fh)
{
	struct handle *h = state_handle(sv->state, fh);
	struct image_entry *e;

	if (!h)
		return;
	if (sv->proglocks)
		proglock_released(sv->proglocks, fh);
	e = h->kind == HANDLE_IMAGE ? ops_entry(sv, h) : NULL;
	if (e) {
		sv->handle_entry[state_handle_slot(sv->state, h)] = NULL;
		leave_entry(sv, e, h);
	}
	state_handle_del(sv->state, fh);
}

void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct server *sv = ops_server(req);
	struct node *n = ops_node(req, ino);
	vcf_err_t err;

	if (!n)
		return;
	err = open_node(sv, n, -1, fi);
	if (err == -EINPROGRESS) {
		ops_parked(req);
		return;
	}
	if (err) {
		ops_reply_err(req, err);
		return;
	}
	lock_assert_none();
	if (fuse_reply_open(req, fi) == -ENOENT)
		close_handle(sv, fi->fh); /* the caller went away: no release will come */
}

/* The file as a new one; -EALREADY: it is there, and may be opened (or was made by an earlier run). */
static int create_backing(struct server *sv, fuse_req_t req, struct node *dir,
			  const char *name, mode_t mode, int flags)
{
	int want = O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_RDWR;
	int fd, err = ops_name_fits(sv, dir, name);
	bool again;

	if (err)
		return err;
	if (device_has_name(sv, dir, name) || ops_taken(req, dir, name))
		return flags & O_EXCL ? -EEXIST : -EALREADY;
	err = ops_slot()->intent ? 0 : drain_may_create(sv, dir, name);
	if (err)
		return err;
	again = ops_intend();
	ops_as_caller(req);
	rwlock_rdlock(&sv->names_lock);
	fd = openat(dir->fd, name, want | (flags & (O_SYNC | O_DSYNC)), mode);
	err = errno;
	rwlock_unlock(&sv->names_lock);
	ops_as_us(req);
	CRASHPOINT("file-made");
	if (fd < 0 && err == EEXIST &&
	    (!(flags & O_EXCL) || (again && ops_born_here(req, dir, name))))
		return -EALREADY;
	return fd < 0 ? -err : fd;
}

static void reply_create(fuse_req_t req, struct fuse_entry_param *e,
			 struct fuse_file_info *fi)
{
	struct server *sv = ops_server(req);

	lock_assert_none();
	if (fuse_reply_create(req, e, fi) == -ENOENT) {
		close_handle(sv, fi->fh);
		state_node_unlookup(sv->state, e->ino, ops_slot());
	}
}

/* Creates or opens; -EINPROGRESS: parked. */
static vcf_err_t create_or_open(fuse_req_t req, struct node *dir, const char *name,
				mode_t mode, struct fuse_entry_param *e,
				struct fuse_file_info *fi)
{
	struct server *sv = ops_server(req);
	auto_close int fd = create_backing(sv, req, dir, name, mode, fi->flags);
	vcf_err_t err;
	int pathfd;

	if (fd < 0 && fd != -EALREADY)
		return fd;
	if (fd >= 0) {
		pathfd = node_reopen_fd(sv, fd, O_PATH);
		err = pathfd < 0 ? pathfd : node_lookup_fd(sv, dir, name, pathfd, e);
	} else {
		err = node_lookup(sv, dir, name, e);
	}
	if (err)
		return err;
	/* The creator's descriptor serves only where its flags are those of the handle. */
	err = open_node(sv, state_node(sv->state, e->ino),
			fd >= 0 && (fi->flags & O_ACCMODE) != O_RDONLY &&
					!(fi->flags & O_DIRECT)
				? STEAL_FD(&fd)
				: -1,
			fi);
	if (err)
		state_node_unlookup(sv->state, e->ino, ops_slot());
	return err;
}

void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *fi)
{
	struct node *dir = ops_dir(req, parent, name);
	struct fuse_entry_param e;
	vcf_err_t err;

	if (!dir)
		return;
	err = create_or_open(req, dir, name, mode, &e, fi);
	if (err == -EINPROGRESS)
		ops_parked(req);
	else if (err)
		ops_reply_err(req, err);
	else
		reply_create(req, &e, fi);
}

/*
 * No image: the file is empty, or it is one whose key a successor could not take over.
 */
vcf_err_t ops_need_key(struct server *sv, uint64_t ino, struct image_entry *e)
{
	struct node *n;

	/* Another node may have made it a container. */
	if (e->image || (!e->lost && !sv->cfg->shared))
		return 0;
	n = state_node(sv->state, ino);
	return n ? imagetable_prepare(sv->images, e, n, IMAGE_NEED_OPEN) : -ESTALE;
}

vcf_err_t ops_need_header(struct server *sv, uint64_t ino, struct image_entry *e,
			  bool writeback)
{
	struct node *n;

	if (e->image)
		return 0;
	if (writeback)
		return -EIO; /* of a mapping: never the first byte */
	n = state_node(sv->state, ino);
	return n ? imagetable_prepare(sv->images, e, n, IMAGE_NEED_HEADER) : -ESTALE;
}

/* close(2) of a copy makes the backing file system report what it kept back (NFS). */
void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = ops_handle(req, ino, fi);
	int fd;

	(void)ino;
	if (!h)
		return;
	if (ops_server(req)->proglocks)
		proglock_flushed(ops_server(req)->proglocks, ino, fi->lock_owner);
	fd = fcntl(h->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0 || close(fd) < 0)
		ops_reply_err(req, -errno);
	else
		ops_reply_err(req, 0);
}

void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	close_handle(ops_server(req), fi->fh);
	ops_reply_err(req, 0);
}

static vcf_err_t sync_fd(int fd, int datasync)
{
	return (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}

/*
 * The kernel tells each open file of a write error once, so a death between fsync(2) and our answer
 * would lose it. What fsync(2) said is noted; in case not even that was reached, whoever repeats
 * the request syncs an open file that is kept for nothing else.
 */
static vcf_err_t sync_handle(struct server *sv, fuse_ino_t ino, const struct handle *h,
			     int datasync)
{
	struct image_entry *e = h->kind == HANDLE_IMAGE ? ops_entry(sv, h) : NULL;
	struct session_slot *slot = ops_slot();
	struct node *n = state_node(sv->state, ino);
	vcf_err_t err, err2 = 0;

	if (slot->fsync_err)
		return slot->fsync_err;
	if (SESSION_NOTES && e && n)
		imagetable_keep_sentinel(sv->images, e, n);
	if (ops_intend() && e && e->record && e->record->sentinel_fd >= 0)
		err2 = sync_fd(e->record->sentinel_fd, datasync);
	err = sync_fd(h->fd, datasync);
	CRASHPOINT("synced");
	err = err ? err : err2;
	slot->fsync_err = err;
	return err;
}

void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *h = ops_handle(req, ino, fi);

	if (!h)
		return;
	ops_reply_err(req, sync_handle(ops_server(req), ino, h, datasync));
}

static vcf_err_t fallocate_image(struct server *sv, fuse_ino_t ino,
				 const struct handle *h, int mode, off_t off, off_t len)
{
	struct image_entry *e = ops_entry(sv, h);
	const struct node *n = state_node(sv->state, ino);
	struct image_file f = ops_image_file(h);
	bool device = n && n->device;
	vcf_err_t err = 0;

	/* Of a device nothing can be promised; its zeros are written, there is no hole in nothing. */
	if (device && !(mode & ~FALLOC_FL_KEEP_SIZE))
		err = -EOPNOTSUPP;
	else if (mode & FALLOC_FL_PUNCH_HOLE && !device)
		err = ops_need_key(sv, ino, e);
	else
		err = ops_need_header(sv, ino, e, false);
	if (err || !e->image) /* a hole in nothing */
		return err;
	return image_fallocate(e->image, &f, &current_worker->io, mode, (uint64_t)off,
			       (uint64_t)len);
}

/* Set-id bits are ours to clear, and this request does not say whose call it was. */
static vcf_err_t fallocate_handle(fuse_req_t req, fuse_ino_t ino, const struct handle *h,
				  int mode, off_t off, off_t len)
{
	const int known =
		FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	vcf_err_t err = mode & ~known ? -EOPNOTSUPP : 0;

	if (!err && fuse_req_ctx(req)->uid)
		err = ops_drop_set_ids(ops_server(req), ino, h->fd);
	if (err)
		return err;
	if (h->kind == HANDLE_IMAGE)
		return fallocate_image(ops_server(req), ino, h, mode, off, len);
	if (mode & FALLOC_FL_ZERO_RANGE && nodelock_fuse_below())
		return -EOPNOTSUPP; /* GlusterFS says 0 and does nothing */
	return fallocate(h->fd, mode, off, len) < 0 ? -errno : 0;
}

void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		   struct fuse_file_info *fi)
{
	struct handle *h = ops_handle(req, ino, fi);
	vcf_err_t err;

	if (!h)
		return;
	err = fallocate_handle(req, ino, h, mode, off, len);
	if (err == -EINPROGRESS)
		ops_parked(req);
	else
		ops_reply_err(req, err);
}

/* There is no image behind the handle: an empty file, or a device without a header, all data. */
static off_t seek_nothing(struct server *sv, const struct node *n, const struct handle *h,
			  off_t off, int whence)
{
	uint64_t plen = 0;
	vcf_err_t err = n && n->device ? device_empty_len(sv, h->fd, &plen) : 0;

	if (err)
		return err;
	if ((uint64_t)off >= plen)
		return -ENXIO;
	return whence == SEEK_DATA ? off : (off_t)plen;
}

static off_t seek(struct server *sv, fuse_ino_t ino, const struct handle *h, off_t off,
		  int whence)
{
	struct image_entry *e = h->kind == HANDLE_IMAGE ? ops_entry(sv, h) : NULL;
	struct image_file f = ops_image_file(h);
	vcf_err_t err = e ? ops_need_key(sv, ino, e) : 0;
	off_t pos;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (err)
		return err;
	if (e)
		return e->image ? image_seek(e->image, &f, (uint64_t)off, whence)
				: seek_nothing(sv, state_node(sv->state, ino), h, off,
					       whence);
	pos = lseek(h->fd, off, whence);
	return pos < 0 ? -errno : pos;
}

void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	       struct fuse_file_info *fi)
{
	struct handle *h = ops_handle(req, ino, fi);
	off_t pos;

	if (!h)
		return;
	/*
	 * The kernel asks without writing its dirty pages first: what lies there alone would be a
	 * hole, and a copy would leave it out. ENOSYS: all is data up to the end, never asked again.
	 */
	if (ops_server(req)->cfg->writeback) {
		ops_reply_err(req, -ENOSYS);
		return;
	}
	pos = seek(ops_server(req), ino, h, off, whence);
	lock_assert_none();
	if (pos == -EINPROGRESS)
		ops_parked(req);
	else if (pos < 0)
		ops_reply_err(req, (vcf_err_t)pos);
	else
		fuse_reply_lseek(req, pos);
}

/* A size that is set, though it is that already, counts as a change. */
static vcf_err_t touch(const struct node *n)
{
	const struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};

	return utimensat(n->fd, "", ts, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* To the size that it has, which may have grown below just now. */
static vcf_err_t truncate_device(struct server *sv, struct node *n, uint64_t plen)
{
	struct stat st;
	vcf_err_t err = node_attr(sv, n, &st);

	if (err)
		return err;
	return (uint64_t)st.st_size == plen ? touch(n) : -EOPNOTSUPP;
}

vcf_err_t ops_image_truncate(struct server *sv, struct node *n, struct image_entry *e,
			     const struct image_file *f, uint64_t plen)
{
	struct image_file own = {.fd = -1, .direct_fd = -1};
	auto_close int fd = -1;
	vcf_err_t err;

	if (n->device)
		return truncate_device(sv, n, plen);
	if (!f) {
		fd = node_reopen(sv, n, O_RDWR);
		err = fd < 0 ? fd : hold_open(sv, n, fd);
		if (err)
			return err;
		own.fd = fd;
		f = &own;
	}
	/* An empty file needs no header to stay empty. */
	err = imagetable_prepare(sv->images, e, n,
				 plen ? IMAGE_NEED_HEADER : IMAGE_NEED_OPEN);
	if (err)
		return err;
	if (!e->image || (!sv->cfg->shared && image_size(e->image) == plen))
		return touch(n);
	err = image_truncate(e->image, f, &current_worker->io, plen);
	return !err && sv->cfg->shared ? touch(n)
				       : err; /* it may have been that already */
}
