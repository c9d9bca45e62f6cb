/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Key slots opened by us and by libcryptsetup: of the same header both get the same key, or none.
 * Each row's container has another passphrase, uuid, salts, and other iterations.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/container_parts.h"
#include "tests/unit/luks_edit.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/io.h"

enum { KINDS = MADE_TWIN, PER_KIND = 6 };

static const int iterations[PER_KIND] = {1000, 1001, 1777, 2048, 4095, 10000};

struct seen {
	vcf_err_t err;
	unsigned char key[VOLUME_KEY_LEN];
};

static struct seen by_us(const struct container *c, const char *passphrase)
{
	struct seen seen = {0};

	seen.err = luks_slot_open(seen.key, &c->slot, c->hdr + c->slot.material_off,
				  passphrase, strlen(passphrase));
	return seen;
}

static struct seen by_library(struct container *c, const char *passphrase)
{
	struct seen seen = {0};
	size_t len = sizeof(seen.key);
	int rc = crypt_volume_key_get(c->cd, (int)c->token.keyslot, (char *)seen.key,
				      &len, passphrase, strlen(passphrase));

	seen.err = rc == -EPERM ? -EKEYREJECTED : rc;
	if (rc < 0)
		memset(seen.key, 0, sizeof(seen.key));
	return seen;
}

static void same(struct container *c, const char *passphrase, vcf_err_t want)
{
	struct seen us = by_us(c, passphrase);
	struct seen library = by_library(c, passphrase);

	ck_assert_int_eq(library.err, want);
	ck_assert_int_eq(us.err, want);
	ck_assert_mem_eq(us.key, library.key, sizeof(us.key));
}

static struct container *load(const unsigned char *header)
{
	auto_close int fd = made_file(header, CONTAINER_DATA_OFF);
	struct container *c = NULL;

	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	return c;
}

/* The slot is made anew with that many iterations, under the same number. */
static void set_iterations(struct container *c, const char *passphrase, int n)
{
	const struct crypt_pbkdf_type pbkdf = {
		.type = CRYPT_KDF_PBKDF2,
		.hash = "sha256",
		.iterations = (uint32_t)n,
		.flags = CRYPT_PBKDF_NO_BENCHMARK,
	};

	ck_assert_int_eq(crypt_set_pbkdf_type(c->cd, &pbkdf), 0);
	ck_assert_int_eq(crypt_keyslot_change_by_passphrase(
				 c->cd, 0, 0, passphrase, strlen(passphrase), passphrase,
				 strlen(passphrase)),
			 0);
}

/* A container like made[kind], with its own secret (in passphrase) and iterations. */
static struct container *another(int kind, int n, char passphrase[SECRET_HEX_LEN + 1])
{
	auto_container struct container *c = NULL, *changed = NULL;
	auto_secret struct secret *secret = NULL;
	struct container_params p = made[kind].params;
	auto_free unsigned char *header = malloc(CONTAINER_DATA_OFF);

	p.uuid[5] = (unsigned char)(n + 1);
	ck_assert_int_eq(secret_new_random(&secret), 0);
	secret_hex(secret, passphrase);
	ck_assert_int_eq(container_format(&c, &p, &made_token, secret), 0);
	changed = load(c->hdr);
	set_iterations(changed, passphrase, iterations[n]);
	memcpy(header, changed->hdr, CONTAINER_DATA_OFF);
	return load(header);
}

START_TEST(same_key)
{
	const int kind = _i / PER_KIND, n = _i % PER_KIND;
	char passphrase[SECRET_HEX_LEN + 1];
	auto_container struct container *c = another(kind, n, passphrase);

	ck_assert_uint_eq(c->slot.iterations, (unsigned int)iterations[n]);
	same(c, passphrase, 0);
	passphrase[SECRET_HEX_LEN - 1] ^= 1;
	same(c, passphrase, -EKEYREJECTED);
	passphrase[SECRET_HEX_LEN - 1] = '\0';
	same(c, passphrase, -EKEYREJECTED);
}
END_TEST

/* One bit anywhere in the material, or in what is said of it, and there is no key. */
static const struct {
	const char *what;
	size_t at; /* in the material */
} damaged_rows[] = {
	{"the first byte", 0},
	{"a stripe's end", 63},
	{"a sector's end", 511},
	{"in the middle", 128 * 1024 + 77},
	{"the last stripe", LUKS_MATERIAL_LEN - VOLUME_KEY_LEN},
	{"the last byte", LUKS_MATERIAL_LEN - 1},
};

START_TEST(damaged_material)
{
	const int kind = _i % KINDS, row = _i / KINDS;
	auto_free unsigned char *header = made_copy(kind);
	auto_container struct container *good = load(header), *bad = NULL;
	char passphrase[SECRET_HEX_LEN + 1];

	secret_hex(made[kind].secret, passphrase);
	same(good, passphrase, 0);
	header[good->slot.material_off + damaged_rows[row].at] ^= 0x10;
	bad = load(header);
	same(bad, passphrase, -EKEYREJECTED);
}
END_TEST

/* What lies behind the material in the slot's area belongs to nobody. */
START_TEST(behind_the_material)
{
	auto_free unsigned char *header = made_copy(_i);
	auto_container struct container *good = load(header), *same_c = NULL;
	char passphrase[SECRET_HEX_LEN + 1];

	secret_hex(made[_i].secret, passphrase);
	header[good->slot.material_off + LUKS_MATERIAL_LEN] ^= 0x10;
	same_c = load(header);
	same(same_c, passphrase, 0);
}
END_TEST

START_TEST(damaged_parameters)
{
	auto_container struct container *c = load(made[_i].header);
	const struct luks_slot good = c->slot;
	char passphrase[SECRET_HEX_LEN + 1];

	secret_hex(made[_i].secret, passphrase);
	ck_assert_int_eq(by_us(c, passphrase).err, 0);
	c->slot.salt[31] ^= 1;
	ck_assert_int_eq(by_us(c, passphrase).err, -EKEYREJECTED);
	c->slot = good;
	c->slot.iterations++;
	ck_assert_int_eq(by_us(c, passphrase).err, -EKEYREJECTED);
	c->slot = good;
	c->slot.digest_salt[0] ^= 1;
	ck_assert_int_eq(by_us(c, passphrase).err, -EKEYREJECTED);
	c->slot = good;
	c->slot.digest_iterations++;
	ck_assert_int_eq(by_us(c, passphrase).err, -EKEYREJECTED);
	c->slot = good;
	c->slot.digest[c->slot.digest_len - 1] ^= 1;
	ck_assert_int_eq(by_us(c, passphrase).err, -EKEYREJECTED);
}
END_TEST

/* Not of its length, or no base64: refused when the header is read. */
static const struct {
	const char *find, *replace;
} refused_rows[] = {
	{"\"iterations\":1000,\"salt\":\"", "\"iterations\":1000,\"salt\":\"AAAA"},
	{"\"hash\":\"sha256\",\"iterations\":1000,\"salt\":\"",
	 "\"hash\":\"sha256\",\"iterations\":1000,\"salt\":\"*"},
	{"\"digest\":\"", "\"digest\":\"AAAA"},
	{"\"digest\":\"", "\"digest\":\"*"},
};

START_TEST(refused)
{
	auto_free unsigned char *header = made_copy(MADE_LUKS2);
	auto_close int fd = -1;
	struct container *c = NULL;

	ck_assert(luks2_edit(header, refused_rows[_i].find, refused_rows[_i].replace));
	luks2_repair(header);
	fd = made_file(header, CONTAINER_DATA_OFF);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(made_log(), "32 bytes"));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("luks_slot");
	TCase *tc = tcase_create("both");

	tcase_add_unchecked_fixture(tc, made_setup, made_teardown);
	tcase_add_loop_test(tc, same_key, 0, KINDS * PER_KIND);
	tcase_add_loop_test(tc, damaged_material, 0, KINDS * ROWS(damaged_rows));
	tcase_add_loop_test(tc, behind_the_material, 0, KINDS);
	tcase_add_loop_test(tc, damaged_parameters, 0, KINDS);
	tcase_add_loop_test(tc, refused, 0, ROWS(refused_rows));
	tcase_set_timeout(tc, 60);
	suite_add_tcase(s, tc);
	return s;
}
