/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A *window* is the piece of the backing file that a plaintext range needs; it is laid
 * out at the start of the worker's buffer.
 *
 *      start        D + poff         D + poff + len      direct_end       end
 *        |------------|################|--------------------|--------------|
 *        |<------------ by direct_fd, whole units --------->|<- buffered ->|
 *
 * Buffered: whole sectors. Direct: widened to whole units, but a unit that crosses the
 * end of the backing file goes through the buffered descriptor (a direct write would
 * move the end). Sectors in a window that the range does not touch keep their ciphertext
 * byte for byte.
 *
 * A unit is never smaller than a page: a page that one thread dirties in the page cache
 * while another writes half of it past the cache would carry the old half back. So a
 * write locks its whole window, and buffered and direct writers of one page exclude each
 * other.
 *
 * An interrupted direct transfer may go on at an offset the descriptor does not take,
 * and some file systems want more than they say: -EINVAL falls back to the buffered one.
 */
#include <errno.h>
#include <string.h>

#include "fs/image_impl.h"
#include "util/crashpoint.h"
#include "util/io.h"

enum {
	PAGE_UNIT = 4096,
	UNIT_MAX = 8192, /* twice that is the margin of IMAGE_WORKER_BUF */
};

struct window {
	uint64_t start, end, direct_end; /* backing offsets */
};

static uint32_t unit_of(const struct geom *g, const struct image_file *f)
{
	uint32_t unit = g->sector_len > PAGE_UNIT ? g->sector_len : PAGE_UNIT;

	if (f->direct_fd < 0)
		return 0;
	if (f->direct_align > unit)
		unit = f->direct_align;
	return unit > UNIT_MAX || unit % PAGE_UNIT || g->data_off % unit ? 0 : unit;
}

vcf_err_t image_io_init(struct image_io *io, struct image *im, const struct image_file *f,
			struct image_worker *w)
{
	vcf_err_t err;

	if (w->buf_len <= IMAGE_WORKER_BUF(0))
		return -EINVAL;
	*io = (struct image_io){.im = im, .f = f, .w = w};
	err = image_look(im, f, &io->plen);
	if (err)
		return err;
	io->unit = unit_of(&im->p.geom, f);
	err = span_encode_size(&im->p.geom, io->plen, &io->cend);
	if (err == -EOPNOTSUPP) { /* a device: no marker, and its end does not move */
		io->cend = im->p.geom.data_off + io->plen;
		err = 0;
	}
	return err ? err : xts_use(w->xts, im->p.keys, im->p.key);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static struct window window_of(const struct image_io *io, uint64_t len, uint64_t poff)
{
	const struct geom *g = &io->im->p.geom;
	struct span s = span_of(g, poff, len);
	struct window win = {.start = span_coff(g, s.first),
			     .end = span_coff(g, s.first + s.cnt)};
	uint64_t from, to;

	win.direct_end = win.start;
	if (!io->unit)
		return win;
	from = win.start - win.start % io->unit;
	to = min_u64(win.end + io->unit - 1, io->cend);
	to -= to % io->unit;
	if (to <= from)
		return win;
	win.start = from;
	win.direct_end = to;
	win.end = max_u64(win.end, to);
	return win;
}

bool image_io_is_direct(const struct image_io *io, uint64_t len, uint64_t poff)
{
	uint64_t start = io->im->p.geom.data_off + poff;
	struct window win;

	if (!io->unit || !len || poff > io->plen || len > io->plen - poff)
		return false;
	win = window_of(io, len, poff);
	return win.start == start && win.end == start + len && win.direct_end == win.end;
}

static uint64_t sector_at(const struct image_io *io, uint64_t coff)
{
	const struct geom *g = &io->im->p.geom;

	return (coff - g->data_off) / g->sector_len;
}

static unsigned char *sector_buf(const struct image_io *io, const struct window *win,
				 uint64_t sector)
{
	return io->w->buf + (span_coff(&io->im->p.geom, sector) - win->start);
}

void image_io_lock(struct image_io *io, struct range *r, uint64_t len, uint64_t poff)
{
	struct window win = window_of(io, len, poff);

	rangelock_take(&io->im->ranges, r, sector_at(io, win.start),
		       sector_at(io, win.end) - 1, true);
}

/*
 * The backing file
 */

static vcf_err_t pread_all(int fd, void *buf, size_t len, uint64_t coff)
{
	ssize_t n = io_pread_full(fd, buf, len, (off_t)coff);

	if (n < 0)
		return (vcf_err_t)n;
	return (size_t)n == len ? 0 : -EIO; /* all we ask for lies before the end */
}

/* Both work on [from, to), which lies on one side of direct_end. */
static vcf_err_t load(struct image_io *io, const struct window *win, uint64_t from,
		      uint64_t to)
{
	void *buf = io->w->buf + (from - win->start);
	vcf_err_t err = -EINVAL;

	if (from >= to)
		return 0;
	if (from < win->direct_end)
		err = pread_all(io->f->direct_fd, buf, to - from, from);
	if (err == -EINVAL)
		err = pread_all(io->f->fd, buf, to - from, from);
	return err;
}

static vcf_err_t store(struct image_io *io, const struct window *win, uint64_t from,
		       uint64_t to)
{
	const void *buf = io->w->buf + (from - win->start);
	vcf_err_t err = -EINVAL;

	if (from >= to)
		return 0;
	if (from < win->direct_end)
		err = io_pwrite_full(io->f->direct_fd, buf, to - from, (off_t)from);
	if (err == -EINVAL)
		err = io_pwrite_full(io->f->fd, buf, to - from, (off_t)from);
	return err;
}

static vcf_err_t load_window(struct image_io *io, const struct window *win)
{
	vcf_err_t err = load(io, win, win->start, win->direct_end);

	return err ? err : load(io, win, win->direct_end, win->end);
}

static vcf_err_t store_window(struct image_io *io, const struct window *win)
{
	vcf_err_t err = store(io, win, win->start, win->direct_end);

	CRASHPOINT("window-half");
	return err ? err : store(io, win, win->direct_end, win->end);
}

/* The ends of a window that a write covers only in part: a unit or a sector each. */
static vcf_err_t load_edges(struct image_io *io, const struct window *win, uint64_t from,
			    uint64_t to)
{
	uint32_t sector_len = io->im->p.geom.sector_len;
	uint64_t head = win->start < win->direct_end ? io->unit : sector_len;
	uint64_t tail = win->end <= win->direct_end ? io->unit : sector_len;
	vcf_err_t err = 0;

	if (win->start < from)
		err = load(io, win, win->start, win->start + head);
	if (err || win->end <= to)
		return err;
	if (win->start < from && win->end - tail < win->start + head)
		return 0; /* the same one */
	return load(io, win, win->end - tail, win->end);
}

/*
 * Sectors
 */

static bool is_hole(const struct image_io *io, const unsigned char *sector)
{
	return io->im->p.holes_zero && io_is_zero(sector, io->im->p.geom.sector_len);
}

/* In place. A hole is its own plaintext; what lies between holes goes in one run. */
vcf_err_t image_io_decrypt(struct image_io *io, unsigned char *buf, uint64_t sector,
			   uint64_t cnt)
{
	uint32_t sector_len = io->im->p.geom.sector_len;
	uint64_t i = 0;

	while (i < cnt) {
		uint64_t from = i;
		vcf_err_t err;

		while (i < cnt && !is_hole(io, buf + i * sector_len))
			i++;
		err = xts_decrypt(io->w->xts, buf + from * sector_len,
				  buf + from * sector_len, (i - from) * sector_len,
				  sector_len, sector + from);
		if (err)
			return err;
		i += i < cnt;
	}
	return 0;
}

vcf_err_t image_io_read(struct image_io *io, size_t len, uint64_t poff,
			unsigned char **data)
{
	const struct geom *g = &io->im->p.geom;
	struct window win = window_of(io, len, poff);
	struct span s = span_of(g, poff, len);
	vcf_err_t err;

	if (win.end - win.start > io->w->buf_len)
		return -EINVAL;
	err = load_window(io, &win);
	if (!err)
		err = image_io_decrypt(io, sector_buf(io, &win, s.first), s.first, s.cnt);
	if (!err)
		*data = sector_buf(io, &win, s.first) + s.head_skip;
	return err;
}

/* A run of plaintext that a write brings; src NULL: zeros. */
struct piece {
	const unsigned char *src;
	uint64_t poff, len;
};

static void copy_piece(unsigned char *dst, const struct piece *pc, uint64_t poff,
		       uint64_t len)
{
	if (pc->src)
		memcpy(dst, pc->src + (poff - pc->poff), len);
	else
		memset(dst, 0, len);
}

/* One sector that the piece covers in part. */
static vcf_err_t merge_sector(struct image_io *io, const struct window *win,
			      const struct piece *pc, uint64_t sector)
{
	uint32_t sector_len = io->im->p.geom.sector_len;
	unsigned char *buf = sector_buf(io, win, sector);
	uint64_t sector_poff = sector * sector_len;
	uint64_t from = max_u64(pc->poff, sector_poff);
	uint64_t to = min_u64(pc->poff + pc->len, sector_poff + sector_len);
	vcf_err_t err = image_io_decrypt(io, buf, sector, 1);

	if (err)
		return err;
	copy_piece(buf + (from - sector_poff), pc, from, to - from);
	return xts_encrypt(io->w->xts, buf, buf, sector_len, sector_len, sector);
}

/* Those that it covers whole: from the caller's bytes straight into the buffer. */
static vcf_err_t encrypt_inner(struct image_io *io, const struct window *win,
			       const struct piece *pc)
{
	const struct geom *g = &io->im->p.geom;
	uint64_t first, cnt, len;
	const unsigned char *src;
	unsigned char *dst;

	span_inner(g, pc->poff, pc->len, &first, &cnt);
	if (!cnt)
		return 0;
	len = cnt * g->sector_len;
	dst = sector_buf(io, win, first);
	src = pc->src ? pc->src + (first * g->sector_len - pc->poff) : dst;
	if (!pc->src)
		memset(dst, 0, len);
	return xts_encrypt(io->w->xts, dst, src, len, g->sector_len, first);
}

static vcf_err_t encrypt_piece(struct image_io *io, const struct window *win,
			       const struct piece *pc)
{
	const struct geom *g = &io->im->p.geom;
	struct span s = span_of(g, pc->poff, pc->len);
	bool head = span_head_partial(&s), tail = span_tail_partial(g, &s);
	vcf_err_t err = 0;

	if (head || (tail && s.cnt == 1))
		err = merge_sector(io, win, pc, s.first);
	if (!err && tail && s.cnt > 1)
		err = merge_sector(io, win, pc, s.first + s.cnt - 1);
	return err ? err : encrypt_inner(io, win, pc);
}

static vcf_err_t write_piece(struct image_io *io, const struct piece *pc)
{
	struct window win = window_of(io, pc->len, pc->poff);
	uint64_t from = io->im->p.geom.data_off + pc->poff;
	vcf_err_t err = load_edges(io, &win, from, from + pc->len);

	if (!err)
		err = encrypt_piece(io, &win, pc);
	return err ? err : store_window(io, &win);
}

/* As much as the buffer holds, cut at a page so that no sector is written twice. */
static uint64_t piece_len(const struct image_io *io, uint64_t len, uint64_t poff)
{
	uint64_t room = io->w->buf_len - IMAGE_WORKER_BUF(0);
	uint64_t over;

	if (len <= room)
		return len;
	over = (poff + room) % PAGE_UNIT;
	return over < room ? room - over : room;
}

vcf_err_t image_io_write(struct image_io *io, const void *src, uint64_t len,
			 uint64_t poff)
{
	struct piece pc = {.src = src, .poff = poff};
	vcf_err_t err = 0;

	while (len && !err) {
		pc.len = piece_len(io, len, pc.poff);
		err = write_piece(io, &pc);
		CRASHPOINT("piece-written");
		if (pc.src)
			pc.src += pc.len;
		pc.poff += pc.len;
		len -= pc.len;
	}
	return err;
}

vcf_err_t image_io_zero_part(struct image_io *io, uint64_t len, uint64_t poff)
{
	struct window win = window_of(io, len, poff);
	struct span s = span_of(&io->im->p.geom, poff, len);
	vcf_err_t err = load_window(io, &win);

	if (err || is_hole(io, sector_buf(io, &win, s.first)))
		return err;
	return image_io_write(io, NULL, len, poff);
}
