/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Headers saved and put back, and what is told of a header that is not right. */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "crypto/container.h"
#include "crypto/luks2_copies.h"
#include "crypto/luks_disk.h"
#include "tests/unit/luks_edit.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/io.h"

static struct container *unlocked(int fd, int kind)
{
	struct container *c = NULL;

	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	ck_assert_int_eq(container_unlock(c, made[kind].secret, "image"), 0);
	return c;
}

static void read_all(int fd, unsigned char *buf)
{
	ck_assert_int_eq(io_pread_full(fd, buf, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
}

START_TEST(backup)
{
	auto_close int fd = made_file(made[_i].header, 2 * CONTAINER_DATA_OFF);
	auto_close int copy = memfd_create("backup", MFD_CLOEXEC);
	auto_container struct container *c = unlocked(fd, _i);
	auto_container struct container *again = NULL;
	auto_free unsigned char *now = malloc(CONTAINER_DATA_OFF);
	struct stat st;

	ck_assert_int_eq(container_write_backup(c, copy), 0);
	ck_assert_int_eq(fstat(copy, &st), 0);
	ck_assert_int_eq(st.st_size, CONTAINER_DATA_OFF);
	ck_assert_int_le(st.st_blocks * 512, 320 * 1024);
	read_all(copy, now);
	ck_assert_mem_eq(now, made[_i].header, CONTAINER_DATA_OFF);
	again = unlocked(copy, _i);
	ck_assert(container_has_key_of(again, c));
}
END_TEST

/* Over noise, over zeros, over itself, over its own older or damaged self. */
START_TEST(restore)
{
	const int kind = _i % MADE_TWIN;
	unsigned char *header = made_copy(kind);
	auto_close int saved = made_file(made[kind].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = unlocked(saved, kind);
	auto_container struct container *again = NULL;
	auto_close int fd = -1;

	switch (_i / MADE_TWIN) {
	case 0:
		secret_random(header, CONTAINER_DATA_OFF);
		break;
	case 1:
		memset(header, 0, CONTAINER_DATA_OFF);
		break;
	case 2:
		secret_random(header + LUKS2_KEYSLOTS_OFF, 300 * 1024);
		break;
	case 3:
		secret_random(header, LUKS2_HDR_LEN);
		break;
	default:
		break;
	}
	fd = made_file(header, 2 * CONTAINER_DATA_OFF);
	ck_assert_int_eq(container_write_restored(c, fd), 0);
	read_all(fd, header);
	ck_assert_mem_eq(header, made[kind].header, CONTAINER_DATA_OFF);
	again = unlocked(fd, kind);
	ck_assert(container_has_key_of(again, c));
	free(header);
}
END_TEST

START_TEST(key_of_another_one)
{
	auto_close int fd = made_file(made[MADE_LUKS2].header, CONTAINER_DATA_OFF);
	auto_close int other = made_file(made[_i].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = unlocked(fd, MADE_LUKS2);
	auto_container struct container *locked = NULL;

	ck_assert_int_eq(container_load(&locked, other, "image", NULL), 0);
	ck_assert_int_eq(container_has_key_of(c, locked), _i == MADE_LUKS2);
	ck_assert(!container_has_key_of(locked, c)); /* it is not unlocked */
}
END_TEST

/* --- which copy --- */

static void older(unsigned char *hdr, int copy)
{
	struct luks2_hdr_disk *h = (void *)(hdr + copy * LUKS2_HDR_LEN);

	h->seqid_be = htobe64(be64toh(h->seqid_be) - 1);
	luks2_repair(hdr);
}

static void spoil(unsigned char *hdr, int copy)
{
	hdr[copy * LUKS2_HDR_LEN + 5000] ^= 1;
}

/* Of the same number, and right, but not the same. */
static void differ(unsigned char *hdr, int copy)
{
	spoil(hdr, copy);
	luks2_repair(hdr);
}

static void spoil_both(unsigned char *hdr, int copy)
{
	spoil(hdr, 0);
	spoil(hdr, 1);
}

static void leave(unsigned char *hdr, int copy)
{
}

START_TEST(stale_copy)
{
	static const struct {
		void (*edit)(unsigned char *hdr, int copy);
		int copy, want;
		bool good;
	} rows[] = {
		{leave, 0, -1, true}, {older, 0, 0, true},	  {older, 1, 1, true},
		{spoil, 0, 0, false}, {spoil, 1, 1, false},	  {differ, 0, 1, true},
		{differ, 1, 1, true}, {spoil_both, 0, -1, false},
	};
	unsigned char *hdr = made_copy(MADE_LUKS2);
	bool good;

	if (_i < ROWS(rows)) {
		rows[_i].edit(hdr, rows[_i].copy);
		ck_assert_int_eq(luks2_stale(hdr, &good), rows[_i].want);
		ck_assert_int_eq(good, rows[_i].good);
		ck_assert_int_eq(luks2_mend(hdr), rows[_i].want >= 0);
		ck_assert_int_eq(luks2_stale(hdr, &good), -1);
	}
	free(hdr);
}
END_TEST

/* --- why --- */

START_TEST(reasons)
{
	static const struct {
		const char *find, *replace, *why;
		uint64_t size;
		vcf_err_t err;
	} rows[] = {
		{"\"stripes\":4000", "\"stripes\":2",
		 "header refused: ", CONTAINER_DATA_OFF, -EBADMSG},
		{"\"version\":1", "\"version\":2",
		 "header refused: the token cannot be read", CONTAINER_DATA_OFF,
		 -EBADMSG},
		{"{", "{", "the file ends inside its header", 100000, -EBADMSG},
		{"{", "{", "", CONTAINER_DATA_OFF, 0},
	};
	unsigned char *hdr = made_copy(MADE_LUKS2);
	auto_container struct container *c = NULL;
	char why[CONTAINER_WHY_LEN] = "not set";
	auto_close int fd = -1;

	ck_assert(luks2_edit(hdr, rows[_i].find, rows[_i].replace));
	luks2_repair(hdr);
	fd = made_file(hdr, rows[_i].size);
	made_log();
	ck_assert_int_eq(container_load_why(&c, fd, why, NULL), rows[_i].err);
	ck_assert_msg(strncmp(why, rows[_i].why, strlen(rows[_i].why)) == 0, "%s", why);
	ck_assert_int_eq(!*why, !rows[_i].err);
	ck_assert_str_eq(made_log(), "");
	free(hdr);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("container_backup");
	TCase *t = tcase_create("container_backup");

	tcase_add_unchecked_fixture(t, made_setup, made_teardown);
	tcase_add_loop_test(t, backup, 0, MADE_TWIN);
	tcase_add_loop_test(t, restore, 0, 5 * MADE_TWIN);
	tcase_add_loop_test(t, key_of_another_one, 0, MADE_CNT);
	tcase_add_loop_test(t, stale_copy, 0, 8);
	tcase_add_loop_test(t, reasons, 0, 4);
	suite_add_tcase(s, t);
	return s;
}
