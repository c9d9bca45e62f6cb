/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Life cycle, reads and writes. Who holds what:
 *
 *   read                 size_lock shared, its sectors shared
 *   write inside P       size_lock shared, its window exclusive
 *   begun, not ended     its sectors only (image_async.c)
 *   write beyond P,      size_lock exclusive: nobody else is in the image, so a range
 *   any size change      would lock out no one and is not taken; no range is held
 */
#include "fs/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fs/image_impl.h"
#include "util/crashpoint.h"

vcf_err_t image_new(struct image **out, const struct image_params *p, uint64_t clen)
{
	struct image *im;
	uint64_t plen;
	vcf_err_t err;

	if (p->geom.sector_len != 512 && p->geom.sector_len != 4096)
		return -EINVAL;
	if (clen < p->geom.data_off) /* also an empty file: no image without a header */
		return -EBADMSG;
	err = span_decode_size(&p->geom, clen, &plen);
	if (err)
		return err;
	im = calloc(1, sizeof(*im));
	if (!im)
		return -ENOMEM;
	im->p = *p;
	atomic_init(&im->plen, plen);
	rwlock_init(&im->size_lock, RANK_IMAGE_SIZE);
	rangelock_init(&im->ranges);
	/* Whose size stays has no growth that was cut short, and a device cannot tell of holes. */
	atomic_init(&im->mended, p->geom.device);
	nodelocks_init(&im->nodes);
	*out = im;
	return 0;
}

void image_free(struct image *im)
{
	if (!im)
		return;
	nodelocks_fini(&im->nodes);
	rangelock_fini(&im->ranges);
	rwlock_fini(&im->size_lock);
	free(im);
}

uint64_t image_size(struct image *im)
{
	return atomic_load(&im->plen);
}

bool image_length_same(struct image *im, int fd)
{
	SCOPED_RDLOCK(&im->size_lock);
	struct stat st;
	uint64_t plen;

	if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
		return true;
	return span_decode_size(&im->p.geom, (uint64_t)st.st_size, &plen) == 0 &&
	       plen == image_size(im);
}

vcf_err_t image_measured(struct image *im, uint64_t clen)
{
	uint64_t plen;
	vcf_err_t err = span_decode_size(&im->p.geom, clen, &plen);

	if (err || !im->p.geom.device || plen == image_size(im))
		return err;
	SCOPED_RESIZE(im);

	atomic_store(&im->plen, plen);
	return 0;
}

ssize_t image_pread(struct image *im, const struct image_file *f, struct image_worker *w,
		    size_t len, uint64_t poff, void **data)
{
	SCOPED_RDLOCK(&im->size_lock);
	auto_nodelock struct nodelock hold = NODELOCK_NONE;
	unsigned char *at = NULL;
	struct image_io io;
	struct range r;
	struct span s;
	vcf_err_t err = image_hold(&hold, im, f, poff, len, false);

	if (!err)
		err = image_io_init(&io, im, f, w);
	if (err)
		return err;
	if (!len || poff >= io.plen)
		return 0;
	if (len > io.plen - poff)
		len = io.plen - poff;
	s = span_of(&im->p.geom, poff, len);
	rangelock_take(&im->ranges, &r, s.first, s.first + s.cnt - 1, false);
	err = image_io_read(&io, len, poff, &at);
	rangelock_release(&im->ranges, &r);
	if (err)
		return err;
	*data = at;
	return (ssize_t)len;
}

/* size_lock is held. */
static vcf_err_t overwrite(struct image_io *io, const void *src, size_t len,
			   uint64_t poff)
{
	struct range r;
	vcf_err_t err;

	image_io_lock(io, &r, len, poff);
	err = image_io_write(io, src, len, poff);
	rangelock_release(&io->im->ranges, &r);
	return err;
}

/* size_lock is held for writing. */
static vcf_err_t extend(struct image_io *io, const void *src, size_t len, uint64_t poff)
{
	vcf_err_t err;

	if (io->im->p.geom.device)
		return -ENOSPC; /* what programs expect of a full device */
	err = image_grow(io, poff + len, poff);
	if (!err)
		err = image_io_write(io, src, len, poff);
	if (err)
		image_set_back(io);
	image_settle(io);
	return err;
}

vcf_err_t image_pwrite(struct image *im, const struct image_file *f,
		       struct image_worker *w, const void *src, size_t len, uint64_t poff)
{
	struct image_io io;
	uint64_t end;
	vcf_err_t err = span_end(poff, len, &end);

	if (err || !len)
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
		if (err || end <= io.plen)
			return err ? err : overwrite(&io, src, len, poff);
	}
	SCOPED_RESIZE(im);
	auto_nodelock struct nodelock hold = NODELOCK_NONE;
	err = image_begin_all(&io, &hold, im, f, w);
	if (err)
		return err;
	if (end <= io.plen) /* another one was faster */
		return overwrite(&io, src, len, poff);
	return extend(&io, src, len, poff);
}

vcf_err_t image_append(struct image *im, const struct image_file *f,
		       struct image_worker *w, const void *src, size_t len,
		       _Atomic uint64_t *at)
{
	vcf_err_t err = image_mend_holes(im, f, w);
	struct image_io io;
	uint64_t end;

	if (err || !len)
		return err;
	SCOPED_RESIZE(im);
	auto_nodelock struct nodelock hold = NODELOCK_NONE;
	err = image_begin_append(&io, &hold, im, f, w);
	if (err)
		return err;
	if (!*at)
		*at = io.plen + 1;
	CRASHPOINT("append-noted");
	err = span_end(*at - 1, len, &end);
	if (err)
		return err;
	if (end <= io.plen)
		return overwrite(&io, src, len, *at - 1);
	return extend(&io, src, len, *at - 1);
}

vcf_err_t image_truncate(struct image *im, const struct image_file *f,
			 struct image_worker *w, uint64_t plen)
{
	vcf_err_t err = image_mend_holes(im, f, w);
	struct image_io io;

	if (err)
		return err;
	SCOPED_RESIZE(im);
	auto_nodelock struct nodelock hold = NODELOCK_NONE;
	err = image_begin_all(&io, &hold, im, f, w);
	if (err || plen == io.plen)
		return err;
	if (plen > io.plen) {
		err = image_grow(&io, plen, plen);
		if (err)
			image_set_back(&io);
	} else {
		err = image_shrink(&io, plen);
	}
	image_settle(&io);
	return err;
}
