/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transfers that go on after their thread has left. What holds for image_pread() and _pwrite() holds
 * here: a write has its sectors exclusively, a read shared, until its end. size_lock is held only
 * while it begins; a change of the size takes that lock for writing and then waits until no range
 * is held (SCOPED_RESIZE).
 *
 * Only what is one transfer past the page cache: no edge is read first, nothing is split. So nobody
 * waits for a range here, and whoever ends a transfer waits for nobody.
 */
#include <errno.h>

#include "fs/image_impl.h"
#include "util/io.h"

/* size_lock is held. */
static vcf_err_t begin(struct image_io *io, size_t len, uint64_t poff, bool write,
		       struct image_transfer *t)
{
	const struct geom *g = &io->im->p.geom;
	uint64_t first = poff / g->sector_len;

	if (io->im->p.shared || !image_io_is_direct(io, len, poff))
		return -EAGAIN;
	*t = (struct image_transfer){.im = io->im,
				     .fd = io->f->direct_fd,
				     .buffered_fd = io->f->fd,
				     .coff = g->data_off + poff,
				     .poff = poff,
				     .len = len,
				     .write = write};
	return rangelock_try(&io->im->ranges, &t->range, first,
			     first + len / g->sector_len - 1, write)
		       ? 0
		       : -EAGAIN;
}

vcf_err_t image_begin_read(struct image *im, const struct image_file *f,
			   struct image_worker *w, size_t len, uint64_t poff,
			   struct image_transfer *t)
{
	SCOPED_RDLOCK(&im->size_lock);
	struct image_io io;
	vcf_err_t err = image_io_init(&io, im, f, w);

	return err ? err : begin(&io, len, poff, false, t);
}

vcf_err_t image_begin_write(struct image *im, const struct image_file *f,
			    struct image_worker *w, const void *src, size_t len,
			    uint64_t poff, void *crypt, struct image_transfer *t)
{
	SCOPED_RDLOCK(&im->size_lock);
	struct image_io io;
	vcf_err_t err = image_io_init(&io, im, f, w);

	if (!err && !im->p.holes_zero && !atomic_load(&im->mended))
		err = -EAGAIN;
	if (!err)
		err = begin(&io, len, poff, true, t);
	if (err)
		return err;
	err = xts_encrypt(w->xts, crypt, src, len, im->p.geom.sector_len, t->range.first);
	if (err)
		image_end(t);
	return err;
}

static vcf_err_t transfer_by(const struct image_transfer *t, int fd, void *buf)
{
	ssize_t n;

	if (t->write)
		return io_pwrite_full(fd, buf, t->len, (off_t)t->coff);
	n = io_pread_full(fd, buf, t->len, (off_t)t->coff);
	if (n < 0)
		return (vcf_err_t)n;
	return (size_t)n == t->len ? 0 : -EIO; /* all of it lies before the end */
}

vcf_err_t image_transfer_now(const struct image_transfer *t, void *buf)
{
	vcf_err_t err = transfer_by(t, t->fd, buf);

	return err == -EINVAL ? transfer_by(t, t->buffered_fd, buf) : err;
}

vcf_err_t image_decrypt(const struct image_transfer *t, struct image_worker *w, void *buf)
{
	struct image_io io = {.im = t->im, .w = w};
	vcf_err_t err = xts_use(w->xts, t->im->p.keys, t->im->p.key);

	return err ? err
		   : image_io_decrypt(&io, buf, t->range.first,
				      t->len / t->im->p.geom.sector_len);
}

void image_end(struct image_transfer *t)
{
	rangelock_release(&t->im->ranges, &t->range);
}
