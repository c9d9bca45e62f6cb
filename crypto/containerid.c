/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/containerid.h"

#include <gcrypt.h>
#include <string.h>
#include <uuid/uuid.h>

#include "util/text.h"

enum { RANDOM_LEN = 12, MARK_LEN = UUID_LEN - RANDOM_LEN };

static char site[256]; /* (c) once threads run */

void containerid_set_site(const char *name)
{
	TEXT_CUT(site, name ? name : "");
}

/* False if libgcrypt fails. */
static bool make_mark(unsigned char mark[MARK_LEN], const unsigned char *uuid,
		      const char *name)
{
	static const char context[] = "vmcryptfs site v1";
	unsigned char digest[32];
	gcry_buffer_t parts[3] = {
		{.data = (void *)(uintptr_t)context, .len = sizeof(context)},
		{.data = (void *)(uintptr_t)name, .len = strlen(name) + 1},
		{.data = (void *)(uintptr_t)uuid, .len = RANDOM_LEN},
	};

	if (gcry_md_hash_buffers(GCRY_MD_SHA256, 0, digest, parts, 3))
		return false;
	memcpy(mark, digest, MARK_LEN);
	return true;
}

void containerid_new(unsigned char uuid[UUID_LEN])
{
	unsigned char marked[UUID_LEN];

	uuid_generate_random(uuid);
	if (!*site)
		return;
	memcpy(marked, uuid, UUID_LEN);
	marked[6] = (unsigned char)((marked[6] & 0x0f) | 0x80); /* version 8 */
	if (make_mark(marked + RANDOM_LEN, marked, site))
		memcpy(uuid, marked, UUID_LEN);
}

bool containerid_is_of(const unsigned char uuid[UUID_LEN], const char *name)
{
	unsigned char mark[MARK_LEN];

	return name && *name && uuid[6] >> 4 == 8 && make_mark(mark, uuid, name) &&
	       memcmp(mark, uuid + RANDOM_LEN, MARK_LEN) == 0;
}
