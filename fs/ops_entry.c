/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lookup, forget, attributes, statfs. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/device.h"
#include "fs/ops.h"

void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *dir = ops_dir(req, parent, name);
	struct fuse_entry_param e;
	vcf_err_t err;

	if (!dir)
		return;
	err = node_lookup(ops_server(req), dir, name, &e);
	if (err)
		ops_reply_err(req, err);
	else
		ops_reply_entry(req, &e);
}

/* It has no answer, so nobody can be asked whether it was done: the slot knows. */
void ops_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	if (!ops_slot()->forget_cnt)
		state_node_forget(ops_server(req)->state, ino, nlookup, ops_slot());
	fuse_reply_none(req);
}

void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = ops_slot()->forget_cnt; i < count; i++)
		state_node_forget(ops_server(req)->state, forgets[i].ino,
				  forgets[i].nlookup, ops_slot());
	fuse_reply_none(req);
}

static void reply_attr(fuse_req_t req, struct node *n)
{
	struct server *sv = ops_server(req);
	struct stat st;
	vcf_err_t err = node_attr(sv, n, &st);

	if (err)
		ops_reply_err(req, err);
	else
		fuse_reply_attr(req, &st, sv->timeout_s);
}

void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *n = ops_node(req, ino);

	(void)fi;
	if (n)
		reply_attr(req, n);
}

static vcf_err_t set_owner(struct node *n, const struct stat *attr, int to_set)
{
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;

	if (fchownat(n->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

static void pick_time(struct timespec *ts, const struct timespec *given, int to_set,
		      int set, int now)
{
	*ts = (struct timespec){.tv_nsec = UTIME_OMIT};
	if (to_set & now)
		ts->tv_nsec = UTIME_NOW;
	else if (to_set & set)
		*ts = *given;
}

static vcf_err_t set_times(struct node *n, const struct stat *attr, int to_set)
{
	struct timespec ts[2];

	pick_time(&ts[0], &attr->st_atim, to_set, FUSE_SET_ATTR_ATIME,
		  FUSE_SET_ATTR_ATIME_NOW);
	pick_time(&ts[1], &attr->st_mtim, to_set, FUSE_SET_ATTR_MTIME,
		  FUSE_SET_ATTR_MTIME_NOW);
	if (utimensat(n->fd, "", ts, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

/* Owner and permissions as they are to be. */
static vcf_err_t set_rights(struct server *sv, struct node *n, const struct stat *attr,
			    int to_set)
{
	vcf_err_t err = 0;

	if (n->device) {
		device_set(sv, n, attr, to_set);
		return 0;
	}
	if (to_set & FUSE_SET_ATTR_MODE &&
	    chmod(node_fd_path(n->fd).path, attr->st_mode & 07777) < 0)
		err = -errno;
	if (!err && to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		err = set_owner(n, attr, to_set);
	return err;
}

static vcf_err_t truncate_plain(struct server *sv, struct node *n, const struct handle *h,
				off_t size)
{
	auto_close int fd = h ? -1 : node_reopen(sv, n, O_WRONLY);

	if (!h && fd < 0)
		return fd;
	return ftruncate(h ? h->fd : fd, size) < 0 ? -errno : 0;
}

static vcf_err_t truncate_image(struct server *sv, struct node *n, const struct handle *h,
				off_t size)
{
	struct image_file f;
	struct image_entry *e;
	vcf_err_t err;

	if (h)
		f = ops_image_file(h);
	err = imagetable_get(sv->images, n, &e);
	if (err)
		return err;
	err = ops_image_truncate(sv, n, e, h ? &f : NULL, (uint64_t)size);
	imagetable_put(sv->images, e);
	return err;
}

static vcf_err_t set_size(struct server *sv, struct node *n,
			  const struct fuse_file_info *fi, off_t size)
{
	struct handle *h = fi ? state_handle_of(sv->state, fi->fh, n->id) : NULL;

	if (size < 0)
		return -EINVAL;
	if (fi && !h)
		return -EBADF;
	if (node_is_image(n))
		return truncate_image(sv, n, h, size);
	return truncate_plain(sv, n, h, size);
}

/*
 * Of one who may not keep them when he changes a file's size; the kernel says so in a bit that libfuse
 * has no field for. chown(2) below clears them as it does everywhere.
 */
static bool kills_set_ids(void)
{
	const struct fuse_in_header *in = (const void *)current_worker->req;
	const struct fuse_setattr_in *arg = (const void *)(in + 1);

	return arg->valid & FATTR_KILL_SUIDGID;
}

/*
 * The size comes first: it alone may park the request, which is then executed again from its
 * start.
 */
static vcf_err_t apply(struct server *sv, struct node *n, const struct stat *attr,
		       int to_set, const struct fuse_file_info *fi)
{
	vcf_err_t err = 0;

	if (to_set & FUSE_SET_ATTR_SIZE)
		err = set_size(sv, n, fi, attr->st_size);
	if (!err && to_set & FUSE_SET_ATTR_SIZE && kills_set_ids())
		err = ops_drop_set_ids(sv, n->id, n->fd);
	if (!err)
		err = set_rights(sv, n, attr, to_set);
	if (!err && to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME |
			      FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW))
		err = set_times(n, attr, to_set);
	return err;
}

void ops_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		 struct fuse_file_info *fi)
{
	struct node *n = ops_node(req, ino);
	vcf_err_t err;

	if (!n)
		return;
	err = apply(ops_server(req), n, attr, to_set, fi);
	if (err == -EINPROGRESS)
		ops_parked(req);
	else if (err)
		ops_reply_err(req, err);
	else
		reply_attr(req, n);
}

void ops_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct node *n = ops_node(req, ino);
	char target[PATH_MAX + 1];
	ssize_t len;

	if (!n)
		return;
	len = readlinkat(n->fd, "", target, sizeof(target) - 1);
	if (len < 0) {
		ops_reply_err(req, -errno);
		return;
	}
	target[len] = '\0';
	fuse_reply_readlink(req, target);
}

void ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;

	(void)ino;
	if (fstatvfs(ops_server(req)->rootfd, &st) < 0)
		ops_reply_err(req, -errno);
	else
		fuse_reply_statfs(req, &st);
}
