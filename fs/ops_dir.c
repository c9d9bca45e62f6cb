/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Folders: getdents64 on the handle's descriptor, offset = d_off, which the backing file system
 * keeps stable for the life of the folder. No DIR*: there is no state but the descriptor's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/device.h"
#include "fs/ops.h"
#include "util/log.h"

struct dirent_raw {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};

void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct server *sv = ops_server(req);
	struct node *n = ops_node(req, ino);
	struct handle h = {.kind = HANDLE_DIR, .direct_fd = -1};
	vcf_err_t err;

	if (!n)
		return;
	if (ops_made_before(sv, &fi->fh)) {
		fuse_reply_open(req, fi);
		return;
	}
	h.fd = openat(n->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (h.fd < 0) {
		ops_reply_err(req, -errno);
		return;
	}
	err = state_handle_add(sv->state, &h, n, ops_slot(), &fi->fh);
	if (err) {
		close(h.fd);
		ops_reply_err(req, err);
		return;
	}
	if (fuse_reply_open(req, fi) == -ENOENT)
		state_handle_del(sv->state,
				 fi->fh); /* the caller went away: no release */
}

void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	state_handle_del(ops_server(req)->state, fi->fh);
	ops_reply_err(req, 0);
}

struct filling {
	fuse_req_t req;
	struct node *dir;
	char *buf;
	size_t len, used;
	bool plus;
};

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static size_t add_plain(struct filling *f, const struct dirent_raw *d)
{
	struct stat st = {.st_ino = d->d_ino, .st_mode = (mode_t)d->d_type << 12};

	return fuse_add_direntry(f->req, f->buf + f->used, f->len - f->used, d->d_name,
				 &st, d->d_off);
}

/*
 * An entry with attributes counts as a lookup. One that vanished meanwhile, or that cannot be
 * looked up, is listed without.
 */
static size_t add_plus(struct filling *f, const struct dirent_raw *d)
{
	struct server *sv = ops_server(f->req);
	struct fuse_entry_param e;
	size_t size;

	if (is_dot(d->d_name) || node_lookup(sv, f->dir, d->d_name, &e)) {
		memset(&e, 0, sizeof(e));
		e.attr.st_ino = d->d_ino;
		e.attr.st_mode = (mode_t)d->d_type << 12;
	}
	size = fuse_add_direntry_plus(f->req, f->buf + f->used, f->len - f->used,
				      d->d_name, &e, d->d_off);
	if (size > f->len - f->used && e.ino)
		state_node_unlookup(sv->state, e.ino, ops_slot());
	return size;
}

static bool add_one(struct filling *f, const struct dirent_raw *d)
{
	size_t size = f->plus ? add_plus(f, d) : add_plain(f, d);

	if (size > f->len - f->used)
		return false;
	f->used += size;
	return true;
}

/*
 * The devices come behind what the root has. Their offsets are none that a file system gives: small
 * numbers, or hashes of 63 bits, of which one in 2^53 would lie among them.
 */
static const uint64_t device_off = 0x6d6376646576c000;

static bool is_device_off(off_t off)
{
	return (uint64_t)off >= device_off &&
	       (uint64_t)off <= device_off + CONFIG_DEVICES_MAX;
}

/* from: the first of them. One that is not there has no entry. */
static void add_devices(struct filling *f, uint64_t from)
{
	struct server *sv = ops_server(f->req);
	const struct config *cfg = sv->cfg;
	union {
		struct dirent_raw d;
		char room[sizeof(struct dirent_raw) + CONFIG_DEVICE_NAME_MAX + 1];
	} e;

	for (uint64_t i = from; i < cfg->device_cnt; i++) {
		auto_close int fd = device_open_name(sv, cfg->devices[i]->device_name);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0)
			continue;
		e.d.d_ino = st.st_ino;
		e.d.d_off = (int64_t)(device_off + i + 1);
		e.d.d_type = DT_REG;
		strcpy(e.room + offsetof(struct dirent_raw, d_name),
		       cfg->devices[i]->device_name);
		if (!add_one(f, &e.d))
			return;
	}
}

/* Adds what fits of one block of entries; false when the reply is full. */
static bool add_block(struct filling *f, const char *block, long n)
{
	for (long pos = 0; pos < n;) {
		const struct dirent_raw *d = (const void *)(block + pos);

		if (!device_has_name(ops_server(f->req), f->dir, d->d_name) &&
		    !add_one(f, d))
			return false;
		pos += d->d_reclen;
	}
	return true;
}

static vcf_err_t fill(struct filling *f, int fd, off_t off)
{
	char block[8192] __attribute__((aligned(8)));
	bool root = f->dir == state_root(ops_server(f->req)->state);

	if (root && is_device_off(off)) {
		add_devices(f, (uint64_t)off - device_off);
		return 0;
	}
	if (lseek(fd, off, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		long n = syscall(SYS_getdents64, fd, block, sizeof(block));

		if (n < 0)
			return f->used ? 0 : -errno;
		if (n && !add_block(f, block, n))
			return 0;
		if (n)
			continue;
		if (root)
			add_devices(f, 0);
		return 0;
	}
}

static void read_folder(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			struct fuse_file_info *fi, bool plus)
{
	struct node *dir = ops_node(req, ino);
	struct handle *h = dir ? ops_handle(req, ino, fi) : NULL;
	auto_free char *buf = NULL;
	struct filling f = {.req = req, .dir = dir, .len = size, .plus = plus};
	vcf_err_t err;

	if (!h)
		return;
	buf = malloc(size);
	if (!buf) {
		ops_reply_err(req, -ENOMEM);
		return;
	}
	f.buf = buf;
	err = fill(&f, h->fd, off);
	if (err)
		ops_reply_err(req, err);
	else
		fuse_reply_buf(req, buf, f.used);
}

void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 struct fuse_file_info *fi)
{
	read_folder(req, ino, size, off, fi, false);
}

void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	read_folder(req, ino, size, off, fi, true);
}
