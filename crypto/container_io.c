/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers from and to files.
 *
 * A new header is written so that every moment of a crash leaves an empty file or a
 * container, never half of one:
 *
 *   ftruncate 0, D | bytes [4096, D) | fdatasync | first 4096 bytes | fdatasync
 *   ---------------- reads as empty ------------ | reads as a container -------
 *
 * A device cannot be cut, and may hold another's data: container.h, container_write_device().
 *
 * Transfers are of whole pages, so that no page of ours is written in two pieces.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/container_parts.h"
#include "crypto/luks_disk.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"

enum { PAGE_LEN = 4096 };

static vcf_err_t read_range(struct container *c, int fd, uint64_t from, uint64_t to)
{
	ssize_t n = io_pread_full(fd, c->hdr + from, (size_t)(to - from), (off_t)from);

	if (n < 0)
		return (vcf_err_t)n;
	return (uint64_t)n == to - from ? 0 : -EIO;
}

/* The next range of data at or after pos, in whole pages; from == end if there is none.
 */
static vcf_err_t next_data(int fd, uint64_t pos, uint64_t end, uint64_t *from,
			   uint64_t *to)
{
	off_t data = lseek(fd, (off_t)pos, SEEK_DATA);
	off_t hole;

	*from = *to = end;
	if (data < 0 && errno == ENXIO)
		return 0;
	hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	if (hole < 0) { /* the file system cannot tell: read it all */
		*from = pos;
		return 0;
	}
	if ((uint64_t)data < end)
		*from = (uint64_t)data / PAGE_LEN * PAGE_LEN;
	if ((uint64_t)hole < end)
		*to = ((uint64_t)hole + PAGE_LEN - 1) / PAGE_LEN * PAGE_LEN;
	return 0;
}

vcf_err_t container_read_header(struct container *c, int fd)
{
	uint64_t end = c->subject.data_off;
	uint64_t from, to;

	for (uint64_t pos = 0; pos < end; pos = to) {
		vcf_err_t err = next_data(fd, pos, end, &from, &to);

		if (!err && from < to)
			err = read_range(c, fd, from, to);
		if (err)
			return err;
	}
	return 0;
}

static vcf_err_t sync_data(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

/* Writes the pages of [from, end) that are not zero, in runs. */
static vcf_err_t write_pages(const struct container *c, int fd, size_t from, size_t end)
{
	while (from < end) {
		size_t to = from;
		vcf_err_t err;

		while (to < end && !io_is_zero(c->hdr + to, PAGE_LEN))
			to += PAGE_LEN;
		if (to == from) {
			from += PAGE_LEN;
			continue;
		}
		err = io_pwrite_full(fd, c->hdr + from, to - from, (off_t)from);
		if (err)
			return err;
		from = to;
	}
	return 0;
}

/* Only an empty file becomes a container; remains of an unfinished creation go. */
static vcf_err_t make_room(const struct container *c, int fd)
{
	struct stat st;
	struct peek peek;
	vcf_err_t err;

	if (fstat(fd, &st) < 0)
		return -errno;
	err = size_peek_fd(&peek, fd, (uint64_t)st.st_size);
	if (err)
		return err;
	if (peek.kind != PEEK_EMPTY)
		return -EEXIST;
	if (st.st_size && ftruncate(fd, 0) < 0)
		return -errno;
	return ftruncate(fd, (off_t)c->subject.data_off) < 0 ? -errno : 0;
}

/* All of the header but its magic is there, or err. */
static vcf_err_t complete_header(const struct container *c, int fd, vcf_err_t err,
				 vcf_err_t (*before_magic)(void *arg), void *arg)
{
	CRASHPOINT("create-pages");
	if (!err)
		err = sync_data(fd);
	CRASHPOINT("create-pages-synced");
	if (!err && before_magic)
		err = before_magic(arg);
	CRASHPOINT("create-using");
	if (!err)
		err = io_pwrite_full(fd, c->hdr, PAGE_LEN, 0);
	CRASHPOINT("create-magic");
	if (!err)
		err = sync_data(fd);
	CRASHPOINT("create-magic-synced");
	return err;
}

vcf_err_t container_write_new(const struct container *c, int fd,
			      vcf_err_t (*before_magic)(void *arg), void *arg)
{
	vcf_err_t err;

	CRASHPOINT("create-begin");
	err = make_room(c, fd);
	if (err)
		return err;
	CRASHPOINT("create-room");
	err = write_pages(c, fd, PAGE_LEN, (size_t)c->subject.data_off);
	err = complete_header(c, fd, err, before_magic, arg);
	if (err && ftruncate(fd, 0) < 0)
		return err; /* the first error tells more; the file reads as unfinished */
	return err;
}

/*
 * Devices
 */

/* first_page (may be NULL): with what follows the mark in it, so that no part of the page's last write can be missed. */
static vcf_err_t write_mark(int fd, const unsigned char *first_page)
{
	unsigned char page[PAGE_LEN] __attribute__((aligned(4096))) = CREATION_MARK;

	if (first_page)
		memcpy(page + LUKS_SECTOR_LEN, first_page + LUKS_SECTOR_LEN,
		       PAGE_LEN - LUKS_SECTOR_LEN);
	return io_pwrite_full(fd, page, sizeof(page), 0);
}

static vcf_err_t put_mark(int fd)
{
	vcf_err_t err = write_mark(fd, NULL);

	return err ? err : sync_data(fd);
}

/* Nothing of somebody else's, and the mark of this creation is in its place. */
static vcf_err_t mark_creation(int fd)
{
	struct peek peek;
	uint64_t size;
	vcf_err_t err = io_file_len(fd, &size);

	if (!err && size <= CONTAINER_DATA_OFF)
		err = -ENOSPC;
	if (!err)
		err = size_peek_device(&peek, fd, size);
	if (!err && peek.kind != PEEK_EMPTY)
		err = -EEXIST;
	return err ? err : put_mark(fd);
}

/* As it was. Best effort: what stays reads as a creation that was cut short. */
static void zero_header(int fd, uint64_t end)
{
	static const unsigned char zeros[64 * 1024];
	/* Zeros before something else would be somebody else's: so the mark, until that has gone. */
	vcf_err_t err = put_mark(fd);

	for (uint64_t off = PAGE_LEN; !err && off < end; off += sizeof(zeros))
		err = io_pwrite_full(fd, zeros,
				     off + sizeof(zeros) < end ? sizeof(zeros)
							       : (size_t)(end - off),
				     (off_t)off);
	if (!err)
		err = sync_data(fd);
	if (!err)
		err = io_pwrite_full(fd, zeros, PAGE_LEN, 0);
	if (err)
		log_dbg("a header that failed could not be taken back: %s",
			strerror(-err));
}

vcf_err_t container_write_device(const struct container *c, int fd,
				 vcf_err_t (*before_magic)(void *arg), void *arg)
{
	vcf_err_t err;

	CRASHPOINT("create-begin");
	err = mark_creation(fd);
	if (err)
		return err;
	CRASHPOINT("create-room");
	err = io_pwrite_full(fd, c->hdr + PAGE_LEN,
			     (size_t)c->subject.data_off - PAGE_LEN, PAGE_LEN);
	if (!err)
		err = write_mark(fd, c->hdr);
	err = complete_header(c, fd, err, before_magic, arg);
	if (err)
		zero_header(fd, c->subject.data_off);
	return err;
}

/* Writes one copy of the metadata if the file's differs. */
static vcf_err_t write_copy(const struct container *c, int fd, size_t off, size_t len)
{
	unsigned char now[LUKS2_HDR_LEN] __attribute__((aligned(4096)));
	ssize_t n = io_pread_full(fd, now, len, (off_t)off);
	vcf_err_t err;

	if (n < 0)
		return (vcf_err_t)n;
	if ((size_t)n == len && memcmp(now, c->hdr + off, len) == 0)
		return 0; /* the good copy is never put at risk */
	err = io_pwrite_full(fd, c->hdr + off, len, (off_t)off);
	return err ? err : sync_data(fd);
}

vcf_err_t container_write_mended(const struct container *c, int fd)
{
	vcf_err_t err;

	if (c->subject.format != FORMAT_LUKS2)
		return write_copy(c, fd, 0, LUKS1_TOKEN_END);
	err = write_copy(c, fd, LUKS2_HDR_LEN, LUKS2_HDR_LEN);
	CRASHPOINT("mend-half");
	if (!err)
		err = write_copy(c, fd, 0, LUKS2_HDR_LEN);
	CRASHPOINT("mend-done");
	return err;
}

/*
 * Backups
 */

vcf_err_t container_write_backup(const struct container *c, int fd)
{
	size_t end = (size_t)c->subject.data_off;
	vcf_err_t err = ftruncate(fd, (off_t)end) < 0 ? -errno : 0;

	if (!err)
		err = write_pages(c, fd, 0, end);
	if (!err && fsync(fd) < 0)
		err = -errno;
	return err;
}

static vcf_err_t put_range(const struct container *c, int fd, size_t off, size_t end)
{
	vcf_err_t err = io_pwrite_full(fd, c->hdr + off, end - off, (off_t)off);

	return err ? err : sync_data(fd);
}

/* They were written as zeros, over old key slots, too; best effort. */
static void punch_zeros(const struct container *c, int fd, size_t off, size_t end)
{
	while (off < end) {
		size_t to = off;

		while (to < end && io_is_zero(c->hdr + to, PAGE_LEN))
			to += PAGE_LEN;
		if (to > off && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					  (off_t)off, (off_t)(to - off)) < 0)
			return;
		off = to > off ? to : off + PAGE_LEN;
	}
}

vcf_err_t container_write_restored(const struct container *c, int fd)
{
	bool luks2 = c->subject.format == FORMAT_LUKS2;
	size_t body = luks2 ? LUKS2_KEYSLOTS_OFF : LUKS1_TOKEN_END;
	size_t end = (size_t)c->subject.data_off;
	vcf_err_t err = put_range(c, fd, body, end);

	CRASHPOINT("restore-body");
	if (!err && luks2)
		err = put_range(c, fd, LUKS2_HDR_LEN, body);
	CRASHPOINT("restore-second");
	if (!err)
		err = put_range(c, fd, 0, luks2 ? LUKS2_HDR_LEN : body);
	CRASHPOINT("restore-first");
	if (!err)
		punch_zeros(c, fd, body, end);
	return err;
}
