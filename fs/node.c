/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/node.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "fs/device.h"
#include "fs/imagetable.h"
#include "fs/span.h"
#include "util/hash.h"
#include "util/log.h"

bool node_is_image(const struct node *n)
{
	return (S_ISREG(n->mode) || n->device) && rules_is_image((enum file_class)n->cls);
}

struct fd_path node_fd_path(int fd)
{
	struct fd_path p;

	snprintf(p.path, sizeof(p.path), "/proc/self/fd/%d", fd);
	return p;
}

int node_reopen_fd(struct server *sv, int pathfd, int flags)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "%d", pathfd);
	fd = openat(sv->procfd, name, (flags & ~O_NOFOLLOW) | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int node_reopen(struct server *sv, const struct node *n, int flags)
{
	return node_reopen_fd(sv, n->fd, flags);
}

/* Tells instances apart; whoever makes two collide gains nothing, open checks by text. */
static uint64_t domain_of(bool image, const char *context)
{
	if (!image)
		return 0;
	return hash_fnv1a(HASH_FNV1A_START, context, strlen(context)) | 1;
}

struct placed {
	enum file_class cls;
	uint64_t domain;
	uint32_t device;
};

/* What the rules say of a name; only regular files have a class that matters. */
static vcf_err_t place(struct server *sv, const struct node *dir, const char *name,
		       const struct stat *st, struct placed *out)
{
	char path[STATE_PATH_MAX];
	char context[TOKEN_CONTEXT_MAX + 1];
	vcf_err_t err = 0;

	*out = (struct placed){.cls = CLASS_PASSTHROUGH};
	if (S_ISBLK(st->st_mode) && device_has_name(sv, dir, name))
		err = device_number(sv, name, &out->device);
	else if (!S_ISREG(st->st_mode))
		return 0;
	if (!err)
		err = state_child_path(sv->state, dir, name, path);
	if (err)
		return err;
	out->cls = rules_class(sv->rules, path);
	rules_context(sv->rules, path, context);
	out->domain = domain_of(rules_is_image(out->cls), context);
	return 0;
}

static vcf_err_t enter(struct server *sv, struct node *dir, const char *name, int *pathfd,
		       const struct stat *st, struct node **out)
{
	struct node_key key = {.dev = st->st_dev, .ino = st->st_ino};
	struct node proto = {.fd = *pathfd, .mode = st->st_mode & S_IFMT};
	struct placed placed;
	bool fd_used;
	vcf_err_t err = place(sv, dir, name, st, &placed);

	if (err)
		return err;
	key.domain = placed.domain;
	proto.cls = placed.cls;
	proto.device = placed.device;
	err = state_node_lookup(sv->state, &key, &proto, dir, name, current_worker->slot,
				out, &fd_used);
	if (err)
		return err;
	if (fd_used)
		*pathfd = -1;
	if ((*out)->device == placed.device) {
		(*out)->cls = placed.cls;
		return 0;
	}
	log_err("%s: its device is in use by another name", name);
	state_node_unlookup(sv->state, (*out)->id, current_worker->slot);
	return -EBUSY;
}

vcf_err_t node_lookup_fd(struct server *sv, struct node *dir, const char *name,
			 int pathfd, struct fuse_entry_param *e)
{
	auto_close int fd = pathfd;
	struct node *n;
	vcf_err_t err;

	memset(e, 0, sizeof(*e));
	if (fstatat(fd, "", &e->attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	err = enter(sv, dir, name, &fd, &e->attr, &n);
	if (err)
		return err;
	err = node_attr_of(sv, n, &e->attr);
	if (err) {
		state_node_unlookup(sv->state, n->id, current_worker->slot);
		return err;
	}
	e->ino = n->id;
	e->generation = 0;
	e->attr_timeout = sv->timeout_s;
	e->entry_timeout = sv->timeout_s;
	return 0;
}

void node_moved(struct server *sv, struct node *dir, const char *name, int pathfd)
{
	struct placed placed;
	struct stat st;

	if (fstatat(pathfd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ||
	    place(sv, dir, name, &st, &placed))
		return;
	state_node_moved(sv->state,
			 &(struct node_key){st.st_dev, st.st_ino, placed.domain}, dir,
			 name, placed.cls);
}

vcf_err_t node_lookup(struct server *sv, struct node *dir, const char *name,
		      struct fuse_entry_param *e)
{
	int fd;

	if (device_has_name(sv, dir, name)) {
		fd = device_open_name(sv, name);
	} else {
		fd = openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	if (fd < 0)
		return fd;
	return node_lookup_fd(sv, dir, name, fd, e);
}

/* Allocated 512-byte blocks in [0, end) of a file: what the header takes. */
static uint32_t allocated_blocks(int fd, off_t end)
{
	off_t pos = 0;
	off_t sum = 0;

	while (pos < end) {
		off_t data = lseek(fd, pos, SEEK_DATA);
		off_t hole;

		if (data < 0 || data >= end)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || hole > end)
			hole = end;
		sum += hole - data;
		pos = hole;
	}
	return (uint32_t)(sum / 512);
}

/* Another thread may do the same at the same time: it stores the same values. */
static void remember_peek(struct node *n, const struct peek *p, int fd)
{
	n->sector_len = p->sector_len;
	n->data_off = p->data_off;
	n->header_blocks = allocated_blocks(fd, (off_t)p->data_off);
	atomic_store(&n->peek_kind, PEEK_CONTAINER);
}

vcf_err_t node_peek(struct server *sv, struct node *n, const struct stat *st,
		    struct peek *out)
{
	auto_close int fd = -1;
	vcf_err_t err;

	memset(out, 0, sizeof(*out));
	out->kind = PEEK_EMPTY;
	if (!st->st_size && !n->device)
		return 0;
	if (!n->device && atomic_load(&n->peek_kind) == PEEK_CONTAINER) {
		out->kind = PEEK_CONTAINER;
		out->sector_len = n->sector_len;
		out->data_off = n->data_off;
		return 0;
	}
	fd = node_reopen(sv, n, O_RDONLY);
	if (fd < 0)
		return fd;
	err = size_peek_fd(out, fd, (uint64_t)st->st_size);
	if (!err && out->kind == PEEK_CONTAINER &&
	    !n->device) /* it may be another one's */
		remember_peek(n, out, fd);
	return err;
}

/* An image's size and blocks in place of its container's. */
static void show_image(struct server *sv, struct node *n, const struct peek *p,
		       struct stat *st)
{
	struct geom g = {.data_off = p->data_off, .sector_len = p->sector_len};
	uint64_t plen = 0;

	if (p->kind == PEEK_PLAINTEXT)
		return; /* shown as it is; open refuses it */
	if (p->kind != PEEK_CONTAINER) {
		st->st_size = 0;
		st->st_blocks = 0;
		return;
	}
	if (!imagetable_size(sv->images, n->dev, n->ino, &plen) &&
	    span_decode_size(&g, (uint64_t)st->st_size, &plen))
		plen = 0; /* torn: open says so */
	st->st_size = (off_t)plen;
	st->st_blocks -=
		st->st_blocks < n->header_blocks ? st->st_blocks : n->header_blocks;
}

vcf_err_t node_attr_of(struct server *sv, struct node *n, struct stat *st)
{
	struct peek p;
	vcf_err_t err;

	if (!node_is_image(n))
		return 0;
	if (n->device)
		return device_show(sv, n, st);
	err = node_peek(sv, n, st, &p);
	if (err == -EACCES || err == -EPERM) {
		st->st_size = 0; /* not root, and no right to read the header */
		return 0;
	}
	if (err)
		return err;
	show_image(sv, n, &p, st);
	return 0;
}

vcf_err_t node_attr(struct server *sv, struct node *n, struct stat *st)
{
	if (fstatat(n->fd, "", st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return node_attr_of(sv, n, st);
}
