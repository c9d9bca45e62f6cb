/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Containers made by libcryptsetup as cryptsetup makes them become ours, and each state that a crash
 * may leave of it opens as the one or the other, with the same volume key.
 */
#include <errno.h>
#include <libcryptsetup.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "crypto/container_adopt.h"
#include "crypto/luks_disk.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/io.h"

enum { MIB = 1 << 20, PAGE = 4096 };

static const struct form {
	const char *name, *type, *cipher, *mode;
	size_t key_len;
	uint32_t sector_len;
	uint64_t data_off;
	bool raw, argon;
	const char *why; /* NULL: it may be adopted */
} forms[] = {
	{"LUKS2, S = 4096", CRYPT_LUKS2, "aes", "xts-plain64", 64, 4096, 16 * MIB, false,
	 true, NULL},
	{"LUKS2, S = 512", CRYPT_LUKS2, "aes", "xts-plain64", 64, 512, 4 * MIB, true,
	 false, NULL},
	{"LUKS1", CRYPT_LUKS1, "aes", "xts-plain64", 64, 512, 2 * MIB, false, false,
	 NULL},
	/* qemu-img's: no room behind its slots */
	{"LUKS1, tight", CRYPT_LUKS1, "aes", "xts-plain64", 64, 512, 505 * PAGE, false,
	 false, NULL},
	{"CBC", CRYPT_LUKS2, "aes", "cbc-essiv:sha256", 32, 512, 16 * MIB, false, false,
	 "not XTS"},
	{"AES-128", CRYPT_LUKS2, "aes", "xts-plain64", 32, 512, 16 * MIB, false, false,
	 "not of 512 bits"},
	{"S = 2048", CRYPT_LUKS2, "aes", "xts-plain64", 64, 2048, 16 * MIB, false, false,
	 "neither 512 nor 4096"},
	{"detached", CRYPT_LUKS2, "aes", "xts-plain64", 64, 512, 0, false, false,
	 "another file"},
};
enum { GOOD_FORMS = 4 };

static struct secret *old_secret, *new_secret;
static unsigned char volume_key[VOLUME_KEY_LEN];
static const unsigned char new_uuid[UUID_LEN] = "another secret.";

static void setup(void)
{
	made_setup();
	ck_assert_int_eq(secret_new_random(&old_secret), 0);
	ck_assert_int_eq(secret_new_random(&new_secret), 0);
	secret_random(volume_key, sizeof(volume_key));
}

static void teardown(void)
{
	secret_free(old_secret);
	secret_free(new_secret);
	made_teardown();
}

/* Also of the digest: without it the library measures this machine, for a second each. */
static void set_kdf(struct crypt_device *cd, bool argon)
{
	struct crypt_pbkdf_type kdf = {.type = CRYPT_KDF_PBKDF2,
				       .hash = "sha256",
				       .iterations = 1000,
				       .flags = CRYPT_PBKDF_NO_BENCHMARK};

	if (argon) {
		kdf.type = CRYPT_KDF_ARGON2ID;
		kdf.iterations = 4;
		kdf.max_memory_kb = 32 * 1024;
		kdf.parallel_threads = 1;
	}
	ck_assert_int_eq(crypt_set_pbkdf_type(cd, &kdf), 0);
}

static void add_passphrase(struct crypt_device *cd, const struct form *f)
{
	char hex[SECRET_HEX_LEN + 1];

	set_kdf(cd, f->argon);
	secret_hex(old_secret, hex);
	if (f->raw)
		ck_assert_int_ge(crypt_keyslot_add_by_volume_key(
					 cd, CRYPT_ANY_SLOT, NULL, f->key_len,
					 (char *)secret_bytes(old_secret), SECRET_LEN),
				 0);
	else
		ck_assert_int_ge(crypt_keyslot_add_by_volume_key(cd, CRYPT_ANY_SLOT, NULL,
								 f->key_len, hex,
								 SECRET_HEX_LEN),
				 0);
}

static int format(struct crypt_device *cd, const struct form *f)
{
	struct crypt_params_luks1 one = {.hash = "sha256"};
	struct crypt_params_luks2 two = {.sector_size = f->sector_len};

	if (f->data_off)
		ck_assert_int_eq(crypt_set_data_offset(cd, f->data_off / LUKS_SECTOR_LEN),
				 0);
	return crypt_format(
		cd, f->type, f->cipher, f->mode, NULL, (char *)volume_key, f->key_len,
		strcmp(f->type, CRYPT_LUKS1) == 0 ? (void *)&one : (void *)&two);
}

/* A file of a header and 1 MiB of data. */
static int foreign_file(const struct form *f)
{
	auto_close int data = unit_tmpfile();
	int fd = unit_tmpfile();
	struct crypt_device *cd;
	char path[64], other[64];

	ck_assert_int_eq(
		ftruncate(fd, (off_t)(f->data_off ? f->data_off : 16 * MIB) + MIB), 0);
	ck_assert_int_eq(ftruncate(data, 16 * MIB), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	snprintf(other, sizeof(other), "/proc/self/fd/%d", data);
	ck_assert_int_eq(crypt_init_data_device(&cd, path, f->data_off ? NULL : other),
			 0);
	set_kdf(cd, false);
	ck_assert_msg(format(cd, f) >= 0, "%s: %s", f->name, made_log());
	add_passphrase(cd, f);
	crypt_free(cd);
	return fd;
}

static struct container *load(int fd)
{
	struct container *c;
	const char *why = "";
	vcf_err_t err = container_load_foreign(&c, fd, &why);

	ck_assert_msg(!err, "%s: %s", strerror(-err), why);
	return c;
}

static struct rekey *adopt(struct container *c, enum token_holes holes)
{
	struct rekey_params p = {.service = "default",
				 .key_id = "new-key-id",
				 .context = "",
				 .secret = new_secret};
	struct rekey *r;

	memcpy(p.uuid, new_uuid, UUID_LEN);
	ck_assert_int_eq(container_unlock_foreign(c, old_secret), 0);
	ck_assert_msg(container_adopt(&r, c, &p, holes, "image") == 0, "%s", made_log());
	return r;
}

/* True: ours, with the new secret; false: the foreign one as it was. */
static bool is_adopted(int fd)
{
	auto_container struct container *c = NULL;

	if (container_load(&c, fd, NULL, NULL)) {
		c = load(fd);
		ck_assert_int_eq(container_unlock_foreign(c, old_secret), 0);
	} else {
		ck_assert_int_eq(container_unlock(c, new_secret, "image"), 0);
	}
	ck_assert_mem_eq(container_volume_key(c), volume_key, VOLUME_KEY_LEN);
	return container_token(c)->service[0] != '\0';
}

START_TEST(adopted)
{
	const struct form *f = &forms[_i];
	auto_close int fd = foreign_file(f);
	auto_container struct container *c = load(fd), *now = NULL;
	auto_rekey struct rekey *r = adopt(c, HOLES_NONE);
	enum rekey_outcome outcome;
	struct foreign_extent e;
	const char *why;
	bool found;

	ck_assert_int_eq(container_write_rekeyed(r, fd, NULL, NULL, &outcome), 0);
	ck_assert_int_eq(outcome, REKEY_NEW);
	ck_assert_int_eq(container_wipe_unused(c, fd, &found), 0);
	ck_assert(found);
	ck_assert(is_adopted(fd));
	ck_assert_int_eq(container_load(&now, fd, "image", NULL), 0);
	ck_assert_uint_eq(container_subject(now)->data_off, f->data_off);
	ck_assert_uint_eq(container_subject(now)->sector_len, f->sector_len);
	ck_assert_int_eq(container_token(now)->holes, HOLES_NONE);
	ck_assert_uint_eq(container_token(now)->generation, 2);
	ck_assert(!container_has_unused(now));
	container_foreign_extent(now, &e);
	ck_assert_uint_eq(e.slots, 1);
	/* once is enough */
	container_free(STEAL_PTR(&now));
	ck_assert_int_eq(container_load_foreign(&now, fd, &why), -EEXIST);
}
END_TEST

/* Neither hex text nor raw bytes of another secret open it. */
START_TEST(wrong_secret)
{
	auto_close int fd = foreign_file(&forms[_i]);
	auto_container struct container *c = load(fd);

	ck_assert_int_eq(container_unlock_foreign(c, new_secret), -EKEYREJECTED);
	ck_assert_ptr_null(container_volume_key(c));
}
END_TEST

START_TEST(refused)
{
	const struct form *f = &forms[_i];
	auto_close int fd = foreign_file(f);
	struct container *c = NULL;
	const char *why = "";

	ck_assert_int_eq(container_load_foreign(&c, fd, &why), -EBADMSG);
	ck_assert_msg(strstr(why, f->why) != NULL, "%s: %s", f->name, why);
	ck_assert_ptr_null(c);
}
END_TEST

START_TEST(no_container)
{
	auto_close int fd = unit_tmpfile();
	struct container *c = NULL;
	const char *why = "";

	ck_assert_int_eq(ftruncate(fd, 4 * MIB), 0);
	ck_assert_int_eq(container_load_foreign(&c, fd, &why), -EPERM);
}
END_TEST

/* --- crashes --- */

struct step {
	unsigned char *bytes; /* NULL: a sync */
	size_t len;
	uint64_t off;
};

struct record {
	struct step steps[16];
	int cnt;
};

static vcf_err_t record_write(void *arg, const void *buf, size_t len, uint64_t off)
{
	struct record *rec = arg;

	ck_assert_int_lt(rec->cnt, ROWS(rec->steps));
	rec->steps[rec->cnt] = (struct step){malloc(len), len, off};
	memcpy(rec->steps[rec->cnt++].bytes, buf, len);
	return 0;
}

static vcf_err_t record_sync(void *arg)
{
	return 0;
}

static void record_punch(void *arg, uint64_t off, uint64_t len)
{
	/* what was kept of LUKS1's page: nobody needs it any more */
}

/*
 * Each write that was not synced yet is the last one: all before it are there, and of it any number
 * of sectors from its start, or to its end.
 */
START_TEST(crash)
{
	auto_close int fd = foreign_file(&forms[_i]);
	auto_container struct container *c = load(fd);
	auto_rekey struct rekey *r = adopt(c, HOLES_ZERO);
	struct record rec = {.cnt = 0};
	struct rekey_io io = {record_write, record_sync, record_punch, &rec};
	enum rekey_outcome outcome;
	bool before = false, after = false;

	ck_assert_int_eq(container_rekey_replay(r, &io, NULL, NULL, &outcome), 0);
	for (int i = 0; i < rec.cnt; i++) {
		const struct step *s = &rec.steps[i];
		size_t pieces = s->len / LUKS_SECTOR_LEN,
		       step = pieces > 8 ? pieces / 3 : 1;
		auto_free unsigned char *was = malloc(s->len);

		ck_assert_int_ge(io_pread_full(fd, was, s->len, (off_t)s->off), 0);
		for (size_t k = 0; k <= pieces; k += step) {
			size_t cut = k * LUKS_SECTOR_LEN;

			for (int head = 0; head < 2; head++) {
				size_t from = head ? 0 : cut, to = head ? cut : s->len;

				ck_assert_int_eq(
					io_pwrite_full(fd, was, s->len, (off_t)s->off),
					0);
				ck_assert_int_eq(io_pwrite_full(fd, s->bytes + from,
								to - from,
								(off_t)(s->off + from)),
						 0);
				*(is_adopted(fd) ? &after : &before) = true;
			}
		}
		ck_assert_int_eq(io_pwrite_full(fd, s->bytes, s->len, (off_t)s->off), 0);
		free(s->bytes);
	}
	ck_assert(before);
	ck_assert(after);
	ck_assert(is_adopted(fd));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("container_adopt");
	TCase *tc = tcase_create("container_adopt");

	tcase_add_unchecked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, adopted, 0, GOOD_FORMS);
	tcase_add_loop_test(tc, wrong_secret, 0, GOOD_FORMS);
	tcase_add_loop_test(tc, refused, GOOD_FORMS, ROWS(forms));
	tcase_add_test(tc, no_container);
	tcase_add_loop_test(tc, crash, 1, 3);
	suite_add_tcase(s, tc);
	return s;
}
