/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages, one builder an opcode, and the waited-for calls made of them. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/protocol/fuseclient.h"

static void start(struct fc_msg *m, uint32_t opcode, uint64_t nodeid, size_t arg_len)
{
	memset(m, 0, sizeof(*m));
	m->opcode = opcode;
	m->nodeid = nodeid;
	if (arg_len)
		m->part[m->cnt++] = (struct iovec){&m->u, arg_len};
}

static void add(struct fc_msg *m, const void *data, size_t len)
{
	struct iovec *part = &m->part[m->cnt++];

	memcpy(&part->iov_base, &data, sizeof(data)); /* const ends here */
	part->iov_len = len;
}

static void add_name(struct fc_msg *m, const char *name)
{
	add(m, name, strlen(name) + 1);
}

void fc_msg_init(struct fc_msg *m, uint64_t flags)
{
	start(m, FUSE_INIT, 0, sizeof(m->u.init));
	m->u.init.major = FUSE_KERNEL_VERSION;
	m->u.init.minor = FUSE_KERNEL_MINOR_VERSION;
	m->u.init.max_readahead = 128 * 1024;
	m->u.init.flags = (uint32_t)flags;
	m->u.init.flags2 = (uint32_t)(flags >> 32);
}

void fc_msg_node(struct fc_msg *m, uint32_t opcode, uint64_t nodeid)
{
	start(m, opcode, nodeid, 0);
}

void fc_msg_name(struct fc_msg *m, uint32_t opcode, uint64_t parent, const char *name)
{
	start(m, opcode, parent, 0);
	add_name(m, name);
}

void fc_msg_forget(struct fc_msg *m, uint64_t nodeid, uint64_t nlookup)
{
	start(m, FUSE_FORGET, nodeid, sizeof(m->u.forget));
	m->u.forget.nlookup = nlookup;
}

void fc_msg_getattr(struct fc_msg *m, uint64_t nodeid)
{
	start(m, FUSE_GETATTR, nodeid, sizeof(m->u.getattr));
}

void fc_msg_setsize(struct fc_msg *m, uint64_t nodeid, uint64_t fh, uint64_t size)
{
	start(m, FUSE_SETATTR, nodeid, sizeof(m->u.setattr));
	m->u.setattr.valid = FATTR_SIZE | (fh ? FATTR_FH : 0);
	m->u.setattr.fh = fh;
	m->u.setattr.size = size;
}

void fc_msg_open(struct fc_msg *m, uint32_t opcode, uint64_t nodeid, uint32_t flags)
{
	start(m, opcode, nodeid, sizeof(m->u.open));
	m->u.open.flags = flags;
}

void fc_msg_create(struct fc_msg *m, uint64_t parent, const char *name, uint32_t flags)
{
	start(m, FUSE_CREATE, parent, sizeof(m->u.create));
	m->u.create.flags = flags | O_CREAT;
	m->u.create.mode = S_IFREG | 0644;
	add_name(m, name);
}

void fc_msg_read(struct fc_msg *m, uint32_t opcode, uint64_t nodeid, uint64_t fh,
		 uint64_t off, uint32_t size)
{
	start(m, opcode, nodeid, sizeof(m->u.read));
	m->u.read.fh = fh;
	m->u.read.offset = off;
	m->u.read.size = size;
}

void fc_msg_write(struct fc_msg *m, uint64_t nodeid, uint64_t fh, uint64_t off,
		  const void *data, uint32_t size)
{
	start(m, FUSE_WRITE, nodeid, sizeof(m->u.write));
	m->u.write.fh = fh;
	m->u.write.offset = off;
	m->u.write.size = size;
	add(m, data, size);
}

void fc_msg_flush(struct fc_msg *m, uint64_t nodeid, uint64_t fh)
{
	start(m, FUSE_FLUSH, nodeid, sizeof(m->u.flush));
	m->u.flush.fh = fh;
}

void fc_msg_release(struct fc_msg *m, uint32_t opcode, uint64_t nodeid, uint64_t fh)
{
	start(m, opcode, nodeid, sizeof(m->u.release));
	m->u.release.fh = fh;
}

void fc_msg_fsync(struct fc_msg *m, uint64_t nodeid, uint64_t fh, bool datasync)
{
	start(m, FUSE_FSYNC, nodeid, sizeof(m->u.fsync));
	m->u.fsync.fh = fh;
	m->u.fsync.fsync_flags = datasync ? FUSE_FSYNC_FDATASYNC : 0;
}

void fc_msg_fallocate(struct fc_msg *m, uint64_t nodeid, uint64_t fh, uint32_t mode,
		      uint64_t off, uint64_t len)
{
	start(m, FUSE_FALLOCATE, nodeid, sizeof(m->u.fallocate));
	m->u.fallocate.fh = fh;
	m->u.fallocate.mode = mode;
	m->u.fallocate.offset = off;
	m->u.fallocate.length = len;
}

void fc_msg_lseek(struct fc_msg *m, uint64_t nodeid, uint64_t fh, uint64_t off,
		  uint32_t whence)
{
	start(m, FUSE_LSEEK, nodeid, sizeof(m->u.lseek));
	m->u.lseek.fh = fh;
	m->u.lseek.offset = off;
	m->u.lseek.whence = whence;
}

void fc_msg_mkdir(struct fc_msg *m, uint64_t parent, const char *name)
{
	start(m, FUSE_MKDIR, parent, sizeof(m->u.mkdir));
	m->u.mkdir.mode = 0755;
	add_name(m, name);
}

void fc_msg_mknod(struct fc_msg *m, uint64_t parent, const char *name, uint32_t mode,
		  uint32_t rdev)
{
	start(m, FUSE_MKNOD, parent, sizeof(m->u.mknod));
	m->u.mknod.mode = mode;
	m->u.mknod.rdev = rdev;
	add_name(m, name);
}

void fc_msg_symlink(struct fc_msg *m, uint64_t parent, const char *name,
		    const char *target)
{
	start(m, FUSE_SYMLINK, parent, 0);
	add_name(m, name);
	add_name(m, target);
}

void fc_msg_link(struct fc_msg *m, uint64_t nodeid, uint64_t parent, const char *name)
{
	start(m, FUSE_LINK, parent, sizeof(m->u.link));
	m->u.link.oldnodeid = nodeid;
	add_name(m, name);
}

void fc_msg_rename(struct fc_msg *m, uint64_t parent, const char *name,
		   uint64_t newparent, const char *newname, uint32_t flags)
{
	start(m, FUSE_RENAME2, parent, sizeof(m->u.rename));
	m->u.rename.newdir = newparent;
	m->u.rename.flags = flags;
	add_name(m, name);
	add_name(m, newname);
}

void fc_msg_setxattr(struct fc_msg *m, uint64_t nodeid, const char *name,
		     const void *value, uint32_t size)
{
	start(m, FUSE_SETXATTR, nodeid, sizeof(m->u.setxattr));
	m->u.setxattr.size = size;
	add_name(m, name);
	add(m, value, size);
}

void fc_msg_getxattr(struct fc_msg *m, uint32_t opcode, uint64_t nodeid, const char *name,
		     uint32_t size)
{
	start(m, opcode, nodeid, sizeof(m->u.getxattr));
	m->u.getxattr.size = size;
	if (name)
		add_name(m, name);
}

void fc_msg_interrupt(struct fc_msg *m, uint64_t unique)
{
	start(m, FUSE_INTERRUPT, 0, sizeof(m->u.interrupt));
	m->u.interrupt.unique = unique;
}

int fc_init(struct fc *c, uint64_t flags, struct fuse_init_out *out)
{
	struct fc_msg m;

	fc_msg_init(&m, flags);
	return fc_do(c, &m, out, sizeof(*out), NULL);
}

int fc_lookup(struct fc *c, uint64_t parent, const char *name, struct fuse_entry_out *out)
{
	struct fc_msg m;

	fc_msg_name(&m, FUSE_LOOKUP, parent, name);
	return fc_do(c, &m, out, sizeof(*out), NULL);
}

void fc_forget(struct fc *c, uint64_t nodeid, uint64_t nlookup)
{
	struct fc_msg m;

	fc_msg_forget(&m, nodeid, nlookup);
	fc_post(c, &m);
}

int fc_getattr(struct fc *c, uint64_t nodeid, struct fuse_attr *out)
{
	struct fuse_attr_out body;
	struct fc_msg m;
	int err;

	fc_msg_getattr(&m, nodeid);
	err = fc_do(c, &m, &body, sizeof(body), NULL);
	if (!err && out)
		*out = body.attr;
	return err;
}

int fc_setsize(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t size)
{
	struct fc_msg m;

	fc_msg_setsize(&m, nodeid, fh, size);
	return fc_do(c, &m, NULL, 0, NULL);
}

int fc_open(struct fc *c, uint64_t nodeid, uint32_t flags, struct fuse_open_out *out)
{
	struct fc_msg m;

	fc_msg_open(&m, FUSE_OPEN, nodeid, flags);
	return fc_do(c, &m, out, sizeof(*out), NULL);
}

int fc_create(struct fc *c, uint64_t parent, const char *name, uint32_t flags,
	      uint64_t *nodeid, struct fuse_open_out *out)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} body;
	struct fc_msg m;
	int err;

	fc_msg_create(&m, parent, name, flags);
	err = fc_do(c, &m, &body, sizeof(body), NULL);
	if (!err) {
		*nodeid = body.entry.nodeid;
		*out = body.open;
	}
	return err;
}

long fc_read(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t off, void *buf,
	     uint32_t size)
{
	struct fc_msg m;
	size_t len;
	int err;

	fc_msg_read(&m, FUSE_READ, nodeid, fh, off, size);
	err = fc_do(c, &m, buf, size, &len);
	return err ? err : (long)len;
}

int fc_write(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t off, const void *data,
	     uint32_t size)
{
	struct fuse_write_out out = {0};
	struct fc_msg m;
	int err;

	fc_msg_write(&m, nodeid, fh, off, data, size);
	err = fc_do(c, &m, &out, sizeof(out), NULL);
	if (err)
		return err;
	return out.size == size ? 0 : FC_NO_ANSWER;
}

int fc_release(struct fc *c, uint64_t nodeid, uint64_t fh)
{
	struct fc_msg m;

	fc_msg_release(&m, FUSE_RELEASE, nodeid, fh);
	return fc_do(c, &m, NULL, 0, NULL);
}

int fc_fallocate(struct fc *c, uint64_t nodeid, uint64_t fh, uint32_t mode, uint64_t off,
		 uint64_t len)
{
	struct fc_msg m;

	fc_msg_fallocate(&m, nodeid, fh, mode, off, len);
	return fc_do(c, &m, NULL, 0, NULL);
}

int64_t fc_lseek(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t off,
		 uint32_t whence)
{
	struct fuse_lseek_out out;
	struct fc_msg m;
	int err;

	fc_msg_lseek(&m, nodeid, fh, off, whence);
	err = fc_do(c, &m, &out, sizeof(out), NULL);
	return err ? err : (int64_t)out.offset;
}

int fc_mkdir(struct fc *c, uint64_t parent, const char *name, uint64_t *nodeid)
{
	struct fuse_entry_out out;
	struct fc_msg m;
	int err;

	fc_msg_mkdir(&m, parent, name);
	err = fc_do(c, &m, &out, sizeof(out), NULL);
	if (!err)
		*nodeid = out.nodeid;
	return err;
}

int fc_unlink(struct fc *c, uint64_t parent, const char *name)
{
	struct fc_msg m;

	fc_msg_name(&m, FUSE_UNLINK, parent, name);
	return fc_do(c, &m, NULL, 0, NULL);
}

int fc_rename(struct fc *c, uint64_t parent, const char *name, uint64_t newparent,
	      const char *newname, uint32_t flags)
{
	struct fc_msg m;

	fc_msg_rename(&m, parent, name, newparent, newname, flags);
	return fc_do(c, &m, NULL, 0, NULL);
}
