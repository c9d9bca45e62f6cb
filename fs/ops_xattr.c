/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes, passed through. An O_PATH descriptor takes no f*xattr call; its
 * /proc/self/fd name does, and leads to the inode itself, also of a symlink.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "build-config.h"
#include "fs/mountcheck.h"
#include "fs/ops.h"
#include "fs/takeover.h"
#include "util/crashpoint.h"

/* The node of a request; NULL: answered. The kernel remembers ENOSYS and does not ask again. */
static struct node *xattr_node(fuse_req_t req, fuse_ino_t ino)
{
	struct node *n;

	if (!ops_server(req)->cfg->xattr) {
		ops_reply_err(req, -ENOSYS);
		return NULL;
	}
	n = ops_node(req, ino);
	if (!n || !n->device)
		return n;
	ops_reply_err(req, -EOPNOTSUPP); /* those of the device node are the system's */
	return NULL;
}

static bool has_xattr(const struct node *n, const char *name)
{
	return getxattr(node_fd_path(n->fd).path, name, NULL, 0) >= 0;
}

/* XATTR_CREATE can succeed only once, so whether it may is asked before. */
static vcf_err_t set_xattr(const struct node *n, const char *name, const char *value,
			   size_t size, int flags)
{
	if (SESSION_NOTES && flags & XATTR_CREATE) {
		if (!ops_slot()->intent && has_xattr(n, name))
			return -EEXIST;
		if (ops_intend())
			flags &= ~XATTR_CREATE;
	}
	if (setxattr(node_fd_path(n->fd).path, name, value, size, flags) < 0)
		return -errno;
	return 0;
}

static vcf_err_t remove_xattr(const struct node *n, const char *name)
{
	bool again;

	if (SESSION_NOTES && !ops_slot()->intent && !has_xattr(n, name) &&
	    errno == ENODATA)
		return -ENODATA;
	again = ops_intend();
	if (removexattr(node_fd_path(n->fd).path, name) < 0)
		return again && errno == ENODATA ? 0 : -errno;
	return 0;
}

void ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		  size_t size, int flags)
{
	struct node *n = xattr_node(req, ino);
	vcf_err_t err;

	if (!n)
		return;
	err = set_xattr(n, name, value, size, flags);
	CRASHPOINT("xattr-set");
	ops_reply_err(req, err);
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

/* What check-mount asks, to know us by; also without extended attributes, and of the root alone. */
static bool is_greeting(fuse_ino_t ino, const char *name)
{
	return ino == FUSE_ROOT_ID && strcmp(name, MOUNTCHECK_XATTR) == 0;
}

static void greet(fuse_req_t req, size_t size)
{
	const size_t len = sizeof(VCF_VERSION) - 1;

	if (!size)
		fuse_reply_xattr(req, len);
	else if (size < len)
		ops_reply_err(req, -ERANGE);
	else
		fuse_reply_buf(req, VCF_VERSION, len);
}

void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct node *n;
	auto_free char *buf = NULL;

	if (is_greeting(ino, name)) {
		greet(req, size);
		return;
	}
	n = xattr_node(req, ino);
	if (!n)
		return;
	server_test_fault(name);
	if (size && !(buf = malloc(size))) {
		ops_reply_err(req, -ENOMEM);
		return;
	}
	reply_xattr(req, size, buf, getxattr(node_fd_path(n->fd).path, name, buf, size));
}

void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct node *n = xattr_node(req, ino);
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
	struct node *n = xattr_node(req, ino);
	vcf_err_t err;

	if (!n)
		return;
	err = remove_xattr(n, name);
	CRASHPOINT("xattr-gone");
	ops_reply_err(req, err);
}
