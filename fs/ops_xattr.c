/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes, passed through. An O_PATH descriptor takes no f*xattr call; its
 * /proc/self/fd name does, and leads to the inode itself, also of a symlink.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "fs/ops.h"

void ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		  size_t size, int flags)
{
	struct node *n = ops_node(req, ino);

	if (!n)
		return;
	if (setxattr(node_fd_path(n->fd).path, name, value, size, flags) < 0)
		ops_reply_err(req, -errno);
	else
		ops_reply_err(req, 0);
}

/* size 0 asks for the length only; `len` is what the call with buf returned. */
static void reply_xattr(fuse_req_t req, size_t size, const char *buf, ssize_t len)
{
	if (len < 0)
		ops_reply_err(req, -errno);
	else if (!size)
		fuse_reply_xattr(req, (size_t)len);
	else
		fuse_reply_buf(req, buf, (size_t)len);
}

void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct node *n = ops_node(req, ino);
	auto_free char *buf = NULL;

	if (!n)
		return;
	if (size && !(buf = malloc(size))) {
		ops_reply_err(req, -ENOMEM);
		return;
	}
	reply_xattr(req, size, buf, getxattr(node_fd_path(n->fd).path, name, buf, size));
}

void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct node *n = ops_node(req, ino);
	auto_free char *buf = NULL;

	if (!n)
		return;
	if (size && !(buf = malloc(size))) {
		ops_reply_err(req, -ENOMEM);
		return;
	}
	reply_xattr(req, size, buf, listxattr(node_fd_path(n->fd).path, buf, size));
}

void ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct node *n = ops_node(req, ino);

	if (!n)
		return;
	if (removexattr(node_fd_path(n->fd).path, name) < 0)
		ops_reply_err(req, -errno);
	else
		ops_reply_err(req, 0);
}
