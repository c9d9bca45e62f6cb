/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Containers made, written, torn, mended, and shown to the real cryptsetup. The refusal
 * tables are in test_container_load.c.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "crypto/container.h"
#include "crypto/container_parts.h"
#include "crypto/luks_disk.h"
#include "tests/unit/luks_edit.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/io.h"
#include "util/log.h"

START_TEST(round_trip)
{
	auto_container struct container *c = NULL;
	const struct made *m = &made[_i];
	auto_close int fd = made_file(m->header, CONTAINER_DATA_OFF);
	bool mended = true;

	ck_assert_int_eq(container_load(&c, fd, "image", &mended), 0);
	ck_assert(!mended);
	ck_assert_int_eq(container_subject(c)->format, m->params.format);
	ck_assert_uint_eq(container_subject(c)->sector_len, m->params.sector_len);
	ck_assert_uint_eq(container_subject(c)->data_off, CONTAINER_DATA_OFF);
	ck_assert_mem_eq(container_subject(c)->uuid, m->params.uuid, UUID_LEN);
	ck_assert_str_eq(container_token(c)->key_id, made_token.key_id);
	ck_assert_str_eq(container_token(c)->context, made_token.context);
	ck_assert_ptr_null(container_volume_key(c));
	ck_assert_int_eq(container_unlock(c, m->secret, "image"), 0);
	ck_assert_mem_eq(container_volume_key(c), container_volume_key(m->c),
			 VOLUME_KEY_LEN);
}
END_TEST

START_TEST(wrong_secret)
{
	auto_container struct container *c = NULL;
	const struct secret *other = made[(_i + 1) % MADE_TWIN].secret;
	auto_close int fd = made_file(made[_i].header, CONTAINER_DATA_OFF);

	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	ck_assert_int_eq(container_unlock(c, made[_i].secret, "image"), 0);
	made_log();
	ck_assert_int_eq(container_unlock(c, other, "image"), -EKEYREJECTED);
	ck_assert_ptr_nonnull(strstr(made_log(), "err: image: "));
	ck_assert_ptr_null(container_volume_key(c));
}
END_TEST

/* As one opens an image: without a copy of the header while the secret is fetched. */
START_TEST(unlock_file)
{
	auto_container struct container *c = NULL;
	const struct made *m = &made[_i];
	const struct secret *other = made[(_i + 1) % MADE_TWIN].secret;
	auto_close int fd = made_file(m->header, CONTAINER_DATA_OFF);

	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	container_drop_header(c);
	container_drop_header(c);
	ck_assert_int_eq(container_unlock(c, m->secret, "image"), -EINVAL);
	ck_assert_int_eq(container_mac_check(c, m->secret), 0);
	made_log();
	ck_assert_int_eq(container_unlock_file(c, fd, other, NULL), -EKEYREJECTED);
	ck_assert_str_eq(made_log(), "");
	ck_assert_int_eq(container_unlock_file(c, fd, other, "image"), -EKEYREJECTED);
	ck_assert_ptr_nonnull(strstr(made_log(), "err: image: "));
	ck_assert_ptr_null(container_volume_key(c));
	ck_assert_int_eq(container_unlock_file(c, fd, m->secret, "image"), 0);
	ck_assert_mem_eq(container_volume_key(c), container_volume_key(m->c),
			 VOLUME_KEY_LEN);
	ck_assert_str_eq(container_token(c)->key_id, made_token.key_id);
}
END_TEST

/* The file has lost its key slot meanwhile, or its end. */
START_TEST(unlock_changed_file)
{
	auto_container struct container *c = NULL;
	const struct made *m = &made[_i];
	auto_close int fd = made_file(m->header, CONTAINER_DATA_OFF);
	static const char zeros[512 * 1024];

	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	container_drop_header(c);
	ck_assert_int_eq(ftruncate(fd, 128 * 1024), 0);
	ck_assert_int_eq(container_unlock_file(c, fd, m->secret, "image"), -EIO);
	ck_assert_int_eq(io_pwrite_full(fd, zeros, sizeof(zeros), 0), 0);
	ck_assert_int_eq(container_unlock_file(c, fd, m->secret, "image"), -EKEYREJECTED);
	ck_assert_ptr_null(container_volume_key(c));
	made_log();
}
END_TEST

START_TEST(bad_parameters)
{
	static const struct container_params bad[] = {
		{FORMAT_LUKS1, 4096, {1}},	 {FORMAT_LUKS2, 1024, {1}},
		{FORMAT_LUKS2, 0, {1}},		 {FORMAT_LUKS2, 4096, {0}},
		{(enum luks_format)7, 512, {1}},
	};
	struct container *c = NULL;
	struct token t = made_token;

	for (int i = 0; i < ROWS(bad); i++)
		ck_assert_int_eq(container_format(&c, &bad[i], &t, made[0].secret),
				 -EINVAL);
	strcpy(t.key_id, "../x");
	ck_assert_int_eq(container_format(&c, &made[0].params, &t, made[0].secret),
			 -EINVAL);
	ck_assert_ptr_null(c);
}
END_TEST

/* Two containers of one secret and uuid have nothing else in common. */
START_TEST(keys_are_random)
{
	const unsigned char *a = container_volume_key(made[MADE_LUKS2].c);
	const unsigned char *b = container_volume_key(made[MADE_TWIN].c);

	ck_assert_mem_ne(a, b, VOLUME_KEY_LEN);
	ck_assert_mem_ne(a, a + VOLUME_KEY_LEN / 2, VOLUME_KEY_LEN / 2);
}
END_TEST

START_TEST(header_is_sparse)
{
	auto_close int fd = unit_tmpfile();
	struct stat st;

	ck_assert_int_eq(container_write_new(made[_i].c, fd, NULL, NULL), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, CONTAINER_DATA_OFF);
	ck_assert_int_le(st.st_blocks * 512, 320 * 1024);
}
END_TEST

/* What a crash just before the magic leaves behind. */
static vcf_err_t expect_unfinished(void *arg)
{
	struct container *c = NULL;
	int fd = *(int *)arg;
	struct peek peek;
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, CONTAINER_DATA_OFF);
	ck_assert_int_eq(size_peek_fd(&peek, fd, CONTAINER_DATA_OFF), 0);
	ck_assert_int_eq(peek.kind, PEEK_EMPTY);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), -ENODATA);
	return 0;
}

START_TEST(before_magic_is_called_in_time)
{
	auto_container struct container *c = NULL;
	auto_close int fd = unit_tmpfile();

	ck_assert_int_eq(container_write_new(made[_i].c, fd, expect_unfinished, &fd), 0);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
}
END_TEST

static vcf_err_t fail_with_enospc(void *arg)
{
	return -ENOSPC;
}

START_TEST(failed_creation_leaves_nothing)
{
	auto_close int fd = unit_tmpfile();
	struct stat st;

	ck_assert_int_eq(container_write_new(made[_i].c, fd, fail_with_enospc, NULL),
			 -ENOSPC);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
}
END_TEST

/* A crashed creation's noise must not shine through the pages that are skipped. */
START_TEST(unfinished_creation_is_replaced)
{
	auto_close int fd = unit_tmpfile();
	auto_free unsigned char *now = malloc(CONTAINER_DATA_OFF);
	char noise[4096];

	memset(noise, 0x5a, sizeof(noise));
	ck_assert_int_eq(
		io_pwrite_full(fd, noise, sizeof(noise), CONTAINER_DATA_OFF - 4096), 0);
	ck_assert_int_eq(container_write_new(made[_i].c, fd, NULL, NULL), 0);
	ck_assert_int_eq(io_pread_full(fd, now, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
	ck_assert_mem_eq(now, made[_i].header, CONTAINER_DATA_OFF);
}
END_TEST

/* A file in a device's place: fixed size, data of somebody else's behind the header. */
static int device_file(void)
{
	int fd = unit_tmpfile();

	ck_assert_int_eq(ftruncate(fd, 2 * CONTAINER_DATA_OFF), 0);
	ck_assert_int_eq(io_pwrite_full(fd, "old", 3, CONTAINER_DATA_OFF), 0);
	return fd;
}

static enum peek_kind device_kind(int fd)
{
	struct peek peek;

	ck_assert_int_eq(size_peek_device(&peek, fd, 2 * CONTAINER_DATA_OFF), 0);
	return peek.kind;
}

static vcf_err_t expect_unfinished_device(void *arg)
{
	ck_assert_int_eq(device_kind(*(int *)arg), PEEK_EMPTY);
	return 0;
}

START_TEST(device_creation)
{
	auto_container struct container *c = NULL;
	auto_free unsigned char *now = malloc(CONTAINER_DATA_OFF);
	auto_close int fd = device_file();
	char old[3];

	/* One that was cut short before leaves remains. */
	ck_assert_int_eq(container_write_device(made[_i].c, fd, fail_with_enospc, NULL),
			 -ENOSPC);
	ck_assert_int_eq(device_kind(fd), PEEK_EMPTY);
	ck_assert_int_eq(io_pread_full(fd, now, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
	ck_assert(io_is_zero(now, CONTAINER_DATA_OFF));
	ck_assert_int_eq(io_pwrite_full(fd, CREATION_MARK, sizeof(CREATION_MARK), 0), 0);
	ck_assert_int_eq(io_pwrite_full(fd, "remains", 7, CONTAINER_DATA_OFF - 4096), 0);
	ck_assert_int_eq(
		container_write_device(made[_i].c, fd, expect_unfinished_device, &fd), 0);
	ck_assert_int_eq(device_kind(fd), PEEK_CONTAINER);
	ck_assert_int_eq(io_pread_full(fd, now, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
	ck_assert_mem_eq(now, made[_i].header, CONTAINER_DATA_OFF);
	ck_assert_int_eq(container_load(&c, fd, "device", NULL), 0);
	ck_assert_int_eq(io_pread_full(fd, old, 3, CONTAINER_DATA_OFF), 3);
	ck_assert_mem_eq(old, "old", 3);
	ck_assert_int_eq(container_write_device(made[_i].c, fd, NULL, NULL), -EEXIST);
	/* The first page of a new volume is zeroed, an old container's second copy is still there. */
	memset(now, 0, 4096);
	ck_assert_int_eq(io_pwrite_full(fd, now, 4096, 0), 0);
	ck_assert_int_eq(device_kind(fd), PEEK_PLAINTEXT);
	ck_assert_int_eq(container_write_device(made[_i].c, fd, NULL, NULL), -EEXIST);
}
END_TEST

START_TEST(data_is_never_overwritten)
{
	auto_close int fd = unit_tmpfile();
	auto_close int second = made_file(made[MADE_LUKS1].header, CONTAINER_DATA_OFF);
	char text[8] = "";

	ck_assert_int_eq(io_pwrite_full(fd, "precious", 8, 0), 0);
	ck_assert_int_eq(container_write_new(made[0].c, fd, NULL, NULL), -EEXIST);
	ck_assert_int_eq(io_pread_full(fd, text, 8, 0), 8);
	ck_assert_mem_eq(text, "precious", 8);
	ck_assert_int_eq(container_write_new(made[0].c, second, NULL, NULL), -EEXIST);
}
END_TEST

/*
 * The stages of container_write_new(), cut short. Rows: the file's size, the range that
 * is written (from, to), and what the file reads as.
 */
static const struct {
	uint64_t size;
	size_t from, to;
	vcf_err_t want;
} torn_rows[] = {
	{0, 0, 0, -ENODATA},
	{CONTAINER_DATA_OFF, 0, 0, -ENODATA},
	{CONTAINER_DATA_OFF, 4096, 8192, -ENODATA},
	{CONTAINER_DATA_OFF, 4096, 16384 + 512, -ENODATA},
	{CONTAINER_DATA_OFF, 4096, 100000, -ENODATA},
	{CONTAINER_DATA_OFF, 8192, CONTAINER_DATA_OFF, -ENODATA},
	{CONTAINER_DATA_OFF, 4096, CONTAINER_DATA_OFF, -ENODATA},
	{CONTAINER_DATA_OFF, 0, CONTAINER_DATA_OFF, 0},
	{2 * CONTAINER_DATA_OFF, 0, CONTAINER_DATA_OFF, 0},
	/* Not our doing: */
	{CONTAINER_DATA_OFF - 1, 0, CONTAINER_DATA_OFF - 1, -EBADMSG},
	{4096, 0, 4096, -EBADMSG},
	{512, 0, 512, -EBADMSG},
};

START_TEST(torn_creation)
{
	auto_container struct container *c = NULL;
	const struct made *m = &made[_i % MADE_TWIN];
	int row = _i / MADE_TWIN;
	auto_close int fd = unit_tmpfile();
	size_t from = torn_rows[row].from;

	ck_assert_int_eq(ftruncate(fd, (off_t)torn_rows[row].size), 0);
	ck_assert_int_eq(io_pwrite_full(fd, m->header + from, torn_rows[row].to - from,
					(off_t)from),
			 0);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), torn_rows[row].want);
	if (c)
		ck_assert_int_eq(container_unlock(c, m->secret, "image"), 0);
}
END_TEST

START_TEST(plaintext_is_not_adopted)
{
	static const char texts[][8] = {"QFI\xfb", "x", "LUKS", "SKUL\xba\xbe",
					"\0\0\0\1"};
	auto_close int fd = unit_tmpfile();
	struct container *c = NULL;

	ck_assert_int_eq(io_pwrite_full(fd, texts[_i], 8, 0), 0);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), -EPERM);
	ck_assert_int_eq(ftruncate(fd, 2 * CONTAINER_DATA_OFF), 0);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), -EPERM);
}
END_TEST

/* Damage to one copy of LUKS2 metadata: offset and length of what is overwritten. */
static const struct {
	size_t off, len;
} damage_rows[] = {
	{0, 6},	    /* primary: magic        */
	{0, 4096},  /*          binary part  */
	{600, 1},   /*          padding      */
	{4096, 1},  /*          JSON         */
	{0, 16384}, /*          all          */
	{16384, 6}, /* secondary             */
	{16384, 4096}, {16384 + 600, 1}, {16384 + 4096, 1}, {16384, 16384},
};

static void damage(unsigned char *hdr, int row)
{
	for (size_t i = 0; i < damage_rows[row].len; i++)
		hdr[damage_rows[row].off + i] ^= 0x55;
}

START_TEST(one_copy_damaged)
{
	auto_container struct container *c = NULL;
	auto_container struct container *again = NULL;
	const struct made *m = &made[MADE_LUKS2];
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);
	size_t good = damage_rows[_i].off < LUKS2_HDR_LEN ? LUKS2_HDR_LEN : 0;
	unsigned char now[LUKS2_HDR_LEN];
	auto_close int fd = -1;
	struct peek peek;
	bool mended = false;

	damage(hdr, _i);
	fd = made_file(hdr, 2 * CONTAINER_DATA_OFF);
	ck_assert_int_eq(size_peek_fd(&peek, fd, 2 * CONTAINER_DATA_OFF), 0);
	ck_assert_int_eq(peek.kind, PEEK_CONTAINER);
	ck_assert_int_eq(container_load(&c, fd, "image", &mended), 0);
	ck_assert(mended);
	ck_assert_int_eq(container_unlock(c, m->secret, "image"), 0);
	/* Loading never writes to the file. */
	ck_assert_int_eq(
		io_pread_full(fd, now, sizeof(now), damage_rows[_i].off / 16384 * 16384),
		sizeof(now));
	ck_assert_mem_eq(now, hdr + damage_rows[_i].off / 16384 * 16384, sizeof(now));
	ck_assert_int_eq(container_write_mended(c, fd), 0);
	ck_assert_int_eq(container_load(&again, fd, "image", &mended), 0);
	ck_assert(!mended);
	ck_assert_int_eq(container_unlock(again, m->secret, "image"), 0);
	ck_assert_int_eq(io_pread_full(fd, now, sizeof(now), (off_t)good), sizeof(now));
	ck_assert_mem_eq(now, hdr + good, sizeof(now));
}
END_TEST

/* A crash between the writes of an update: both copies are good, one is older. */
START_TEST(one_copy_older)
{
	auto_container struct container *c = NULL;
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);
	struct luks2_hdr_disk *newer = (void *)(hdr + _i * LUKS2_HDR_LEN);
	unsigned char now[2 * LUKS2_HDR_LEN];
	auto_close int fd = -1;
	bool mended = false;

	newer->seqid_be = htobe64(be64toh(newer->seqid_be) + 1);
	luks2_repair(hdr);
	fd = made_file(hdr, CONTAINER_DATA_OFF);
	ck_assert_int_eq(container_load(&c, fd, "image", &mended), 0);
	ck_assert(mended);
	ck_assert_int_eq(container_write_mended(c, fd), 0);
	ck_assert_int_eq(io_pread_full(fd, now, sizeof(now), 0), sizeof(now));
	ck_assert_mem_eq(now + _i * LUKS2_HDR_LEN, newer, LUKS2_HDR_LEN);
	ck_assert_mem_eq(now + offsetof(struct luks2_hdr_disk, seqid_be),
			 now + LUKS2_HDR_LEN + offsetof(struct luks2_hdr_disk, seqid_be),
			 8);
}
END_TEST

START_TEST(both_copies_damaged)
{
	struct container *c = NULL;
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);
	auto_close int fd = -1;

	damage(hdr, _i % 5);
	damage(hdr, 5 + _i / 5);
	fd = made_file(hdr, 2 * CONTAINER_DATA_OFF);
	ck_assert_int_lt(container_load(&c, fd, "image", NULL), 0);
	ck_assert_ptr_null(c);
}
END_TEST

/* libcryptsetup in several threads at once; lock ranks and sanitizers watch. */
static void *load_and_unlock(void *arg)
{
	const struct made *m = arg;

	for (int i = 0; i < 3; i++) {
		auto_container struct container *c = NULL;
		auto_close int fd = made_file(m->header, CONTAINER_DATA_OFF);

		if (container_load(&c, fd, "image", NULL) ||
		    container_unlock(c, m->secret, "image") ||
		    memcmp(container_volume_key(c), container_volume_key(m->c),
			   VOLUME_KEY_LEN) != 0)
			return arg;
	}
	return NULL;
}

START_TEST(threads)
{
	pthread_t t[6];

	for (int i = 0; i < ROWS(t); i++)
		ck_assert_int_eq(
			pthread_create(&t[i], NULL, load_and_unlock, &made[i % 3]), 0);
	for (int i = 0; i < ROWS(t); i++) {
		void *failed;

		ck_assert_int_eq(pthread_join(t[i], &failed), 0);
		ck_assert_ptr_null(failed);
	}
}
END_TEST

static bool have_cryptsetup(void)
{
	return system("command -v cryptsetup >/dev/null 2>&1") == 0;
}

/*
 * Runs a cryptsetup command on the file at path with the secret on stdin. One that does not
 * read it may end before it is written.
 */
static int cryptsetup(const char *args, const char *path, const struct secret *secret)
{
	char hex[SECRET_HEX_LEN + 1];
	char command[8192];
	FILE *p;

	snprintf(
		command, sizeof(command),
		"cryptsetup --disable-locks %s '%s' >/dev/null 2>&1; r=$?; cat >/dev/null; exit $r",
		args, path);
	secret_hex(secret, hex);
	p = popen(command, "w");
	ck_assert_ptr_nonnull(p);
	fwrite(hex, 1, SECRET_HEX_LEN, p);
	return pclose(p);
}

START_TEST(cryptsetup_agrees)
{
	const char *open_args = "open --test-passphrase --key-file -";
	auto_close int fd = -1;
	char path[4096];

	if (!have_cryptsetup())
		return;
	snprintf(path, sizeof(path), "%s/image%d", unit_tmpdir(), _i);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_eq(container_write_new(made[_i].c, fd, NULL, NULL), 0);
	ck_assert_int_eq(ftruncate(fd, 2 * CONTAINER_DATA_OFF), 0);
	ck_assert_int_eq(cryptsetup("luksDump", path, made[_i].secret), 0);
	ck_assert_int_eq(cryptsetup(open_args, path, made[_i].secret), 0);
	ck_assert_int_ne(cryptsetup(open_args, path, made[(_i + 1) % MADE_TWIN].secret),
			 0);
}
END_TEST

START_TEST(cryptsetup_reads_what_we_mend)
{
	const int row = _i ? 5 : 0; /* the primary's or the secondary's magic */
	auto_container struct container *c = NULL;
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);
	auto_close int fd = -1;
	char path[4096];

	if (!have_cryptsetup())
		return;
	damage(hdr, row);
	snprintf(path, sizeof(path), "%s/mended%d", unit_tmpdir(), _i);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_eq(io_pwrite_full(fd, hdr, CONTAINER_DATA_OFF, 0), 0);
	ck_assert_int_eq(ftruncate(fd, 2 * CONTAINER_DATA_OFF), 0);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	ck_assert_int_eq(container_write_mended(c, fd), 0);
	/* Its own good copy gone, only ours is left. */
	damage(hdr, 5 - row);
	ck_assert_int_eq(io_pwrite_full(fd, hdr + (_i ? 0 : LUKS2_HDR_LEN), LUKS2_HDR_LEN,
					_i ? 0 : LUKS2_HDR_LEN),
			 0);
	ck_assert_int_eq(cryptsetup("open --test-passphrase --key-file -", path,
				    made[MADE_LUKS2].secret),
			 0);
}
END_TEST

/* What operators do with cryptsetup leaves a LUKS1 token alone. */
START_TEST(luks1_token_survives_a_second_slot)
{
	const char *args = "luksAddKey -q --key-file - --pbkdf-force-iterations 1000 "
			   "--new-keyfile /proc/version";
	auto_container struct container *c = NULL;
	auto_close int fd = -1;
	char path[4096];

	if (!have_cryptsetup())
		return;
	snprintf(path, sizeof(path), "%s/luks1", unit_tmpdir());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_eq(container_write_new(made[MADE_LUKS1].c, fd, NULL, NULL), 0);
	ck_assert_int_eq(ftruncate(fd, 2 * CONTAINER_DATA_OFF), 0);
	ck_assert_int_eq(cryptsetup(args, path, made[MADE_LUKS1].secret), 0);
	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	ck_assert_int_eq(container_unlock(c, made[MADE_LUKS1].secret, "image"), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("container");
	TCase *t = tcase_create("container");

	tcase_add_unchecked_fixture(t, made_setup, made_teardown);
	tcase_add_loop_test(t, round_trip, 0, MADE_TWIN);
	tcase_add_loop_test(t, wrong_secret, 0, MADE_TWIN);
	tcase_add_loop_test(t, unlock_file, 0, MADE_TWIN);
	tcase_add_loop_test(t, unlock_changed_file, 0, MADE_TWIN);
	tcase_add_test(t, bad_parameters);
	tcase_add_test(t, keys_are_random);
	tcase_add_loop_test(t, header_is_sparse, 0, MADE_TWIN);
	tcase_add_loop_test(t, device_creation, 0, MADE_TWIN);
	tcase_add_loop_test(t, before_magic_is_called_in_time, 0, MADE_TWIN);
	tcase_add_loop_test(t, failed_creation_leaves_nothing, 0, MADE_TWIN);
	tcase_add_loop_test(t, unfinished_creation_is_replaced, 0, MADE_TWIN);
	tcase_add_test(t, data_is_never_overwritten);
	tcase_add_loop_test(t, torn_creation, 0, ROWS(torn_rows) * MADE_TWIN);
	tcase_add_loop_test(t, plaintext_is_not_adopted, 0, 5);
	tcase_add_loop_test(t, one_copy_damaged, 0, ROWS(damage_rows));
	tcase_add_loop_test(t, one_copy_older, 0, 2);
	tcase_add_loop_test(t, both_copies_damaged, 0, 25);
	tcase_add_test(t, threads);
	tcase_add_loop_test(t, cryptsetup_agrees, 0, MADE_TWIN);
	tcase_add_loop_test(t, cryptsetup_reads_what_we_mend, 0, 2);
	tcase_add_test(t, luks1_token_survives_a_second_slot);
	suite_add_tcase(s, t);
	return s;
}
