/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/luks_edit.h"

#include <endian.h>
#include <gcrypt.h>
#include <stdio.h>
#include <string.h>

#include "crypto/luks_disk.h"

enum { JSON_ROOM = LUKS2_HDR_LEN - LUKS2_BIN_LEN };

static char *json_of(unsigned char *hdr, int copy)
{
	return (char *)hdr + copy * LUKS2_HDR_LEN + LUKS2_BIN_LEN;
}

const char *luks2_json(const unsigned char *hdr)
{
	return (const char *)hdr + LUKS2_BIN_LEN;
}

static bool replace_text(char *text, size_t room, const char *find, const char *replace)
{
	char *at = strstr(text, find);
	char *tail = at ? strdup(at + strlen(find)) : NULL;
	size_t left = at ? room - (size_t)(at - text) : 0;
	int n;

	if (!tail)
		return false;
	memset(at, 0, left);
	n = snprintf(at, left, "%s%s", replace, tail);
	free(tail);
	return n >= 0 && (size_t)n < left;
}

bool luks2_edit(unsigned char *hdr, const char *find, const char *replace)
{
	return replace_text(json_of(hdr, 0), JSON_ROOM, find, replace) &&
	       replace_text(json_of(hdr, 1), JSON_ROOM, find, replace);
}

void luks2_set_json(unsigned char *hdr, const char *json)
{
	for (int copy = 0; copy < 2; copy++) {
		memset(json_of(hdr, copy), 0, JSON_ROOM);
		memcpy(json_of(hdr, copy), json, strnlen(json, JSON_ROOM - 1));
	}
}

void luks2_set_uuid(unsigned char *hdr, const char *uuid)
{
	for (int copy = 0; copy < 2; copy++)
		memcpy(hdr + copy * LUKS2_HDR_LEN + offsetof(struct luks2_hdr_disk, uuid),
		       uuid, strlen(uuid) + 1);
}

void luks2_repair(unsigned char *hdr)
{
	for (int copy = 0; copy < 2; copy++) {
		unsigned char *p = hdr + copy * LUKS2_HDR_LEN;
		unsigned char *csum = p + offsetof(struct luks2_hdr_disk, csum);
		unsigned char digest[32];

		memset(csum, 0, 64);
		gcry_md_hash_buffer(GCRY_MD_SHA256, digest, p, LUKS2_HDR_LEN);
		memcpy(csum, digest, sizeof(digest));
	}
}

bool luks1_edit_token(unsigned char *hdr, const char *find, const char *replace)
{
	unsigned char *area = hdr + LUKS1_TOKEN_OFF;
	unsigned char *at =
		memmem(area, LUKS1_TOKEN_END - LUKS1_TOKEN_OFF, find, strlen(find));

	if (!at || strlen(find) != strlen(replace))
		return false;
	memcpy(at, replace, strlen(replace));
	return true;
}

static void repair_blob(unsigned char *area, size_t room)
{
	size_t head = sizeof(struct luks1_token_disk);
	unsigned char crc[4];
	uint32_t len_le;
	size_t len;

	memcpy(&len_le, area + 8, sizeof(len_le));
	len = le32toh(len_le);
	if (len > room - head - sizeof(crc))
		return;
	gcry_md_hash_buffer(GCRY_MD_CRC32, crc, area, head + len);
	for (int i = 0; i < 4; i++)
		area[head + len + (size_t)i] = crc[3 - i];
}

void luks1_repair(unsigned char *hdr)
{
	repair_blob(hdr + LUKS1_TOKEN_OFF, LUKS1_TOKEN_END - LUKS1_TOKEN_OFF);
}

void luks1_repair_escrow(unsigned char *hdr)
{
	repair_blob(hdr + LUKS1_ESCROW_OFF, LUKS1_TOKEN_END - LUKS1_ESCROW_OFF);
}
