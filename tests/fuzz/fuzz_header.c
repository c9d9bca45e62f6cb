/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers: size peek and load, as a hostile medium would show them.
 *
 * First byte of the input:
 *   0  the rest is the head of a file as it is
 *   1  the same, checksums repaired (LUKS2 copies and the LUKS1 token)
 *   2  the rest is the JSON text of a LUKS2 header that is right otherwise
 *   3  the rest is laid over a LUKS1 header from byte 0, its token's checksum repaired
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "crypto/container.h"
#include "crypto/kdf.h"
#include "crypto/luks_disk.h"
#include "tests/unit/luks_edit.h"
#include "util/io.h"
#include "util/log.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { AS_IT_IS, REPAIRED, JSON_ONLY, LUKS1_ONLY, MODE_CNT };

static const struct token token = {
	.service = "default",
	.key_id = "fuzz",
	.created = "2026-01-31T12:00:00Z",
};

static unsigned char luks1[CONTAINER_PEEK_LEN]; /* right headers */
static unsigned char luks2[CONTAINER_PEEK_LEN];

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "%s failed\n", what);
	abort();
}

static void make(unsigned char *dst, enum luks_format format, const struct secret *secret)
{
	struct container_params p = {format, 512, {1}};
	auto_container struct container *c = NULL;
	auto_close int fd = memfd_create("fuzz", MFD_CLOEXEC);

	must(!container_format(&c, &p, &token, secret), "container_format");
	must(!container_write_new(c, fd, NULL, NULL), "container_write_new");
	must(io_pread_full(fd, dst, CONTAINER_PEEK_LEN, 0) == CONTAINER_PEEK_LEN, "read");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	auto_secret struct secret *secret = NULL;

	must(!crypto_init() && !secret_arena_init() && !container_init(), "init");
	must(!secret_new_random(&secret), "secret");
	make(luks1, FORMAT_LUKS1, secret);
	make(luks2, FORMAT_LUKS2, secret);
	must(!log_set_file("/dev/null"), "log");
	return 0;
}

static void compose(unsigned char *hdr, int mode, const uint8_t *data, size_t len)
{
	auto_free char *json = NULL;

	memcpy(hdr, mode == JSON_ONLY ? luks2 : luks1, CONTAINER_PEEK_LEN);
	if (mode == JSON_ONLY) {
		json = strndup((const char *)data, len);
		luks2_set_json(hdr, json);
		luks2_repair(hdr);
		return;
	}
	if (mode != LUKS1_ONLY)
		memset(hdr, 0, CONTAINER_PEEK_LEN);
	memcpy(hdr, data, len < CONTAINER_PEEK_LEN ? len : CONTAINER_PEEK_LEN);
	if (mode == REPAIRED && memcmp(hdr, "LUKS\xba\xbe\0\2", 8) == 0)
		luks2_repair(hdr);
	else if (mode != AS_IT_IS)
		luks1_repair(hdr);
}

static void expect_sane(const struct container *c)
{
	const struct token_subject *s = container_subject(c);
	auto_secret struct secret *secret = NULL;

	must(s->data_off >= 1024 * 1024 && s->data_off <= 64 * 1024 * 1024, "data_off");
	must(s->sector_len == 512 || s->sector_len == 4096, "sector_len");
	must(strlen(s->uuid_text) == UUID_TEXT_LEN, "uuid");
	must(token_key_id_valid(container_token(c)->key_id), "key_id");
	must(!secret_new_random(&secret), "secret");
	must(container_mac_check(c, secret) == -EBADMSG, "MAC");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static unsigned char hdr[CONTAINER_PEEK_LEN];
	auto_container struct container *c = NULL;
	struct peek peek;

	if (!len)
		return 0;
	size_peek(&peek, data + 1, len - 1, len - 1);
	compose(hdr, data[0] % MODE_CNT, data + 1, len - 1);
	if (container_load_saved(&c, hdr, sizeof(hdr), "fuzz") == 0)
		expect_sane(c);
	return 0;
}
