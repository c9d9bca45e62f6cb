/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Vectors: RFC 4231 (HMAC-SHA256), RFC 5869 appendix A (HKDF-SHA256). */
#include <string.h>

#include "crypto/kdf.h"
#include "crypto/secret.h"
#include "tests/unit/unit.h"
#include "util/parse.h"

static size_t unhex(unsigned char *dst, const char *hex)
{
	size_t len = strlen(hex) / 2;

	ck_assert_int_eq(hex_decode(dst, len, hex, 2 * len), 0);
	return len;
}

static const struct {
	const char *key, *data, *mac;
} hmac_rows[] = {
	{"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
	 "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
	{"4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
	 "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
};

START_TEST(hmac_vectors)
{
	unsigned char key[64], data[64], mac[KDF_LEN];
	char hex[2 * KDF_LEN + 1];
	size_t key_len = unhex(key, hmac_rows[_i].key);
	size_t len = unhex(data, hmac_rows[_i].data);

	ck_assert_int_eq(hmac_sha256(mac, key, key_len, data, len), 0);
	hex_encode(hex, mac, sizeof(mac));
	ck_assert_str_eq(hex, hmac_rows[_i].mac);
}
END_TEST

static const struct {
	const char *ikm, *salt, *info, *okm;
} hkdf_rows[] = {
	{"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
	 "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9",
	 "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b8871"
	 "85865"},
	{"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
	 "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61"
	 "a96c8"},
};

START_TEST(hkdf_vectors)
{
	unsigned char ikm[64], salt[64], okm[64];
	char hex[129];
	size_t ikm_len = unhex(ikm, hkdf_rows[_i].ikm);
	size_t salt_len = unhex(salt, hkdf_rows[_i].salt);
	size_t len = strlen(hkdf_rows[_i].okm) / 2;

	ck_assert_int_eq(
		hkdf_sha256(okm, len, ikm, ikm_len, salt, salt_len, hkdf_rows[_i].info),
		0);
	hex_encode(hex, okm, len);
	ck_assert_str_eq(hex, hkdf_rows[_i].okm);
}
END_TEST

START_TEST(secrets)
{
	auto_secret struct secret *a = NULL;
	auto_secret struct secret *b = NULL;
	char hex[SECRET_HEX_LEN + 1];

	ck_assert_int_eq(secret_new_random(&a), 0);
	secret_hex(a, hex);
	ck_assert_int_eq(secret_new_hex(&b, hex, SECRET_HEX_LEN), 0);
	ck_assert(secret_equal(a, b));
	secret_bytes(b)[31] ^= 1;
	ck_assert(!secret_equal(a, b));
	hex[0] = 'A';
	ck_assert_int_eq(secret_new_hex(&b, hex, SECRET_HEX_LEN), -EINVAL);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("kdf");
	TCase *t = tcase_create("kdf");

	tcase_add_loop_test(t, hmac_vectors, 0, ROWS(hmac_rows));
	tcase_add_loop_test(t, hkdf_vectors, 0, ROWS(hkdf_rows));
	tcase_add_test(t, secrets);
	suite_add_tcase(s, t);
	return s;
}
