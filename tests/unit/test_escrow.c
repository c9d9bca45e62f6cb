/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Secrets sealed for an offline key: the token alone, its key files, and in containers of each form,
 * right ones and such as somebody has tampered with.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/container_rekey.h"
#include "crypto/luks_disk.h"
#include "tests/unit/luks_edit.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/io.h"

static const unsigned char uuid[UUID_LEN] = "escrow's own id";
static struct secret *private_key, *other_key, *secret;
static struct escrow_public pub, other_pub;

static void setup(void)
{
	made_setup();
	ck_assert_int_eq(secret_new_random(&private_key), 0);
	ck_assert_int_eq(secret_new_random(&other_key), 0);
	ck_assert_int_eq(secret_new_random(&secret), 0);
	ck_assert_int_eq(escrow_public_of(&pub, private_key), 0);
	ck_assert_int_eq(escrow_public_of(&other_pub, other_key), 0);
}

static void teardown(void)
{
	secret_free(private_key);
	secret_free(other_key);
	secret_free(secret);
	made_teardown();
}

static struct escrow sealed(void)
{
	struct escrow e = {.keyslot = 3};

	ck_assert_int_eq(escrow_seal(&e, &pub, uuid, 7, secret), 0);
	return e;
}

START_TEST(seal_and_open)
{
	struct escrow e = sealed(), again = sealed();
	auto_secret struct secret *s = NULL;

	ck_assert_int_eq(escrow_open(&s, &e, private_key, uuid, 7), 0);
	ck_assert(secret_equal(s, secret));
	ck_assert_str_eq(e.recipient, pub.recipient);
	ck_assert_mem_ne(e.sealed, again.sealed, sizeof(e.sealed));
	ck_assert(!memmem(e.sealed, sizeof(e.sealed), secret_bytes(secret), 8));
}
END_TEST

START_TEST(not_for_this_one)
{
	const unsigned char other_uuid[UUID_LEN] = "escrow's own ie";
	struct escrow e = sealed();
	struct secret *s = NULL;

	ck_assert_int_eq(escrow_open(&s, &e, other_key, uuid, 7), -ENOKEY);
	ck_assert_int_eq(escrow_open(&s, &e, private_key, other_uuid, 7), -EBADMSG);
	ck_assert_int_eq(escrow_open(&s, &e, private_key, uuid, 8), -EBADMSG);
	memcpy(e.recipient, other_pub.recipient, sizeof(e.recipient));
	ck_assert_int_eq(escrow_open(&s, &e, other_key, uuid, 7), -EBADMSG);
	ck_assert_ptr_null(s);
}
END_TEST

START_TEST(every_bit_counts)
{
	struct secret *s = NULL;

	for (size_t i = 0; i < ESCROW_SEALED_LEN; i++) {
		struct escrow e = sealed();

		e.sealed[i] ^= (unsigned char)(1 << (i % 8));
		ck_assert_int_eq(escrow_open(&s, &e, private_key, uuid, 7), -EBADMSG);
	}
}
END_TEST

START_TEST(text_both_ways)
{
	char json[ESCROW_JSON_MAX + 1];
	struct escrow e = sealed(), got;
	ssize_t len = escrow_format(json, sizeof(json), &e);

	ck_assert_int_gt(len, 0);
	ck_assert_int_eq(escrow_parse(&got, json, (size_t)len), 0);
	ck_assert_uint_eq(got.keyslot, 3);
	ck_assert_str_eq(got.recipient, e.recipient);
	ck_assert_mem_eq(got.sealed, e.sealed, sizeof(e.sealed));
	for (ssize_t i = 0; i < len; i++)
		ck_assert_int_eq(escrow_parse(&got, json, (size_t)i), -EBADMSG);
}
END_TEST

/* Rows: what is replaced in a right token, and by what. */
static const struct {
	const char *find, *replace;
} bad_texts[] = {
	{"vmcryptfs-escrow", "vmcryptfs"},
	{"\"version\":1", "\"version\":2"},
	{"\"version\":1", "\"version\":1,\"version\":1"},
	{"\"version\":1,", ""},
	{"[\"3\"]", "[]"},
	{"[\"3\"]", "[\"3\",\"4\"]"},
	{"[\"3\"]", "[\"32\"]"},
	{"[\"3\"]", "[\"03\"]"},
	{"[\"3\"]", "[3]"},
	{"\"recipient\":\"", "\"recipient\":\"0"},
	{"\"recipient\":\"", "\"recipient\":\"G"},
	{"\"sealed\":\"", "\"sealed\":\"A"},
	{"\"sealed\":\"", "\"sealed\":\" "},
	{"}", ",\"more\":\"x\"}"},
	{"}", "} x"},
};

START_TEST(bad_text)
{
	char json[ESCROW_JSON_MAX + 64], bad[2 * sizeof(json)];
	struct escrow e = sealed(), got;
	char *at;

	ck_assert_int_gt(escrow_format(json, sizeof(json), &e), 0);
	at = strstr(json, bad_texts[_i].find);
	ck_assert_ptr_nonnull(at);
	snprintf(bad, sizeof(bad), "%.*s%s%s", (int)(at - json), json,
		 bad_texts[_i].replace, at + strlen(bad_texts[_i].find));
	ck_assert_int_eq(escrow_parse(&got, bad, strlen(bad)), -EBADMSG);
}
END_TEST

/*
 * The fixed vector of contrib/doc/format.md: private key 00 01 .. 1f, secret 20 21 .. 3f, uuid
 * 40 41 .. 4f, generation 258.
 */
START_TEST(golden)
{
	auto_secret struct secret *priv = NULL, *s = NULL;
	unsigned char id[UUID_LEN];
	struct escrow_public p;
	struct escrow e;
	char path[4096], json[ESCROW_JSON_MAX + 2];
	auto_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/tests/golden/v1-escrow.json",
		 getenv("VCF_SOURCE_ROOT") ? getenv("VCF_SOURCE_ROOT") : VCF_SOURCE_ROOT);
	ck_assert_int_eq(secret_new(&priv), 0);
	for (int i = 0; i < SECRET_LEN; i++)
		secret_bytes(priv)[i] = (unsigned char)i;
	for (int i = 0; i < UUID_LEN; i++)
		id[i] = (unsigned char)(0x40 + i);
	ck_assert_int_eq(escrow_public_of(&p, priv), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : io_pread_full(fd, json, sizeof(json), 0);
	ck_assert_int_gt(n, 1);
	ck_assert_int_eq(escrow_parse(&e, json, (size_t)n), 0);
	ck_assert_str_eq(e.recipient, p.recipient);
	ck_assert_int_eq(escrow_open(&s, &e, priv, id, 258), 0);
	for (int i = 0; i < SECRET_LEN; i++)
		ck_assert_int_eq(secret_bytes(s)[i], 0x20 + i);
}
END_TEST

START_TEST(key_files)
{
	auto_secret struct secret *s = NULL;
	struct escrow_public made_pub, got;
	char path[4096], pub_path[4200];
	struct stat st;

	snprintf(path, sizeof(path), "%s/escrow.key", unit_tmpdir());
	snprintf(pub_path, sizeof(pub_path), "%s.pub", path);
	ck_assert_int_eq(escrow_make_key(path, &made_pub), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(escrow_read_private(&s, path), 0);
	ck_assert_int_eq(escrow_public_of(&got, s), 0);
	ck_assert_str_eq(got.recipient, made_pub.recipient);
	ck_assert_int_eq(escrow_read_public(&got, pub_path), 0);
	ck_assert_mem_eq(&got, &made_pub, sizeof(got));
	ck_assert_int_eq(escrow_make_key(path, &got), -EEXIST);
	ck_assert_int_eq(escrow_read_public(&got, path), -EBADMSG);
	ck_assert_int_eq(chmod(path, 0640), 0);
	ck_assert_int_eq(escrow_read_private(&s, path), -EPERM);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(escrow_make_key(path, &got), -EEXIST);
	ck_assert_int_eq(access(path, F_OK), -1); /* nothing is left of the attempt */
}
END_TEST

/* --- in containers --- */

static int escrowed_file(int kind)
{
	auto_container struct container *c = NULL;
	struct container_params p = made[kind].params;
	int fd = unit_tmpfile();

	p.escrow = &pub;
	ck_assert_int_eq(container_format(&c, &p, &made_token, made[kind].secret), 0);
	ck_assert_int_eq(container_write_new(c, fd, NULL, NULL), 0);
	return fd;
}

static void check_escrow(const struct container *c, const struct secret *want)
{
	auto_secret struct secret *s = NULL;
	const struct token *t = container_token(c);

	ck_assert_str_eq(container_escrow(c)->recipient, pub.recipient);
	ck_assert_uint_eq(container_escrow(c)->keyslot, t->keyslot);
	ck_assert_int_eq(escrow_open(&s, container_escrow(c), private_key,
				     container_subject(c)->uuid, t->generation),
			 0);
	ck_assert(secret_equal(s, want));
}

START_TEST(container_with_escrow)
{
	auto_close int fd = escrowed_file(_i);
	auto_container struct container *c = NULL;

	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	ck_assert_int_eq(container_unlock(c, made[_i].secret, "image"), 0);
	check_escrow(c, made[_i].secret);
}
END_TEST

START_TEST(container_without)
{
	ck_assert_str_eq(container_escrow(made[_i].c)->recipient, "");
}
END_TEST

/* Rekeyed: with escrow, then without. */
START_TEST(rekeyed)
{
	auto_close int fd = escrowed_file(_i);

	for (int with = 1; with >= 0; with--) {
		auto_container struct container *c = NULL, *again = NULL;
		auto_rekey struct rekey *r = NULL;
		struct rekey_params p = {.service = "default",
					 .key_id = "new",
					 .uuid = "rekeyed",
					 .secret = secret,
					 .escrow = with ? &pub : NULL};
		enum rekey_outcome outcome;

		ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
		ck_assert_int_eq(
			container_unlock(c, with ? made[_i].secret : secret, "image"), 0);
		ck_assert_int_eq(container_rekey(&r, c, &p, "image"), 0);
		ck_assert_int_eq(container_write_rekeyed(r, fd, NULL, NULL, &outcome), 0);
		ck_assert_int_eq(container_load(&again, fd, "image", NULL), 0);
		if (with)
			check_escrow(again, secret);
		else
			ck_assert_str_eq(container_escrow(again)->recipient, "");
	}
}
END_TEST

static vcf_err_t load_edited(const char *find, const char *replace, int kind)
{
	auto_close int fd = escrowed_file(kind), edited = -1;
	auto_free unsigned char *hdr = malloc(CONTAINER_DATA_OFF);
	auto_container struct container *c = NULL;

	ck_assert_int_eq(io_pread_full(fd, hdr, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
	if (kind == MADE_LUKS1) {
		ck_assert(luks1_edit_token(hdr, find, replace));
		luks1_repair_escrow(hdr);
	} else {
		ck_assert(luks2_edit(hdr, find, replace));
		luks2_repair(hdr);
	}
	edited = made_file(hdr, CONTAINER_DATA_OFF);
	return container_load(&c, edited, "image", NULL);
}

static const struct {
	const char *find, *replace;
} bad_luks2[] = {
	{"vmcryptfs-escrow\",\"keyslots\":[\"0\"]", "vmcryptfs-escrow\",\"keyslots\":[]"},
	{"vmcryptfs-escrow", "vmcryptfs-escrou"},
	{"\"1\":{\"type\":\"vmcryptfs-escrow\"", "\"2\":{\"type\":\"vmcryptfs\""},
	{"\"recipient\":", "\"recipienT\":"},
	{"\"sealed\":\"", "\"sealed\":\"AAAA"},
	{"\"type\":\"vmcryptfs-escrow\"", "\"type\":\"vmcryptfs-escrow\",\"x\":1"},
};

START_TEST(tampered_luks2)
{
	ck_assert_int_eq(
		load_edited(bad_luks2[_i].find, bad_luks2[_i].replace, MADE_LUKS2),
		-EBADMSG);
}
END_TEST

static const struct {
	const char *find, *replace;
	vcf_err_t want;
} bad_luks1[] = {
	{"vmcryptfs-escrow", "vmcryptfs-escrou", -EBADMSG},
	{"\"recipient\":", "\"recipienT\":", -EBADMSG},
	{"-escrow\",\"keyslots\":[\"0\"]", "-escrow\",\"keyslots\":[\"1\"]", -EBADMSG},
	{"VMCRYPTE", "VMCRYPTX", 0}, /* no escrow then: as where somebody took it away */
};

START_TEST(tampered_luks1)
{
	ck_assert_int_eq(
		load_edited(bad_luks1[_i].find, bad_luks1[_i].replace, MADE_LUKS1),
		bad_luks1[_i].want);
}
END_TEST

START_TEST(luks1_checksum)
{
	auto_close int fd = escrowed_file(MADE_LUKS1);
	auto_container struct container *c = NULL;

	ck_assert_int_eq(io_pwrite_full(fd, "x", 1, LUKS1_ESCROW_OFF + 100), 0);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), -EBADMSG);
	ck_assert_int_eq(io_pwrite_full(fd, "\xff\xff\xff\xff", 4, LUKS1_ESCROW_OFF + 8),
			 0);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), -EBADMSG);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("escrow");
	TCase *tc = tcase_create("escrow");

	tcase_add_unchecked_fixture(tc, setup, teardown);
	tcase_add_test(tc, seal_and_open);
	tcase_add_test(tc, not_for_this_one);
	tcase_add_test(tc, every_bit_counts);
	tcase_add_test(tc, text_both_ways);
	tcase_add_loop_test(tc, bad_text, 0, ROWS(bad_texts));
	tcase_add_test(tc, golden);
	tcase_add_test(tc, key_files);
	tcase_add_loop_test(tc, container_with_escrow, 0, MADE_TWIN);
	tcase_add_loop_test(tc, container_without, 0, MADE_TWIN);
	tcase_add_loop_test(tc, rekeyed, 0, MADE_TWIN);
	tcase_add_loop_test(tc, tampered_luks2, 0, ROWS(bad_luks2));
	tcase_add_loop_test(tc, tampered_luks1, 0, ROWS(bad_luks1));
	tcase_add_test(tc, luks1_checksum);
	suite_add_tcase(s, tc);
	return s;
}
