/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/luks1_pages.h"

#include <gcrypt.h>
#include <string.h>

enum { PAGE_LEN = LUKS1_TOKEN_END, DIGEST_LEN = 32 };

struct kept_disk {
	char magic[16];
	unsigned char digest[DIGEST_LEN];
} __attribute__((packed));
_Static_assert(sizeof(LUKS1_KEPT_MAGIC) - 1 == sizeof(((struct kept_disk *)NULL)->magic),
	       "magic of the kept pages");

static bool seal(struct kept_disk *d, const unsigned char *pages)
{
	gcry_buffer_t both = {.data = (void *)(uintptr_t)pages, .len = 2 * PAGE_LEN};

	memcpy(d->magic, LUKS1_KEPT_MAGIC, sizeof(d->magic));
	return gcry_md_hash_buffers(GCRY_MD_SHA256, 0, d->digest, &both, 1) == 0;
}

bool luks1_keep(unsigned char *kept, const unsigned char *old_page,
		const unsigned char *new_page)
{
	struct kept_disk d;

	memset(kept, 0, LUKS1_KEPT_LEN);
	memcpy(kept, old_page, PAGE_LEN);
	memcpy(kept + PAGE_LEN, new_page, PAGE_LEN);
	if (!seal(&d, kept))
		return false;
	memcpy(kept + 2 * PAGE_LEN, &d, sizeof(d));
	return true;
}

static bool is_kept(const unsigned char *kept)
{
	struct kept_disk now, want;

	memcpy(&now, kept + 2 * PAGE_LEN, sizeof(now));
	if (memcmp(now.magic, LUKS1_KEPT_MAGIC, sizeof(now.magic)) != 0)
		return false;
	return seal(&want, kept) && memcmp(&now, &want, sizeof(now)) == 0;
}

static bool same_sector(const unsigned char *a, const unsigned char *b, size_t at)
{
	return memcmp(a + at, b + at, LUKS_SECTOR_LEN) == 0;
}

/* Neither of the two, but made of their sectors. */
static bool is_torn(const unsigned char *page, const unsigned char *old_page,
		    const unsigned char *new_page)
{
	bool of_old = true, of_new = true;

	for (size_t at = 0; at < PAGE_LEN; at += LUKS_SECTOR_LEN) {
		bool is_old = same_sector(page, old_page, at);
		bool is_new = same_sector(page, new_page, at);

		if (!is_old && !is_new)
			return false;
		of_old = of_old && is_old;
		of_new = of_new && is_new;
	}
	return !of_old && !of_new;
}

bool luks1_has_kept(const unsigned char *hdr, uint64_t data_off)
{
	return is_kept(hdr + data_off - LUKS1_KEPT_LEN);
}

bool luks1_mend(unsigned char *hdr, uint64_t data_off)
{
	const unsigned char *old_page = hdr + data_off - LUKS1_KEPT_LEN;
	const unsigned char *new_page = old_page + PAGE_LEN;

	if (!is_kept(old_page) || !is_torn(hdr, old_page, new_page))
		return false;
	memcpy(hdr, same_sector(hdr, new_page, 0) ? new_page : old_page, PAGE_LEN);
	return true;
}
