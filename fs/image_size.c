/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Growing and shrinking. The backing file's size *is* the image's size, so each step
 * leaves a size that means something, whatever kills us after it:
 *
 *   grow    the old last sector's padding is zero (else rewritten, synced) -> the old marker
 *           is zero (else cut off) -> ftruncate -> zeros, where holes are not zeros -> the
 *           caller's data
 *   shrink  the new last sector is padded with zeros, synced -> ftruncate to its end ->
 *           ftruncate to the marker's end, so that the marker is a hole
 *
 * ftruncate is never asked for the size that the file has: ext4 would drop blocks that
 * were allocated beyond it. With holes_zero off a death between the ftruncate and the
 * zeros leaves a hole; who comes next mends it before anything else, so that a growth
 * that is carried out again after a death ends as if there had been none.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "build-config.h"
#include "fs/image_impl.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"

static vcf_err_t set_clen(struct image_io *io, uint64_t clen)
{
	if (clen == io->cend)
		return 0;
	while (ftruncate(io->f->fd, (off_t)clen) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	io->cend = clen;
	return 0;
}

/* Bytes from plen to the end of its sector. */
static uint64_t padding(const struct image_io *io, uint64_t plen)
{
	uint64_t r = plen % io->im->p.geom.sector_len;

	return r ? io->im->p.geom.sector_len - r : 0;
}

/*
 * Puts the backing file from some larger size to the code of plen. What lies behind the
 * last sector may be data, so it is cut off there before the marker is made; behind a
 * marker of the same sector there is nothing to cut.
 */
static vcf_err_t cut_to(struct image_io *io, uint64_t plen)
{
	const struct geom *g = &io->im->p.geom;
	uint64_t pad = padding(io, plen);
	uint64_t sectors_end = g->data_off + plen + pad;
	vcf_err_t err = 0;
	uint64_t clen;

	err = span_encode_size(g, plen, &clen);
	if (!err && pad && io->cend >= sectors_end + g->sector_len)
		err = set_clen(io, sectors_end);
	CRASHPOINT("size-cut");
	return err ? err : set_clen(io, clen);
}

/* Durable against our own death only: the page cache has what the file system was told. */
static void note_growth(struct image_io *io, uint64_t value)
{
	if (VCF_SESSION_NOTES && io->im->p.grow_from)
		atomic_store(io->im->p.grow_from, value);
}

static void settle_size(struct image_io *io)
{
	uint64_t plen;

	if (io->im->p.geom.device || span_decode_size(&io->im->p.geom, io->cend, &plen))
		return;
	io->plen = plen;
	atomic_store(&io->im->plen, plen);
}

void image_settle(struct image_io *io)
{
	CRASHPOINT("size-changed");
	settle_size(io);
	note_growth(io, 0);
	CRASHPOINT("size-settled");
}

void image_set_back(struct image_io *io)
{
	vcf_err_t err;

	if (io->im->p.geom.device)
		return;
	err = cut_to(io, io->plen);
	if (err)
		log_err("the size of a write that failed stays, it should be %llu: %s",
			(unsigned long long)io->plen, strerror(-err));
}

/* A shrink that a crash cut short, or a failed write, may have left bytes behind P. */
static vcf_err_t mend_tail(struct image_io *io)
{
	uint64_t pad = padding(io, io->plen);
	unsigned char *data;
	vcf_err_t err;

	if (!pad)
		return 0;
	err = image_io_read(io, pad, io->plen, &data);
	if (err || io_is_zero(data, pad))
		return err;
	err = image_io_write(io, NULL, pad, io->plen);
	if (!err && fdatasync(io->f->fd) < 0)
		err = -errno;
	return err;
}

/*
 * A power loss may keep the data of a growth and lose its ftruncate. What then lies in the
 * marker would become the start of a sector.
 */
static vcf_err_t mend_marker(struct image_io *io)
{
	const struct geom *g = &io->im->p.geom;
	uint64_t end = g->data_off + io->plen + padding(io, io->plen);
	uint64_t len = io->cend - end;
	ssize_t n;

	if (io->plen % g->sector_len == 0 || io->cend <= end)
		return 0;
	n = io_pread_full(io->f->fd, io->w->buf, len, (off_t)end);
	if (n < 0)
		return (vcf_err_t)n;
	if ((uint64_t)n != len)
		return -EIO;
	return io_is_zero(io->w->buf, len) ? 0 : set_clen(io, end);
}

/* Where holes do not read as zeros, new sectors are filled; not those that data fills. */
static vcf_err_t fill_new(struct image_io *io, uint64_t plen, uint64_t data_poff)
{
	const struct geom *g = &io->im->p.geom;
	uint64_t from = io->plen + padding(io, io->plen);
	uint64_t to = plen + padding(io, plen);
	uint64_t first, cnt, data, data_end;
	vcf_err_t err = 0;

	if (to <= from)
		return 0;
	span_inner(g, data_poff, plen - data_poff, &first, &cnt);
	if (!cnt)
		return image_io_write(io, NULL, to - from, from);
	data = first * g->sector_len;
	data_end = data + cnt * g->sector_len;
	if (data > from)
		err = image_io_write(io, NULL, data - from, from);
	if (!err && to > data_end)
		err = image_io_write(io, NULL, to - data_end, data_end);
	return err;
}

static bool is_zero_below(struct image_io *io, uint64_t sector)
{
	const struct geom *g = &io->im->p.geom;
	ssize_t n = io_pread_full(io->f->fd, io->w->buf, g->sector_len,
				  (off_t)span_coff(g, sector));

	return n == (ssize_t)g->sector_len && io_is_zero(io->w->buf, g->sector_len);
}

/*
 * Zeros for a hole [from, to) and the zero sectors around it: the backing file's blocks
 * may be larger than a sector, and a block with some data is no hole.
 */
static vcf_err_t fill_hole(struct image_io *io, uint64_t from, uint64_t to, uint64_t end)
{
	uint32_t sector_len = io->im->p.geom.sector_len;

	while (from > 0 && is_zero_below(io, from - 1))
		from--;
	while (to < end && is_zero_below(io, to))
		to++;
	return image_io_write(io, NULL, (to - from) * sector_len, from * sector_len);
}

static vcf_err_t fill_holes(struct image_io *io)
{
	const struct geom *g = &io->im->p.geom;
	uint64_t end = (io->plen + padding(io, io->plen)) / g->sector_len;
	int64_t from, to = 0;
	vcf_err_t err = 0;

	while (!err) {
		from = image_next_hole(g, io->f->fd, (uint64_t)to);
		if (from == -ENXIO || from == -EINVAL || from >= (int64_t)end)
			return fill_hole(io, end, end, end);
		to = from < 0 ? from : image_next_data(g, io->f->fd, (uint64_t)from);
		if (to == -ENXIO || to > (int64_t)end)
			to = (int64_t)end;
		if (to < 0)
			return (vcf_err_t)to;
		err = fill_hole(io, (uint64_t)from, (uint64_t)to, end);
	}
	return err;
}

vcf_err_t image_mend_holes(struct image *im, const struct image_file *f,
			   struct image_worker *w)
{
	struct image_io io;
	vcf_err_t err;

	if (im->p.holes_zero || atomic_load(&im->mended))
		return 0;
	SCOPED_RESIZE(im);
	auto_nodelock struct nodelock hold = NODELOCK_NONE;
	err = image_begin_all(&io, &hold, im, f, w);
	if (!err)
		err = fill_holes(&io);
	if (!err)
		atomic_store(&im->mended, true);
	return err;
}

vcf_err_t image_grow(struct image_io *io, uint64_t plen, uint64_t data_poff)
{
	uint64_t clen;
	vcf_err_t err = span_encode_size(&io->im->p.geom, plen, &clen);

	if (!err)
		err = mend_tail(io);
	if (!err)
		err = mend_marker(io);
	if (err)
		return err;
	note_growth(io, io->plen + 1);
	CRASHPOINT("grow-noted");
	err = set_clen(io, clen);
	CRASHPOINT("grow-end-moved");
	if (!err && !io->im->p.holes_zero)
		err = fill_new(io, plen, data_poff);
	return err;
}

vcf_err_t image_shrink(struct image_io *io, uint64_t plen)
{
	uint64_t pad = padding(io, plen);
	vcf_err_t err = 0;

	if (io->im->p.geom.device)
		return -EOPNOTSUPP;
	if (pad) {
		err = image_io_zero_part(io, pad, plen);
		if (!err && fdatasync(io->f->fd) < 0)
			err = -errno;
	}
	CRASHPOINT("shrink-padded");
	return err ? err : cut_to(io, plen);
}
