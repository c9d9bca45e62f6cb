/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The size peek: data offset and sector size, from header text that nobody has checked
 * yet. It serves stat of closed images; opening one checks everything again.
 *
 * Only metadata areas of 16 KiB are known (what we and cryptsetup's defaults write):
 * sizes that a header claims are compared, never used.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <uuid/uuid.h>

#include "crypto/container.h"
#include "crypto/container_parts.h"
#include "crypto/jsonview.h"
#include "crypto/luks2_copies.h"
#include "crypto/luks_disk.h"
#include "util/io.h"
#include "util/parse.h"

bool container_geometry_valid(uint64_t data_off, uint32_t sector_len)
{
	return data_off >= DATA_OFF_MIN && data_off <= DATA_OFF_MAX &&
	       data_off % 4096 == 0 && (sector_len == 512 || sector_len == 4096);
}

/* The canonical (lower-case) text of a uuid field that need not be NUL-terminated. */
static bool read_uuid(char dst[UUID_TEXT_LEN + 1], const char *field, size_t room)
{
	char text[UUID_TEXT_LEN + 1];
	uuid_t uuid;

	if (strnlen(field, room) != UUID_TEXT_LEN)
		return false;
	memcpy(text, field, UUID_TEXT_LEN);
	text[UUID_TEXT_LEN] = '\0';
	if (uuid_parse(text, uuid) < 0)
		return false;
	uuid_unparse_lower(uuid, dst);
	return true;
}

static void peek_luks1(struct peek *out, const unsigned char *buf, size_t len)
{
	struct luks1_hdr_disk hdr;

	if (len < sizeof(hdr))
		return;
	memcpy(&hdr, buf, sizeof(hdr));
	out->format = FORMAT_LUKS1;
	out->sector_len = 512;
	out->data_off = (uint64_t)be32toh(hdr.payload_be) * LUKS_SECTOR_LEN;
	if (read_uuid(out->uuid_text, hdr.uuid, sizeof(hdr.uuid)) &&
	    container_geometry_valid(out->data_off, out->sector_len))
		out->kind = PEEK_CONTAINER;
}

/* Where it lies, without a tree of it: this is done for each file that is listed. */
static bool read_geometry(struct peek *out, const char *json, size_t room)
{
	char off[24];
	int64_t sector_len;
	struct jsonview doc, segment;

	if (jsonview_parse(&doc, json, strnlen(json, room)))
		return false;
	segment = jsonview_get(jsonview_get(doc, "segments"), "0");
	if (!jsonview_string(jsonview_get(segment, "offset"), off, sizeof(off)) ||
	    parse_u64(off, 0, UINT64_MAX, &out->data_off) ||
	    !jsonview_int(jsonview_get(segment, "sector_size"), 512, 4096, &sector_len))
		return false;
	out->sector_len = (uint32_t)sector_len;
	return true;
}

static void peek_luks2(struct peek *out, const unsigned char *buf, size_t len)
{
	int copy = luks2_newest(buf, len);
	struct luks2_hdr_disk hdr;

	if (copy < 0)
		return;
	buf += copy * LUKS2_HDR_LEN;
	memcpy(&hdr, buf, sizeof(hdr));
	out->format = FORMAT_LUKS2;
	if (read_geometry(out, (const char *)buf + LUKS2_BIN_LEN,
			  LUKS2_HDR_LEN - LUKS2_BIN_LEN) &&
	    read_uuid(out->uuid_text, hdr.uuid, sizeof(hdr.uuid)) &&
	    container_geometry_valid(out->data_off, out->sector_len))
		out->kind = PEEK_CONTAINER;
}

static bool has_magic(const unsigned char *buf, size_t len, size_t off, const char *magic)
{
	return len >= off + LUKS_MAGIC_LEN &&
	       memcmp(buf + off, magic, LUKS_MAGIC_LEN) == 0;
}

/* Nothing there yet: the magic lies in the first 4096 bytes, which are written last. */
static bool is_empty(const void *buf, size_t len, uint64_t size)
{
	size_t head = size < LUKS2_BIN_LEN ? (size_t)size : LUKS2_BIN_LEN;

	return size <= CONTAINER_DATA_OFF && len >= head && io_is_zero(buf, head);
}

void size_peek(struct peek *out, const void *buf, size_t len, uint64_t size)
{
	const unsigned char *p = buf;
	bool first = has_magic(p, len, 0, LUKS_MAGIC_1ST);

	memset(out, 0, sizeof(*out));
	out->kind = PEEK_DAMAGED;
	if (is_empty(buf, len, size))
		out->kind = PEEK_EMPTY;
	else if (first && len >= 8 && p[6] == 0 && p[7] == 1)
		peek_luks1(out, p, len);
	else if (first || has_magic(p, len, LUKS2_HDR_LEN, LUKS_MAGIC_2ND))
		peek_luks2(out, p, len);
	else
		out->kind = PEEK_PLAINTEXT;
}

/*
 * Devices
 */

bool container_is_creation_mark(const void *page)
{
	return memcmp(page, CREATION_MARK, sizeof(CREATION_MARK)) == 0;
}

/* All that a header takes. Page by page: what is there differs in the first ones. */
static vcf_err_t device_is_zero(int fd, bool *zero)
{
	unsigned char buf[32 * 1024] __attribute__((aligned(4096)));

	*zero = true;
	for (off_t off = 0; *zero && off < CONTAINER_DATA_OFF; off += sizeof(buf)) {
		ssize_t n = io_pread_full(fd, buf, sizeof(buf), off);

		if (n < 0)
			return (vcf_err_t)n;
		*zero = n == sizeof(buf) && io_is_zero(buf, sizeof(buf));
	}
	return 0;
}

vcf_err_t size_peek_device(struct peek *out, int fd, uint64_t size)
{
	unsigned char buf[CONTAINER_PEEK_LEN] __attribute__((aligned(4096)));
	ssize_t n = io_pread_full(fd, buf, sizeof(buf), 0);
	vcf_err_t err = 0;
	bool empty = false;

	if (n < 0)
		return (vcf_err_t)n;
	memset(out, 0, sizeof(*out));
	out->kind = PEEK_PLAINTEXT;
	if ((size_t)n == sizeof(buf) && has_magic(buf, sizeof(buf), 0, LUKS_MAGIC_1ST)) {
		size_peek(out, buf, sizeof(buf), size);
	} else if (size > CONTAINER_DATA_OFF) {
		empty = container_is_creation_mark(buf);
		if (!empty && io_is_zero(buf, sizeof(buf)))
			err = device_is_zero(fd, &empty);
		if (empty)
			out->kind = PEEK_EMPTY;
	}
	return err;
}

static vcf_err_t peek_if_device(struct peek *out, int fd)
{
	uint64_t size;
	vcf_err_t err;

	if (!io_is_device(fd)) {
		memset(out, 0, sizeof(*out));
		out->kind = PEEK_EMPTY;
		return 0;
	}
	err = io_file_len(fd, &size);
	return err ? err : size_peek_device(out, fd, size);
}

/*
 * Mostly the first copy counts, and then of the second one only the head is needed, which tells that it
 * is no newer: the rest is read where that is not so, or where the first one is of no use.
 */
vcf_err_t size_peek_fd(struct peek *out, int fd, uint64_t size)
{
	unsigned char buf[CONTAINER_PEEK_LEN] __attribute__((aligned(4096)));
	const size_t first_len = LUKS2_HDR_LEN + LUKS2_BIN_LEN;
	ssize_t n, more;

	if (!size)
		return peek_if_device(out, fd);
	n = io_pread_full(fd, buf, first_len, 0);
	if (n < 0)
		return (vcf_err_t)n;
	size_peek(out, buf, (size_t)n, size);
	if ((size_t)n < first_len ||
	    (out->kind != PEEK_DAMAGED && !luks2_second_is_newer(buf)))
		return 0;
	more = io_pread_full(fd, buf + n, sizeof(buf) - first_len, n);
	if (more < 0)
		return (vcf_err_t)more;
	size_peek(out, buf, (size_t)(n + more), size);
	return 0;
}
