/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hostile headers: what the allow-list, the MAC and kcv refuse. Checksums are repaired,
 * so that each mutant gets as far as it can.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/container.h"
#include "crypto/luks_disk.h"
#include "tests/unit/luks_edit.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"

struct edit {
	const char *find, *replace;
};

#define SLOT(off)                                                                        \
	"{\"type\":\"luks2\",\"key_size\":64,\"af\":{\"type\":\"luks1\",\"stripes\":"    \
	"4000,"                                                                          \
	"\"hash\":\"sha256\"},\"area\":{\"type\":\"raw\",\"offset\":\"" off              \
	"\",\"size\":\"258048\",\"encryption\":\"aes-xts-plain64\",\"key_size\":64},"    \
	"\"kdf\":{\"type\":\"pbkdf2\",\"hash\":\"sha256\",\"iterations\":1000,"          \
	"\"salt\":\"f/ttzJeJPp75obALy35E1IjSw3HE189uhtDhU8qbnA0=\"}}"
#define ADD_SLOT(id, off)                                                                \
	{                                                                                \
		"{\"keyslots\":{", "{\"keyslots\":{\"" id "\":" SLOT(off) ","            \
	}
#define DIGEST_SLOTS(list)                                                               \
	{                                                                                \
		"\"keyslots\":[\"0\"],\"segments\"",                                     \
			"\"keyslots\":[" list "],\"segments\""                           \
	}
#define TOKEN(id, gen, mac)                                                              \
	"\"" id "\":{\"type\":\"vmcryptfs\",\"keyslots\":[\"0\"],\"version\":1,"         \
	"\"service\":\"default\",\"key_id\":\"other\",\"derived\":false,"                \
	"\"holes\":\"zero\",\"context\":\"\",\"generation\":" gen ","                    \
	"\"created\":\"2026-01-31T12:00:00Z\","                                          \
	"\"kcv\":\"000102030405060708090a0b0c0d0e0f\",\"mac\":\"" mac "\"}"
#define ZERO_MAC "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define ADD_TOKEN(text)                                                                  \
	{                                                                                \
		"\"tokens\":{", "\"tokens\":{" text ","                                  \
	}
#define KEY_ID "5cc9ee79-a12b-4f4b-87c7-3e7b2a5fc7b0"
#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define UNREAD "the token cannot be read"
#define LIBRARY "header refused" /* libcryptsetup, in words of its own */

/* Those that load() refuses with -EBADMSG and a line with this text. */
static const struct {
	const char *name;
	struct edit edits[2];
	const char *why;
} refuse_rows[] = {
	{"null cipher in the key slot",
	 {{"258048\",\"encryption\":\"aes-xts-plain64\"",
	   "258048\",\"encryption\":\"cipher_null-ecb\""}},
	 "is not encrypted with aes-xts"},
	{"null cipher in the segment",
	 {{"\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\"",
	   "\"iv_tweak\":\"0\",\"encryption\":\"cipher_null-ecb\""}},
	 "segment's cipher"},
	{"cbc in the segment",
	 {{"\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\"",
	   "\"iv_tweak\":\"0\",\"encryption\":\"aes-cbc-essiv:sha256\""}},
	 "segment's cipher"},
	{"argon2 key slot",
	 {{"{\"type\":\"pbkdf2\",\"hash\":\"sha256\",\"iterations\":1000,\"salt\"",
	   "{\"type\":\"argon2id\",\"time\":4,\"memory\":1048576,\"cpus\":4,\"salt\""}},
	 "not PBKDF2-SHA256"},
	{"sha1 key slot",
	 {{"{\"type\":\"pbkdf2\",\"hash\":\"sha256\"",
	   "{\"type\":\"pbkdf2\",\"hash\":\"sha1\""}},
	 "not PBKDF2-SHA256"},
	{"iterations 10^8",
	 {{"\"iterations\":1000,\"salt\"", "\"iterations\":100000000,\"salt\""}},
	 "key slot's iterations"},
	{"iterations 10^7 + 1",
	 {{"\"iterations\":1000,\"salt\"", "\"iterations\":10000001,\"salt\""}},
	 "key slot's iterations"},
	{"iterations 999",
	 {{"\"iterations\":1000,\"salt\"", "\"iterations\":999,\"salt\""}},
	 "key slot's iterations"},
	{"iterations as text",
	 {{"\"iterations\":1000,\"salt\"", "\"iterations\":\"1000\",\"salt\""}},
	 LIBRARY},
	{"digest iterations 10^9",
	 {{"\"segments\":[\"0\"],\"hash\":\"sha256\",\"iterations\":1000",
	   "\"segments\":[\"0\"],\"hash\":\"sha256\",\"iterations\":1000000000"}},
	 "digest's iterations"},
	{"digest sha1",
	 {{"\"segments\":[\"0\"],\"hash\":\"sha256\"",
	   "\"segments\":[\"0\"],\"hash\":\"sha1\""}},
	 "digest is not"},
	{"digest of no segment", {{"\"segments\":[\"0\"]", "\"segments\":[]"}}, LIBRARY},
	{"two digests",
	 {{"\"digests\":{",
	   "\"digests\":{\"1\":{\"type\":\"pbkdf2\",\"keyslots\":[],"
	   "\"segments\":[],\"hash\":\"sha256\",\"iterations\":1000,"
	   "\"salt\":\"8JbnD8wjZMLuX4xTzQByX5NCnXZR76mZu9n5ESJ/hj8=\","
	   "\"digest\":\"GrO5ZOL0XcYmdG7aQWEAezdFUMRPOzEbnP46VZ5Iy5c=\"},"}},
	 "exactly one digest"},
	{"reencryption",
	 {{"\"keyslots_size\":\"2064384\"",
	   "\"keyslots_size\":\"2064384\",\"requirements\":{\"mandatory\":[\"online-"
	   "reencrypt-v2\"]}"}},
	 LIBRARY},
	{"unknown requirement",
	 {{"\"keyslots_size\":\"2064384\"",
	   "\"keyslots_size\":\"2064384\",\"requirements\":{\"mandatory\":[\"x\"]}"}},
	 "header refused"},
	{"no requirement, but the member",
	 {{"\"keyslots_size\":\"2064384\"",
	   "\"keyslots_size\":\"2064384\",\"requirements\":{\"mandatory\":[]}"}},
	 "requirements or flags"},
	{"activation flags",
	 {{"\"keyslots_size\":\"2064384\"",
	   "\"keyslots_size\":\"2064384\",\"flags\":[\"allow-discards\"]"}},
	 "requirements or flags"},
	{"two segments",
	 {{"\"size\":\"dynamic\"", "\"size\":\"1048576\""},
	  {"\"sector_size\":4096}}",
	   "\"sector_size\":4096},\"1\":{\"type\":\"linear\",\"offset\":\"3145728\","
	   "\"size\":\"dynamic\"}}"}},
	 "exactly one segment"},
	{"a linear segment", {{"\"type\":\"crypt\"", "\"type\":\"linear\""}}, LIBRARY},
	{"segment of a fixed size",
	 {{"\"size\":\"dynamic\"", "\"size\":\"1048576\""}},
	 "not a plain crypt segment"},
	{"segment with a tweak",
	 {{"\"iv_tweak\":\"0\"", "\"iv_tweak\":\"8\""}},
	 "not a plain crypt segment"},
	{"segment with a flag",
	 {{"\"sector_size\":4096}",
	   "\"sector_size\":4096,\"flags\":[\"in-reencryption\"]}"}},
	 "segment has unknown"},
	{"segment with integrity",
	 {{"\"sector_size\":4096}",
	   "\"sector_size\":4096,\"integrity\":{\"type\":\"hmac(sha256)\","
	   "\"journal_encryption\":\"none\",\"journal_integrity\":\"none\"}}"}},
	 "segment has unknown"},
	{"sector size 1024",
	 {{"\"sector_size\":4096", "\"sector_size\":1024"}},
	 "damaged or of an unknown form"},
	{"data offset not of whole pages",
	 {{"\"offset\":\"2097152\"", "\"offset\":\"2097664\""}},
	 "damaged or of an unknown form"},
	{"data offset below 1 MiB",
	 {{"\"offset\":\"2097152\"", "\"offset\":\"524288\""}},
	 "damaged or of an unknown form"},
	{"data offset inside the key slots",
	 {{"\"offset\":\"2097152\"", "\"offset\":\"1048576\""}},
	 LIBRARY},
	{"data offset 2^63",
	 {{"\"offset\":\"2097152\"", "\"offset\":\"9223372036854775808\""}},
	 "damaged or of an unknown form"},
	{"overlapping key slots",
	 {ADD_SLOT("1", "36864"), DIGEST_SLOTS("\"0\",\"1\"")},
	 LIBRARY},
	{"key slot in the metadata",
	 {{"\"offset\":\"32768\"", "\"offset\":\"16384\""}},
	 LIBRARY},
	{"key slot in the data",
	 {{"\"offset\":\"32768\"", "\"offset\":\"2097152\""}},
	 LIBRARY},
	{"key slot area too short",
	 {{"\"size\":\"258048\"", "\"size\":\"4096\""}},
	 "header refused"},
	{"key slot outside of the digest", {ADD_SLOT("1", "294912")}, LIBRARY},
	{"unbound key slot of 32 bytes",
	 {{"\"type\":\"luks2\",\"key_size\":64", "\"type\":\"luks2\",\"key_size\":32"}},
	 "slot of 512 bits"},
	{"stripes 4001", {{"\"stripes\":4000", "\"stripes\":4001"}}, "splitter"},
	{"splitter hash",
	 {{"4000,\"hash\":\"sha256\"", "4000,\"hash\":\"sha1\""}},
	 "splitter"},
	{"key slot with a priority",
	 {{"\"key_size\":64,\"af\"", "\"key_size\":64,\"priority\":2,\"af\""}},
	 "slot of 512 bits"},
	{"key slot of another type",
	 {{"\"0\":{\"type\":\"luks2\"", "\"0\":{\"type\":\"reencrypt\""}},
	 LIBRARY},
	{"unknown top member",
	 {{"{\"keyslots\"", "{\"extra\":{},\"keyslots\""}},
	 LIBRARY},
	{"token of another type",
	 {ADD_TOKEN("\"1\":{\"type\":\"clevis\",\"keyslots\":[\"0\"]}")},
	 "token of another type"},
	{"luks2-keyring token",
	 {ADD_TOKEN("\"1\":{\"type\":\"luks2-keyring\",\"keyslots\":[\"0\"],"
		    "\"key_description\":\"x\"}")},
	 "token of another type"},
	{"no token of ours",
	 {{"\"type\":\"vmcryptfs\"", "\"type\":\"vmcryptfs9\""}},
	 "token of another type"},
	{"three tokens",
	 {ADD_TOKEN(TOKEN("1", "2", ZERO_MAC)), ADD_TOKEN(TOKEN("2", "3", ZERO_MAC))},
	 "more than two tokens"},
	{"two tokens of one generation",
	 {ADD_TOKEN(TOKEN("1", "1", ZERO_MAC))},
	 "of the same generation"},
	{"token for a slot that is not there",
	 {{"\"keyslots\":[\"0\"],\"version\"", "\"keyslots\":[\"3\"],\"version\""}},
	 LIBRARY},
	{"token for two slots",
	 {{"\"keyslots\":[\"0\"],\"version\"", "\"keyslots\":[\"0\",\"0\"],\"version\""}},
	 UNREAD},
	{"token of version 2", {{"\"version\":1", "\"version\":2"}}, UNREAD},
	{"token without a mac", {{"\"mac\":", "\"cam\":"}}, UNREAD},
	{"token with more members",
	 {{"\"version\":1", "\"version\":1,\"extra\":1"}},
	 UNREAD},
	{"key id ../x", {{KEY_ID, "../x"}}, UNREAD},
	{"key id with a newline", {{KEY_ID, "a\\nb"}}, UNREAD},
	{"key id with a leading dot", {{KEY_ID, ".x"}}, UNREAD},
	{"key id empty", {{KEY_ID, ""}}, UNREAD},
	{"key id of 513 characters",
	 {{KEY_ID, X64 X64 X64 X64 X64 X64 X64 X64 "x"}},
	 UNREAD},
	{"JSON cut off", {{"\"config\"", "\"config"}}, "damaged or of an unknown form"},
	{"JSON nested 22 deep",
	 {{"\"tokens\":{",
	   "\"tokens\":{\"1\":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]],"}},
	 LIBRARY},
	{"JSON nested 42 deep",
	 {{"\"tokens\":{", "\"tokens\":{\"1\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1"
			   "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],"}},
	 "damaged or of an unknown form"},
};

static void apply(unsigned char *hdr, const struct edit *edits, size_t cnt)
{
	for (size_t i = 0; i < cnt && edits[i].find; i++)
		ck_assert_msg(luks2_edit(hdr, edits[i].find, edits[i].replace),
			      "%s in %s", edits[i].find, luks2_json(hdr));
	luks2_repair(hdr);
}

static int file_of(const unsigned char *hdr)
{
	return made_file(hdr, 2 * CONTAINER_DATA_OFF);
}

START_TEST(refused)
{
	auto_container struct container *c = NULL;
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);
	auto_close int fd = -1;
	const char *log;

	apply(hdr, refuse_rows[_i].edits, 2);
	fd = file_of(hdr);
	made_log();
	ck_assert_msg(container_load(&c, fd, "the-image", NULL) == -EBADMSG, "%s",
		      refuse_rows[_i].name);
	log = made_log();
	ck_assert_msg(strstr(log, "err: the-image: ") && strstr(log, refuse_rows[_i].why),
		      "%s: %s", refuse_rows[_i].name, log);
	ck_assert_int_eq(container_load_saved(&c, hdr, CONTAINER_PEEK_LEN, "saved"),
			 -EBADMSG);
	ck_assert_ptr_null(c);
}
END_TEST

/* Those that look right until the secret is there. */
static const struct {
	const char *name;
	struct edit edits[3];
	vcf_err_t want;
} unlock_rows[] = {
	{"unchanged", {{NULL, NULL}}, 0},
	{"another key slot", {ADD_SLOT("1", "294912"), DIGEST_SLOTS("\"0\",\"1\"")}, 0},
	{"service", {{"\"service\":\"default\"", "\"service\":\"defaulu\""}}, -EBADMSG},
	{"key id", {{KEY_ID, "other"}}, -EBADMSG},
	{"derived", {{"\"derived\":false", "\"derived\":true"}}, -EBADMSG},
	{"holes", {{"\"holes\":\"zero\"", "\"holes\":\"none\""}}, -EBADMSG},
	{"context", {{"4a4e2f0e", "4a4e2f0f"}}, -EBADMSG},
	{"no context", {{"4a4e2f0e-5b1c-4b7e-9c53-0d5f8f3a1c11", ""}}, -EBADMSG},
	{"generation", {{"\"generation\":1", "\"generation\":2"}}, -EBADMSG},
	{"created", {{"\"created\":\"2", "\"created\":\"3"}}, -EBADMSG},
	{"sector size", {{"\"sector_size\":4096", "\"sector_size\":512"}}, -EBADMSG},
	{"data offset", {{"\"offset\":\"2097152\"", "\"offset\":\"4194304\""}}, -EBADMSG},
	{"a later token of somebody", {ADD_TOKEN(TOKEN("1", "2", ZERO_MAC))}, -EBADMSG},
	{"an earlier token", {ADD_TOKEN(TOKEN("1", "0", ZERO_MAC))}, 0},
	{"token for another slot",
	 {ADD_SLOT("1", "294912"),
	  DIGEST_SLOTS("\"0\",\"1\""),
	  {"\"keyslots\":[\"0\"],\"version\"", "\"keyslots\":[\"1\"],\"version\""}},
	 -EKEYREJECTED},
};

static vcf_err_t unlock(const unsigned char *hdr, const struct secret *secret)
{
	auto_container struct container *c = NULL;
	auto_close int fd = file_of(hdr);
	vcf_err_t err;

	ck_assert_int_eq(container_load(&c, fd, "the-image", NULL), 0);
	err = container_unlock(c, secret, "the-image");
	ck_assert(!container_volume_key(c) == !!err);
	/* The MAC alone tells the same, without the key slot. */
	if (err != -EKEYREJECTED)
		ck_assert_int_eq(container_mac_check(c, secret), err);
	return err;
}

START_TEST(unlocked)
{
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);

	apply(hdr, unlock_rows[_i].edits, 3);
	ck_assert_msg(unlock(hdr, made[MADE_LUKS2].secret) == unlock_rows[_i].want, "%s",
		      unlock_rows[_i].name);
}
END_TEST

/* Changes one character after `mark` to another of hex and base64, in both copies. */
static void flip_after(unsigned char *hdr, const char *mark)
{
	for (int copy = 0; copy < 2; copy++) {
		char *json = (char *)hdr + copy * LUKS2_HDR_LEN + LUKS2_BIN_LEN;
		char *at = strstr(json, mark);

		ck_assert_ptr_nonnull(at);
		at += strlen(mark);
		*at = *at == '7' ? '6' : '7';
	}
	luks2_repair(hdr);
}

START_TEST(flipped)
{
	static const char *const marks[] = {"\"kcv\":\"", "\"mac\":\""};
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);

	flip_after(hdr, marks[_i]);
	ck_assert_int_eq(unlock(hdr, made[MADE_LUKS2].secret), -EBADMSG);
}
END_TEST

START_TEST(other_uuid)
{
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);

	luks2_set_uuid(hdr, "01020300-0000-0000-0000-000000000001");
	luks2_repair(hdr);
	ck_assert_int_eq(unlock(hdr, made[MADE_LUKS2].secret), -EBADMSG);
}
END_TEST

/* Equal sequence numbers: the first copy counts, for us as for libcryptsetup. */
START_TEST(copies_of_two_containers)
{
	auto_container struct container *c = NULL;
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);
	auto_close int fd = -1;

	memcpy(hdr + LUKS2_HDR_LEN, made[MADE_LUKS2_512].header + LUKS2_HDR_LEN,
	       LUKS2_HDR_LEN);
	fd = file_of(hdr);
	ck_assert_int_eq(container_load(&c, fd, "the-image", NULL), 0);
	ck_assert_int_eq(container_unlock(c, made[MADE_LUKS2].secret, "the-image"), 0);
}
END_TEST

/* Puts the token of one header into another. */
static void transplant(unsigned char *hdr, const unsigned char *from)
{
	char token[TOKEN_JSON_MAX + 64], old[TOKEN_JSON_MAX + 64];
	const char *a = strstr(luks2_json(from), "\"tokens\"");
	const char *b = strstr(luks2_json(hdr), "\"tokens\"");

	snprintf(token, sizeof(token), "%.*s", (int)(strstr(a, "\"segments\"") - a), a);
	snprintf(old, sizeof(old), "%.*s", (int)(strstr(b, "\"segments\"") - b), b);
	ck_assert(luks2_edit(hdr, old, token));
	luks2_repair(hdr);
}

/*
 * Another volume key behind the same secret, uuid and token: MAC right, kcv wrong.
 * (Whoever knows the secret could make it.)
 */
START_TEST(other_volume_key)
{
	auto_container struct container *c = NULL;
	auto_free unsigned char *hdr = made_copy(MADE_TWIN);
	auto_close int fd = -1;

	transplant(hdr, made[MADE_LUKS2].header);
	fd = file_of(hdr);
	ck_assert_int_eq(container_load(&c, fd, "the-image", NULL), 0);
	ck_assert_int_eq(container_mac_check(c, made[MADE_LUKS2].secret), 0);
	made_log();
	ck_assert_int_eq(container_unlock(c, made[MADE_LUKS2].secret, "the-image"),
			 -EBADMSG);
	ck_assert_ptr_nonnull(strstr(made_log(), "volume key is not the one"));
	ck_assert_ptr_null(container_volume_key(c));
}
END_TEST

/* The attacker's key and slot under the victim's token: the secret opens no slot. */
START_TEST(attackers_slot)
{
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2_512);

	transplant(hdr, made[MADE_LUKS2].header);
	ck_assert_int_eq(unlock(hdr, made[MADE_LUKS2].secret), -EKEYREJECTED);
}
END_TEST

/* An old header has another secret: the one of today opens nothing. */
START_TEST(rolled_back)
{
	ck_assert_int_eq(unlock(made[MADE_LUKS2_512].header, made[MADE_LUKS2].secret),
			 -EKEYREJECTED);
	ck_assert_int_eq(unlock(made[MADE_LUKS1].header, made[MADE_LUKS2].secret),
			 -EKEYREJECTED);
}
END_TEST

enum {
	F_SLOT0 = offsetof(struct luks1_hdr_disk, slot),
	F_SLOT1 = F_SLOT0 + sizeof(struct luks1_slot_disk),
	F_ITERATIONS = offsetof(struct luks1_slot_disk, iterations_be),
	F_MATERIAL = offsetof(struct luks1_slot_disk, material_be),
	F_STRIPES = offsetof(struct luks1_slot_disk, stripes_be),
	F_PAYLOAD = offsetof(struct luks1_hdr_disk, payload_be),
	F_DIGEST_IT = offsetof(struct luks1_hdr_disk, digest_iterations_be),
	F_KEY_BYTES = offsetof(struct luks1_hdr_disk, key_bytes_be),
	F_CIPHER = offsetof(struct luks1_hdr_disk, cipher_name),
	F_MODE = offsetof(struct luks1_hdr_disk, cipher_mode),
	F_HASH = offsetof(struct luks1_hdr_disk, hash_spec),
	F_UUID = offsetof(struct luks1_hdr_disk, uuid),
};

/* text, or a big-endian number if that is NULL, goes to off. */
static const struct {
	const char *name;
	size_t off;
	const char *text;
	uint32_t number;
	const char *why;
} luks1_rows[] = {
	{"null cipher", F_CIPHER, "cipher_null", 0, "cipher is not"},
	{"cipher without an end", F_CIPHER, X64, 0, "header refused"},
	{"ecb", F_MODE, "ecb", 0, "cipher is not"},
	{"plain iv", F_MODE, "xts-plain", 0, "cipher is not"},
	{"sha1", F_HASH, "sha1", 0, "hash is not"},
	{"256 bits", F_KEY_BYTES, NULL, 32, "512 bits"},
	{"2^32 - 1 bytes of key", F_KEY_BYTES, NULL, UINT32_MAX, "header refused"},
	{"digest iterations", F_DIGEST_IT, NULL, 100000000, "digest's iterations"},
	{"iterations", F_SLOT0 + F_ITERATIONS, NULL, 100000000, "key slot's iterations"},
	{"few iterations", F_SLOT0 + F_ITERATIONS, NULL, 999, "key slot's iterations"},
	{"stripes", F_SLOT0 + F_STRIPES, NULL, 1, "header refused"},
	{"stripes of an unused slot", F_SLOT1 + F_STRIPES, NULL, UINT32_MAX,
	 "header refused"},
	{"state", F_SLOT1, NULL, 7, "header refused"},
	{"material in the header", F_SLOT0 + F_MATERIAL, NULL, 0, "header refused"},
	{"material over the token", F_SLOT0 + F_MATERIAL, NULL, 2, "header refused"},
	{"material in the data", F_SLOT0 + F_MATERIAL, NULL, 4096, "header refused"},
	{"material nowhere", F_SLOT0 + F_MATERIAL, NULL, UINT32_MAX, "header refused"},
	{"material over another slot's", F_SLOT0 + F_MATERIAL, NULL, 16,
	 "header refused"},
	{"payload 0", F_PAYLOAD, NULL, 0, "unknown form"},
	{"payload of half a page", F_PAYLOAD, NULL, 4097, "unknown form"},
	{"payload 2^32 - 8", F_PAYLOAD, NULL, UINT32_MAX - 7, "unknown form"},
	{"no uuid", F_UUID, "none", 0, "unknown form"},
	{"no token", LUKS1_TOKEN_OFF, "vMCRYPTF", 0, "no token"},
	{"token's length", LUKS1_TOKEN_OFF + 8, NULL, UINT32_MAX, "length is impossible"},
	{"token's length by one", LUKS1_TOKEN_OFF + 8, NULL, 0x01000000,
	 "checksum is wrong"},
	{"token's text", LUKS1_TOKEN_OFF + 14, "z", 0, "checksum is wrong"},
};

START_TEST(luks1_refused)
{
	auto_container struct container *c = NULL;
	auto_free unsigned char *hdr = made_copy(MADE_LUKS1);
	uint32_t number_be = htobe32(luks1_rows[_i].number);
	const char *text = luks1_rows[_i].text;
	auto_close int fd = -1;
	const char *log;

	if (text)
		memcpy(hdr + luks1_rows[_i].off, text, strlen(text) + 1);
	else
		memcpy(hdr + luks1_rows[_i].off, &number_be, sizeof(number_be));
	fd = file_of(hdr);
	made_log();
	ck_assert_msg(container_load(&c, fd, "the-image", NULL) == -EBADMSG, "%s",
		      luks1_rows[_i].name);
	log = made_log();
	ck_assert_msg(strstr(log, "err: the-image: ") && strstr(log, luks1_rows[_i].why),
		      "%s: %s", luks1_rows[_i].name, log);
	ck_assert_int_eq(container_load_saved(&c, hdr, CONTAINER_PEEK_LEN, "saved"),
			 -EBADMSG);
}
END_TEST

static const struct {
	struct edit edit;
	vcf_err_t load, unlock;
} luks1_token_rows[] = {
	{{"\"type\"", "\"type\""}, 0, 0},
	{{"\"default\"", "\"defaulu\""}, 0, -EBADMSG},
	{{KEY_ID, "6cc9ee79-a12b-4f4b-87c7-3e7b2a5fc7b0"}, 0, -EBADMSG},
	{{"4a4e2f0e", "4a4e2f0f"}, 0, -EBADMSG},
	{{"\"generation\":1", "\"generation\":2"}, 0, -EBADMSG},
	{{KEY_ID, "../9ee79-a12b-4f4b-87c7-3e7b2a5fc7b0"}, -EBADMSG, 0},
	{{"[\"0\"]", "[\"1\"]"}, -EBADMSG, 0},
	{{"[\"0\"]", "[\"8\"]"}, -EBADMSG, 0},
	{{"vmcryptfs", "vmcryptfz"}, -EBADMSG, 0},
};

START_TEST(luks1_token)
{
	auto_container struct container *c = NULL;
	auto_free unsigned char *hdr = made_copy(MADE_LUKS1);
	auto_close int fd = -1;

	ck_assert(luks1_edit_token(hdr, luks1_token_rows[_i].edit.find,
				   luks1_token_rows[_i].edit.replace));
	luks1_repair(hdr);
	fd = file_of(hdr);
	ck_assert_int_eq(container_load(&c, fd, "i", NULL), luks1_token_rows[_i].load);
	if (c)
		ck_assert_int_eq(container_unlock(c, made[MADE_LUKS1].secret, "i"),
				 luks1_token_rows[_i].unlock);
}
END_TEST

/* The payload may move by whole pages, but not without the MAC. */
START_TEST(luks1_payload_moved)
{
	auto_free unsigned char *hdr = made_copy(MADE_LUKS1);
	uint32_t number_be = htobe32(4096 + 8);

	memcpy(hdr + F_PAYLOAD, &number_be, sizeof(number_be));
	ck_assert_int_eq(unlock(hdr, made[MADE_LUKS1].secret), -EBADMSG);
}
END_TEST

/* After deletion the key slots are wiped: a saved header still tells its secret. */
START_TEST(saved)
{
	auto_container struct container *c = NULL;
	const struct made *m = &made[_i];

	ck_assert_int_eq(container_load_saved(&c, m->header, CONTAINER_PEEK_LEN, "saved"),
			 0);
	ck_assert_int_eq(container_mac_check(c, m->secret), 0);
	ck_assert_int_eq(container_mac_check(c, made[(_i + 1) % 3].secret), -EBADMSG);
	ck_assert_int_eq(container_unlock(c, m->secret, "saved"), -EKEYREJECTED);
	ck_assert_int_eq(container_load_saved(&c, m->header, 4096, "saved"), -EINVAL);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("container_load");
	TCase *t = tcase_create("container_load");

	tcase_add_unchecked_fixture(t, made_setup, made_teardown);
	tcase_add_loop_test(t, refused, 0, ROWS(refuse_rows));
	tcase_add_loop_test(t, unlocked, 0, ROWS(unlock_rows));
	tcase_add_loop_test(t, flipped, 0, 2);
	tcase_add_test(t, other_uuid);
	tcase_add_test(t, copies_of_two_containers);
	tcase_add_test(t, other_volume_key);
	tcase_add_test(t, attackers_slot);
	tcase_add_test(t, rolled_back);
	tcase_add_loop_test(t, luks1_refused, 0, ROWS(luks1_rows));
	tcase_add_loop_test(t, luks1_token, 0, ROWS(luks1_token_rows));
	tcase_add_test(t, luks1_payload_moved);
	tcase_add_loop_test(t, saved, 0, MADE_TWIN);
	suite_add_tcase(s, t);
	return s;
}
