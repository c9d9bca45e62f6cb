/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image that other nodes use, too. What they may have changed since the last call is the file's
 * size, hence P (and with it whether there are new holes); so that is looked at anew by each call,
 * under a lock that keeps them from changing it again before the call has ended:
 *
 *   read                 its sectors, shared
 *   write inside P       its sectors, exclusive
 *   any size change      all sectors, exclusive
 *
 * Always whole pages of the file, 8 KiB of them (the largest unit of direct I/O): two nodes may
 * be two daemons over one page cache.
 *
 * Writes of whole sectors would need no lock against each other: who writes the same bytes from
 * two nodes at once orders that himself, as he has to on a raw disk, and no other bytes are
 * touched. They have it because of the others: a part of the same sector, written by somebody who
 * read the whole sector before, would take the write back; a read would see a sector half old and
 * half new, and where it was a hole the half that is still zero decrypts to noise; and a size that
 * changes meanwhile would leave a sector beyond the end.
 */
#include <errno.h>
#include <sys/stat.h>

#include "fs/image_impl.h"

enum { HOLD_UNIT = 8192 };

vcf_err_t image_hold(struct nodelock *l, struct image *im, const struct image_file *f,
		     uint64_t poff, uint64_t len, bool exclusive)
{
	uint32_t sector_len = im->p.geom.sector_len;
	uint64_t first = poff / HOLD_UNIT * (HOLD_UNIT / sector_len), end;

	if (!im->p.shared)
		return 0;
	if (span_end(poff, len ? len : 1, &end))
		return -EFBIG;
	end = (end + HOLD_UNIT - 1) / HOLD_UNIT * (HOLD_UNIT / sector_len);
	return nodelock_take(l, &im->nodes, f->fd, first, end - 1, exclusive);
}

vcf_err_t image_begin_all(struct image_io *io, struct nodelock *l, struct image *im,
			  const struct image_file *f, struct image_worker *w)
{
	vcf_err_t err = 0;

	if (im->p.shared)
		err = nodelock_take(l, &im->nodes, f->fd, 0, UINT64_MAX, true);
	return err ? err : image_io_init(io, im, f, w);
}

vcf_err_t image_begin_append(struct image_io *io, struct nodelock *l, struct image *im,
			     const struct image_file *f, struct image_worker *w)
{
	vcf_err_t err = im->p.shared ? nodelock_take_own(l, &im->nodes, f->fd) : 0;

	return err ? err : image_io_init(io, im, f, w);
}

vcf_err_t image_look(struct image *im, const struct image_file *f, uint64_t *plen)
{
	struct stat st;
	vcf_err_t err;

	*plen = atomic_load(&im->plen);
	if (!im->p.shared)
		return 0;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < im->p.geom.data_off)
		return -EBADMSG;
	err = span_decode_size(&im->p.geom, (uint64_t)st.st_size, plen);
	/* A node that died as it made the file grow may have left holes. */
	if (!err && atomic_exchange(&im->plen, *plen) != *plen)
		atomic_store(&im->mended, false);
	return err;
}
