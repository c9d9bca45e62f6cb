/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of image share: an image on a file with a key of its own, and a second
 * way to its bytes that uses nothing of fs/.
 */
#ifndef VCF_TESTS_IMAGE_RIG_H
#define VCF_TESTS_IMAGE_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "fs/image.h"
#include "tests/unit/unit.h"
#include "util/io.h"

enum { RIG_DATA_OFF = 16384, RIG_REQUEST_MAX = 32768 };

struct rig {
	struct keytable *keys;
	struct image_params p;
	struct image *im;
	struct image_file f;
	struct image_worker w;
};

static inline void rig_worker_init(struct image_worker *w)
{
	w->buf_len = IMAGE_WORKER_BUF(RIG_REQUEST_MAX);
	w->buf = aligned_alloc(4096, w->buf_len);
	ck_assert_ptr_nonnull(w->buf);
	ck_assert_int_eq(xts_new(&w->xts), 0);
}

static inline void rig_worker_fini(struct image_worker *w)
{
	free(w->buf);
	xts_free(w->xts);
}

static inline uint64_t rig_clen(const struct rig *rig)
{
	struct stat st;

	ck_assert_int_eq(fstat(rig->f.fd, &st), 0);
	return (uint64_t)st.st_size;
}

/* An O_DIRECT twin of an open file, or -1 where the file system has none. */
static inline int rig_direct_twin(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

/* Takes fd over; an empty file gets a header's length of zeros. */
static inline void rig_init(struct rig *rig, int fd, uint32_t sector_len, bool holes_zero)
{
	unsigned char uuid[UUID_LEN] = {1}, kcv[KCV_LEN] = {2}, key[VOLUME_KEY_LEN];
	bool hidden;

	*rig = (struct rig){
		.f = {.fd = fd, .direct_fd = -1},
		.p = {.geom = {.data_off = RIG_DATA_OFF, .sector_len = sector_len},
		      .holes_zero = holes_zero},
	};
	ck_assert_int_ge(fd, 0);
	secret_random(key, sizeof(key));
	ck_assert_int_eq(keytable_new(&rig->keys, 1, &hidden), 0);
	ck_assert_int_eq(keytable_put(rig->keys, uuid, kcv, key, &rig->p.key), 0);
	rig->p.keys = rig->keys;
	rig_worker_init(&rig->w);
	if (rig_clen(rig) == 0)
		ck_assert_int_eq(ftruncate(fd, RIG_DATA_OFF), 0);
	ck_assert_int_eq(image_new(&rig->im, &rig->p, rig_clen(rig)), 0);
}

static inline void rig_fini(struct rig *rig)
{
	image_free(rig->im);
	rig_worker_fini(&rig->w);
	keytable_free(rig->keys);
	close(rig->f.fd);
	if (rig->f.direct_fd >= 0)
		close(rig->f.direct_fd);
}

static inline void rig_reopen(struct rig *rig)
{
	image_free(rig->im);
	rig->im = NULL;
	ck_assert_int_eq(image_new(&rig->im, &rig->p, rig_clen(rig)), 0);
}

static inline vcf_err_t rig_write(struct rig *rig, const void *src, size_t len,
				  uint64_t poff)
{
	return image_pwrite(rig->im, &rig->f, &rig->w, src, len, poff);
}

static inline vcf_err_t rig_truncate(struct rig *rig, uint64_t plen)
{
	return image_truncate(rig->im, &rig->f, &rig->w, plen);
}

static inline vcf_err_t rig_fallocate(struct rig *rig, int mode, uint64_t poff,
				      uint64_t len)
{
	return image_fallocate(rig->im, &rig->f, &rig->w, mode, poff, len);
}

/* Compares [poff, poff + len) with `want`, NULL: zeros, in requests of the buffer's size.
 */
static inline void rig_expect(struct rig *rig, const unsigned char *want, size_t len,
			      uint64_t poff)
{
	for (size_t done = 0; done < len;) {
		size_t n = len - done < RIG_REQUEST_MAX ? len - done : RIG_REQUEST_MAX;
		void *data = NULL;

		ck_assert_int_eq(
			image_pread(rig->im, &rig->f, &rig->w, n, poff + done, &data), n);
		if (want)
			ck_assert(!memcmp(data, want + done, n));
		else
			ck_assert(io_is_zero(data, n));
		done += n;
	}
}

/*
 * The second opinion: size code, marker, padding and every sector, from the raw file.
 * `want`: the plaintext, plen bytes.
 */
static inline void rig_check_raw(struct rig *rig, const unsigned char *want,
				 uint64_t plen)
{
	uint32_t s = rig->p.geom.sector_len;
	uint64_t sectors = (plen + s - 1) / s;
	uint64_t clen = RIG_DATA_OFF + sectors * s + plen % s;
	unsigned char *raw = malloc(clen);

	ck_assert_ptr_nonnull(raw);
	ck_assert_uint_eq(rig_clen(rig), clen);
	ck_assert_int_eq(io_pread_full(rig->f.fd, raw, clen, 0), (ssize_t)clen);
	ck_assert(io_is_zero(raw, RIG_DATA_OFF));
	ck_assert(io_is_zero(raw + RIG_DATA_OFF + sectors * s, plen % s));
	ck_assert_int_eq(xts_use(rig->w.xts, rig->keys, rig->p.key), 0);
	for (uint64_t k = 0; k < sectors; k++) {
		unsigned char *p = raw + RIG_DATA_OFF + k * s;
		uint64_t used = plen - k * s < s ? plen - k * s : s;

		if (!rig->p.holes_zero || !io_is_zero(p, s))
			ck_assert_int_eq(xts_decrypt(rig->w.xts, p, p, s, s, k), 0);
		ck_assert(!memcmp(p, want + k * s, used));
	}
	free(raw);
}

/* Is the sector a hole in the backing file's bytes? */
static inline bool rig_is_hole(struct rig *rig, uint64_t sector)
{
	unsigned char buf[4096];
	uint32_t s = rig->p.geom.sector_len;

	ck_assert_int_eq(
		io_pread_full(rig->f.fd, buf, s, RIG_DATA_OFF + (off_t)(sector * s)), s);
	return io_is_zero(buf, s);
}

#endif
