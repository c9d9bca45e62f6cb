/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/async.h"
#include "fs/device.h"
#include "fs/nodelock.h"
#include "fs/ops.h"
#include "util/clock.h"
#include "util/io.h"
#include "util/log.h"

/* What both requests say. */
struct transfer {
	struct worker *w;
	struct server *sv;
	struct handle *h;
	uint64_t ino;
	uint64_t off;
	size_t len;
	bool append; /* shared: where the end is only the file knows */
	uint64_t began_ns;
	bool writeback; /* of a mapping or the page cache, by any handle, cut at the end */
};

/* What a local file system says to O_DIRECT at odd offsets. */
static bool misaligned(const struct transfer *t)
{
	return !t->writeback && (t->h->flags & HANDLE_O_DIRECT) &&
	       ((t->off | t->len) & (OPS_DIRECT_ALIGN_MIN - 1)) != 0;
}

static void count_done(const struct transfer *t, const struct image_entry *e,
		       enum iostat_way way, size_t len)
{
	iostat_done(&e->io[way], &t->w->slot->io[way], clock_now_ns() - t->began_ns, len);
}

static void count_failure(const struct transfer *t, const struct image_entry *e,
			  enum iostat_way way, vcf_err_t err)
{
	static const char *const names[] = {"read", "write"};
	const char *what = names[way];

	iostat_failed(&e->io[way], &t->w->slot->io[way]);
	log_err("%s: %s of %zu bytes at %lld: %s", e->path, what, t->len,
		(long long)t->off, strerror(-err));
}

/* No header: P = 0, or a device on which nothing was written yet, of zeros. */
static ssize_t read_nothing(const struct transfer *t)
{
	const struct node *n = state_node(t->sv->state, t->ino);
	uint64_t plen = 0;
	size_t len = t->len;
	vcf_err_t err = n && n->device ? device_empty_len(t->sv, t->h->fd, &plen) : 0;

	if (err)
		return err;
	if (t->off >= plen)
		return 0;
	if (len > plen - t->off)
		len = (size_t)(plen - t->off);
	memset(t->w->io.buf, 0, len);
	return (ssize_t)len;
}

static ssize_t read_image(const struct transfer *t, void **data)
{
	struct image_entry *e = ops_entry(t->sv, t->h);
	struct image_file f = ops_image_file(t->h);
	ssize_t n = misaligned(t) ? -EINVAL : ops_need_key(t->sv, t->ino, e);

	if (!n && !e->image)
		return read_nothing(t);
	if (n)
		return n;
	if (async_read(t->w, e, &f, t->len, t->off, t->began_ns))
		return -EINPROGRESS;
	n = image_pread(e->image, &f, &t->w->io, t->len, t->off, data);
	if (n < 0)
		count_failure(t, e, IOSTAT_READ, (vcf_err_t)n);
	else
		count_done(t, e, IOSTAT_READ, (size_t)n);
	return n;
}

static ssize_t read_handle(const struct transfer *t, void **data)
{
	*data = t->w->io.buf;
	if (t->len > SERVER_MAX_IO)
		return -EINVAL;
	if (t->h->kind == HANDLE_IMAGE)
		return read_image(t, data);
	if (t->sv->cfg->shared)
		nodelock_look_anew(t->h->fd);
	return io_pread_full(t->h->fd, t->w->io.buf, t->len, (off_t)t->off);
}

static vcf_err_t write_image(const struct transfer *t, const void *src)
{
	struct image_entry *e = ops_entry(t->sv, t->h);
	struct image_file f = ops_image_file(t->h);
	vcf_err_t err;

	if (misaligned(t))
		return -EINVAL;
	err = ops_need_header(t->sv, t->ino, e, t->writeback);
	if (err)
		return err;
	if (async_write(t->w, e, &f, src, t->len, t->off, t->began_ns))
		return -EINPROGRESS;
	if (t->append)
		err = image_append(e->image, &f, &t->w->io, src, t->len,
				   &t->w->slot->append_at);
	else
		err = image_pwrite(e->image, &f, &t->w->io, src, t->len, t->off);
	if (err)
		count_failure(t, e, IOSTAT_WRITE, err);
	else
		count_done(t, e, IOSTAT_WRITE, t->len);
	return err;
}

/*
 * The same for a plain file: its end stays where it is while other nodes keep to the lock, which is the
 * handle's and outlives a death of the server. The kernel sends a handle's appends one by one.
 */
static vcf_err_t append_plain(const struct transfer *t, const void *src)
{
	_Atomic uint64_t *at = &t->w->slot->append_at;
	vcf_err_t err = nodelock_byte(t->h->fd, NODELOCK_HEADER, true, true);
	struct stat st;

	if (!err && fstat(t->h->fd, &st) < 0)
		err = -errno;
	if (!err && !*at)
		*at = (uint64_t)st.st_size + 1;
	if (!err)
		err = io_pwrite_full(t->h->fd, src, t->len, (off_t)(*at - 1));
	nodelock_byte_release(t->h->fd, NODELOCK_HEADER);
	return err;
}

static vcf_err_t write_handle(const struct transfer *t, uint32_t write_flags,
			      const void *src)
{
	vcf_err_t err = 0;

	if (write_flags & FUSE_WRITE_KILL_SUIDGID)
		err = ops_drop_set_ids(t->sv, t->ino, t->h->fd);
	if (err)
		return err;
	if (t->h->kind == HANDLE_IMAGE)
		return write_image(t, src);
	if (t->append)
		return append_plain(t, src);
	return io_pwrite_full(t->h->fd, src, t->len, (off_t)t->off);
}

/* -EINPROGRESS: parked or asynchronous, it is answered when it is executed again or done. */
static void answer(const struct transfer *t, vcf_err_t err, void *data, size_t len)
{
	const struct fuse_in_header *in = (const void *)t->w->req;

	if (err == -EINPROGRESS)
		return;
	lock_assert_none();
	t->w->answering = true;
	server_reply(t->sv, in->unique, err, data, err ? 0 : len);
}

static struct transfer unpack(struct worker *w, uint64_t fh, uint64_t off, uint32_t len)
{
	const struct fuse_in_header *in = (const void *)w->req;

	return (struct transfer){.w = w,
				 .sv = w->sv,
				 .h = state_handle_of(w->sv->state, fh, in->nodeid),
				 .ino = in->nodeid,
				 .off = off,
				 .len = len,
				 .began_ns = clock_now_ns()};
}

static void execute_read(struct worker *w, const struct fuse_read_in *arg)
{
	struct transfer t = unpack(w, arg->fh, arg->offset, arg->size);
	void *data = NULL;
	ssize_t n = t.h ? read_handle(&t, &data) : -EBADF;

	answer(&t, n < 0 ? (vcf_err_t)n : 0, data, n < 0 ? 0 : (size_t)n);
}

static void execute_write(struct worker *w, const struct fuse_write_in *arg)
{
	struct transfer t = unpack(w, arg->fh, arg->offset, arg->size);
	struct fuse_write_out out = {.size = arg->size};
	vcf_err_t err;

	t.append = arg->flags & O_APPEND && w->sv->cfg->shared;
	t.writeback = arg->write_flags & FUSE_WRITE_CACHE;
	/* The kernel sends the pieces of a large asynchronous one at once: there is no order among them. */
	if (t.append && arg->flags & O_DIRECT)
		err = -EINVAL;
	else
		err = t.h ? write_handle(&t, arg->write_flags, arg + 1) : -EBADF;
	answer(&t, err, &out, sizeof(out));
}

void transfer_execute(struct worker *w)
{
	const struct fuse_in_header *in = (const void *)w->req;

	if (in->opcode == FUSE_READ)
		execute_read(w, (const void *)(in + 1));
	else
		execute_write(w, (const void *)(in + 1));
}
