/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking over the images and their handles. No other thread uses the table yet. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/device.h"
#include "fs/imagetable_impl.h"
#include "fs/node.h"
#include "fs/nodelock.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

static void take_handle(void *arg, struct handle *h, struct node *n)
{
	struct imagetable *t = arg;
	struct image_entry *e;
	bool lingers;

	if (h->kind != HANDLE_IMAGE)
		return;
	if (imagetable_find_or_add(t, n, &e, &lingers)) {
		log_err("no memory for an open image");
		return; /* its requests get EBADF */
	}
	e->opens++;
	e->directs += h->flags & HANDLE_DIRECT;
	e->nodeid = n->id;
	/* Its open file has it, unless an older version opened it. */
	if (nodelock_byte(h->fd, NODELOCK_OPEN, false, false))
		log_dbg("an open image cannot be locked against commands");
	t->sv->handle_entry[state_handle_slot(t->sv->state, h)] = e;
}

static vcf_err_t file_len(struct imagetable *t, const struct session_image *r,
			  const struct node *n, uint64_t *len)
{
	auto_close int fd = -1;
	struct stat st;

	if (!n->device) {
		if (fstatat(n->fd, "", &st, AT_EMPTY_PATH) < 0)
			return -errno;
		if (!st.st_nlink && (uint64_t)st.st_size < r->data_off)
			return -ENOENT; /* wiped by the node that removed it */
		*len = (uint64_t)st.st_size;
		return 0;
	}
	fd = node_reopen(t->sv, n, O_RDONLY);
	return fd < 0 ? fd : io_file_len(fd, len);
}

static vcf_err_t make_again(struct imagetable *t, struct session_image *r,
			    const struct image_params *ip, const struct node *n)
{
	struct token_subject s = {.sector_len = r->sector_len, .data_off = r->data_off};
	struct token token = r->token;
	struct image_entry *e;
	struct image *im;
	uint64_t len;
	bool lingers;
	vcf_err_t err = file_len(t, r, n, &len);

	if (!err)
		err = image_new(&im, ip, len);
	if (err)
		return err;
	err = imagetable_find_or_add(t, n, &e, &lingers);
	if (!err && e->image) {
		imagetable_put(t, e);
		err = -EBADMSG; /* two records of one file */
	}
	if (err) {
		image_free(im);
		return err;
	}
	memcpy(s.uuid, r->uuid, UUID_LEN);
	e->nodeid = r->nodeid;
	e->escrow = r->escrow;
	TEXT_CUT(e->path, r->path);
	imagetable_publish(t, e, im, &s, &token, ip->key);
	e->state = IMAGE_READY;
	imagetable_put(t, e);
	return 0;
}

/*
 * -ENOENT: nobody has it open, nor does the kernel know it: it lingered. Then its inode may be free,
 * and its number another file's, which must not get this one's key.
 */
static vcf_err_t node_of(struct imagetable *t, const struct session_image *r,
			 struct node **out)
{
	struct node *n = state_node(t->sv->state, r->nodeid);
	bool same = true;
	vcf_err_t err = 0;

	if (!n || n->dev != r->dev || n->ino != r->ino) {
		n = state_node_of_inode(t->sv->state, r->dev, r->ino);
		err = n && (S_ISREG(n->mode) || n->device)
			      ? imagetable_compare_file(t, r->uuid, n, &same)
			      : -ENOENT;
	}
	*out = n;
	return err || same ? err : -ENOENT;
}

/* A descriptor that is not of the file is another one's: not ours to close. */
static void check_sentinel(struct session_image *r)
{
	struct stat st;

	if (r->sentinel_fd >= 0 && (fstat(r->sentinel_fd, &st) < 0 ||
				    st.st_dev != r->dev || st.st_ino != r->ino))
		r->sentinel_fd = -1;
}

/* Whatever is in the record: nobody reads beyond it. */
static void end_texts(struct session_image *r)
{
	r->path[sizeof(r->path) - 1] = '\0';
	r->token.service[sizeof(r->token.service) - 1] = '\0';
	r->token.key_id[sizeof(r->token.key_id) - 1] = '\0';
	r->token.context[sizeof(r->token.context) - 1] = '\0';
	r->token.created[sizeof(r->token.created) - 1] = '\0';
}

static void take_image(struct imagetable *t, uint32_t i)
{
	struct session_image *r = &t->sv->session->images[i];
	struct image_params ip = {
		.geom = {.data_off = r->data_off, .sector_len = r->sector_len},
		.shared = t->sv->cfg->shared,
		.punch_zeros = nodelock_fuse_below(),
		.holes_zero = r->token.holes == HOLES_ZERO,
		.keys = t->sv->keys,
		.key = {.slot = i, .generation = r->generation},
		.grow_from = &r->grow_from,
	};
	struct node *n;
	vcf_err_t err = node_of(t, r, &n);

	if (ip.shared)
		ip.grow_from = NULL;
	end_texts(r);
	check_sentinel(r);
	/* The second: the last one died while the container got another uuid. */
	if (!err && !keytable_is(t->sv->keys, ip.key, r->uuid) &&
	    !keytable_fits(t->sv->keys, ip.key, r->uuid, r->token.kcv))
		err = -ENOKEY;
	ip.geom.device = !err && n->device;
	if (!err)
		err = make_again(t, r, &ip, n);
	if (!err)
		return;
	if (r->sentinel_fd >= 0) /* a claim would be in our own way */
		close(atomic_exchange(&r->sentinel_fd, -1));
	if (err != -ENOENT)
		log_err("%s: its key was not taken over: %s", r->path, strerror(-err));
	atomic_store(&r->generation, 0);
	keytable_del(t->sv->keys, ip.key);
}

static bool has_image(void *arg, struct key_ref key)
{
	struct session *s = arg;

	return s->images[key.slot].generation == key.generation;
}

static void note_lost(void *arg, struct handle *h, struct node *n)
{
	struct imagetable *t = arg;
	struct image_entry *e = t->sv->handle_entry[state_handle_slot(t->sv->state, h)];
	struct peek peek;
	struct stat st;

	if (e && e->image && n->device && device_claim(t->sv, e, n))
		log_err("%s: is used by somebody else as well", e->path);
	if (!e || e->image || fstatat(n->fd, "", &st, AT_EMPTY_PATH) < 0)
		return;
	if (n->device)
		e->lost = !node_peek(t->sv, n, &st, &peek) && peek.kind != PEEK_EMPTY;
	else
		e->lost = st.st_size != 0;
}

vcf_err_t imagetable_take_over(struct imagetable *t)
{
	size_t dropped = keytable_keep(t->sv->keys, has_image, t->sv->session);

	if (dropped)
		log_dbg("%zu keys belonged to no image", dropped);
	state_each_handle(t->sv->state, take_handle, t);
	for (uint32_t i = 0; i < SESSION_IMAGES_MAX; i++) {
		if (t->sv->session->images[i].generation)
			take_image(t, i);
	}
	state_each_handle(t->sv->state, note_lost, t);
	return 0;
}
