/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/tooldata.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/keytable.h"
#include "crypto/xts.h"
#include "fs/span.h"
#include "util/io.h"

enum { BLOCK = 16, CHUNK = 128 * 1024, LOOKED_MAX = 1024 * 1024 * 1024 };

struct tooldata {
	struct keytable *keys;
	struct xts *xts;
	struct geom geom;
	bool holes_zero;
};

static vcf_err_t take_key(struct tooldata *d, const struct container *c)
{
	const unsigned char *key = container_volume_key(c);
	struct key_ref ref;
	bool hidden;
	vcf_err_t err;

	if (!key)
		return -EINVAL;
	err = keytable_new(&d->keys, 1, &hidden);
	if (!err)
		err = keytable_put(d->keys, container_subject(c)->uuid,
				   container_token(c)->kcv, key, &ref);
	if (!err)
		err = xts_new(&d->xts);
	return err ? err : xts_use(d->xts, d->keys, ref);
}

vcf_err_t tooldata_new(struct tooldata **out, const struct container *c)
{
	auto_tooldata struct tooldata *d = calloc(1, sizeof(*d));
	vcf_err_t err;

	if (!d)
		return -ENOMEM;
	d->geom = (struct geom){.data_off = container_subject(c)->data_off,
				.sector_len = container_subject(c)->sector_len};
	d->holes_zero = container_token(c)->holes == HOLES_ZERO;
	err = take_key(d, c);
	if (!err)
		*out = STEAL_PTR(&d);
	return err;
}

void tooldata_free(struct tooldata *d)
{
	if (!d)
		return;
	if (d->xts)
		xts_free(d->xts);
	if (d->keys)
		keytable_free(d->keys);
	free(d);
}

vcf_err_t tooldata_decrypt(struct tooldata *d, unsigned char *buf, uint64_t sector)
{
	uint32_t unit = d->geom.sector_len;

	return xts_decrypt(d->xts, buf, buf, unit, unit, sector);
}

static vcf_err_t read_raw(struct tooldata *d, int fd, unsigned char *buf, uint64_t sector,
			  size_t cnt)
{
	size_t len = cnt * d->geom.sector_len;
	ssize_t n = io_pread_full(fd, buf, len, (off_t)span_coff(&d->geom, sector));

	if (n < 0)
		return (vcf_err_t)n;
	return (size_t)n == len ? 0 : -EIO;
}

vcf_err_t tooldata_read(struct tooldata *d, int fd, unsigned char *buf, uint64_t sector,
			size_t cnt)
{
	size_t unit = d->geom.sector_len;
	vcf_err_t err = read_raw(d, fd, buf, sector, cnt);

	for (size_t i = 0; !err && i < cnt; i++) {
		unsigned char *at = buf + i * unit;

		if (!d->holes_zero || !io_is_zero(at, unit))
			err = tooldata_decrypt(d, at, sector + i);
	}
	return err;
}

static bool has_equal_block(const unsigned char *buf, size_t len)
{
	for (size_t i = 0; i < len; i += BLOCK) {
		if (memcmp(buf + i, buf + i + 1, BLOCK - 1) == 0)
			return true;
	}
	return false;
}

/* What is a hole says nothing, in no container. */
static vcf_err_t look_at_chunk(struct tooldata *d, int fd, unsigned char *buf,
			       uint64_t sector, size_t cnt, bool *proven)
{
	size_t unit = d->geom.sector_len;
	vcf_err_t err = read_raw(d, fd, buf, sector, cnt);

	for (size_t i = 0; !err && !*proven && i < cnt; i++) {
		unsigned char *at = buf + i * unit;

		if (io_is_zero(at, unit))
			continue;
		err = tooldata_decrypt(d, at, sector + i);
		*proven = !err && has_equal_block(at, unit);
	}
	return err;
}

/* The sector of the next data; end if there is none. */
static uint64_t next_data(const struct tooldata *d, int fd, uint64_t sector, uint64_t end)
{
	off_t data = lseek(fd, (off_t)span_coff(&d->geom, sector), SEEK_DATA);
	uint64_t next;

	if (data < 0)
		return errno == ENXIO ? end : sector;
	next = ((uint64_t)data - d->geom.data_off) / d->geom.sector_len;
	return next < end ? next : end;
}

vcf_err_t tooldata_proves_key(struct tooldata *d, int fd, uint64_t len, bool *proven)
{
	auto_free unsigned char *buf = malloc(CHUNK);
	size_t most = CHUNK / d->geom.sector_len;
	uint64_t end, left = LOOKED_MAX;
	vcf_err_t err = 0;

	*proven = false;
	if (!buf)
		return -ENOMEM;
	end = len > d->geom.data_off ? (len - d->geom.data_off) / d->geom.sector_len : 0;
	for (uint64_t at = 0, cnt; !err && !*proven && left; at += cnt, left -= CHUNK) {
		at = next_data(d, fd, at, end);
		if (at == end)
			break;
		cnt = end - at < most ? end - at : most;
		err = look_at_chunk(d, fd, buf, at, cnt, proven);
	}
	return err;
}
