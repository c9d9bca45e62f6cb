/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/device.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fs/config_compare.h"
#include "fs/device_config.h"
#include "fs/node.h"
#include "fs/ops.h"
#include "fs/span.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

bool device_has_name(struct server *sv, const struct node *dir, const char *name)
{
	const struct config *cfg = sv->cfg;

	return cfg->device_cnt && dir == state_root(sv->state) &&
	       config_device(cfg, name);
}

int device_open_name(struct server *sv, const char *name)
{
	const struct config *d = config_device(sv->cfg, name);
	int fd = d ? device_open(d, O_PATH) : -ENOENT; /* a reload was faster */

	return fd == -ENOTBLK ? -ENXIO : fd;
}

/* --- records --- */

static struct session_device *find_record(struct server *sv, const char *name)
{
	for (uint32_t i = 0; i < SESSION_DEVICES_MAX; i++) {
		struct session_device *r = &sv->session->devices[i];

		if (!r->used)
			return NULL;
		if (strcmp(r->name, name) == 0)
			return r;
	}
	return NULL;
}

/* They are not freed: one that comes back has the owner that it had. */
static vcf_err_t add_record(struct server *sv, const char *name,
			    struct session_device **out)
{
	const struct config *d = config_device(sv->cfg, name);
	struct session_device *r = sv->session->devices;
	struct device_attr attr;

	while (r < sv->session->devices + SESSION_DEVICES_MAX && r->used)
		r++;
	if (r == sv->session->devices + SESSION_DEVICES_MAX)
		return -ENFILE;
	if (!d || device_first_attr(&attr, d))
		attr = (struct device_attr){.mode = 0};
	r->mode = attr.mode;
	r->uid = attr.uid;
	r->gid = attr.gid;
	TEXT_CUT(r->name, name);
	CRASHPOINT("device-filled");
	atomic_store(&r->used, 1);
	*out = r;
	return 0;
}

vcf_err_t device_number(struct server *sv, const char *name, uint32_t *number)
{
	SCOPED_LOCK(&sv->device_lock);
	struct session_device *r = find_record(sv, name);
	vcf_err_t err = r ? 0 : add_record(sv, name, &r);

	if (!err)
		*number = (uint32_t)(r - sv->session->devices) + 1;
	return err;
}

/* A number that a damaged record has is nobody's. */
static struct session_device *record_of(struct server *sv, const struct node *n)
{
	return &sv->session->devices[(n->device - 1) % SESSION_DEVICES_MAX];
}

void device_set(struct server *sv, const struct node *n, const struct stat *attr,
		int to_set)
{
	struct session_device *r = record_of(sv, n);

	if (to_set & FUSE_SET_ATTR_MODE)
		r->mode = attr->st_mode & 0777;
	if (to_set & FUSE_SET_ATTR_UID)
		r->uid = attr->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		r->gid = attr->st_gid;
}

/* --- attributes --- */

/* What a container that is made on it now will have. */
static uint64_t empty_len(struct server *sv, uint64_t len)
{
	struct geom g = {.data_off = CONTAINER_DATA_OFF,
			 .sector_len = (uint32_t)sv->cfg->sector_size,
			 .device = true};
	uint64_t plen;

	return span_decode_size(&g, len, &plen) ? 0 : plen;
}

vcf_err_t device_empty_len(struct server *sv, int fd, uint64_t *plen)
{
	uint64_t len;
	vcf_err_t err = io_file_len(fd, &len);

	if (!err)
		*plen = empty_len(sv, len);
	return err;
}

static uint64_t len_by_header(struct server *sv, const struct peek *p, uint64_t len)
{
	struct geom g = {
		.data_off = p->data_off, .sector_len = p->sector_len, .device = true};
	uint64_t plen;

	if (p->kind == PEEK_EMPTY)
		return empty_len(sv, len);
	if (p->kind != PEEK_CONTAINER)
		return len; /* shown as it is; open refuses it */
	return span_decode_size(&g, len, &plen) ? 0 : plen;
}

static vcf_err_t shown_len(struct server *sv, struct node *n, uint64_t *plen)
{
	auto_close int fd = node_reopen(sv, n, O_RDONLY);
	struct peek peek;
	uint64_t len;
	vcf_err_t err = fd < 0 ? fd : io_file_len(fd, &len);

	if (err || imagetable_measured(sv->images, n->dev, n->ino, len, plen))
		return err;
	err = size_peek_fd(&peek, fd, 0);
	if (!err)
		*plen = len_by_header(sv, &peek, len);
	return err;
}

vcf_err_t device_show(struct server *sv, struct node *n, struct stat *st)
{
	const struct session_device *r = record_of(sv, n);
	uint64_t plen = 0;
	vcf_err_t err = shown_len(sv, n, &plen);

	if (err)
		return err;
	st->st_mode = S_IFREG | r->mode;
	st->st_uid = r->uid;
	st->st_gid = r->gid;
	st->st_nlink = 1;
	st->st_rdev = 0;
	st->st_blksize = 4096;
	st->st_size = (off_t)plen;
	st->st_blocks = (blkcnt_t)(plen / 512);
	return 0;
}

uint32_t device_align(int fd)
{
	int len = 0;

	if (ioctl(fd, BLKSSZGET, &len) < 0 || len <= 0)
		return 4096;
	return len > OPS_DIRECT_ALIGN_MIN ? (uint32_t)len : OPS_DIRECT_ALIGN_MIN;
}

/* --- claims --- */

int device_claim_fd(struct server *sv, int pathfd, const char *name)
{
	int fd = node_reopen_fd(sv, pathfd, O_RDWR | O_EXCL);

	if (fd == -EROFS || fd == -EACCES)
		fd = node_reopen_fd(sv, pathfd, O_RDONLY | O_EXCL);
	if (fd == -EBUSY)
		log_err("%s: its device is in use by somebody else (mounted, mapped, or by "
			"another vmcryptfs)",
			name);
	return fd;
}

vcf_err_t device_claim(struct server *sv, struct image_entry *e, const struct node *n)
{
	SCOPED_LOCK(&sv->device_lock);
	struct session_image *r = e->record;
	int fd;

	if (!r || r->sentinel_fd >= 0)
		return 0;
	fd = device_claim_fd(sv, n->fd, n->name);
	CRASHPOINT("device-claimed");
	if (fd < 0)
		return fd;
	atomic_store(&r->sentinel_fd, fd);
	return 0;
}

/* --- mount and reload --- */

vcf_err_t device_check_names(const struct server *sv, const struct config *cfg)
{
	vcf_err_t err = 0;

	for (size_t i = 0; i < cfg->device_cnt; i++) {
		const char *name = cfg->devices[i]->device_name;
		struct stat st;

		if (fstatat(sv->rootfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
		    errno == ENOENT)
			continue;
		log_err("[device %s]: the backing folder has a file of that name", name);
		err = -EEXIST;
	}
	return err;
}

static int settle_one(void *arg, const struct device_look *l)
{
	(void)arg;
	if (l->err)
		log_warn(
			"[device %s]: %s: %s; as long as it cannot be looked at no secret "
			"is destroyed",
			l->name, l->path, strerror(-l->err));
	else if (l->peek.kind == PEEK_PLAINTEXT || l->peek.kind == PEEK_DAMAGED)
		log_info(
			"[device %s]: %s holds something else than a container; it will not "
			"be opened",
			l->name, l->path);
	else if (l->peek.kind == PEEK_CONTAINER && fsync(l->fd) < 0)
		log_warn("[device %s]: %s: %s", l->name, l->path, strerror(errno));
	return 0;
}

void device_settle(struct server *sv)
{
	if (device_each(sv->cfg, settle_one, NULL))
		log_dbg("not all devices were looked at");
}

struct reload_check {
	const struct config *old, *fresh;
	vcf_err_t err;
};

static void check_open(void *arg, const struct image_entry *e)
{
	struct reload_check *c = arg;
	const struct config *is = config_device(c->old, e->path);
	const struct config *would = config_device(c->fresh, e->path);

	if (!is || !e->opens)
		return;
	if (would && strcmp(is->device_path, would->device_path) == 0)
		return;
	log_err("[device %s]: is open, and cannot go or lead to another device", e->path);
	c->err = -EBUSY;
}

vcf_err_t device_check_reload(struct server *sv, const struct config *fresh)
{
	struct reload_check c = {.old = sv->cfg, .fresh = fresh};

	imagetable_each(sv->images, check_open, &c);
	return c.err ? c.err : device_check_names(sv, fresh);
}
