/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/luks2_copies.h"

#include <endian.h>
#include <gcrypt.h>
#include <stdint.h>
#include <string.h>

#include "crypto/luks_disk.h"
#include "crypto/secret.h"

enum { DIGEST_LEN = 32 };

static const char *magic_of(int copy)
{
	return copy ? LUKS_MAGIC_2ND : LUKS_MAGIC_1ST;
}

/* The checksum covers the whole copy, its own field as zeros. */
static bool digest_of(unsigned char digest[DIGEST_LEN], const unsigned char *copy)
{
	static const unsigned char zeros[sizeof(((struct luks2_hdr_disk *)NULL)->csum)];
	const size_t at = offsetof(struct luks2_hdr_disk, csum);
	const size_t end = at + sizeof(zeros);
	gcry_buffer_t parts[3] = {
		{.data = (void *)(uintptr_t)copy, .len = at},
		{.data = (void *)(uintptr_t)zeros, .len = sizeof(zeros)},
		{.data = (void *)(uintptr_t)copy, .off = end, .len = LUKS2_HDR_LEN - end},
	};

	return gcry_md_hash_buffers(GCRY_MD_SHA256, 0, digest, parts, 3) == 0;
}

static bool csum_right(const unsigned char *copy, const struct luks2_hdr_disk *hdr)
{
	unsigned char digest[DIGEST_LEN];

	return digest_of(digest, copy) && memcmp(digest, hdr->csum, sizeof(digest)) == 0;
}

/* All but the checksum. */
static bool copy_plausible(const unsigned char *buf, size_t len, int copy,
			   uint64_t *seqid)
{
	const size_t off = (size_t)copy * LUKS2_HDR_LEN;
	struct luks2_hdr_disk hdr;

	if (len < off + LUKS2_HDR_LEN)
		return false;
	memcpy(&hdr, buf + off, sizeof(hdr));
	*seqid = be64toh(hdr.seqid_be);
	return memcmp(hdr.magic, magic_of(copy), LUKS_MAGIC_LEN) == 0 &&
	       be16toh(hdr.version_be) == 2 && be64toh(hdr.hdr_len_be) == LUKS2_HDR_LEN &&
	       be64toh(hdr.hdr_off_be) == off &&
	       strncmp(hdr.csum_alg, "sha256", sizeof(hdr.csum_alg)) == 0;
}

static bool csum_good(const unsigned char *buf, int copy)
{
	struct luks2_hdr_disk hdr;

	buf += copy * LUKS2_HDR_LEN;
	memcpy(&hdr, buf, sizeof(hdr));
	return csum_right(buf, &hdr);
}

/*
 * Hashing 16 KiB is most of what a look at a header costs: the copy that would not count, good or not,
 * is hashed only if the other one is bad.
 */
int luks2_newest(const unsigned char *buf, size_t len)
{
	uint64_t seqid[2];
	bool plausible[2];
	int best;

	for (int i = 0; i < 2; i++)
		plausible[i] = copy_plausible(buf, len, i, &seqid[i]);
	if (plausible[0] && plausible[1])
		best = seqid[1] > seqid[0];
	else
		best = !plausible[0];
	if (plausible[best] && csum_good(buf, best))
		return best;
	return plausible[!best] && csum_good(buf, !best) ? !best : -1;
}

bool luks2_second_is_newer(const unsigned char *buf)
{
	struct luks2_hdr_disk first, second;

	memcpy(&first, buf, sizeof(first));
	memcpy(&second, buf + LUKS2_HDR_LEN, sizeof(second));
	return memcmp(second.magic, magic_of(1), LUKS_MAGIC_LEN) == 0 &&
	       be64toh(second.seqid_be) > be64toh(first.seqid_be);
}

/* Writes one copy over the other; magic, offset, salt and checksum are each copy's own.
 */
static void copy_over(unsigned char *buf, int from)
{
	const int to = !from;
	unsigned char *dst = buf + to * LUKS2_HDR_LEN;
	struct luks2_hdr_disk hdr;

	memcpy(dst, buf + from * LUKS2_HDR_LEN, LUKS2_HDR_LEN);
	memcpy(&hdr, dst, sizeof(hdr));
	memcpy(hdr.magic, magic_of(to), LUKS_MAGIC_LEN);
	hdr.hdr_off_be = htobe64((uint64_t)to * LUKS2_HDR_LEN);
	secret_random(hdr.salt, sizeof(hdr.salt));
	memset(hdr.csum, 0, sizeof(hdr.csum));
	memcpy(dst, &hdr, sizeof(hdr));
	if (digest_of(hdr.csum, dst))
		memcpy(dst, &hdr, sizeof(hdr));
}

/* All but what is each copy's own: the rest of the binary part is padding, or no business of ours. */
static bool same_content(const unsigned char *buf)
{
	return memcmp(buf + LUKS2_BIN_LEN, buf + LUKS2_HDR_LEN + LUKS2_BIN_LEN,
		      LUKS2_HDR_LEN - LUKS2_BIN_LEN) == 0;
}

int luks2_stale(const unsigned char *buf, bool *good)
{
	const size_t len = LUKS2_KEYSLOTS_OFF;
	int from = luks2_newest(buf, len);
	uint64_t seqid[2] = {0, 0};

	*good = false;
	if (from < 0)
		return -1;
	*good = copy_plausible(buf, len, !from, &seqid[!from]) && csum_good(buf, !from);
	if (*good && copy_plausible(buf, len, from, &seqid[from]) &&
	    seqid[0] == seqid[1] && same_content(buf))
		return -1;
	return !from;
}

bool luks2_mend(unsigned char *buf)
{
	bool good;
	int stale = luks2_stale(buf, &good);

	if (stale < 0)
		return false;
	copy_over(buf, !stale);
	return true;
}
