/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Vectors: IEEE 1619-2007 annex B, XTS-AES-256, 10 to 14 (data units of 512 bytes; number
 * 10 whole, the others by their ends and SHA-256). The runs over more than one sector and
 * beyond 2^32 sectors were computed by python3-cryptography (OpenSSL), one data unit a
 * sector, tweak = sector * (S / 512).
 */
#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#include "crypto/secret.h"
#include "crypto/xts.h"
#include "tests/unit/unit.h"
#include "util/parse.h"

static const char key_hex[] =
	"2718281828459045235360287471352662497757247093699959574966967627"
	"3141592653589793238462643383279502884197169399375105820974944592";

static const char vector10[] =
	"1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
	"5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd"
	"5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21d4a741b0"
	"c5cd4d5fff9dac89aeba122961d03a757123e9870f8acf1000020887891429ca"
	"2a3e7a7d7df7b10355165c8b9a6d0a7de8b062c4500dc4cd120c0f7418dae3d0"
	"b5781c34803fa75421c790dfe1de1834f280d7667b327f6c8cd7557e12ac3a0f"
	"93ec05c52e0493ef31a12d3d9260f79a289d6a379bc70c50841473d1a8cc81ec"
	"583e9645e07b8d9670655ba5bbcfecc6dc3966380ad8fecb17b6ba02469a020a"
	"84e18e8f84252070c13e9f1f289be54fbc481457778f616015e1327a02b140f1"
	"505eb309326d68378f8374595c849d84f4c333ec4423885143cb47bd71c5edae"
	"9be69a2ffeceb1bec9de244fbe15992b11b77c040f12bd8f6a975a44a0f90c29"
	"a9abc3d4d893927284c58754cce294529f8614dcd2aba991925fedc4ae74ffac"
	"6e333b93eb4aff0479da9a410e4450e0dd7ae4c6e2910900575da401fc07059f"
	"645e8b7e9bfdef33943054ff84011493c27b3429eaedb4ed5376441a77ed4385"
	"1ad77f16f541dfd269d50d6a5f14fb0aab1cbb4c1550be97f7ab4066193c4caa"
	"773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151";

static struct keytable *keys;
static struct key_ref ref;
static struct xts *x;

static void setup(void)
{
	unsigned char uuid[UUID_LEN] = {1}, kcv[KCV_LEN] = {2}, key[VOLUME_KEY_LEN];
	bool hidden;

	ck_assert_int_eq(hex_decode(key, sizeof(key), key_hex, 2 * sizeof(key)), 0);
	ck_assert_int_eq(keytable_new(&keys, 4, &hidden), 0);
	ck_assert_int_eq(keytable_put(keys, uuid, kcv, key, &ref), 0);
	ck_assert_int_eq(xts_new(&x), 0);
	ck_assert_int_eq(xts_use(x, keys, ref), 0);
}

static void teardown(void)
{
	xts_free(x);
	keytable_free(keys);
}

static void ck_hex(const unsigned char *got, size_t len, const char *want)
{
	char hex[2 * 512 + 1];

	hex_encode(hex, got, len);
	ck_assert_str_eq(hex, want);
}

static void ck_sha256(const unsigned char *got, size_t len, const char *want)
{
	unsigned char md[32];

	gcry_md_hash_buffer(GCRY_MD_SHA256, md, got, len);
	ck_hex(md, sizeof(md), want);
}

enum { COUNT, MIX };

static const struct {
	int content; /* COUNT: 00 01 .. ff 00 ..; MIX: i * 7 + i / 256 */
	uint32_t sector_len;
	uint64_t sector;
	size_t cnt;
	const char *first, *last, *sha256;
} rows[] = {
	{COUNT, 512, 0xff, 1, "1c3b3a102f770386e4836c99e370cf9b",
	 "c4f36ffda9fcea70b9c6e693e148c151",
	 "e97e974fa393af794f7a4684395814cf820de60a01eaec677d87b452e316b364"},
	{COUNT, 512, 0xffff, 1, "77a31251618a15e6b92d1d66dffe7b50",
	 "a4f9e27b42af8100cb9d59cef9645803",
	 "def4fad29e95dfe1a24b1ad4620f86d7be094cced5b19e0b121aa82d9e6baf98"},
	{COUNT, 512, 0xffffff, 1, "e387aaa58ba483afa7e8eb469778317e",
	 "2263a1eef52dd6888c309f5a7d712826",
	 "8bf44861a081dd660d91ce615b5cdfb4d5df9d72c3025c12e67cc0ae097fa5d5"},
	{COUNT, 512, 0xffffffff, 1, "bf53d2dade78e822a4d949a9bc6766b0",
	 "4c82f335abb152c4a93411373aaa8220",
	 "c706140a11affda7402234f5e6331eacbfeb687d8e80d83962691823bb3636f0"},
	{COUNT, 512, 0xffffffffff, 1, "64497e5a831e4a932c09be3e5393376d",
	 "d609d273ad5b0d59631c531f6a0a57b9",
	 "afba71abc4e95b186d89a63a5437c1bafcfd1a18ca273970c534aba4f8d05282"},
	{MIX, 512, 0, 3, "a713e6493c9e1db208b29de59a0b3a0b",
	 "2ee5fc880790a3a04f4ab0f8f000cf30",
	 "8f1a9539f263970d0950ea358435109582c02577010be0249d1b21ecba20af6e"},
	{MIX, 4096, 0, 3, "a713e6493c9e1db208b29de59a0b3a0b",
	 "c0682ae649c582e398984b5d028e054e",
	 "242e1f2a1f828e5a22cfa2df4abd2b292f6ad438f0d3d4478bedf1ca06e32804"},
	{MIX, 512, 0xffffffff, 3, "61756d7358dbe0e5ad4cba4ea738b54e",
	 "9b3f74545f426b19b9b9bbf1756ee56e",
	 "4e143daaab5b0d4f3a9e29d4de7a3c77fb180b3f6dce9656661e604a2e90db8c"},
	/* the tweak, 8 * sector, passes 2^32 */
	{MIX, 4096, 0x1fffffff, 3, "6c4fa7ce39e16ecf02254543125fde4e",
	 "6f9a93d7839ddf0dbf8fb71477cb59cb",
	 "ae0dfdffed1defe775547dda80a0c55adfade783b60560c244869e6d155440c1"},
	{MIX, 4096, 0xffffffff, 3, "8334c0d4feceb7f34aeb1005d777f5f4",
	 "aa04a211f0a0aa11d306bf50dde4526f",
	 "53ba0f12a545bf223e289c9841b09cd360e678762e44578ffe29b2587b9d703a"},
	{MIX, 4096, 0x10000000005, 2, "41767490f9684870dafa2843490ed198",
	 "c6983640a938f0cc59f340f4a7c9cef5",
	 "f9df6221d96944ba62e264ca10a7c89c117bab8c672f0dac693d076accdde170"},
};

START_TEST(vectors)
{
	static unsigned char plain[3 * 4096], got[3 * 4096];
	uint32_t sector_len = rows[_i].sector_len;
	size_t len = rows[_i].cnt * sector_len;

	for (size_t i = 0; i < len; i++)
		plain[i] =
			(unsigned char)(rows[_i].content == COUNT ? i : i * 7 + (i >> 8));
	ck_assert_int_eq(xts_encrypt(x, got, plain, len, sector_len, rows[_i].sector), 0);
	ck_hex(got, 16, rows[_i].first);
	ck_hex(got + len - 16, 16, rows[_i].last);
	ck_sha256(got, len, rows[_i].sha256);
	ck_assert_int_eq(xts_decrypt(x, got, got, len, sector_len, rows[_i].sector), 0);
	ck_assert_mem_eq(got, plain, len);
	/* in place */
	ck_assert_int_eq(xts_encrypt(x, got, got, len, sector_len, rows[_i].sector), 0);
	ck_sha256(got, len, rows[_i].sha256);
}
END_TEST

START_TEST(vector10_whole)
{
	unsigned char buf[512];

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (unsigned char)i;
	ck_assert_int_eq(xts_encrypt(x, buf, buf, sizeof(buf), 512, 0xff), 0);
	ck_hex(buf, sizeof(buf), vector10);
}
END_TEST

static const struct {
	size_t len;
	uint32_t sector_len;
	int err;
} length_rows[] = {
	{0, 512, 0},	      {512, 512, 0},	     {511, 512, -EINVAL},
	{512, 4096, -EINVAL}, {1024, 1024, -EINVAL}, {512, 0, -EINVAL},
};

START_TEST(lengths)
{
	unsigned char buf[4096] = {0};

	ck_assert_int_eq(xts_encrypt(x, buf, buf, length_rows[_i].len,
				     length_rows[_i].sector_len, 0),
			 length_rows[_i].err);
	ck_assert_int_eq(xts_decrypt(x, buf, buf, length_rows[_i].len,
				     length_rows[_i].sector_len, 0),
			 length_rows[_i].err);
}
END_TEST

/* A handle follows its records: another key, a forgotten one, a deleted one. */
START_TEST(keys_change)
{
	unsigned char a[512] = {0}, b[512] = {0}, c[512] = {0};
	unsigned char uuid[UUID_LEN] = {9}, kcv[KCV_LEN] = {9}, key[VOLUME_KEY_LEN];
	struct key_ref other;

	ck_assert_int_eq(xts_encrypt(x, a, a, 512, 512, 0), 0);
	secret_random(key, sizeof(key));
	ck_assert_int_eq(keytable_put(keys, uuid, kcv, key, &other), 0);
	ck_assert_int_eq(xts_use(x, keys, other), 0);
	ck_assert_int_eq(xts_encrypt(x, b, b, 512, 512, 0), 0);
	ck_assert(memcmp(a, b, 512) != 0);
	ck_assert_int_eq(xts_use(x, keys, ref), 0);
	ck_assert_int_eq(xts_encrypt(x, c, c, 512, 512, 0), 0);
	ck_assert_mem_eq(a, c, 512);
	xts_forget(x);
	ck_assert_int_eq(xts_encrypt(x, c, c, 512, 512, 0), -ENOKEY);
	ck_assert_int_eq(xts_use(x, keys, ref), 0);
	keytable_del(keys, ref);
	ck_assert_int_eq(xts_use(x, keys, ref), -ENOKEY);
	ck_assert_int_eq(xts_decrypt(x, c, c, 512, 512, 0), -ENOKEY);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("xts");
	TCase *t = tcase_create("xts");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, vectors, 0, ROWS(rows));
	tcase_add_test(t, vector10_whole);
	tcase_add_loop_test(t, lengths, 0, ROWS(length_rows));
	tcase_add_test(t, keys_change);
	suite_add_tcase(s, t);
	return s;
}
