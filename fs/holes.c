/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/holes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/image.h"
#include "fs/nodelock.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/io.h"

enum { CHUNK = 1024 * 1024, BLOCK = 4096 };

/* An image without a server. */
struct work {
	struct keytable *keys;
	struct image *im;
	struct image_file f;
	struct image_worker w;
	struct geom geom;
	uint64_t plen;
	unsigned char *raw; /* CHUNK bytes */
};

static void work_free(struct work *k)
{
	if (!k)
		return;
	image_free(k->im);
	if (k->w.xts)
		xts_free(k->w.xts);
	if (k->keys)
		keytable_free(k->keys);
	free(k->w.buf);
	free(k->raw);
	free(k);
}
DEFINE_AUTO(work, struct work *, work_free)
#define auto_work __attribute__((cleanup(cleanup_work)))

static vcf_err_t get_memory(struct work *k)
{
	k->w.buf_len = IMAGE_WORKER_BUF(CHUNK);
	k->w.buf = aligned_alloc(BLOCK, k->w.buf_len);
	k->raw = aligned_alloc(BLOCK, CHUNK);
	return k->w.buf && k->raw ? xts_new(&k->w.xts) : -ENOMEM;
}

static vcf_err_t open_image(struct work *k, const struct container *c)
{
	const unsigned char *key = container_volume_key(c);
	struct image_params p = {.geom = k->geom,
				 .punch_zeros = nodelock_fuse_below() && !k->geom.device,
				 .holes_zero = true};
	bool hidden;
	uint64_t clen;
	vcf_err_t err = key ? keytable_new(&k->keys, 1, &hidden) : -EINVAL;

	if (!err)
		err = keytable_put(k->keys, container_subject(c)->uuid,
				   container_token(c)->kcv, key, &p.key);
	if (!err)
		err = io_file_len(k->f.fd, &clen);
	if (err)
		return err;
	p.keys = k->keys;
	err = image_new(&k->im, &p, clen);
	if (!err)
		k->plen = image_size(k->im);
	return err;
}

static vcf_err_t work_new(struct work **out, const struct container *c, int fd)
{
	auto_work struct work *k = calloc(1, sizeof(*k));
	vcf_err_t err;

	if (!k)
		return -ENOMEM;
	k->f = (struct image_file){.fd = fd, .direct_fd = -1};
	k->geom = (struct geom){.data_off = container_subject(c)->data_off,
				.sector_len = container_subject(c)->sector_len,
				.device = io_is_device(fd)};
	err = get_memory(k);
	if (!err)
		err = open_image(k, c);
	if (!err)
		*out = STEAL_PTR(&k);
	return err;
}

/* Calls fn for each chunk of the plaintext. */
static vcf_err_t each_chunk(struct work *k, struct tool_file *f,
			    vcf_err_t (*fn)(struct work *k, uint64_t poff, size_t len,
					    uint64_t *bytes),
			    uint64_t *bytes)
{
	*bytes = 0;
	for (uint64_t poff = 0; poff < k->plen; poff += CHUNK) {
		size_t len = k->plen - poff < CHUNK ? (size_t)(k->plen - poff) : CHUNK;
		vcf_err_t err = tool_interrupted() ? -EINTR : fn(k, poff, len, bytes);

		if (err)
			return err;
		tool_progress(f, poff + len, k->plen);
	}
	return fdatasync(k->f.fd) < 0 ? -errno : 0;
}

/* --- filling --- */

static vcf_err_t fill_run(struct work *k, uint64_t poff, size_t len, uint64_t *bytes)
{
	static const unsigned char zeros[CHUNK];
	vcf_err_t err;

	if (!len)
		return 0;
	err = image_pwrite(k->im, &k->f, &k->w, zeros, len, poff);
	*bytes += len;
	CRASHPOINT("holes-filled");
	return err;
}

static vcf_err_t fill_chunk(struct work *k, uint64_t poff, size_t len, uint64_t *bytes)
{
	size_t unit = k->geom.sector_len, whole = (len + unit - 1) / unit * unit;
	ssize_t n =
		io_pread_full(k->f.fd, k->raw, whole, (off_t)(k->geom.data_off + poff));
	size_t run = 0; /* where the holes that end at `at` begin */
	vcf_err_t err = 0;

	if (n != (ssize_t)whole)
		return n < 0 ? (vcf_err_t)n : -EIO;
	for (size_t at = 0; !err && at < whole; at += unit) {
		if (io_is_zero(k->raw + at, unit))
			continue;
		err = fill_run(k, poff + run, at - run, bytes);
		run = at + unit;
	}
	return err || run >= len ? err : fill_run(k, poff + run, len - run, bytes);
}

vcf_err_t holes_fill(const struct container *c, int fd, struct tool_file *f,
		     uint64_t *bytes)
{
	auto_work struct work *k = NULL;
	vcf_err_t err = work_new(&k, c, fd);

	return err ? err : each_chunk(k, f, fill_chunk, bytes);
}

/* --- punching --- */

/* Whole blocks of [from, to) that are not a hole already. */
static vcf_err_t punch_run(struct work *k, uint64_t from, uint64_t to, uint64_t *bytes)
{
	vcf_err_t err;

	from = (from + BLOCK - 1) / BLOCK * BLOCK;
	to = to / BLOCK * BLOCK;
	if (from >= to)
		return 0;
	err = image_fallocate(k->im, &k->f, &k->w,
			      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
			      to - from);
	if (!err)
		*bytes += to - from;
	CRASHPOINT("holes-punched");
	return err;
}

/* A block is zero that is zeros decrypted, and not all of it already below. */
static bool is_wanted(const struct work *k, const unsigned char *plain, size_t at)
{
	return io_is_zero(plain + at, BLOCK) && !io_is_zero(k->raw + at, BLOCK);
}

static vcf_err_t punch_chunk(struct work *k, uint64_t poff, size_t len, uint64_t *bytes)
{
	size_t blocks_end = len / BLOCK * BLOCK, run = 0;
	bool wanted[CHUNK / BLOCK];
	vcf_err_t err = 0;
	void *plain;
	ssize_t n = io_pread_full(k->f.fd, k->raw, blocks_end,
				  (off_t)(k->geom.data_off + poff));

	if (n != (ssize_t)blocks_end)
		return n < 0 ? (vcf_err_t)n : -EIO;
	if (!blocks_end || io_is_zero(k->raw, blocks_end))
		return 0;
	n = image_pread(k->im, &k->f, &k->w, blocks_end, poff, &plain);
	if (n != (ssize_t)blocks_end)
		return n < 0 ? (vcf_err_t)n : -EIO;
	for (size_t at = 0; at < blocks_end; at += BLOCK)
		wanted[at / BLOCK] = is_wanted(k, plain, at);
	for (size_t at = 0; !err && at <= blocks_end; at += BLOCK) {
		if (at < blocks_end && wanted[at / BLOCK])
			continue;
		err = punch_run(k, poff + run, poff + at, bytes);
		run = at + BLOCK;
	}
	return err;
}

vcf_err_t holes_punch(const struct container *c, int fd, struct tool_file *f,
		      uint64_t *bytes)
{
	auto_work struct work *k = NULL;
	vcf_err_t err =
		container_token(c)->holes == HOLES_ZERO ? work_new(&k, c, fd) : -EINVAL;

	return err ? err : each_chunk(k, f, punch_chunk, bytes);
}
