/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image: one unlocked container, the only way to an image's bytes.
 *
 * An image exists from the moment its key is in the key table until its last user is gone
 * (the image table keeps count). It has no descriptor of its own: each call gets the
 * handle's.
 *
 * Invariants: every write holds its sector range exclusively, aligned ones too; reads
 * hold it shared; size changes hold size_lock for writing; nobody writes beyond the
 * encoded end before ftruncate has moved it (a torn write there would decode as another
 * size); marker bytes are always a hole. On any error the size that the caller saw before
 * still holds.
 *
 * Locks: size_lock, then a range. Nothing here replies, fetches keys or takes table
 * locks. All calls are thread-safe and block on disk, never on the network.
 */
#ifndef VCF_FS_IMAGE_H
#define VCF_FS_IMAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "crypto/keytable.h"
#include "crypto/xts.h"
#include "fs/rangelock.h"
#include "fs/span.h"
#include "util/cleanup.h"
#include "util/err.h"

struct image;

struct image_params {
	struct geom geom;
	/*
	 * Other nodes use the file, too: before each call of this image's does anything, it locks
	 * what it concerns (nodelock.h) and looks at the file's size anew.
	 */
	bool shared;
	bool punch_zeros; /* ZERO_RANGE is PUNCH_HOLE below: the file system's own may do nothing */
	bool holes_zero; /* false: token "holes": "none"; no sector is special, nothing is
			    punched; a hole that a death in a growth left is filled with
			    encrypted zeros before the first write */
	const struct keytable *keys;
	struct key_ref key;
	/*
	 * Holds P + 1 while the backing file grows from P, else 0: whoever comes after a death can
	 * take back what no answer has told of. NULL: nobody wants to know.
	 */
	_Atomic uint64_t *grow_from;
};

/*
 * One handle's backing descriptors. Direct I/O goes in units of max(4096, direct_align);
 * with an alignment above 8192, or one that data_off is no multiple of, all I/O is
 * buffered.
 */
struct image_file {
	int fd;	       /* buffered; O_RDWR if the handle may write, else O_RDONLY */
	int direct_fd; /* O_DIRECT twin, or -1 */
	uint32_t direct_align; /* alignment direct_fd wants (offset, length, memory) */
};

/* What a worker thread brings along: a resident page-aligned buffer and its cipher
 * handle. */
struct image_worker {
	unsigned char *buf; /* page-aligned */
	size_t buf_len;	    /* IMAGE_WORKER_BUF(max request) at least */
	struct xts *xts;
};
#define IMAGE_WORKER_BUF(max_len) ((size_t)(max_len) + 4 * 4096)

/* clen: the backing file's size now. -EBADMSG if it is torn. */
NODISCARD vcf_err_t image_new(struct image **out, const struct image_params *p,
			      uint64_t clen);
void image_free(struct image *im);

/* P now; of a shared one: as last seen. */
uint64_t image_size(struct image *im);

/* Has the file (any descriptor, O_PATH too) the length that it has if only we changed it? */
bool image_length_same(struct image *im, int fd);

/*
 * The device below has that size now: it was made larger (or smaller) there. -EBADMSG: smaller than
 * a header; P stays. Nothing is done for files, whose size only we change.
 */
NODISCARD vcf_err_t image_measured(struct image *im, uint64_t clen);

/*
 * Read and decrypt plaintext bytes [poff, poff + len).
 *
 * w     the calling thread's buffer; on success *data points into it
 * poff  any alignment; len <= what w's buffer was made for
 * Returns the bytes read: len, or fewer only if EOF is inside the range; 0 at or after
 * EOF; or
 *   -EIO     backing read short before EOF, or I/O error
 *   -ENOKEY  the image's key is gone
 */
NODISCARD ssize_t image_pread(struct image *im, const struct image_file *f,
			      struct image_worker *w, size_t len, uint64_t poff,
			      void **data);

/*
 * Encrypt and write [poff, poff + len); src is not changed. Grows the image if needed.
 * Returns 0 or -errno (ENOSPC, EDQUOT, EIO, EFBIG as the backing says); after an error of
 * an extending write the size is what it was. Beyond the end of a device: -ENOSPC.
 */
NODISCARD vcf_err_t image_pwrite(struct image *im, const struct image_file *f,
				 struct image_worker *w, const void *src, size_t len,
				 uint64_t poff);

/*
 * The same at the end, wherever that is. *at: 0, and P + 1 before anything changes: one who does it
 * again after a death says where it was.
 */
NODISCARD vcf_err_t image_append(struct image *im, const struct image_file *f,
				 struct image_worker *w, const void *src, size_t len,
				 _Atomic uint64_t *at);

/*
 * A transfer that its thread does not wait for. From a begin that said 0 to image_end() its sectors
 * are locked, and the size waits for it; any thread may end it.
 */
struct image_transfer {
	struct image *im;
	struct range range;
	int fd, buffered_fd; /* the handle's; one pread(2) or pwrite(2) of fd, which goes */
	uint64_t coff;	     /* past the page cache, is the transfer */
	uint64_t poff;
	size_t len;
	bool write;
};

/*
 * -EAGAIN  it has to be done by image_pread() or image_pwrite(): not of whole units inside the
 *          image, no direct descriptor, or somebody has its sectors; always if it is shared
 * -ENOKEY  as there
 * w        the calling thread's; its buffer is not used
 * crypt    len bytes that get the ciphertext to be written
 */
NODISCARD vcf_err_t image_begin_read(struct image *im, const struct image_file *f,
				     struct image_worker *w, size_t len, uint64_t poff,
				     struct image_transfer *t);
NODISCARD vcf_err_t image_begin_write(struct image *im, const struct image_file *f,
				      struct image_worker *w, const void *src, size_t len,
				      uint64_t poff, void *crypt,
				      struct image_transfer *t);

/* The whole transfer, by the calling thread: where the other way did not do all of it. */
NODISCARD vcf_err_t image_transfer_now(const struct image_transfer *t, void *buf);

/* What was read, in place; w: any thread's. -ENOKEY. */
NODISCARD vcf_err_t image_decrypt(const struct image_transfer *t, struct image_worker *w,
				  void *buf);
void image_end(struct image_transfer *t);

/* Sets the size, up or down. f->fd must be writable. -EOPNOTSUPP: a device. */
NODISCARD vcf_err_t image_truncate(struct image *im, const struct image_file *f,
				   struct image_worker *w, uint64_t plen);

/*
 * mode: 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE, ZERO_RANGE|KEEP_SIZE; others
 * -EOPNOTSUPP. Where the backing cannot do what whole sectors need: -EOPNOTSUPP before
 * any edge is touched. On a device PUNCH_HOLE and ZERO_RANGE always give zeros.
 */
NODISCARD vcf_err_t image_fallocate(struct image *im, const struct image_file *f,
				    struct image_worker *w, int mode, uint64_t poff,
				    uint64_t len);

/* SEEK_DATA or SEEK_HOLE; the plaintext offset or -ENXIO, -errno. */
NODISCARD off_t image_seek(struct image *im, const struct image_file *f, uint64_t poff,
			   int whence);

DEFINE_AUTO(image, struct image *, image_free)
#define auto_image __attribute__((cleanup(cleanup_image)))

#endif
