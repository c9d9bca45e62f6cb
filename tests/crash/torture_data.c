/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Contents, one thread a file.
 *	direct  O_DIRECT, whole 4 KiB blocks up to 256 KiB, each block stamped with its version
 *	bytes   any offset and length through the page cache and mappings; a copy in memory
 *	sizes   the same, and the size changes: truncate, fallocate, punched and zeroed ranges
 */
#include "torture.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- direct --- */

enum { BLOCK = 4096, BLOCKS = 4096, RUN_MAX = 64 };

struct direct {
	int fd;
	uint64_t seed;
	uint32_t version[BLOCKS];
	unsigned char *buf, *want;
};

static void direct_init(struct worker *w)
{
	struct direct *d = xalloc(sizeof(*d));

	d->seed = rnd(w);
	d->buf = xalloc_aligned(RUN_MAX * BLOCK);
	d->want = xalloc_aligned(RUN_MAX * BLOCK);
	d->fd = openat(w->dir, "image", O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC,
		       0644);
	if (d->fd < 0 && errno == EINVAL) /* a file system without */
		d->fd = openat(w->dir, "image", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (d->fd < 0 || ftruncate(d->fd, (off_t)BLOCKS * BLOCK) < 0)
		die("a direct image");
	w->model = d;
}

static void direct_fill(struct direct *d, void *buf, size_t block, size_t cnt)
{
	for (size_t i = 0; i < cnt; i++)
		stamp((char *)buf + i * BLOCK, BLOCK, d->seed, block + i,
		      d->version[block + i]);
}

static void direct_read(struct worker *w, size_t block, size_t cnt)
{
	struct direct *d = w->model;
	off_t off = (off_t)block * BLOCK;
	long r = OP(w, pread(d->fd, d->buf, cnt * BLOCK, off));

	if (!expect_len(w, r, cnt * BLOCK, "read", off))
		return;
	direct_fill(d, d->want, block, cnt);
	for (size_t i = 0; i < cnt; i++)
		same_bytes(w, d->buf + i * BLOCK, d->want + i * BLOCK, BLOCK,
			   off + (off_t)(i * BLOCK));
}

static void direct_write(struct worker *w, size_t block, size_t cnt)
{
	struct direct *d = w->model;
	off_t off = (off_t)block * BLOCK;
	long r;

	for (size_t i = 0; i < cnt; i++)
		d->version[block + i]++;
	direct_fill(d, d->buf, block, cnt);
	r = OP(w, pwrite(d->fd, d->buf, cnt * BLOCK, off));
	expect_len(w, r, cnt * BLOCK, "write", off);
}

static void direct_step(struct worker *w)
{
	struct direct *d = w->model;
	size_t cnt = 1 + below(w, below(w, 4) ? 8 : RUN_MAX);
	size_t block = below(w, BLOCKS - cnt + 1);
	uint64_t what = below(w, 100);

	if (what < 50)
		direct_write(w, block, cnt);
	else if (what < 97)
		direct_read(w, block, cnt);
	else
		expect(w, OP(w, fsync(d->fd)), 0, "fsync");
}

static void direct_finish(struct worker *w, FILE *manifest)
{
	struct direct *d = w->model;
	struct manifest_entry e = {.type = 'f', .mode = 0644, .nlink = 1};

	e.size = (off_t)BLOCKS * BLOCK;
	for (size_t b = 0; b < BLOCKS; b += RUN_MAX) {
		direct_read(w, b, RUN_MAX);
		direct_fill(d, d->want, b, RUN_MAX);
		e.hash = hash_bytes(e.hash, d->want, RUN_MAX * BLOCK);
	}
	expect(w, OP(w, fsync(d->fd)), 0, "last fsync");
	expect(w, OP(w, close(d->fd)), 0, "last close");
	manifest_add(manifest, &e, "%s/image", w->name);
}

const struct kind kind_direct = {"direct", 3, direct_init, direct_step, direct_finish};

/* --- bytes, sizes --- */

enum { SIZE_MAX_ = 1 << 20, LEN_MAX = 100000 };

struct bytes {
	int fd;
	bool resize, zero_range;
	size_t size;
	unsigned char *want, *buf; /* SIZE_MAX_; want is zero beyond size */
	uint64_t version;
};

static int bytes_open(struct worker *w, int more)
{
	return openat(w->dir, "image", O_RDWR | O_CLOEXEC | more, 0644);
}

static void bytes_init(struct worker *w)
{
	struct bytes *b = xalloc(sizeof(*b));

	b->resize = w->kind == &kind_sizes;
	b->want = xalloc(SIZE_MAX_);
	b->buf = xalloc(SIZE_MAX_);
	b->fd = bytes_open(w, O_CREAT | O_EXCL);
	if (b->fd < 0)
		die("an image");
	b->size = b->resize ? 0 : SIZE_MAX_;
	if (ftruncate(b->fd, (off_t)b->size) < 0)
		die("an image's size");
	b->zero_range =
		b->resize &&
		fallocate(b->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 1) == 0;
	w->model = b;
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void bytes_read(struct worker *w, size_t off, size_t len)
{
	struct bytes *b = w->model;
	size_t have = off < b->size ? min_size(len, b->size - off) : 0;

	if (expect_len(w, OP(w, pread(b->fd, b->buf, len, (off_t)off)), have, "read",
		       (off_t)off))
		same_bytes(w, b->buf, b->want + off, have, (off_t)off);
}

static void bytes_write(struct worker *w, size_t off, size_t len)
{
	struct bytes *b = w->model;

	stamp(b->want + off, len, w->index, off, ++b->version);
	expect_len(w, OP(w, pwrite(b->fd, b->want + off, len, (off_t)off)), len, "write",
		   (off_t)off);
	if (len && off + len > b->size)
		b->size = off + len;
}

static void bytes_map(struct worker *w, size_t off, size_t len)
{
	struct bytes *b = w->model;
	size_t skew = off % 4096;
	char *map;

	if (off >= b->size)
		return;
	len = min_size(len, b->size - off);
	if (len == 0)
		return;
	map = mmap(NULL, skew + len, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd,
		   (off_t)(off - skew));
	if (map == MAP_FAILED) {
		failed(w, "mmap");
		return;
	}
	if (OP(w, guarded_copy(w, b->buf, map + skew, len)))
		same_bytes(w, b->buf, b->want + off, len, (off_t)off);
	stamp(b->want + off, len, w->index, off, ++b->version);
	OP(w, guarded_copy(w, map + skew, b->want + off, len));
	if (below(w, 2))
		expect(w, OP(w, msync(map, skew + len, MS_SYNC)), 0, "msync");
	munmap(map, skew + len);
}

/* So that the next reads are the server's. */
static void bytes_drop(struct worker *w)
{
	struct bytes *b = w->model;

	expect(w, OP(w, fdatasync(b->fd)), 0, "fdatasync");
	posix_fadvise(b->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void bytes_reopen(struct worker *w)
{
	struct bytes *b = w->model;
	int fd = (int)OP(w, bytes_open(w, 0));

	if (!expect(w, fd, 0, "open of an image"))
		return;
	expect(w, OP(w, close(b->fd)), 0, "close");
	b->fd = fd;
}

static void bytes_stat(struct worker *w)
{
	struct bytes *b = w->model;
	struct stat st;

	if (expect(w, OP(w, fstat(b->fd, &st)), 0, "fstat") &&
	    (size_t)st.st_size != b->size)
		wrong_meta(w, "size %jd, wanted %zu", (intmax_t)st.st_size, b->size);
}

static void zero_model(struct bytes *b, size_t off, size_t len)
{
	memset(b->want + off, 0, len);
}

static void sizes_truncate(struct worker *w)
{
	struct bytes *b = w->model;
	size_t size = below(w, SIZE_MAX_ + 1);

	switch (below(w, 8)) {
	case 0:
		size = 0;
		break;
	case 1:
		size = b->size;
		break;
	case 2:
		size = b->size & ~(size_t)4095;
		break;
	case 3:
		size = min_size(b->size + below(w, 20), SIZE_MAX_);
		break;
	case 4:
		size = b->size - min_size(b->size, below(w, 20));
		break;
	}
	if (!expect(w, OP(w, ftruncate(b->fd, (off_t)size)), 0, "ftruncate %zu -> %zu",
		    b->size, size))
		return;
	if (size < b->size)
		zero_model(b, size, b->size - size);
	b->size = size;
}

static void sizes_allocate(struct worker *w, size_t off, size_t len)
{
	struct bytes *b = w->model;
	int mode = below(w, 2) ? FALLOC_FL_KEEP_SIZE : 0;

	if (len == 0)
		return;
	if (!expect(w, OP(w, fallocate(b->fd, mode, (off_t)off, (off_t)len)), 0,
		    "fallocate %d at %zu of %zu", mode, off, len))
		return;
	if (mode == 0 && off + len > b->size)
		b->size = off + len;
}

static void sizes_zero(struct worker *w, size_t off, size_t len)
{
	struct bytes *b = w->model;
	int mode = FALLOC_FL_PUNCH_HOLE;

	if (len == 0)
		return;
	if (b->zero_range && below(w, 2))
		mode = FALLOC_FL_ZERO_RANGE;
	if (!expect(w,
		    OP(w, fallocate(b->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)off,
				    (off_t)len)),
		    0, "fallocate %d at %zu of %zu", mode, off, len))
		return;
	if (off < b->size)
		zero_model(b, off, min_size(len, b->size - off));
}

static void sizes_change(struct worker *w, size_t off, size_t len)
{
	switch (below(w, 4)) {
	case 0:
	case 1:
		sizes_truncate(w);
		break;
	case 2:
		sizes_allocate(w, off, len);
		break;
	default:
		sizes_zero(w, off, len);
		break;
	}
	bytes_stat(w);
}

static void bytes_step(struct worker *w)
{
	struct bytes *b = w->model;
	size_t off = below(w, SIZE_MAX_);
	size_t len =
		below(w, min_size(SIZE_MAX_ - off, below(w, 3) ? 6000 : LEN_MAX) + 1);
	uint64_t what = below(w, 100);

	if (b->resize && below(w, 4) == 0)
		sizes_change(w, off, len);
	else if (what < 38)
		bytes_write(w, off, len);
	else if (what < 80)
		bytes_read(w, off, len);
	else if (what < 90)
		bytes_map(w, off, len);
	else if (what < 96)
		bytes_drop(w);
	else if (what < 98)
		bytes_stat(w);
	else
		bytes_reopen(w);
}

static void bytes_finish(struct worker *w, FILE *manifest)
{
	struct bytes *b = w->model;
	struct manifest_entry e = {.type = 'f', .mode = 0644, .nlink = 1};

	e.size = (off_t)b->size;
	e.hash = hash_bytes(0, b->want, b->size);
	bytes_drop(w);
	bytes_read(w, 0, SIZE_MAX_);
	bytes_stat(w);
	expect(w, OP(w, close(b->fd)), 0, "last close");
	manifest_add(manifest, &e, "%s/image", w->name);
}

const struct kind kind_bytes = {"bytes", 3, bytes_init, bytes_step, bytes_finish};
const struct kind kind_sizes = {"sizes", 2, bytes_init, bytes_step, bytes_finish};
