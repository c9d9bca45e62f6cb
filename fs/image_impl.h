/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of image share: nothing outside fs/image*.c includes this.
 *
 *   image.c        life cycle, reads, writes that do not grow
 *   image_async.c  transfers that the calling thread does not wait for
 *   image_io.c     plaintext ranges to backing I/O: windows, ciphers, holes, O_DIRECT
 *   image_size.c   growing and shrinking
 *   image_alloc.c  fallocate and lseek
 *   image_shared.c what other nodes may do at the same time
 */
#ifndef VCF_FS_IMAGE_IMPL_H
#define VCF_FS_IMAGE_IMPL_H

#include <stdatomic.h>

#include "fs/image.h"
#include "fs/nodelock.h"
#include "fs/rangelock.h"
#include "util/lock.h"

struct image {
	struct image_params p;	 /* (c) */
	struct rwlock size_lock; /* guards plen: held shared by all I/O */
	_Atomic uint64_t plen; /* written under size_lock; read by image_size() without */
	struct rangelock ranges; /* of sectors; taken with size_lock held, but released
				    by asynchronous transfers without it */
	_Atomic bool mended; /* holes_zero off: there is no hole (image_mend_holes()) */
	struct nodelocks nodes; /* between nodes; taken after size_lock, before a range */
};

/*
 * For a change of the size, to the end of the scope: nobody else is in the image, nor is any
 * transfer under way that its thread has left (image_begin_read() and _write()).
 */
#define SCOPED_RESIZE(im)                                                                \
	SCOPED_WRLOCK(&(im)->size_lock);                                                 \
	rangelock_drain(&(im)->ranges)

/*
 * Against other nodes, where the image is shared: a read (shared) or a change of [poff, poff + len),
 * and of the pages around it. Before image_io_init(), which looks at the size; auto_nodelock gives it
 * back. -errno.
 */
NODISCARD vcf_err_t image_hold(struct nodelock *l, struct image *im,
			       const struct image_file *f, uint64_t poff, uint64_t len,
			       bool exclusive);
/* P; of a shared image: as its file has it now. -EBADMSG: it is none any more. */
NODISCARD vcf_err_t image_look(struct image *im, const struct image_file *f,
			       uint64_t *plen);

/* One call's surroundings. */
struct image_io {
	struct image *im;
	const struct image_file *f;
	struct image_worker *w;
	uint64_t plen; /* P and the backing size as they are now: the caller holds */
	uint64_t cend; /* size_lock and keeps them right when it changes the size  */
	uint32_t unit; /* of direct I/O; 0: none */
};

/*
 * Sets the worker's key and fills io; size_lock is held.
 * -ENOKEY if the image's key is gone; -EINVAL if the worker's buffer is too small.
 */
NODISCARD vcf_err_t image_io_init(struct image_io *io, struct image *im,
				  const struct image_file *f, struct image_worker *w);
/*
 * The same under a lock of the whole image, for any change, that of the size included. append: by the
 * handle's own descriptor, so that the lock outlives a death of the server, and nobody appends before
 * the request was executed again (takeover.c lets go what is left).
 */
NODISCARD vcf_err_t image_begin_all(struct image_io *io, struct nodelock *l,
				    struct image *im, const struct image_file *f,
				    struct image_worker *w);
NODISCARD vcf_err_t image_begin_append(struct image_io *io, struct nodelock *l,
				       struct image *im, const struct image_file *f,
				       struct image_worker *w);

/*
 * Reads [poff, poff + len), decrypted; len > 0, the sectors lie inside the backing file
 * and the window fits the buffer. *data points into the worker's buffer.
 */
NODISCARD vcf_err_t image_io_read(struct image_io *io, size_t len, uint64_t poff,
				  unsigned char **data);

/*
 * Encrypts and writes [poff, poff + len) of any length, read-modify-write at the edges;
 * all sectors lie inside the backing file. src NULL: zeros. The caller holds the range
 * (image_io_lock()) or size_lock for writing.
 */
NODISCARD vcf_err_t image_io_write(struct image_io *io, const void *src, uint64_t len,
				   uint64_t poff);

/* True if one transfer by direct_fd does it: whole units that lie before the end. */
bool image_io_is_direct(const struct image_io *io, uint64_t len, uint64_t poff);

/* Decrypts whole sectors in place; holes stay as they are. */
NODISCARD vcf_err_t image_io_decrypt(struct image_io *io, unsigned char *buf,
				     uint64_t sector, uint64_t cnt);

/* Zeros a part of one sector, unless the sector is a hole. As image_io_write(). */
NODISCARD vcf_err_t image_io_zero_part(struct image_io *io, uint64_t len, uint64_t poff);

/* Takes exclusively all that image_io_write() of this range may touch. */
void image_io_lock(struct image_io *io, struct range *r, uint64_t len, uint64_t poff);

/*
 * The size. io's size_lock is held for writing; the new size is published by
 * image_settle() only. `data_poff`: the caller is about to write from there to the new
 * end, so that whole sectors of it need no zeros (pass plen: none).
 */
NODISCARD vcf_err_t image_grow(struct image_io *io, uint64_t plen, uint64_t data_poff);
NODISCARD vcf_err_t image_shrink(struct image_io *io, uint64_t plen);
/*
 * Before the first write where holes are not zeros: a hole can only be left by a growth
 * that a death cut short, and gets its zeros now. Takes size_lock for writing.
 */
NODISCARD vcf_err_t image_mend_holes(struct image *im, const struct image_file *f,
				     struct image_worker *w);
/* After a failure: the backing file gets the size it had. Logs if that fails too. */
void image_set_back(struct image_io *io);
/* Publishes what the backing file's size says. Last step of every size change. */
void image_settle(struct image_io *io);

/*
 * The first sector at or after `sector` that is a hole as a whole; that has data. -ENXIO:
 * none; -EINVAL: the backing file cannot tell.
 */
NODISCARD int64_t image_next_hole(const struct geom *g, int fd, uint64_t sector);
NODISCARD int64_t image_next_data(const struct geom *g, int fd, uint64_t sector);

#endif
