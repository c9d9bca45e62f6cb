/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS1: the allow-list, and our token between the header and the first key slot.
 *
 * Escrow area: the same form in the last 512 bytes of the token area, magic "VMCRYPTE".
 * Token area, bytes 1024..4095: magic "VMCRYPTF", le32 length, JSON text, le32 CRC-32
 * (ISO 3309) of all that. libcryptsetup leaves these bytes alone, header restore excepted
 * (measured with addKey, killSlot, changeKey, repair).
 */
#include <endian.h>
#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#include "crypto/container_parts.h"
#include "crypto/luks_disk.h"

enum {
	TOKEN_ROOM = LUKS1_TOKEN_END - LUKS1_TOKEN_OFF,
	TOKEN_HEAD = sizeof(struct luks1_token_disk),
	CRC_LEN = 4,
	ESCROW_ROOM = LUKS1_TOKEN_END - LUKS1_ESCROW_OFF,
	SLOT_ACTIVE = 0x00AC71F3,
	SLOT_INACTIVE = 0x0000DEAD,
};
_Static_assert(TOKEN_JSON_MAX + TOKEN_HEAD + CRC_LEN <= TOKEN_ROOM, "the token fits");
_Static_assert(ESCROW_JSON_MAX + TOKEN_HEAD + CRC_LEN <= ESCROW_ROOM, "escrow fits");

static uint32_t crc32_of(const void *p, size_t len)
{
	unsigned char crc[CRC_LEN]; /* big-endian: libgcrypt's digest form */
	uint32_t v;

	gcry_md_hash_buffer(GCRY_MD_CRC32, crc, p, len);
	memcpy(&v, crc, sizeof(v));
	return be32toh(v);
}

/* Magic, length, text, CRC-32 of all that, zeros up to room. */
static void put_blob(unsigned char *area, size_t room, const char *magic,
		     const char *json, size_t len)
{
	struct luks1_token_disk head;
	uint32_t crc_le;

	memcpy(head.magic, magic, sizeof(head.magic));
	head.len_le = htole32((uint32_t)len);
	memset(area, 0, room);
	memcpy(area, &head, TOKEN_HEAD);
	memcpy(area + TOKEN_HEAD, json, len);
	crc_le = htole32(crc32_of(area, TOKEN_HEAD + len));
	memcpy(area + TOKEN_HEAD + len, &crc_le, CRC_LEN);
}

static vcf_err_t put_escrow(struct container *c)
{
	char json[ESCROW_JSON_MAX + 1];
	ssize_t len = escrow_format(json, sizeof(json), &c->escrow);

	if (len < 0)
		return (vcf_err_t)len;
	put_blob(c->hdr + LUKS1_ESCROW_OFF, ESCROW_ROOM, LUKS1_ESCROW_MAGIC, json,
		 (size_t)len);
	return 0;
}

vcf_err_t container_put_token_luks1(struct container *c)
{
	char json[TOKEN_JSON_MAX + 1];
	ssize_t len = token_format(json, sizeof(json), &c->token);

	if (len < 0)
		return (vcf_err_t)len;
	if (*c->escrow.recipient && TOKEN_HEAD + len + CRC_LEN > TOKEN_ROOM - ESCROW_ROOM)
		return -ENOSPC;
	put_blob(c->hdr + LUKS1_TOKEN_OFF, TOKEN_ROOM, LUKS1_TOKEN_MAGIC, json,
		 (size_t)len);
	return *c->escrow.recipient ? put_escrow(c) : 0;
}

/* The text of a blob with the right magic; *why says what is wrong with it. */
static const char *blob_text(const unsigned char *area, size_t max, size_t *len,
			     const char **why)
{
	struct luks1_token_disk head;
	uint32_t crc_le;

	memcpy(&head, area, TOKEN_HEAD);
	*len = le32toh(head.len_le);
	*why = "the token's length is impossible";
	if (*len > max)
		return NULL;
	memcpy(&crc_le, area + TOKEN_HEAD + *len, CRC_LEN);
	*why = "the token's checksum is wrong";
	if (le32toh(crc_le) != crc32_of(area, TOKEN_HEAD + *len))
		return NULL;
	*why = NULL;
	return (const char *)area + TOKEN_HEAD;
}

static bool has_magic(const unsigned char *area, const char *magic)
{
	return memcmp(area, magic, sizeof(((struct luks1_token_disk *)NULL)->magic)) == 0;
}

static const char *read_token(struct container *c, size_t *end)
{
	const unsigned char *area = c->hdr + LUKS1_TOKEN_OFF;
	const char *text, *why;
	size_t len;

	if (!has_magic(area, LUKS1_TOKEN_MAGIC))
		return "no token";
	text = blob_text(area, TOKEN_JSON_MAX, &len, &why);
	if (text && token_parse(&c->token, text, len))
		why = "the token cannot be read";
	*end = LUKS1_TOKEN_OFF + TOKEN_HEAD + len + CRC_LEN;
	return why;
}

/* Behind a token that leaves it room; what the token itself covers is no escrow. */
static const char *read_escrow(struct container *c, size_t token_end)
{
	const unsigned char *area = c->hdr + LUKS1_ESCROW_OFF;
	const char *text, *why;
	size_t len;

	if (token_end > LUKS1_ESCROW_OFF || !has_magic(area, LUKS1_ESCROW_MAGIC))
		return NULL;
	text = blob_text(area, ESCROW_JSON_MAX, &len, &why);
	if (text && escrow_parse(&c->escrow, text, len))
		why = "the escrow token cannot be read";
	if (!why && c->escrow.keyslot != c->token.keyslot)
		why = "the escrow token is of another key slot";
	return why;
}

static bool field_is(const char *field, size_t room, const char *want)
{
	return strnlen(field, room) < room && strcmp(field, want) == 0;
}

static const char *judge_cipher(const struct luks1_hdr_disk *h)
{
	if (!field_is(h->cipher_name, sizeof(h->cipher_name), "aes") ||
	    !field_is(h->cipher_mode, sizeof(h->cipher_mode), "xts-plain64"))
		return "the cipher is not aes-xts-plain64";
	if (be32toh(h->key_bytes_be) != VOLUME_KEY_LEN)
		return "the key is not of 512 bits";
	if (!field_is(h->hash_spec, sizeof(h->hash_spec), "sha256"))
		return "the hash is not sha256";
	return NULL;
}

static bool iterations_valid(uint32_t n)
{
	return n >= ITERATIONS_MIN && n <= ITERATIONS_MAX;
}

/* Key material lies in whole 4 KiB pages. */
static uint64_t material_len(void)
{
	return ((uint64_t)VOLUME_KEY_LEN * LUKS_STRIPES + 4095) / 4096 * 4096;
}

static uint64_t material_off(const struct luks1_slot_disk *s)
{
	return (uint64_t)be32toh(s->material_be) * LUKS_SECTOR_LEN;
}

static const char *judge_slot(const struct luks1_slot_disk *s, uint64_t data_off)
{
	uint32_t active = be32toh(s->active_be);

	if (active != SLOT_ACTIVE && active != SLOT_INACTIVE)
		return "a key slot is neither active nor inactive";
	if (active == SLOT_ACTIVE && !iterations_valid(be32toh(s->iterations_be)))
		return "a key slot's iterations are out of bounds";
	if (be32toh(s->stripes_be) != LUKS_STRIPES)
		return "a key slot's stripes are not 4000";
	if (material_off(s) < LUKS1_TOKEN_END ||
	    material_off(s) + material_len() > data_off)
		return "a key slot lies outside of the header";
	return NULL;
}

static const char *judge_slots(const struct luks1_hdr_disk *h, uint64_t data_off)
{
	for (int i = 0; i < LUKS1_SLOTS; i++) {
		const char *why = judge_slot(&h->slot[i], data_off);

		if (why)
			return why;
		for (int k = 0; k < i; k++) {
			uint64_t a = material_off(&h->slot[i]);
			uint64_t b = material_off(&h->slot[k]);

			if (a < b + material_len() && b < a + material_len())
				return "key slots overlap";
		}
	}
	return NULL;
}

/* The slot that the token names, and the digest. */
static void read_slot(struct luks_slot *out, const struct luks1_hdr_disk *h,
		      const struct luks1_slot_disk *s)
{
	out->iterations = be32toh(s->iterations_be);
	memcpy(out->salt, s->salt, LUKS_SALT_LEN);
	out->material_off = material_off(s);
	out->digest_iterations = be32toh(h->digest_iterations_be);
	memcpy(out->digest_salt, h->digest_salt, LUKS_SALT_LEN);
	memcpy(out->digest, h->digest, sizeof(h->digest));
	out->digest_len = sizeof(h->digest);
}

const char *container_judge_luks1(struct container *c)
{
	struct luks1_hdr_disk h;
	size_t token_end = 0;
	const char *why;

	memcpy(&h, c->hdr, sizeof(h));
	if (be16toh(h.version_be) != 1)
		return "not a LUKS1 header";
	if ((uint64_t)be32toh(h.payload_be) * LUKS_SECTOR_LEN != c->subject.data_off)
		return "the payload offset is wrong";
	why = judge_cipher(&h);
	if (!why && !iterations_valid(be32toh(h.digest_iterations_be)))
		why = "the digest's iterations are out of bounds";
	if (!why)
		why = judge_slots(&h, c->subject.data_off);
	if (!why)
		why = read_token(c, &token_end);
	if (!why)
		why = read_escrow(c, token_end);
	if (why)
		return why;
	if (c->token.keyslot >= LUKS1_SLOTS ||
	    be32toh(h.slot[c->token.keyslot].active_be) != SLOT_ACTIVE)
		return "the token names a key slot that is not there";
	read_slot(&c->slot, &h, &h.slot[c->token.keyslot]);
	return NULL;
}
