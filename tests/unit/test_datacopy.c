/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plaintext into containers and back, by several threads; holes, zeros, what is compared. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/datacopy.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/cleanup.h"
#include "util/io.h"

enum { MIB = 1024 * 1024, BLOCK = 4096 };

static const uint64_t sizes[] = {
	0,	   1,	    511, 512,	  513,		 BLOCK - 1, BLOCK,
	BLOCK + 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 100, 5 * MIB,
};

/* Every third block is zeros, every fifth MiB a hole. */
static unsigned char *pattern(uint64_t len)
{
	unsigned char *p = calloc(1, len + 1);

	ck_assert_ptr_nonnull(p);
	for (uint64_t i = 0; i < len; i++) {
		if (i / BLOCK % 3 != 1 && i / MIB % 5 != 1)
			p[i] = (unsigned char)(i * 7 + i / BLOCK + 1);
	}
	return p;
}

static int plain_file(const unsigned char *bytes, uint64_t len)
{
	int fd = unit_tmpfile();

	ck_assert_int_eq(ftruncate(fd, (off_t)len), 0);
	for (uint64_t at = 0; at < len; at += BLOCK) {
		size_t n = len - at < BLOCK ? (size_t)(len - at) : BLOCK;

		if (at / MIB % 5 != 1)
			ck_assert_int_eq(io_pwrite_full(fd, bytes + at, n, (off_t)at), 0);
	}
	return fd;
}

static void expect(int fd, const unsigned char *bytes, uint64_t len)
{
	auto_free unsigned char *got = malloc(len + 1);

	ck_assert_int_eq(io_pread_full(fd, got, len + 1, 0), (ssize_t)len);
	ck_assert(memcmp(got, bytes, len) == 0);
}

/* A container of that kind without data. */
static int empty_container(int kind)
{
	return made_file(made[kind].header, CONTAINER_DATA_OFF);
}

START_TEST(there_and_back)
{
	const int kinds[] = {MADE_LUKS2, MADE_LUKS2_512, MADE_LUKS1};
	uint64_t len = sizes[_i / 3];
	struct container *c = made[kinds[_i % 3]].c;
	auto_free unsigned char *bytes = pattern(len);
	auto_close int plain = plain_file(bytes, len);
	auto_close int crypt = empty_container(kinds[_i % 3]), back = unit_tmpfile();
	struct datacopy there = {.plen = len, .threads = 1 + _i % 4};
	struct datacopy here = {.plen = len, .threads = 3};
	struct stat st;

	ck_assert_int_eq(dataside_open(&there.from, plain, NULL), 0);
	ck_assert_int_eq(dataside_open(&there.to, crypt, c), 0);
	ck_assert_int_eq(datacopy_run(&there), 0);
	ck_assert_int_eq(datacopy_compare(&there), 0);
	ck_assert_int_eq(fstat(crypt, &st), 0);
	if (len >= 2 * MIB)
		ck_assert_int_lt(st.st_blocks * 512,
				 CONTAINER_DATA_OFF / 2 + len * 3 / 4);
	here.from = there.to;
	ck_assert_int_eq(dataside_open(&here.to, back, NULL), 0);
	ck_assert_int_eq(datacopy_run(&here), 0);
	ck_assert_int_eq(datacopy_compare(&here), 0);
	expect(back, bytes, len);
	dataside_close(&there.to);
}
END_TEST

/* From one container to another, and each byte counts, one that is in a hole as well. */
static const uint64_t places[] = {0, BLOCK + 7, MIB + 5, 3 * MIB - 1, 3 * MIB + 99};

START_TEST(differs)
{
	const uint64_t len = 3 * MIB + 100;
	auto_free unsigned char *bytes = pattern(len);
	auto_close int plain = plain_file(bytes, len);
	auto_close int crypt = empty_container(MADE_LUKS2),
		       other = empty_container(MADE_LUKS1);
	struct datacopy c = {.plen = len, .threads = 2};

	ck_assert_int_eq(dataside_open(&c.from, plain, NULL), 0);
	ck_assert_int_eq(dataside_open(&c.to, crypt, made[MADE_LUKS2].c), 0);
	ck_assert_int_eq(datacopy_run(&c), 0);
	c.from = c.to;
	ck_assert_int_eq(dataside_open(&c.to, other, made[MADE_LUKS1].c), 0);
	ck_assert_int_eq(datacopy_run(&c), 0);
	ck_assert_int_eq(datacopy_compare(&c), 0);
	dataside_close(&c.from);
	bytes[places[_i]] ^= 1;
	ck_assert_int_eq(io_pwrite_full(plain, bytes + places[_i], 1, (off_t)places[_i]),
			 0);
	ck_assert_int_eq(dataside_open(&c.from, plain, NULL), 0);
	ck_assert_int_eq(datacopy_compare(&c), -EBADMSG);
	dataside_close(&c.to);
}
END_TEST

START_TEST(length_differs)
{
	auto_close int a = unit_tmpfile(), b = unit_tmpfile();
	struct datacopy c = {.plen = 100};

	ck_assert_int_eq(ftruncate(a, 100), 0);
	ck_assert_int_eq(ftruncate(b, 101), 0);
	ck_assert_int_eq(dataside_open(&c.from, a, NULL), 0);
	ck_assert_int_eq(dataside_open(&c.to, b, NULL), 0);
	ck_assert_int_eq(datacopy_compare(&c), -EBADMSG);
}
END_TEST

static vcf_err_t stop(void *arg, uint64_t done)
{
	(void)arg;
	return done > MIB ? -EINTR : 0;
}

START_TEST(stopped)
{
	const uint64_t len = 5 * MIB;
	auto_free unsigned char *bytes = pattern(len);
	auto_close int plain = plain_file(bytes, len), to = unit_tmpfile();
	struct datacopy c = {.plen = len, .threads = 2, .progress = stop};

	ck_assert_int_eq(dataside_open(&c.from, plain, NULL), 0);
	ck_assert_int_eq(dataside_open(&c.to, to, NULL), 0);
	ck_assert_int_eq(datacopy_run(&c), -EINTR);
}
END_TEST

/* Its source is shorter than was said. */
START_TEST(cut_source)
{
	auto_close int plain = unit_tmpfile(), to = unit_tmpfile();
	struct datacopy c = {.plen = 2 * BLOCK};

	ck_assert_int_eq(io_pwrite_full(plain, "x", 1, BLOCK), 0);
	ck_assert_int_eq(dataside_open(&c.from, plain, NULL), 0);
	ck_assert_int_eq(dataside_open(&c.to, to, NULL), 0);
	ck_assert_int_eq(datacopy_run(&c), -EIO);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("datacopy");
	TCase *tc = tcase_create("datacopy");

	tcase_add_unchecked_fixture(tc, made_setup, made_teardown);
	tcase_add_loop_test(tc, there_and_back, 0, 3 * ROWS(sizes));
	tcase_add_loop_test(tc, differs, 0, ROWS(places));
	tcase_add_test(tc, length_differs);
	tcase_add_test(tc, stopped);
	tcase_add_test(tc, cut_source);
	suite_add_tcase(s, tc);
	return s;
}
