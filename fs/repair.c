/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/repair.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crypto/container_rekey.h"
#include "fs/keepbytes.h"
#include "fs/nodelock.h"
#include "fs/span.h"
#include "fs/tooldata.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"

enum { SECTOR_MAX = 4096, CHUNK = 64 * 1024 };

/* --- the header --- */

static vcf_err_t refuse_kind(const struct peek *peek, char why[REPAIR_WHY_LEN])
{
	switch (peek->kind) {
	case PEEK_PLAINTEXT:
		snprintf(why, REPAIR_WHY_LEN,
			 "no container: it is plaintext, or its header is destroyed; a "
			 "backup of it can be put back: 'vmcryptfs header restore'");
		return -EPERM;
	case PEEK_DAMAGED:
		snprintf(why, REPAIR_WHY_LEN,
			 "no good copy of its header is left; a backup of it can be put "
			 "back: 'vmcryptfs header restore'");
		return -EBADMSG;
	default:
		return 0;
	}
}

/* The header of a file that may end in it, whole. The sector behind it tells an unfinished creation apart. */
static vcf_err_t copy_header(const struct repair *r, int memfd)
{
	uint64_t end = r->len < r->data_off ? r->len : r->data_off;
	unsigned char buf[CHUNK];

	if (ftruncate(memfd, (off_t)r->data_off + SECTOR_MAX) < 0)
		return -errno;
	for (uint64_t off = 0; off < end; off += CHUNK) {
		size_t len = end - off < CHUNK ? (size_t)(end - off) : CHUNK;
		ssize_t n = io_pread_full(r->fd, buf, len, (off_t)off);
		vcf_err_t err = n < 0 ? (vcf_err_t)n : (size_t)n != len ? -EIO : 0;

		if (!err && !io_is_zero(buf, len))
			err = io_pwrite_full(memfd, buf, len, (off_t)off);
		if (err)
			return err;
	}
	return 0;
}

static vcf_err_t open_header(struct repair *r, char why[REPAIR_WHY_LEN])
{
	auto_close int memfd = memfd_create("vmcryptfs-repair", MFD_CLOEXEC);
	auto_secret struct secret *secret = NULL;
	vcf_err_t err = memfd < 0 ? -errno : copy_header(r, memfd);

	if (err)
		return err;
	err = container_load_why(&r->c, memfd, why, &r->header);
	return err ? err : toolkeys_unlock(r->keys, r->c, r->path, &secret, why);
}

/* --- the end --- */

/* Are the bytes of that sector from `from` on zeros? */
static vcf_err_t ends_with_zeros(const struct repair *r, const struct geom *g,
				 uint64_t sector, uint32_t from, bool *zeros)
{
	auto_tooldata struct tooldata *d = NULL;
	unsigned char buf[SECTOR_MAX];
	vcf_err_t err = tooldata_new(&d, r->c);

	if (!err)
		err = tooldata_read(d, r->fd, buf, sector, 1);
	if (err)
		return err;
	*zeros = io_is_zero(buf + from, g->sector_len - from);
	return 0;
}

static vcf_err_t plan_marker(struct repair *r, const struct geom *g)
{
	uint64_t e = r->len - g->data_off, sectors = e / g->sector_len;
	uint32_t marker = (uint32_t)(e % g->sector_len);
	unsigned char buf[SECTOR_MAX];
	bool is_size = false;
	vcf_err_t err;
	ssize_t n = io_pread_full(r->fd, buf, marker, (off_t)(r->len - marker));

	if (n < 0)
		return (vcf_err_t)n;
	if (sectors && io_is_zero(buf, marker))
		return 0;
	err = sectors ? ends_with_zeros(r, g, sectors - 1, marker, &is_size) : 0;
	if (err)
		return err;
	r->tail = is_size ? TAIL_MARKER : TAIL_CUT;
	r->tail_off = r->len - marker;
	r->tail_len = marker;
	r->plen = is_size ? e - g->sector_len : e - marker;
	return 0;
}

static vcf_err_t plan_tail(struct repair *r)
{
	struct geom g = {.data_off = r->data_off,
			 .sector_len = container_subject(r->c)->sector_len};

	if (io_is_device(r->fd))
		return 0;
	if (r->len < r->data_off) {
		r->tail = TAIL_HEADER;
		return 0;
	}
	return (r->len - r->data_off) % g.sector_len ? plan_marker(r, &g) : 0;
}

/* --- the plan --- */

vcf_err_t repair_plan(struct repair *r, char why[REPAIR_WHY_LEN])
{
	struct peek peek;
	vcf_err_t err = io_file_len(r->fd, &r->len);

	*why = '\0';
	if (!err)
		err = size_peek_fd(&peek, r->fd, io_is_device(r->fd) ? 0 : r->len);
	if (!err)
		err = refuse_kind(&peek, why);
	if (err || peek.kind == PEEK_EMPTY)
		return err;
	r->data_off = peek.data_off;
	err = open_header(r, why);
	if (err)
		return err;
	r->remains = container_has_unused(r->c);
	return plan_tail(r);
}

void repair_fini(struct repair *r)
{
	container_free(STEAL_PTR(&r->c));
}

bool repair_is_needed(const struct repair *r)
{
	return r->header || r->remains || r->tail != TAIL_RIGHT;
}

static void describe_tail(const struct repair *r, char *dst, size_t room)
{
	switch (r->tail) {
	case TAIL_RIGHT:
		*dst = '\0';
		break;
	case TAIL_HEADER:
		snprintf(dst, room,
			 "the file, which ends inside its header after %" PRIu64
			 " bytes, gets the length of the header; it is an image of 0 "
			 "bytes then, what it held is gone; ",
			 r->len);
		break;
	case TAIL_CUT:
		snprintf(dst, room,
			 "%" PRIu64 " bytes of an incomplete sector at its end are cut "
			 "off, and kept elsewhere; the image has %" PRIu64 " bytes; ",
			 r->tail_len, r->plen);
		break;
	case TAIL_MARKER:
		snprintf(dst, room,
			 "%" PRIu64 " bytes behind its end are zeroed, and kept "
			 "elsewhere; the image still has %" PRIu64 " bytes; ",
			 r->tail_len, r->plen);
		break;
	}
}

void repair_describe(const struct repair *r, char *dst, size_t room)
{
	const bool luks1 = container_subject(r->c)->format == FORMAT_LUKS1;
	const char *header = luks1 ? "its torn first page is written anew from the kept "
				     "ones; "
				   : "the damaged or older copy of its header is written "
				     "anew from the good one; ";
	char tail[300];
	size_t len;

	describe_tail(r, tail, sizeof(tail));
	snprintf(dst, room, "%s%s%s", r->header ? header : "", tail,
		 r->remains ? "remains of an old key slot are overwritten; " : "");
	len = strlen(dst);
	if (len >= 2)
		dst[len - 2] = '\0';
}

/* --- the work --- */

static vcf_err_t set_length(int fd, uint64_t len)
{
	if (ftruncate(fd, (off_t)len) < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

/* The bytes may be whole pages' ends or not: zeros first, a hole where there can be one. */
static vcf_err_t zero_tail(const struct repair *r)
{
	static const unsigned char zeros[SECTOR_MAX];
	vcf_err_t err =
		io_pwrite_full(r->fd, zeros, (size_t)r->tail_len, (off_t)r->tail_off);

	if (!err && fdatasync(r->fd) < 0)
		err = -errno;
	if (!err && fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)r->tail_off, (off_t)r->tail_len) < 0)
		log_dbg("%s: no hole behind its end: %s", r->path, strerror(errno));
	return err;
}

static vcf_err_t keep_tail(struct repair *r)
{
	unsigned char buf[SECTOR_MAX];
	ssize_t n = io_pread_full(r->fd, buf, (size_t)r->tail_len, (off_t)r->tail_off);

	if (n < 0)
		return (vcf_err_t)n;
	if ((uint64_t)n != r->tail_len)
		return -ESTALE;
	if (io_is_zero(buf, (size_t)n))
		return 0;
	return keepbytes(r->kept, r->keys->cfg, container_subject(r->c)->uuid_text,
			 r->tail_off, buf, (size_t)n);
}

static vcf_err_t mend_tail(struct repair *r)
{
	vcf_err_t err = 0;

	if (r->tail == TAIL_CUT || r->tail == TAIL_MARKER)
		err = keep_tail(r);
	CRASHPOINT("repair-kept");
	if (err)
		return err;
	if (r->tail == TAIL_HEADER)
		err = set_length(r->fd, r->data_off);
	else if (r->tail == TAIL_CUT)
		err = set_length(r->fd, r->tail_off);
	else if (r->tail == TAIL_MARKER)
		err = zero_tail(r);
	CRASHPOINT("repair-tail");
	return err;
}

vcf_err_t repair_do(struct repair *r)
{
	vcf_err_t err = nodelock_byte(r->fd, NODELOCK_HEADER, true, true);

	if (err)
		log_dbg("no lock on the header: %s", strerror(-err));
	err = r->header ? container_write_mended(r->c, r->fd) : 0;
	if (!err)
		err = mend_tail(r);
	return err || !r->remains ? err : container_wipe_unused(r->c, r->fd, NULL);
}
