/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fallocate(2) and lseek(2) for data and holes.
 *
 * What concerns whole sectors is asked of the backing file first, always with KEEP_SIZE
 * (its end is ours to move, in image_size.c); only when that worked are the edges
 * written, as encrypted zeros. An edge in a hole is zero already.
 *
 *                   whole sectors, holes_zero         holes_zero off
 *   0, KEEP_SIZE    allocated below                   the same
 *   PUNCH_HOLE      punched below                     encrypted zeros
 *   ZERO_RANGE      zeroed below (also beyond P)      encrypted zeros up to P
 *
 * A block device says by both that it reads as zeros from there on (it is not a discard, after which
 * it may return anything), or refuses; then it gets encrypted zeros as well. It cannot tell of holes:
 * all is data.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "fs/image_impl.h"
#include "util/crashpoint.h"

static vcf_err_t backing_fallocate(struct image_io *io, int mode, uint64_t sector,
				   uint64_t cnt)
{
	const struct geom *g = &io->im->p.geom;
	off_t coff = (off_t)span_coff(g, sector);
	off_t len = (off_t)(cnt * g->sector_len);

	if (!cnt)
		return 0;
	if (mode == FALLOC_FL_ZERO_RANGE && io->im->p.punch_zeros)
		mode = FALLOC_FL_PUNCH_HOLE;
	while (fallocate(io->f->fd, mode | FALLOC_FL_KEEP_SIZE, coff, len) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static vcf_err_t grow_to(struct image_io *io, uint64_t plen)
{
	vcf_err_t err = image_grow(io, plen, plen);

	if (err)
		image_set_back(io);
	image_settle(io);
	return err;
}

static vcf_err_t preallocate(struct image_io *io, uint64_t poff, uint64_t len)
{
	struct span s = span_of(&io->im->p.geom, poff, len);

	return backing_fallocate(io, 0, s.first, s.cnt);
}

/*
 * The sectors that may be zeroed as a whole: those inside [poff, end), and a last one
 * whose rest is nothing but padding.
 */
static void zeroable(const struct image_io *io, uint64_t poff, uint64_t end,
		     uint64_t *first, uint64_t *cnt)
{
	uint32_t s = io->im->p.geom.sector_len;
	uint64_t from = poff / s, to = end / s;

	if (from * s < io->plen)
		from += poff % s != 0;
	if (end >= io->plen)
		to += end % s != 0;
	*first = from;
	*cnt = to > from ? to - from : 0;
}

static vcf_err_t zero_part(struct image_io *io, uint64_t from, uint64_t to)
{
	return from < to ? image_io_zero_part(io, to - from, from) : 0;
}

/* What is left of [poff, end), which lies inside P, around the zeroed sectors. */
static vcf_err_t zero_edges(struct image_io *io, uint64_t poff, uint64_t end,
			    uint64_t first, uint64_t cnt)
{
	uint32_t s = io->im->p.geom.sector_len;
	uint64_t head_end = (poff / s + 1) * s;
	vcf_err_t err = 0;

	if (cnt) {
		err = zero_part(io, poff, first * s);
		return err ? err : zero_part(io, (first + cnt) * s, end);
	}
	if (head_end > end)
		head_end = end;
	err = zero_part(io, poff, head_end);
	return err ? err : zero_part(io, head_end, end);
}

/*
 * PUNCH_HOLE and ZERO_RANGE with holes: `end` may lie beyond P, edges do not. A range
 * without a whole sector needs nothing from below.
 */
static vcf_err_t zero_sectors(struct image_io *io, int mode, uint64_t poff, uint64_t end)
{
	uint64_t first, cnt;
	vcf_err_t err;

	zeroable(io, poff, end, &first, &cnt);
	err = backing_fallocate(io, mode, first, cnt);
	CRASHPOINT("alloc-zeroed");
	if (err || poff >= io->plen)
		return err;
	return zero_edges(io, poff, end < io->plen ? end : io->plen, first, cnt);
}

/* The same for both where holes are not zeros: within P only. */
static vcf_err_t write_zeros(struct image_io *io, uint64_t poff, uint64_t end)
{
	if (end > io->plen)
		end = io->plen;
	return poff < end ? image_io_write(io, NULL, end - poff, poff) : 0;
}

/*
 * Units of the device's own that are larger than a sector, pages that somebody has just dirtied
 * beside the range, no such function: all of these are no reason to refuse.
 */
static vcf_err_t zero_device(struct image_io *io, int mode, uint64_t poff, uint64_t end)
{
	vcf_err_t err = zero_sectors(io, mode, poff, end);

	if (err == -EBUSY && fdatasync(io->f->fd) == 0)
		err = zero_sectors(io, mode, poff, end);
	return err == -EOPNOTSUPP || err == -EINVAL || err == -EBUSY
		       ? write_zeros(io, poff, end)
		       : err;
}

static vcf_err_t zero(struct image_io *io, int mode, uint64_t poff, uint64_t end)
{
	if (!io->im->p.holes_zero)
		return write_zeros(io, poff, end);
	mode &= ~FALLOC_FL_KEEP_SIZE;
	return io->im->p.geom.device ? zero_device(io, mode, poff, end)
				     : zero_sectors(io, mode, poff, end);
}

/* size_lock is held shared; the size stays. */
static vcf_err_t fallocate_inside(struct image_io *io, int mode, uint64_t poff,
				  uint64_t end)
{
	struct range r;
	vcf_err_t err;

	if (!(mode & ~FALLOC_FL_KEEP_SIZE))
		return preallocate(io, poff, end - poff);
	if ((mode & FALLOC_FL_PUNCH_HOLE || io->im->p.geom.device) && end > io->plen)
		end = io->plen;
	if (poff >= end)
		return 0;
	image_io_lock(io, &r, end - poff, poff);
	err = zero(io, mode, poff, end);
	rangelock_release(&io->im->ranges, &r);
	return err;
}

/* size_lock is held for writing; end lies beyond P. */
static vcf_err_t fallocate_beyond(struct image_io *io, int mode, uint64_t poff,
				  uint64_t end)
{
	vcf_err_t err;

	if (io->im->p.geom.device)
		return -EOPNOTSUPP;
	err = mode ? zero(io, mode, poff, end) : preallocate(io, poff, end - poff);
	CRASHPOINT("alloc-beyond");
	return err ? err : grow_to(io, end);
}

static bool known(int mode)
{
	return !(mode & ~FALLOC_FL_KEEP_SIZE) ||
	       mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) ||
	       (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
}

vcf_err_t image_fallocate(struct image *im, const struct image_file *f,
			  struct image_worker *w, int mode, uint64_t poff, uint64_t len)
{
	struct image_io io;
	uint64_t end, clen;
	vcf_err_t err = span_end(poff, len, &end);

	if (err || !len)
		return err ? err : -EINVAL;
	if (!known(mode))
		return -EOPNOTSUPP;
	err = span_encode_size(&im->p.geom, end, &clen);
	if (err == -EFBIG)
		return err;
	err = image_mend_holes(im, f, w);
	if (err)
		return err;
	{
		SCOPED_RDLOCK(&im->size_lock);
		auto_nodelock struct nodelock hold = NODELOCK_NONE;

		err = image_hold(&hold, im, f, poff, len, true);
		if (!err)
			err = image_io_init(&io, im, f, w);
		if (err || mode & FALLOC_FL_KEEP_SIZE || end <= io.plen)
			return err ? err : fallocate_inside(&io, mode, poff, end);
	}
	SCOPED_RESIZE(im);
	auto_nodelock struct nodelock hold = NODELOCK_NONE;
	err = image_begin_all(&io, &hold, im, f, w);
	if (err)
		return err;
	if (end <= io.plen) /* another one was faster */
		return fallocate_inside(&io, mode, poff, end);
	return fallocate_beyond(&io, mode, poff, end);
}

/*
 * Seeking. A sector with any data below is data.
 */

static off_t backing_seek(const struct geom *g, int fd, uint64_t sector, int whence)
{
	off_t coff = lseek(fd, (off_t)span_coff(g, sector), whence);

	return coff < 0 ? -errno : coff;
}

int64_t image_next_data(const struct geom *g, int fd, uint64_t sector)
{
	off_t coff = backing_seek(g, fd, sector, SEEK_DATA);

	return coff < 0 ? coff : (coff - (off_t)g->data_off) / g->sector_len;
}

/* The backing's holes may start and end within a sector. */
int64_t image_next_hole(const struct geom *g, int fd, uint64_t sector)
{
	for (;;) {
		off_t coff = backing_seek(g, fd, sector, SEEK_HOLE);
		int64_t data;

		if (coff < 0)
			return coff;
		sector = ((uint64_t)coff - g->data_off + g->sector_len - 1) /
			 g->sector_len;
		data = image_next_data(g, fd, sector);
		if (data == -ENXIO || data > (int64_t)sector)
			return (int64_t)sector;
		if (data < 0)
			return data;
		sector++;
	}
}

off_t image_seek(struct image *im, const struct image_file *f, uint64_t poff, int whence)
{
	SCOPED_RDLOCK(&im->size_lock);
	const struct geom *g = &im->p.geom;
	uint64_t plen, at;
	vcf_err_t err = image_look(im, f, &plen);
	int64_t sector;

	if (err)
		return err;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (poff >= plen)
		return -ENXIO;
	sector = -EINVAL;
	if (im->p.holes_zero && !g->device)
		sector = whence == SEEK_DATA
				 ? image_next_data(g, f->fd, poff / g->sector_len)
				 : image_next_hole(g, f->fd, poff / g->sector_len);
	if (sector == -EINVAL) /* not to be told below: all is data */
		return (off_t)(whence == SEEK_DATA ? poff : plen);
	if (sector == -ENXIO && whence == SEEK_HOLE)
		return (off_t)plen;
	if (sector < 0)
		return sector;
	at = (uint64_t)sector * g->sector_len;
	if (at >= plen)
		return whence == SEEK_DATA ? -ENXIO : (off_t)plen;
	return (off_t)(at > poff ? at : poff);
}
