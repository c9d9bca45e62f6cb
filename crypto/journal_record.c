/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/journal_record.h"

#include <endian.h>
#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#include "util/io.h"

enum {
	SUM_LEN = 16,
	KIND_ADD = 1,
	KIND_SET = 2,
	BLOCK_CNT = CONTAINER_PEEK_LEN / JOURNAL_ALIGN,
};
_Static_assert(BLOCK_CNT == 64, "the bitmap of a saved header is one 64-bit number");

struct header_disk {
	char magic[8];
	uint32_t version_le, len_le;
	unsigned char file_id[JOURNAL_ID_LEN], host_id[JOURNAL_ID_LEN];
	uint64_t created_le, first_seq_le, next_id_le;
	unsigned char sum[SUM_LEN];
};
_Static_assert(sizeof(struct header_disk) == 88, "on disk");
_Static_assert(offsetof(struct header_disk, file_id) == 16, "on disk");
_Static_assert(offsetof(struct header_disk, created_le) == 48, "on disk");
_Static_assert(offsetof(struct header_disk, sum) == 72, "on disk");

struct record_disk {
	char magic[4];
	uint16_t kind_le, fields_le;
	uint32_t len_le, state_le;
	uint64_t seq_le, id_le;
	unsigned char sum[SUM_LEN];
	uint64_t due_le, created_le, dev_le, ino_le;
	unsigned char uuid[UUID_LEN];
	uint64_t blocks_le;
	uint16_t service_len_le, key_id_len_le, path_len_le;
	uint8_t derived, has_header;
};
_Static_assert(sizeof(struct record_disk) == 112, "on disk");
_Static_assert(offsetof(struct record_disk, len_le) == 8, "on disk");
_Static_assert(offsetof(struct record_disk, seq_le) == 16, "on disk");
_Static_assert(offsetof(struct record_disk, sum) == 32, "on disk");
_Static_assert(offsetof(struct record_disk, uuid) == 80, "on disk");
_Static_assert(offsetof(struct record_disk, blocks_le) == 96, "on disk");
_Static_assert(offsetof(struct record_disk, has_header) == 111, "on disk");
_Static_assert(sizeof(struct record_disk) + sizeof(struct journal_entry) +
			       CONTAINER_PEEK_LEN + JOURNAL_ALIGN <=
		       JOURNAL_RECORD_MAX,
	       "the largest record fits");

static const char file_magic[8] = {'V', 'M', 'C', 'R', 'J', 'R', 'N', 'L'};
static const char record_magic[4] = {'V', 'J', 'r', '1'};
static const unsigned char no_sum[SUM_LEN];

static size_t pad(size_t len)
{
	return (len + JOURNAL_ALIGN - 1) & ~(size_t)(JOURNAL_ALIGN - 1);
}

/* SHA-256(file id || src[0..len) with the checksum at sum_off as zeros), cut. */
static vcf_err_t checksum(unsigned char *sum, const unsigned char *file_id,
			  const void *src, size_t len, size_t sum_off)
{
	const unsigned char *p = src;
	unsigned char digest[32];
	size_t rest_off = sum_off + SUM_LEN;
	gcry_buffer_t parts[4] = {
		{.data = (void *)(uintptr_t)file_id, .len = JOURNAL_ID_LEN},
		{.data = (void *)(uintptr_t)p, .len = sum_off},
		{.data = (void *)(uintptr_t)no_sum, .len = SUM_LEN},
		{.data = (void *)(uintptr_t)(p + rest_off), .len = len - rest_off},
	};

	if (gcry_md_hash_buffers(GCRY_MD_SHA256, 0, digest, parts, 4))
		return -EIO;
	memcpy(sum, digest, SUM_LEN);
	return 0;
}

vcf_err_t journal_header_encode(void *dst, const struct journal_header *h)
{
	struct header_disk d = {
		.version_le = htole32(JOURNAL_VERSION),
		.len_le = htole32(JOURNAL_HEADER_LEN),
		.created_le = htole64((uint64_t)h->created),
		.first_seq_le = htole64(h->first_seq),
		.next_id_le = htole64(h->next_id),
	};
	vcf_err_t err;

	memcpy(d.magic, file_magic, sizeof(d.magic));
	memcpy(d.file_id, h->file_id, JOURNAL_ID_LEN);
	memcpy(d.host_id, h->host_id, JOURNAL_ID_LEN);
	err = checksum(d.sum, d.file_id, &d, sizeof(d),
		       offsetof(struct header_disk, sum));
	if (err)
		return err;
	memset(dst, 0, JOURNAL_HEADER_LEN);
	memcpy(dst, &d, sizeof(d));
	return 0;
}

vcf_err_t journal_header_decode(struct journal_header *h, const void *src)
{
	unsigned char sum[SUM_LEN];
	struct header_disk d;
	vcf_err_t err;

	memcpy(&d, src, sizeof(d));
	if (memcmp(d.magic, file_magic, sizeof(d.magic)) != 0)
		return -EBADMSG;
	if (le32toh(d.version_le) > JOURNAL_VERSION)
		return -ENOTSUP;
	err = checksum(sum, d.file_id, &d, sizeof(d), offsetof(struct header_disk, sum));
	if (err)
		return err;
	if (memcmp(sum, d.sum, SUM_LEN) != 0 || le32toh(d.len_le) != JOURNAL_HEADER_LEN)
		return -EBADMSG;
	memcpy(h->file_id, d.file_id, JOURNAL_ID_LEN);
	memcpy(h->host_id, d.host_id, JOURNAL_ID_LEN);
	h->created = (time_t)le64toh(d.created_le);
	h->first_seq = le64toh(d.first_seq_le);
	h->next_id = le64toh(d.next_id_le);
	return 0;
}

/* The saved header's blocks that are not all zero, one after the other; *map names them.
 */
static size_t pack_blocks(unsigned char *dst, const unsigned char *hdr, uint64_t *map)
{
	size_t len = 0;

	*map = 0;
	for (unsigned int i = 0; i < BLOCK_CNT; i++) {
		if (io_is_zero(hdr + i * JOURNAL_ALIGN, JOURNAL_ALIGN))
			continue;
		memcpy(dst + len, hdr + i * JOURNAL_ALIGN, JOURNAL_ALIGN);
		len += JOURNAL_ALIGN;
		*map |= UINT64_C(1) << i;
	}
	return len;
}

static void unpack_blocks(unsigned char *hdr, const unsigned char *src, uint64_t map)
{
	memset(hdr, 0, CONTAINER_PEEK_LEN);
	for (unsigned int i = 0; i < BLOCK_CNT; i++) {
		if (!(map >> i & 1))
			continue;
		memcpy(hdr + i * JOURNAL_ALIGN, src, JOURNAL_ALIGN);
		src += JOURNAL_ALIGN;
	}
}

static void fixed_part(struct record_disk *d, const struct journal_record *r)
{
	const struct journal_entry *e = &r->entry;

	memcpy(d->magic, record_magic, sizeof(d->magic));
	d->kind_le = htole16(r->add ? KIND_ADD : KIND_SET);
	d->fields_le = htole16((uint16_t)r->fields);
	d->state_le = htole32((uint32_t)e->state);
	d->seq_le = htole64(r->seq);
	d->id_le = htole64(e->id);
	d->due_le = htole64((uint64_t)e->due);
	d->created_le = htole64((uint64_t)e->created);
	d->dev_le = htole64(e->dev);
	d->ino_le = htole64(e->ino);
	memcpy(d->uuid, e->uuid, UUID_LEN);
	d->derived = e->derived;
}

/* Appends a text of at most max characters at dst + *len. */
static vcf_err_t put_text(unsigned char *dst, size_t *len, uint16_t *len_le,
			  const char *text, size_t max)
{
	size_t n = strnlen(text, max + 1);

	if (n > max)
		return -EINVAL;
	memcpy(dst + *len, text, n);
	*len += n;
	*len_le = htole16((uint16_t)n);
	return 0;
}

ssize_t journal_record_encode(void *dst, const unsigned char *file_id,
			      const struct journal_record *r, const void *hdr)
{
	const struct journal_entry *e = &r->entry;
	struct record_disk d = {.has_header = hdr != NULL};
	size_t len = sizeof(d);
	unsigned char *p = dst;
	uint64_t map = 0;
	vcf_err_t err;

	fixed_part(&d, r);
	memset(p, 0, JOURNAL_RECORD_MAX);
	err = put_text(p, &len, &d.service_len_le, e->service, TOKEN_SERVICE_MAX);
	if (!err)
		err = put_text(p, &len, &d.key_id_len_le, e->key_id, TOKEN_KEY_ID_MAX);
	if (!err)
		err = put_text(p, &len, &d.path_len_le, e->path, sizeof(e->path) - 1);
	if (err)
		return err;
	if (hdr)
		len += pack_blocks(p + len, hdr, &map);
	d.blocks_le = htole64(map);
	d.len_le = htole32((uint32_t)len);
	memcpy(p, &d, sizeof(d));
	err = checksum(d.sum, file_id, p, len, offsetof(struct record_disk, sum));
	if (err)
		return err;
	memcpy(p, &d, sizeof(d));
	return (ssize_t)pad(len);
}

ssize_t journal_record_peek(const void *src)
{
	struct record_disk d;
	size_t len;

	if (io_is_zero(src, JOURNAL_ALIGN))
		return 0;
	memcpy(&d, src, sizeof(d));
	len = le32toh(d.len_le);
	if (memcmp(d.magic, record_magic, sizeof(d.magic)) != 0 || len < sizeof(d) ||
	    len > JOURNAL_RECORD_MAX)
		return -EBADMSG;
	return (ssize_t)pad(len);
}

static vcf_err_t get_text(char *dst, size_t room, const unsigned char **p,
			  const unsigned char *end, uint16_t len_le)
{
	size_t n = le16toh(len_le);

	if (n >= room || n > (size_t)(end - *p))
		return -EBADMSG;
	memcpy(dst, *p, n);
	dst[n] = '\0';
	*p += n;
	return 0;
}

static void fixed_fields(struct journal_record *r, const struct record_disk *d)
{
	struct journal_entry *e = &r->entry;

	r->add = le16toh(d->kind_le) == KIND_ADD;
	r->has_header = d->has_header;
	r->fields = le16toh(d->fields_le);
	r->seq = le64toh(d->seq_le);
	e->state = (enum journal_state)le32toh(d->state_le);
	e->id = le64toh(d->id_le);
	e->due = (time_t)le64toh(d->due_le);
	e->created = (time_t)le64toh(d->created_le);
	e->dev = le64toh(d->dev_le);
	e->ino = le64toh(d->ino_le);
	e->derived = d->derived;
	memcpy(e->uuid, d->uuid, UUID_LEN);
}

/* What a right checksum cannot excuse: values of a later version, or a bug of ours. */
static bool plausible(const struct record_disk *d, size_t len)
{
	uint32_t state = le32toh(d->state_le), own = le32toh(d->len_le);
	uint16_t kind = le16toh(d->kind_le);

	return memcmp(d->magic, record_magic, sizeof(d->magic)) == 0 &&
	       own >= sizeof(*d) && pad(own) == len && state >= JOURNAL_CREATING &&
	       state <= JOURNAL_CLOSED && (kind == KIND_ADD || kind == KIND_SET) &&
	       d->derived <= 1 && d->has_header <= 1;
}

static vcf_err_t texts_and_blocks(struct journal_record *r, void *hdr,
				  const struct record_disk *d, const unsigned char *src)
{
	const unsigned char *p = src + sizeof(*d), *end = src + le32toh(d->len_le);
	struct journal_entry *e = &r->entry;
	uint64_t map = le64toh(d->blocks_le);
	vcf_err_t err;

	err = get_text(e->service, sizeof(e->service), &p, end, d->service_len_le);
	if (!err)
		err = get_text(e->key_id, sizeof(e->key_id), &p, end, d->key_id_len_le);
	if (!err)
		err = get_text(e->path, sizeof(e->path), &p, end, d->path_len_le);
	if (err)
		return err;
	if ((size_t)(end - p) != (size_t)__builtin_popcountll(map) * JOURNAL_ALIGN)
		return -EBADMSG;
	if (hdr && r->has_header)
		unpack_blocks(hdr, p, map);
	return 0;
}

vcf_err_t journal_record_decode(struct journal_record *r, void *hdr,
				const unsigned char *file_id, const void *src, size_t len)
{
	unsigned char sum[SUM_LEN];
	struct record_disk d;
	vcf_err_t err;

	if (len < JOURNAL_ALIGN)
		return -EBADMSG;
	memcpy(&d, src, sizeof(d));
	if (!plausible(&d, len))
		return -EBADMSG;
	err = checksum(sum, file_id, src, le32toh(d.len_le),
		       offsetof(struct record_disk, sum));
	if (err)
		return err;
	if (memcmp(sum, d.sum, SUM_LEN) != 0)
		return -EBADMSG;
	memset(r, 0, sizeof(*r));
	fixed_fields(r, &d);
	return texts_and_blocks(r, hdr, &d, src);
}

void journal_record_apply(struct journal_entry *e, const struct journal_record *r)
{
	e->state = r->entry.state;
	if (r->fields & JOURNAL_F_KEY)
		memcpy(e->key_id, r->entry.key_id, sizeof(e->key_id));
	if (r->fields & JOURNAL_F_DUE)
		e->due = r->entry.due;
	if (r->fields & JOURNAL_F_PLACE) {
		e->dev = r->entry.dev;
		e->ino = r->entry.ino;
		memcpy(e->path, r->entry.path, sizeof(e->path));
	}
}
