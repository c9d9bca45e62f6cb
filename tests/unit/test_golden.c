/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every released format is read for ever: tests/golden/golden.h. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "crypto/container.h"
#include "tests/golden/golden.h"
#include "tests/unit/unit.h"
#include "util/io.h"

static struct secret *secret;

static void setup(void)
{
	ck_assert_int_eq(container_init(), 0);
	ck_assert_int_eq(secret_new(&secret), 0);
	for (int i = 0; i < SECRET_LEN; i++)
		secret_bytes(secret)[i] = (unsigned char)i;
}

static void teardown(void)
{
	secret_free(secret);
}

/* The image of a .pages file. */
static int unpack(const char *name)
{
	unsigned char record[8 + GOLDEN_PAGE];
	int fd = unit_tmpfile();
	char path[4096];
	uint64_t le, size;
	FILE *in;

	snprintf(path, sizeof(path), VCF_SOURCE_ROOT "/tests/golden/%s.pages", name);
	in = fopen(path, "r");
	ck_assert_msg(in != NULL, "%s: %s", path, strerror(errno));
	ck_assert_uint_eq(fread(record, 1, 16, in), 16);
	ck_assert_mem_eq(record, GOLDEN_MAGIC, 8);
	memcpy(&le, record + 8, 8);
	size = le64toh(le);
	while (fread(record, 1, sizeof(record), in) == sizeof(record)) {
		memcpy(&le, record, 8);
		ck_assert_int_eq(
			io_pwrite_full(fd, record + 8, GOLDEN_PAGE, (off_t)le64toh(le)),
			0);
	}
	ck_assert(feof(in));
	ck_assert_int_eq(ftruncate(fd, (off_t)size),
			 0); /* the last page may reach beyond */
	fclose(in);
	return fd;
}

static void expect_sector(int fd, const struct golden *g, uint64_t i,
			  const unsigned char *key)
{
	uint32_t len = g->sector_len;
	uint32_t used = i < GOLDEN_SECTORS ? len : GOLDEN_TAIL;
	unsigned char sector[4096];

	ck_assert_int_eq(
		io_pread_full(fd, sector, len, (off_t)(CONTAINER_DATA_OFF + i * len)),
		len);
	if (i == GOLDEN_HOLE) {
		ck_assert(io_is_zero(sector, len));
		return;
	}
	ck_assert(golden_xts(false, sector, len, i, key));
	for (uint32_t k = 0; k < len; k++)
		ck_assert_int_eq(sector[k], k < used ? golden_byte(i * len + k) : 0);
}

START_TEST(golden)
{
	const struct golden *g = &golden_list[_i];
	auto_container struct container *c = NULL;
	auto_close int fd = unpack(g->name);
	off_t size = lseek(fd, 0, SEEK_END);
	bool mended = true;
	struct peek peek;

	ck_assert_int_eq(size_peek_fd(&peek, fd, (uint64_t)size), 0);
	ck_assert_int_eq(peek.kind, PEEK_CONTAINER);
	ck_assert_uint_eq(peek.sector_len, g->sector_len);
	ck_assert_uint_eq(peek.data_off, CONTAINER_DATA_OFF);
	ck_assert_int_eq(container_load(&c, fd, g->name, &mended), 0);
	ck_assert(!mended);
	ck_assert_int_eq(container_unlock(c, secret, g->name), 0);
	ck_assert_mem_eq(container_subject(c)->uuid, g->uuid, UUID_LEN);
	ck_assert_str_eq(container_token(c)->key_id, golden_token.key_id);
	ck_assert_str_eq(container_token(c)->context, golden_token.context);
	ck_assert_uint_eq(container_token(c)->generation, golden_token.generation);
	for (uint64_t i = 0; i <= GOLDEN_SECTORS; i++)
		expect_sector(fd, g, i, container_volume_key(c));
	ck_assert_int_eq(size,
			 (off_t)(CONTAINER_DATA_OFF +
				 (GOLDEN_SECTORS + 1) * g->sector_len + GOLDEN_TAIL));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("golden");
	TCase *t = tcase_create("golden");

	tcase_add_unchecked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, golden, 0, ROWS(golden_list));
	suite_add_tcase(s, t);
	return s;
}
